"""The subscriber's side: full sync, resume, updates, sweep, refusals."""

from collections.abc import Mapping

import pytest

from peerd.encode.frame import decode_frame
from peerd.limits import PEER_REASON_CHARACTERS, PEER_REFUSED_BYTES, PEER_VERSION_MAP_BYTES, hits
from peerd.model.digest import digest
from peerd.model.types import FEDERATED_SERVICE
from peerd.model.wire import read_map_entry
from peerd.protocol.envelope import DeltaRequest, DeltaResponse, ReceivedResource, parse_delta_request
from peerd.protocol.peer_subscription import Delivery, PeerSubscription, Phase, Settled, reasons
from peerd.protocol.peer_wire import SYNC_NAME, PeerProtocolError, Sync, SyncState, encode_sync


class Importing(PeerSubscription):
    """A subscription, and what an importer holds that does as it says."""

    def __init__(self, type_url: str, held: Mapping[str, str], lineage: str) -> None:
        super().__init__(type_url, held, lineage)
        self.imported = dict(held)

    def settle(self, delivery: Delivery, refused: Mapping[str, str]) -> Settled:
        settled = super().settle(delivery, refused)
        self.imported |= {put.name: put.version for put in delivery.puts if put.name not in refused}
        for name in (*delivery.removed, *settled.swept):
            self.imported.pop(name, None)
        return settled


def marker(state: SyncState, held: dict[str, str]) -> ReceivedResource:
    frame = decode_frame(encode_sync(Sync(state, digest(held.items()))))
    return ReceivedResource(SYNC_NAME, frame.version, frame.type_url, frame.payload)


def response(
    puts: dict[str, str] | None = None,
    removed: tuple[str, ...] = (),
    sync: ReceivedResource | None = None,
    nonce: str = "n",
) -> DeltaResponse:
    resources = [ReceivedResource(name, version, "", b"") for name, version in (puts or {}).items()]
    if sync is not None:
        resources.append(sync)
    return DeltaResponse(FEDERATED_SERVICE, nonce, tuple(resources), removed)


def step(
    subscription: PeerSubscription, answer: DeltaResponse, refused: dict[str, str] | None = None
) -> tuple[Settled, list[DeltaRequest]]:
    settled = subscription.settle(subscription.read(answer), refused or {})
    return settled, [parse_delta_request(request) for request in settled.requests]


def versions(request: DeltaRequest) -> dict[str, str]:
    return dict(map(read_map_entry, request.versions))


def test_the_first_sync_asks_for_everything_and_takes_what_comes() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    first = parse_delta_request(subscription.open())
    assert (first.type_url, first.subscribe, first.versions) == (FEDERATED_SERVICE, ("*",), ())
    settled, (ack,) = step(subscription, response({"a/1": "v1"}, nonce="x"))
    assert (ack.nonce, ack.error, ack.subscribe) == ("x", None, ())
    assert not settled.synced
    settled, _ = step(
        subscription, response({"a/2": "v2"}, sync=marker(SyncState.COMPLETE, {"a/1": "v1", "a/2": "v2"}))
    )
    assert settled.synced
    assert settled.swept == ()
    assert subscription.imported == {"a/1": "v1", "a/2": "v2"}
    assert subscription.phase is Phase.SYNCED


def test_an_equal_digest_moves_nothing() -> None:
    held = {"a/1": "v1", "a/2": "v2"}
    subscription = Importing(FEDERATED_SERVICE, held, "L")
    first = parse_delta_request(subscription.open())
    assert versions(first) == {"@digest": f"L/{digest(held.items())}"}
    settled, _ = step(subscription, response(sync=marker(SyncState.COMPLETE, held)))
    assert settled.synced
    assert settled.swept == ()
    assert subscription.imported == held


def test_another_digest_sends_the_version_map_once() -> None:
    held = {"a/1": "v1", "a/2": "v2", "a/3": "v3"}
    subscription = Importing(FEDERATED_SERVICE, held, "L")
    subscription.open()
    _, (ack, ask) = step(subscription, response(sync=marker(SyncState.VERSIONS_WANTED, {})))
    assert ack.nonce == "n"
    assert ask.subscribe == ("*",)
    assert versions(ask) == held
    after = {"a/1": "v1", "a/2": "new", "a/4": "v4"}
    settled, _ = step(
        subscription,
        response({"a/2": "new", "a/4": "v4"}, removed=("a/3",), sync=marker(SyncState.COMPLETE, after)),
    )
    assert settled.synced
    assert subscription.imported == after


def test_a_difference_that_does_not_add_up_leads_to_a_full_sync_and_its_sweep() -> None:
    subscription = Importing(FEDERATED_SERVICE, {"a/1": "v1", "a/2": "v2"}, "L")
    subscription.open()
    step(subscription, response(sync=marker(SyncState.VERSIONS_WANTED, {})))
    settled, (_, again) = step(subscription, response(sync=marker(SyncState.COMPLETE, {"a/1": "v1"})))
    assert not settled.synced
    assert again.versions == ()
    assert subscription.imported == {"a/1": "v1", "a/2": "v2"}, "nothing goes before the sync is complete"
    settled, _ = step(subscription, response({"a/1": "v1"}, sync=marker(SyncState.COMPLETE, {"a/1": "v1"})))
    assert settled.swept == ("a/2",)
    assert subscription.imported == {"a/1": "v1"}


def test_a_full_sync_that_does_not_add_up_is_the_peers_fault() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    with pytest.raises(PeerProtocolError, match="does not add up"):
        step(subscription, response({"a/1": "v1"}, sync=marker(SyncState.COMPLETE, {"a/2": "v"})))


def test_versions_wanted_without_an_offer_is_the_peers_fault() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    with pytest.raises(PeerProtocolError, match="no digest was offered"):
        step(subscription, response(sync=marker(SyncState.VERSIONS_WANTED, {})))


def test_what_is_refused_is_named_and_the_last_good_version_stays() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    step(subscription, response({"a/1": "v1"}, sync=marker(SyncState.COMPLETE, {"a/1": "v1"})))
    _, (nack,) = step(subscription, response({"a/1": "v2", "a/2": "w"}), {"a/1": "no good"})
    assert nack.error == "a/1: no good"
    assert subscription.imported == {"a/1": "v1", "a/2": "w"}


def test_refused_resources_count_in_the_digest_of_the_sync_that_brought_them() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    everything = {"a/1": "v1", "a/2": "v2"}
    settled, _ = step(
        subscription, response(everything, sync=marker(SyncState.COMPLETE, everything)), {"a/2": "no"}
    )
    assert settled.synced
    assert subscription.imported == {"a/1": "v1"}, "so that the next stream brings a/2 again"


def test_a_full_sync_does_not_sweep_a_name_it_brought_and_we_refused() -> None:
    subscription = Importing(FEDERATED_SERVICE, {"a/1": "good"}, "")
    assert subscription.phase is Phase.FULL
    subscription.open()
    settled, _ = step(
        subscription,
        response({"a/1": "bad"}, sync=marker(SyncState.COMPLETE, {"a/1": "bad"})),
        {"a/1": "no"},
    )
    assert settled.swept == ()
    assert subscription.imported == {"a/1": "good"}


def test_updates_after_the_sync_sweep_nothing() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    step(subscription, response({"a/1": "v1"}, sync=marker(SyncState.COMPLETE, {"a/1": "v1"})))
    settled, _ = step(subscription, response({"a/2": "v2"}, removed=("a/1",)))
    assert (settled.swept, settled.synced) == ((), False)
    assert subscription.imported == {"a/2": "v2"}


def test_a_reserved_name_that_we_do_not_know_is_a_later_versions_and_no_resource() -> None:
    """It is neither kept nor refused nor in a digest, in the first sync and after it."""
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    settled, (ack,) = step(
        subscription, response({"@hint": "1", "a/1": "v1"}, sync=marker(SyncState.COMPLETE, {"a/1": "v1"}))
    )
    assert settled.synced
    assert ack.error is None
    delivery = subscription.read(response({"@hint": "2"}))
    assert delivery.puts == ()
    assert subscription.imported == {"a/1": "v1"}


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ((ReceivedResource("", "v", "", b""),), "without a name"),
        ((ReceivedResource("a", "v", "", b""), ReceivedResource("a", "w", "", b"")), "twice"),
        ((ReceivedResource(SYNC_NAME, "v", "", b"\xff"),), "cannot be read"),
        ((ReceivedResource(SYNC_NAME, "v", "", b""),), "cannot be read"),
    ],
)
def test_malformed_responses_are_the_peers_fault(resources: tuple[ReceivedResource, ...], words: str) -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    with pytest.raises(PeerProtocolError, match=words):
        subscription.read(DeltaResponse(FEDERATED_SERVICE, "n", resources))


def test_a_version_map_that_fits_no_message_is_not_sent() -> None:
    held = {f"{'n' * 300}/{number}": "v" * 16 for number in range(PEER_VERSION_MAP_BYTES.value // 320 + 1)}
    subscription = Importing(FEDERATED_SERVICE, held, "L")
    subscription.open()
    _, (_, ask) = step(subscription, response(sync=marker(SyncState.VERSIONS_WANTED, {})))
    assert ask.versions == ()
    assert subscription.phase is Phase.FULL


def test_reasons_are_cut_to_what_is_worth_sending() -> None:
    before = hits(PEER_REASON_CHARACTERS)
    text = reasons((f"a/{number}", "because") for number in range(10_000))
    assert hits(PEER_REASON_CHARACTERS) == before + 1
    assert text.startswith("a/0: because; a/1: because")
    assert len(text) < 5_000


def test_the_digest_does_not_depend_on_order_and_does_on_everything_else() -> None:
    one = digest([("a", "1"), ("b", "2")])
    assert one == digest([("b", "2"), ("a", "1")])
    assert len({one, digest([("a", "1")]), digest([("a", "12"), ("b", "")]), digest([("ab", "12")])}) == 4
    assert digest([]) == "99aa06d3014798d86001c324468d497f"


def test_more_refused_resources_than_are_remembered_end_the_stream() -> None:
    """A sync's digest needs their names and versions; a peer does not choose how many we keep."""
    before = hits(PEER_REFUSED_BYTES)
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    size = PEER_REFUSED_BYTES.value // 4
    for number in range(3):
        name = f"{number}{'x' * size}"
        step(subscription, response({name: "v"}), {name: "no"})
        step(subscription, response({name: "w"}), {name: "no"})
    with pytest.raises(PeerProtocolError, match="4 resources of one sync had to be refused"):
        step(subscription, response({"y" * size: "v"}), {"y" * size: "no"})
    assert hits(PEER_REFUSED_BYTES) == before + 1


def test_what_is_refused_after_the_sync_is_not_kept() -> None:
    subscription = Importing(FEDERATED_SERVICE, {}, "")
    subscription.open()
    step(subscription, response({"a/1": "v"}, sync=marker(SyncState.COMPLETE, {"a/1": "v"})), {"a/1": "no"})
    name = "x" * (PEER_REFUSED_BYTES.value // 2)
    for number in range(3):
        step(subscription, response({f"{number}{name}": "v"}), {f"{number}{name}": "no"})
    assert subscription._refused == {}
