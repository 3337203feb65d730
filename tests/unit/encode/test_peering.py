"""What peers tell each other survives the wire, and versions are of the content."""

import pytest

from peerd.api.peering.v1 import peering_pb2 as pb
from peerd.encode.frame import DecodeError, decode_frame
from peerd.encode.peering import (
    decode_federated_service,
    decode_peer_info,
    decode_segment,
    encode_federated_service,
    encode_peer_info,
    encode_segment,
)
from peerd.model.address import AppProtocol, Locality
from peerd.model.federation import (
    Capacity,
    DataPlaneAddress,
    FederatedPort,
    FederatedService,
    FederationScope,
    PeerInfo,
    Segment,
)

FULL = FederatedService(
    name="reviews",
    namespace="shop",
    global_host="reviews.shop.mesh.internal",
    local_host="reviews.shop.svc.cluster.local",
    scope=FederationScope.SEGMENT,
    takeover=True,
    aliases=("reviews.example",),
    ports=(FederatedPort(80, "http", "TCP", AppProtocol.HTTP2, 8080), FederatedPort(53, "dns", "UDP")),
    identities=("spiffe://td/ns/shop/sa/a", "spiffe://td/ns/shop/sa/b"),
    capacity=(Capacity("n1", Locality("r", "z", "s"), 3), Capacity("n2", Locality(), 1)),
    distribution="PreferClose",
    waypoint="shop/waypoint",
    created="2026-01-01T00:00:00Z",
)


def test_a_service_comes_back_as_it_went() -> None:
    frame = decode_frame(encode_federated_service(FULL).frame)
    assert frame.name == "shop/reviews"
    assert decode_federated_service(frame.payload) == FULL


def test_equal_records_have_equal_versions_and_unequal_ones_have_not() -> None:
    other = FederatedService("reviews", "shop", FULL.global_host, FULL.local_host)
    assert encode_federated_service(FULL).version == encode_federated_service(FULL).version
    assert encode_federated_service(FULL).version != encode_federated_service(other).version


def test_capacity_of_zero_is_left_out_on_both_ways() -> None:
    bare = FederatedService(
        "a", "b", "a.b.mesh.internal", "a.b.svc.x", capacity=(Capacity("n", Locality(), 0),)
    )
    payload = decode_frame(encode_federated_service(bare).frame).payload
    assert not pb.FederatedService.FromString(payload).capacity
    assert decode_federated_service(payload).capacity == ()


def test_peer_info_and_segment_come_back_as_they_went() -> None:
    info = PeerInfo(
        "west",
        "net",
        "td",
        "lineage",
        segment="blue",
        segment_domain="blue.internal",
        addresses=(DataPlaneAddress("Hostname", "gw.example", 15008),),
        gateway_service_account="eastwest",
        gateway_namespace="istio-eastwest",
        capabilities=("a", "b"),
        version="1",
    )
    assert decode_peer_info(decode_frame(encode_peer_info(info).frame).payload) == info
    segment = Segment("blue", "blue.internal")
    assert decode_segment(decode_frame(encode_segment(segment).frame).payload) == segment


def test_fields_a_later_version_added_are_ignored() -> None:
    payload = decode_frame(encode_federated_service(FULL).frame).payload
    later = b"\xfa\x3e\x03new"  # field 1007, length-delimited
    assert decode_federated_service(payload + later) == FULL


def test_an_application_protocol_of_a_later_version_counts_as_unknown() -> None:
    message = pb.FederatedService.FromString(decode_frame(encode_federated_service(FULL).frame).payload)
    message.summary.ports[0].app_protocol = 99
    decoded = decode_federated_service(message.SerializeToString())
    assert decoded.ports[0].app_protocol is AppProtocol.UNKNOWN


def test_a_target_that_is_no_port_counts_as_not_said() -> None:
    """It is for display only: no reason to refuse the service."""
    message = pb.FederatedService.FromString(decode_frame(encode_federated_service(FULL).frame).payload)
    message.summary.ports[0].target = 70_000
    assert decode_federated_service(message.SerializeToString()).ports[0].target == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.summary.ClearField("name"), "summary.name is empty"),
        (lambda m: m.summary.ClearField("global_host"), "summary.global_host is empty"),
        (lambda m: setattr(m.summary, "scope", 0), "summary.scope 0 is unknown"),
        (lambda m: setattr(m.summary.ports[0], "number", 70_000), "70000 is no port number"),
        (lambda m: m.capacity.append(m.capacity[0]), "twice"),
    ],
)
def test_what_cannot_be_believed_is_named(change, words: str) -> None:
    message = pb.FederatedService.FromString(decode_frame(encode_federated_service(FULL).frame).payload)
    change(message)
    with pytest.raises(DecodeError, match=words):
        decode_federated_service(message.SerializeToString())


@pytest.mark.parametrize("decode", [decode_federated_service, decode_peer_info, decode_segment])
@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05abc", b""])
def test_bytes_that_are_something_else_are_an_error_of_ours(decode, payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(payload)
