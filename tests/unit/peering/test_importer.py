"""What is held of peers, and what derivation is told of it."""

import msgspec
import pytest

from peerd.encode.frame import decode_frame
from peerd.encode.peering import encode_federated_service, encode_peer_info, encode_segment
from peerd.limits import (
    PEER_NAME_CHARACTERS,
    PEER_REASON_CHARACTERS,
    PEER_REFUSALS,
    PEER_RESOURCE_BYTES,
    hits,
)
from peerd.model.address import Locality
from peerd.model.changes import Change, ImportChange, PeerChange
from peerd.model.federation import (
    Capacity,
    FederatedService,
    Freshness,
    PeerInfo,
    PeerView,
    RemotePeer,
    Segment,
)
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.resource import Resource
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.peering.importer import Importer
from peerd.peering.keeper import Keeper, Stored, StoredPeer
from peerd.peering.validation import LocalCluster
from peerd.protocol.peer_session import Held
from peerd.protocol.peer_subscription import Put

LOCAL = LocalCluster("east", "istio-system", "east-lineage")
INFO = PeerInfo("west", "west-net", "cluster.local", "west-lineage")
KEY = ObjectKey("istio-system", "west")
REMOTE = RemotePeer(KEY, "west", "west-net", ("192.0.2.1",), 15012, "cluster.local", "istio-system", "peerd")
NOW = 1_000_000.0


def service(name: str, healthy: int = 1) -> FederatedService:
    return FederatedService(
        name,
        "shop",
        f"{name}.shop.mesh.internal",
        f"{name}.shop.svc.cluster.local",
        capacity=(Capacity("west-net", Locality(), healthy),),
    )


def put(resource: Resource) -> Put:
    return Put(resource.name, resource.version, decode_frame(resource.frame).payload)


class Recorded(Keeper):
    def __init__(self) -> None:
        self.kept: dict[tuple[ObjectKey, str, str], Stored] = {}

    def put(self, stored: Stored, *, replaces: bool) -> None:
        assert replaces == ((stored.peer, stored.type_url, stored.name) in self.kept)
        self.kept[stored.peer, stored.type_url, stored.name] = stored

    def delete(self, peer: ObjectKey, type_url: str, name: str) -> None:
        self.kept.pop((peer, type_url, name), None)

    def forget(self, peer: ObjectKey, held: int) -> None:
        assert held == sum(1 for key in self.kept if key[0] == peer)
        self.kept = {key: value for key, value in self.kept.items() if key[0] != peer}


class World:
    """An importer with one configured peer; `changes` is what derivation saw since last asked."""

    def __init__(self) -> None:
        self.seen: list[Change] = []
        self.keeper = Recorded()
        self.importer = Importer(LOCAL, self.seen.extend, self.keeper)

    def linked(self) -> "World":
        self.importer.configure(KEY, REMOTE, NOW)
        self.importer.take(KEY, PEER_INFO, [put(encode_peer_info(INFO))])
        self.importer.heartbeat(KEY, NOW)
        self.changes()
        return self

    def import_(self, *services: FederatedService) -> dict[str, str]:
        return self.importer.take(
            KEY, FEDERATED_SERVICE, [put(encode_federated_service(each)) for each in services]
        )

    def changes(self) -> list[Change]:
        seen = list(self.seen)
        self.seen.clear()
        return seen


@pytest.fixture
def world() -> World:
    return World().linked()


def test_a_gateway_is_known_before_its_peer_has_spoken() -> None:
    world = World()
    world.importer.configure(KEY, REMOTE, NOW)
    assert world.changes() == [PeerChange(KEY, PeerView(KEY, None, Freshness.STALE))]
    assert world.importer.held(KEY) == Held("", {})


def test_a_batch_of_services_is_one_batch_of_changes_under_the_gateways_key(world: World) -> None:
    assert world.import_(service("a"), service("b")) == {}
    assert world.changes() == [
        ImportChange(KEY, "shop/a", service("a")),
        ImportChange(KEY, "shop/b", service("b")),
    ]


def test_the_same_service_again_changes_nothing(world: World) -> None:
    world.import_(service("a"))
    world.changes()
    world.import_(service("a"))
    assert world.changes() == []


def test_a_refused_update_leaves_the_last_good_state_and_its_version(world: World) -> None:
    world.import_(service("a"))
    version = world.importer.held(KEY).versions[FEDERATED_SERVICE]["shop/a"]
    world.changes()
    refused = world.import_(msgspec.structs.replace(service("a"), global_host="bank.shop.mesh.internal"))
    assert set(refused) == {"shop/a"}
    assert world.changes() == []
    assert world.importer.held(KEY).versions[FEDERATED_SERVICE] == {"shop/a": version}
    assert dict(world.importer.counts(KEY).refused) == refused
    world.import_(service("a", 2))
    assert world.importer.counts(KEY).refused == ()


def test_services_before_any_peer_info_are_taken_from_nobody() -> None:
    world = World()
    world.importer.configure(KEY, REMOTE, NOW)
    with pytest.raises(PeerRefusedError, match="before a PeerInfo"):
        world.import_(service("a"))


def test_removals_withdraw_what_is_held_and_nothing_else(world: World) -> None:
    before = world.importer.counts(KEY).bytes
    world.import_(service("a"))
    world.changes()
    world.importer.remove(KEY, FEDERATED_SERVICE, ["shop/a", "shop/never"])
    assert world.changes() == [ImportChange(KEY, "shop/a", None)]
    assert world.importer.counts(KEY).bytes == before


def test_unlinking_withdraws_services_then_the_peer_and_forgets_what_was_kept(world: World) -> None:
    world.import_(service("a"))
    world.changes()
    world.importer.configure(KEY, None, NOW)
    assert world.changes() == [ImportChange(KEY, "shop/a", None), PeerChange(KEY, None)]
    assert world.keeper.kept == {}


def test_staleness_is_told_once_and_withdraws_nothing(world: World) -> None:
    world.import_(service("a"))
    world.changes()
    for age in (10, 44):
        world.importer.age(KEY, NOW + age)
    assert world.changes() == []
    world.importer.age(KEY, NOW + 45)
    world.importer.age(KEY, NOW + 46)
    assert world.changes() == [PeerChange(KEY, PeerView(KEY, INFO, Freshness.STALE))]
    world.importer.heartbeat(KEY, NOW + 50)
    assert world.changes() == [PeerChange(KEY, PeerView(KEY, INFO, Freshness.FRESH))]


def test_expiry_withdraws_everything_and_the_next_sync_starts_from_nothing(world: World) -> None:
    world.import_(service("a"))
    world.importer.synced(KEY)
    world.changes()
    world.importer.age(KEY, NOW + 86_400)
    assert world.changes() == [
        PeerChange(KEY, PeerView(KEY, INFO, Freshness.EXPIRED)),
        ImportChange(KEY, "shop/a", None),
    ]
    assert not any(world.importer.held(KEY).versions.values())
    assert world.keeper.kept == {}
    assert world.importer.unsynced() == (), "an expired peer withholds nothing (D13)"


def test_nothing_expires_behind_a_connection_s_back(world: World) -> None:
    """Its session offered what is held: what is withdrawn meanwhile would never come again."""
    world.import_(service("a"))
    closed = world.importer.opened(KEY)
    world.changes()
    world.importer.age(KEY, NOW + 90_000)
    assert world.changes() == [PeerChange(KEY, PeerView(KEY, INFO, Freshness.STALE))]
    world.importer.heartbeat(KEY, NOW + 90_000)
    closed(NOW + 90_001)
    assert world.changes() == [PeerChange(KEY, PeerView(KEY, INFO, Freshness.FRESH))]


def test_an_expired_peer_stays_so_until_it_answers(world: World) -> None:
    """That somebody listens at its address again is no sign of life yet."""
    world.importer.age(KEY, NOW + 90_000)
    world.changes()
    world.importer.opened(KEY)
    world.importer.age(KEY, NOW + 90_001)
    assert world.changes() == []


def test_what_is_overdue_when_a_connection_ends_expires_then(world: World) -> None:
    """Redialled at once, a peer that never answers would else be kept for ever."""
    world.import_(service("a"))
    closed = world.importer.opened(KEY)
    world.changes()
    closed(NOW + 86_400)
    assert ImportChange(KEY, "shop/a", None) in world.changes()


def test_a_connection_that_ends_after_its_gateway_is_gone_changes_nothing(world: World) -> None:
    closed = world.importer.opened(KEY)
    world.importer.configure(KEY, None, NOW)
    world.changes()
    closed(NOW + 90_000)
    assert world.changes() == []


def test_an_edited_expiry_counts_at_once(world: World) -> None:
    world.import_(service("a"))
    world.changes()
    world.importer.configure(KEY, msgspec.structs.replace(REMOTE, expire_after=60), NOW + 61)
    assert ImportChange(KEY, "shop/a", None) in world.changes()


def test_a_peer_counts_as_unsynced_until_it_has_synced(world: World) -> None:
    assert world.importer.unsynced() == (KEY,)
    world.importer.synced(KEY)
    assert world.importer.unsynced() == ()


def test_a_peer_that_was_never_heard_is_not_waited_for_beyond_its_expiry() -> None:
    """D13's withholding ends; the peer itself stays what it was, stale, and is welcome when it speaks."""
    world = World()
    world.importer.configure(KEY, REMOTE, NOW)
    world.importer.age(KEY, NOW + 86_399)
    assert world.importer.unsynced() == (KEY,)
    world.importer.age(KEY, NOW + 86_400)
    assert world.importer.unsynced() == ()
    assert world.importer.freshness(KEY) is Freshness.STALE
    world.importer.heartbeat(KEY, NOW + 90_000)
    world.importer.age(KEY, NOW + 90_001)
    assert world.importer.unsynced() == (KEY,)


def test_a_peer_without_expiry_is_waited_for_for_ever() -> None:
    world = World()
    world.importer.configure(KEY, msgspec.structs.replace(REMOTE, expire_after=0), NOW)
    world.importer.age(KEY, NOW + 1e9)
    assert world.importer.unsynced() == (KEY,)


def test_after_the_sync_another_cluster_behind_the_same_stream_ends_it(world: World) -> None:
    world.importer.synced(KEY)
    other = msgspec.structs.replace(INFO, lineage="another")
    with pytest.raises(PeerRefusedError, match="became another cluster"):
        world.importer.take(KEY, PEER_INFO, [put(encode_peer_info(other))])
    # The next connection takes it for what it is.
    assert world.importer.take(KEY, PEER_INFO, [put(encode_peer_info(other))]) == {}


def test_a_segment_that_contradicts_peer_info_is_refused(world: World) -> None:
    good, bad = Segment("default", "mesh.internal"), Segment("blue", "blue.internal")
    assert world.importer.take(KEY, SEGMENT, [put(encode_segment(good))]) == {}
    assert (
        "not the one PeerInfo names" in world.importer.take(KEY, SEGMENT, [put(encode_segment(bad))])["blue"]
    )


def test_a_segment_has_the_name_of_its_content_so_there_is_one(world: World) -> None:
    """Under any other name it would be kept once for each name a peer thinks of."""
    good = put(encode_segment(Segment("default", "mesh.internal")))
    assert (
        "is not called 'default'"
        in world.importer.take(KEY, SEGMENT, [msgspec.structs.replace(good, name="another")])["another"]
    )
    assert SEGMENT not in world.importer.held(KEY).versions
    assert (KEY, SEGMENT, "another") not in world.keeper.kept


def test_a_segment_that_is_sent_again_as_it_is_is_not_written_again(world: World) -> None:
    """As with services: after a full sync most is what was held. Found by seed 150257515."""
    segment = put(encode_segment(Segment("default", "mesh.internal")))
    world.importer.take(KEY, SEGMENT, [segment])
    written = world.keeper.kept.pop((KEY, SEGMENT, "default"))
    world.importer.take(KEY, SEGMENT, [segment])
    assert (KEY, SEGMENT, "default") not in world.keeper.kept
    world.keeper.kept[KEY, SEGMENT, "default"] = written
    other = msgspec.structs.replace(segment, version="2")
    world.importer.take(KEY, SEGMENT, [other])
    assert world.keeper.kept[KEY, SEGMENT, "default"].version == "2"


def test_every_type_counts_against_the_quota(world: World) -> None:
    """PeerInfo and Segments too, with their versions, which are the peer's to choose."""
    before = world.importer.counts(KEY).bytes
    good = put(encode_segment(Segment("default", "mesh.internal")))
    huge = msgspec.structs.replace(good, version="v" * PEER_RESOURCE_BYTES.value)
    assert "over quota" in world.importer.take(KEY, SEGMENT, [huge])["default"]
    assert world.importer.take(KEY, SEGMENT, [good]) == {}
    assert world.importer.counts(KEY).bytes == before + len(good.payload) + len(good.version)
    info = put(encode_peer_info(msgspec.structs.replace(INFO, version="v" * PEER_RESOURCE_BYTES.value)))
    assert "over quota" in world.importer.take(KEY, PEER_INFO, [info])["self"]
    assert world.importer.counts(KEY).info == INFO
    assert world.importer.take(KEY, FEDERATED_SERVICE, [put(encode_federated_service(service("a")))]) == {}


def test_a_refused_name_of_one_type_says_nothing_of_the_same_name_of_another(world: World) -> None:
    world.importer.take(KEY, ADDRESS, [Put("shop/a", "v", b"")])
    world.importer.take(KEY, FEDERATED_SERVICE, [Put("shop/a", "v", b"\xff")])
    assert [name for name, _ in world.importer.counts(KEY).refused] == ["Address shop/a", "shop/a"]
    world.import_(service("a"))
    assert [name for name, _ in world.importer.counts(KEY).refused] == ["Address shop/a"]


def test_what_is_kept_of_refused_resources_is_bounded(world: World) -> None:
    """In number, and in the length of names and reasons; all of them are told to the peer."""
    before = hits(PEER_REFUSALS)
    many = [Put(f"{number}{'x' * 1000}", "v", b"") for number in range(PEER_REFUSALS.value + 5)]
    assert len(world.importer.take(KEY, ADDRESS, many)) == len(many)
    assert hits(PEER_REFUSALS) == before + 5
    kept = world.importer.counts(KEY).refused
    assert len(kept) == PEER_REFUSALS.value
    assert max(len(name) for name, _ in kept) <= PEER_NAME_CHARACTERS.value + len("Address ")
    world.importer.remove(KEY, ADDRESS, [each.name for each in many])
    assert world.importer.counts(KEY).refused == ()
    long = msgspec.structs.replace(service("a"), namespace="n" * 60_000)
    (reason,) = world.importer.take(
        KEY, FEDERATED_SERVICE, [msgspec.structs.replace(put(encode_federated_service(long)), name="shop/a")]
    ).values()
    assert len(reason) == PEER_REASON_CHARACTERS.value


def stored(last_heartbeat: float, *services: FederatedService) -> StoredPeer:
    found = [put(encode_peer_info(INFO))], [put(encode_federated_service(each)) for each in services]
    resources = [
        Stored(KEY, type_url, each.name, each.version, each.payload)
        for type_url, puts in zip((PEER_INFO, FEDERATED_SERVICE), found, strict=True)
        for each in puts
    ]
    return StoredPeer(KEY, last_heartbeat, tuple(resources))


def test_what_was_kept_is_the_first_derivations_input_and_stays_when_its_gateway_comes() -> None:
    world = World()
    world.importer.restore([stored(NOW - 10, service("a"))])
    first = world.importer.restored_changes(NOW)
    assert first == [
        PeerChange(KEY, PeerView(KEY, INFO, Freshness.FRESH)),
        ImportChange(KEY, "shop/a", service("a")),
    ]
    world.importer.configure(KEY, REMOTE, NOW)
    world.importer.settle_restored()
    assert world.changes() == first
    held = world.importer.held(KEY)
    assert held.lineage == "west-lineage"
    assert set(held.versions[FEDERATED_SERVICE]) == {"shop/a"}


def test_what_was_kept_of_an_expired_peer_is_withdrawn_when_its_gateway_says_so() -> None:
    world = World()
    world.importer.restore([stored(NOW - 100_000, service("a"))])
    world.importer.configure(KEY, REMOTE, NOW)
    assert world.changes()[-1] == ImportChange(KEY, "shop/a", None)
    never = World()
    never.importer.restore([stored(NOW - 100_000, service("a"))])
    never.importer.configure(KEY, msgspec.structs.replace(REMOTE, expire_after=0), NOW)
    assert ImportChange(KEY, "shop/a", None) not in never.changes()


def test_what_an_older_version_kept_and_this_one_cannot_read_is_asked_for_again() -> None:
    world = World()
    good = stored(NOW, service("a"))
    broken = Stored(KEY, FEDERATED_SERVICE, "shop/b", "v", b"\xff")
    world.importer.restore([msgspec.structs.replace(good, resources=(*good.resources, broken))])
    assert len(world.importer.restored_changes(NOW)) == 2
    world.importer.configure(KEY, REMOTE, NOW)
    assert set(world.importer.held(KEY).versions[FEDERATED_SERVICE]) == {"shop/a"}


@pytest.mark.parametrize("edit", [{"network": "another"}, {"cluster": "north"}, {"trust_domain": "other"}])
def test_what_was_kept_is_judged_by_the_gateway_as_it_is_now(edit: dict[str, str]) -> None:
    """It was edited while we were down: nothing that it would refuse is served until the peer has spoken."""
    world = World()
    kept = stored(NOW - 10, service("a"))
    for each in kept.resources:
        world.keeper.put(each, replaces=False)
    world.importer.restore([kept])
    world.importer.configure(KEY, msgspec.structs.replace(REMOTE, **edit), NOW)
    assert world.changes() == [
        PeerChange(KEY, PeerView(KEY, None, Freshness.FRESH)),
        ImportChange(KEY, "shop/a", None),
    ]
    assert world.importer.held(KEY) == Held("", {}), "the peer sends all of it again"
    assert world.importer.counts(KEY).bytes == 0
    assert world.keeper.kept == {}
    assert world.importer.unsynced() == (KEY,)


def test_what_was_kept_and_has_a_fault_now_is_left_out_before_gateways_are_known_too() -> None:
    """Rules may be stricter than those of the version that kept it."""
    world = World()
    hijack = msgspec.structs.replace(service("b"), global_host="bank.shop.mesh.internal")
    world.importer.restore([stored(NOW - 10, service("a"), hijack)])
    assert [
        change for change in world.importer.restored_changes(NOW) if isinstance(change, ImportChange)
    ] == [ImportChange(KEY, "shop/a", service("a"))]
    world.importer.configure(KEY, REMOTE, NOW)
    assert ImportChange(KEY, "shop/b", None) in world.changes()
    assert set(world.importer.held(KEY).versions[FEDERATED_SERVICE]) == {"shop/a"}


def test_services_kept_without_a_peer_info_that_can_be_read_are_not_served() -> None:
    world = World()
    kept = stored(NOW - 10, service("a"))
    world.importer.restore([msgspec.structs.replace(kept, resources=kept.resources[1:])])
    assert world.importer.restored_changes(NOW) == [PeerChange(KEY, PeerView(KEY, None, Freshness.FRESH))]
