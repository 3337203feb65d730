"""The dialling side of one connection: PeerInfo first and alone, then the rest."""

import pytest

from peerd.encode.frame import decode_frame
from peerd.model.digest import digest
from peerd.model.steps import whole
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.wire import field, read_map_entry
from peerd.protocol.envelope import parse_delta_request
from peerd.protocol.peer_session import Held, PeerSession
from peerd.protocol.peer_wire import (
    Hello,
    PeerProtocolError,
    Sync,
    SyncState,
    encode_sync,
    incompatible,
    node_of,
    parse_hello,
)

HELLO = Hello("east", "one", segment="blue", software="1.0")


def resource(name: str, version: str) -> bytes:
    return field(2, field(1, version.encode()) + field(3, name.encode()))


def response(type_url: str, *frames: bytes) -> bytes:
    return b"".join([field(1, b"epoch/7"), *frames, field(4, type_url.encode()), field(5, b"n")])


def complete(versions: dict[str, str]) -> bytes:
    return encode_sync(Sync(SyncState.COMPLETE, digest(versions.items())))


def settle(session: PeerSession, message: bytes):
    return session.settle(whole(session.receive(message)), {})


def introduced() -> PeerSession:
    session = PeerSession(HELLO, "istio-system", Held())
    session.open()
    settle(session, response(PEER_INFO, resource("self", "v"), complete({"self": "v"})))
    return session


def test_the_first_request_is_for_peer_info_with_the_node_and_nothing_else_goes() -> None:
    session = PeerSession(HELLO, "istio-system", Held())
    (first,) = map(parse_delta_request, session.open())
    assert (first.type_url, first.subscribe) == (PEER_INFO, ("*",))
    assert first.node is not None
    assert first.node.id == "peerd~0.0.0.0~one.istio-system~east"
    assert first.node.metadata == {}
    shown = node_of(HELLO, first.node)
    assert (shown.id, shown.cluster) == (first.node.id, "east")
    assert shown.metadata == {"CLUSTER_ID": "east", "NAMESPACE": "istio-system", "ISTIO_VERSION": "1.0"}


def test_the_other_types_are_asked_for_once_peer_info_is_in_sync() -> None:
    session = PeerSession(HELLO, "istio-system", Held("L", {FEDERATED_SERVICE: {"a/b": "v1"}}))
    session.open()
    settled = settle(session, response(PEER_INFO, resource("self", "v"), complete({"self": "v"})))
    ack, *rest = map(parse_delta_request, settled.requests)
    assert (ack.type_url, ack.nonce) == (PEER_INFO, "n")
    assert [request.type_url for request in rest] == [FEDERATED_SERVICE, SEGMENT, ADDRESS]
    assert [request.node for request in rest] == [None] * 3
    assert dict(map(read_map_entry, rest[0].versions)) == {"@digest": f"L/{digest([('a/b', 'v1')])}"}
    assert not session.in_sync


def test_in_sync_means_every_type() -> None:
    session = introduced()
    for type_url in (FEDERATED_SERVICE, SEGMENT, ADDRESS):
        assert not session.in_sync
        settle(session, response(type_url, complete({})))
    assert session.in_sync
    assert session.epoch == "epoch"


def test_a_server_that_does_not_know_a_type_exports_none_of_it() -> None:
    """An older one says so with one empty answer; what a newer one had said of it before goes."""
    held = Held("L", {ADDRESS: {"east//Pod/a/b": "v"}, FEDERATED_SERVICE: {"a/b": "v1"}})
    session = PeerSession(HELLO, "istio-system", held)
    session.open()
    settle(session, response(PEER_INFO, resource("self", "v"), complete({"self": "v"})))
    for type_url, swept in ((SEGMENT, ()), (ADDRESS, ("east//Pod/a/b",))):
        settled = settle(session, response(type_url))
        assert (settled.synced, settled.swept) == (True, swept)
        assert not settle(session, response(type_url)).synced, "and nothing more is made of it"
    assert not session.in_sync
    settle(session, response(FEDERATED_SERVICE, complete({"a/b": "v1"})))
    assert session.in_sync


def test_every_server_knows_services_and_what_is_empty_later_says_nothing() -> None:
    session = introduced()
    assert not settle(session, response(FEDERATED_SERVICE)).synced
    assert not settle(session, response(ADDRESS, resource("a", "1"))).synced
    assert not settle(session, response(ADDRESS)).synced


def test_a_later_peer_info_does_not_ask_for_everything_again() -> None:
    session = introduced()
    settled = settle(session, response(PEER_INFO, resource("self", "v2")))
    assert len(settled.requests) == 1


@pytest.mark.parametrize("type_url", [FEDERATED_SERVICE, "", "x" * 10_000])
def test_a_type_that_was_not_asked_for_ends_the_stream_in_few_words(type_url: str) -> None:
    session = PeerSession(HELLO, "istio-system", Held())
    session.open()
    with pytest.raises(PeerProtocolError, match="not asked for") as raised:
        whole(session.receive(response(type_url)))
    assert len(str(raised.value)) < 200


def test_rubbish_ends_the_stream() -> None:
    with pytest.raises(PeerProtocolError, match="not a DeltaDiscoveryResponse"):
        whole(PeerSession(HELLO, "istio-system", Held()).receive(b"\xff\xff"))


def test_bytes_are_counted_both_ways() -> None:
    session = PeerSession(HELLO, "istio-system", Held())
    sent = sum(map(len, session.open()))
    message = response(PEER_INFO, resource("self", "v"), complete({"self": "v"}))
    sent += sum(map(len, settle(session, message).requests))
    assert (session.sent_bytes, session.received_bytes) == (sent, len(message))


def test_a_hello_survives_its_metadata() -> None:
    assert parse_hello(HELLO.metadata()) == HELLO
    bare = Hello("east", "one")
    assert parse_hello(bare.metadata()) == bare
    assert "peering-segment" not in bare.metadata()


def test_versions_with_one_in_common_fit() -> None:
    assert incompatible(Hello("east", "one", versions=("1", "2"))) == ""
    assert "upgrade the one with the lower versions" in incompatible(Hello("east", "one", versions=("2",)))


def test_the_sync_marker_is_a_resource_with_a_reserved_name() -> None:
    frame = decode_frame(encode_sync(Sync(SyncState.COMPLETE, "d")))
    assert (frame.name, frame.type_url) == ("@sync", "type.googleapis.com/peerd.peering.v1.Sync")
