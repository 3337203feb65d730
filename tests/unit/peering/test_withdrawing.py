"""A peer of which much is held goes in turns: unlinked, expired, and interrupted in the middle of either."""

from pathlib import Path

import msgspec
import pytest

from peerd.encode.frame import decode_frame
from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.model.changes import Change, ImportChange, PeerChange
from peerd.model.federation import Freshness, PeerInfo, PeerView, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.resource import Resource
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO
from peerd.peering.importer import Importer
from peerd.peering.persistence import ImportJournal
from peerd.peering.turn import TURN
from peerd.peering.validation import LocalCluster
from peerd.protocol.peer_subscription import Put
from tests.support.peering import service

LOCAL = LocalCluster("east", "istio-system", "east-lineage")
INFO = PeerInfo("west", "west-net", "cluster.local", "west-lineage")
KEY = ObjectKey("istio-system", "west")
REMOTE = RemotePeer(KEY, "west", "west-net", ("192.0.2.1",), 15012, "cluster.local", "istio-system", "peerd")
NOW = 1_000_000.0
EXPIRED = NOW + 86_400
MANY = 3 * TURN
NAMES = {f"shop/s{number}" for number in range(MANY)}


class World:
    """An importer over a journal, in sync with one peer that has many services; `seen` is what it told."""

    def __init__(self, path: Path, *, fed: bool = True) -> None:
        self.seen: list[Change] = []
        self.journal = ImportJournal(path)
        self.importer = Importer(LOCAL, self.seen.extend, self.journal)
        self.importer.restore(self.journal.load())
        self.importer.configure(KEY, REMOTE, NOW)
        if fed:
            self.importer.take(KEY, PEER_INFO, [_put(encode_peer_info(INFO))])
            self.importer.heartbeat(KEY, NOW)
            made = [encode_federated_service(service(name.partition("/")[2])) for name in sorted(NAMES)]
            self.importer.take(KEY, FEDERATED_SERVICE, [_put(each) for each in made])
            self.importer.synced(KEY)
        self.seen.clear()

    def gone(self) -> set[str]:
        """Names of services that derivation was told are gone, since last asked."""
        names = {each.name for each in self.seen if isinstance(each, ImportChange) and each.service is None}
        self.seen.clear()
        return names

    def held(self) -> set[str]:
        return set(self.importer.held(KEY).versions.get(FEDERATED_SERVICE, ()))


def _put(made: Resource) -> Put:
    return Put(made.name, made.version, decode_frame(made.frame).payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "imports"


@pytest.fixture
async def world(path: Path) -> World:
    return World(path)


async def test_a_leaving_peer_goes_in_turns_and_its_gateway_last(world: World) -> None:
    """No turn is larger than the others' patience; what is left at the end is only that the peer is none."""
    world.importer.leave(KEY)
    assert world.seen == []
    turns = [world.gone()]
    while world.importer.withdraw(KEY, TURN):
        turns.append(world.gone())
    turns.append(world.gone())
    assert max(map(len, turns)) <= TURN
    assert len(turns) > MANY / TURN
    assert set().union(*turns) == NAMES
    assert sum(map(len, turns)) == MANY, "each once"
    world.importer.configure(KEY, None, NOW)
    assert world.seen == [PeerChange(KEY, None)]


async def test_a_leaving_peer_is_not_waited_for(world: World) -> None:
    """It has spoken: its end is no reason to withhold removals from ztunnels (D13)."""
    world.importer.leave(KEY)
    world.importer.withdraw(KEY, TURN)
    assert world.importer.unsynced() == ()


async def test_a_gateway_that_is_gone_in_the_middle_takes_the_rest_at_once(world: World) -> None:
    world.importer.leave(KEY)
    world.importer.withdraw(KEY, TURN)
    first = world.gone()
    world.importer.configure(KEY, None, NOW)
    assert world.seen[-1] == PeerChange(KEY, None)
    assert world.gone() == NAMES - first
    assert not world.importer.withdraw(KEY, TURN)
    assert world.seen == []


async def test_linked_again_after_it_left_a_peer_begins_with_nothing(world: World) -> None:
    world.importer.leave(KEY)
    while world.importer.withdraw(KEY, TURN):
        pass
    world.importer.configure(KEY, None, NOW)
    world.importer.configure(KEY, REMOTE, NOW)
    assert world.importer.held(KEY).versions == {}
    assert not world.importer.withdraws(KEY)
    assert world.importer.unsynced() == (KEY,)


async def test_a_restart_in_the_middle_of_leaving_finds_the_rest_and_knows_it_is_not_all(
    world: World, path: Path
) -> None:
    """With the Gateway gone the rest goes too; were it there again, the rest would not pass for all (D13)."""
    world.importer.leave(KEY)
    world.importer.withdraw(KEY, TURN)
    left = world.held()
    assert 0 < len(left) < MANY
    world.journal.close()
    journal = ImportJournal(path)
    (stored,) = journal.load()
    assert {each.name for each in stored.resources if each.type_url == FEDERATED_SERVICE} == left
    assert not stored.complete
    seen: list[Change] = []
    again = Importer(LOCAL, seen.extend, journal)
    again.restore([stored])
    again.settle_restored()
    assert {each.name for each in seen if isinstance(each, ImportChange)} == left
    assert seen[-1] == PeerChange(KEY, None)
    journal.close()
    assert ImportJournal(path).load() == []


async def test_an_expired_peer_goes_in_turns_and_derivation_hears_last_that_it_expired(world: World) -> None:
    """That it did would take all of it away at once; people are told at once."""
    assert world.importer.age(KEY, EXPIRED) is Freshness.EXPIRED
    assert world.seen == []
    assert world.importer.unsynced() == (), "an expired peer withholds nothing (D13)"
    gone: set[str] = set()
    turns = 1
    while world.importer.withdraw(KEY, TURN):
        assert not any(isinstance(each, PeerChange) for each in world.seen)
        part = world.gone()
        assert len(part) <= TURN
        gone |= part
        turns += 1
    assert world.seen[-1] == PeerChange(KEY, PeerView(KEY, INFO, Freshness.EXPIRED))
    assert gone | world.gone() == NAMES
    assert turns > MANY / TURN
    assert world.held() == set()
    assert not world.importer.withdraws(KEY)


async def test_a_peer_that_returns_in_the_middle_of_its_expiry_keeps_what_is_left(world: World) -> None:
    """Its session offered that: nothing of it goes any more, and the sync brings back the rest."""
    world.importer.age(KEY, EXPIRED)
    world.importer.withdraw(KEY, TURN)
    world.seen.clear()
    left = world.held()
    world.importer.opened(KEY)
    assert not world.importer.withdraw(KEY, TURN)
    assert world.held() == left
    world.importer.heartbeat(KEY, EXPIRED + 1)
    assert world.seen == [], "derivation was never told otherwise than that it is fresh"
    assert not world.importer.withdraws(KEY)
    assert world.importer.unsynced() == (KEY,), "what is held is not all"


async def test_another_cluster_that_answers_in_the_middle_of_an_expiry_is_refused_once(world: World) -> None:
    """What is left of the old one is not taken for its own (seed 1233, one resource a turn)."""
    world.importer.age(KEY, EXPIRED)
    world.importer.withdraw(KEY, TURN)
    other = msgspec.structs.replace(INFO, lineage="another")
    world.importer.opened(KEY)
    with pytest.raises(PeerRefusedError, match="became another cluster"):
        world.importer.take(KEY, PEER_INFO, [_put(encode_peer_info(other))])
    assert world.importer.take(KEY, PEER_INFO, [_put(encode_peer_info(other))]) == {}


async def test_a_connection_that_never_answered_puts_an_expiry_off_and_no_more(world: World) -> None:
    world.importer.age(KEY, EXPIRED)
    world.importer.withdraw(KEY, TURN)
    world.gone()
    closed = world.importer.opened(KEY)
    assert not world.importer.withdraws(KEY)
    closed(EXPIRED + 45)
    left = world.held()
    assert world.importer.withdraws(KEY)
    while world.importer.withdraw(KEY, TURN):
        pass
    assert world.gone() == left


async def test_a_restart_in_the_middle_of_an_expiry_ends_it(world: World, path: Path) -> None:
    """Nobody is served yet: the rest goes at once."""
    world.importer.age(KEY, EXPIRED)
    world.importer.withdraw(KEY, TURN)
    left = world.held()
    world.journal.close()
    journal = ImportJournal(path)
    stored = journal.load()
    assert not stored[0].complete
    seen: list[Change] = []
    again = Importer(LOCAL, seen.extend, journal)
    again.restore(stored)
    again.configure(KEY, REMOTE, EXPIRED + 60)
    assert {each.name for each in seen if isinstance(each, ImportChange) and each.service is None} == left
    assert again.freshness(KEY) is Freshness.EXPIRED
    assert not again.withdraws(KEY)
    journal.close()


async def test_a_clock_that_is_set_back_ends_an_expiry(world: World) -> None:
    """Its age is unknown then, and nothing goes without proof (D21)."""
    world.importer.age(KEY, EXPIRED)
    world.importer.withdraw(KEY, TURN)
    left = world.held()
    world.importer.age(KEY, NOW - 1)
    assert not world.importer.withdraw(KEY, TURN)
    assert world.held() == left
    assert world.seen[-1] == PeerChange(KEY, PeerView(KEY, INFO, Freshness.STALE))


async def test_what_is_held_of_a_small_peer_goes_at_once(path: Path) -> None:
    """Few names are no work to wait for."""
    world = World(path, fed=False)
    world.importer.take(KEY, PEER_INFO, [_put(encode_peer_info(INFO))])
    world.importer.heartbeat(KEY, NOW)
    world.importer.take(KEY, FEDERATED_SERVICE, [_put(encode_federated_service(service("a")))])
    world.importer.age(KEY, EXPIRED)
    assert not world.importer.withdraws(KEY)
    assert world.gone() == {"shop/a"}
