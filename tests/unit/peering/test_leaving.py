"""What the dialler does while a peer of which much is held goes: others have their turn after each part."""

import asyncio
import random

import pytest

from peerd.encode.frame import decode_frame
from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.model.changes import Change, ImportChange
from peerd.model.federation import Freshness, PeerInfo, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.resource import Resource
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO
from peerd.peering.dialer import Dialer
from peerd.peering.importer import Importer
from peerd.peering.peers import PeerTable
from peerd.peering.turn import TURN
from peerd.peering.validation import LocalCluster
from peerd.protocol.peer_state import PeerEvent, PeerState
from peerd.protocol.peer_subscription import Put
from peerd.protocol.peer_wire import Hello
from peerd.transport.base import Channel
from peerd.transport.memory import MemoryNetwork
from tests.support.delta import FakeClock
from tests.support.peering import service

KEY = ObjectKey("istio-system", "west")
REMOTE = RemotePeer(KEY, "west", "net", ("west.test",), 15012, "cluster.local", "istio-system", "peerd")
MANY = 3 * TURN


class Stage:
    """A dialler that reaches nobody, over an importer that holds much of one peer.

    `turns` are the services that derivation was told are gone, one number for each time it was waited for.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.turns: list[int] = []
        self.dialled: list[str] = []
        self.held_up = asyncio.Event()
        self.held_up.set()
        self._network = MemoryNetwork()
        self._gone = 0
        self.importer = Importer(LocalCluster("east", "istio-system", "lineage"), self._tell)
        self.table = PeerTable(self.importer, self.clock)
        self.dialer = Dialer(
            hello=Hello("east", "peerd-0"),
            namespace="istio-system",
            connect=self._connect,
            importer=self.importer,
            table=self.table,
            clock=self.clock,
            source=random.Random(7),
            resolve=_itself,
            derived=self._derived,
        )
        self.dialer.configure([(KEY, REMOTE)])
        info = PeerInfo("west", "net", "cluster.local", "lineage-of-west")
        self.importer.take(KEY, PEER_INFO, [_put(encode_peer_info(info))])
        self.importer.heartbeat(KEY, self.clock.time())
        made = [encode_federated_service(service(f"s{number}")) for number in range(MANY)]
        self.importer.take(KEY, FEDERATED_SERVICE, [_put(each) for each in made])
        self.importer.synced(KEY)

    def _tell(self, changes: list[Change]) -> None:
        self._gone += sum(1 for each in changes if isinstance(each, ImportChange) and each.service is None)

    async def _derived(self) -> None:
        self.turns.append(self._gone)
        self._gone = 0
        await self.held_up.wait()

    def _connect(self, host: str, port: int) -> Channel:
        self.dialled.append(host)
        return self._network.channel(f"{host}:{port}")


async def _itself(host: str) -> list[str]:
    return [host]


def _put(made: Resource) -> Put:
    return Put(made.name, made.version, decode_frame(made.frame).payload)


async def _others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def stage():
    stage = Stage()
    yield stage
    stage.held_up.set()
    await stage.dialer.close()


async def test_derivation_is_waited_for_after_each_part_of_a_peer_that_leaves(stage: Stage) -> None:
    await stage.dialer.leave(KEY)
    assert sum(stage.turns) + stage._gone == MANY
    assert max(stage.turns) <= TURN
    assert len(stage.turns) >= MANY / TURN
    assert stage.importer.holds(KEY) == 0


async def test_a_peer_that_leaves_shows_no_more_and_is_not_dialled(stage: Stage) -> None:
    """Whatever derivation still says of its Gateway, which it does not know to be gone."""
    stage.held_up.clear()
    leaving = asyncio.ensure_future(stage.dialer.leave(KEY))
    await _others_run()
    assert 0 < stage.importer.holds(KEY) < MANY
    assert stage.table.snapshot() == ()
    stage.dialled.clear()
    other = RemotePeer(KEY, "west", "net", ("elsewhere",), 15012, "cluster.local", "istio-system", "peerd")
    stage.dialer.configure([(KEY, other)])
    await _others_run()
    assert stage.dialled == []
    assert stage.table.snapshot() == ()
    stage.held_up.set()
    await leaving
    stage.dialer.configure([(KEY, None)])
    stage.dialer.configure([(KEY, other)])
    await _others_run()
    assert stage.dialled == ["elsewhere"]
    assert stage.table.state(KEY) is PeerState.CONNECTING


async def test_nobody_ages_while_he_leaves(stage: Stage) -> None:
    """That would derive all that is left of him anew at once."""
    stage.held_up.clear()
    leaving = asyncio.ensure_future(stage.dialer.leave(KEY))
    await _others_run()
    stage.clock.now += 100.0
    stage.dialer.start()
    await _others_run()
    assert stage.importer.freshness(KEY) is Freshness.FRESH
    stage.held_up.set()
    await leaving


async def test_a_gateway_that_is_gone_meanwhile_ends_the_leave(stage: Stage) -> None:
    stage.held_up.clear()
    leaving = asyncio.ensure_future(stage.dialer.leave(KEY))
    await _others_run()
    stage.dialer.configure([(KEY, None)])
    stage.held_up.set()
    await leaving
    assert stage._gone + sum(stage.turns) == MANY
    await stage.dialer.leave(KEY)  # it is none any more


async def test_an_expired_peer_shows_at_once_and_goes_in_turns(stage: Stage) -> None:
    stage.held_up.clear()
    stage.table.fire(KEY, PeerEvent.GREW_STALE)
    stage.clock.now += 90_000.0
    stage.dialer.start()
    await _others_run()
    assert stage.table.state(KEY) is PeerState.EXPIRED
    assert stage.importer.holds(KEY) > MANY - TURN - 2
    stage.held_up.set()
    while stage.importer.withdraws(KEY):  # noqa: ASYNC110 (it tells nobody)
        await asyncio.sleep(0)
    assert max(stage.turns) <= TURN
    assert sum(stage.turns) + stage._gone == MANY
    await _others_run()
    assert stage.dialer._withdrawing == {}
