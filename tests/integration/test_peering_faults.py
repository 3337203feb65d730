"""What networks, clocks and processes do to a link: each state is reached, named, left; nothing is lost."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from peerd.model.changes import ImportChange
from peerd.model.federation import Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.peering import backoff
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_state import PeerState
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, SystemClock, service

# The protocol's 15 and 45 seconds, forty times as fast.
FAST = HeartbeatRules(interval=0.375, stale_after=1.125)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST", 0.2)
    monkeypatch.setattr(backoff, "FIRST", 0.05)


class Shifted(SystemClock):
    """A wall clock that can be set."""

    offset = 0.0

    def time(self) -> float:
        return super().time() + self.offset


@dataclass
class Link:
    east: PeeringCluster
    west: PeeringCluster
    proxy: FaultProxy
    key: ObjectKey
    clock: Shifted

    @property
    def state(self) -> PeerState:
        return self.east.row(self.key).status.state

    @property
    def error(self) -> str:
        return self.east.row(self.key).status.last_error

    @property
    def freshness(self) -> Freshness:
        return self.east.row(self.key).counts.freshness

    async def until(self, *states: PeerState, seconds: float = 30.0) -> None:
        await self.east.until(lambda: self.state in states, f"{states}", seconds)

    def removals(self) -> list[ImportChange]:
        return [c for c in self.east.changes if isinstance(c, ImportChange) and c.service is None]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    root = Authority("root")
    clock = Shifted()
    east = PeeringCluster("east", Authority("east", root), clock=clock, rules=FAST)
    west = PeeringCluster("west", Authority("west", root), rules=FAST)
    await east.start()
    await west.start(*(service(f"s{number}", 3) for number in range(100)))
    proxy = FaultProxy(west.address)
    await proxy.start()
    key = east.link(proxy.address, cluster="west", network="west-net")
    made = Link(east, west, proxy, key, clock)
    await made.until(PeerState.LIVE)
    await east.until(lambda: made.freshness is Freshness.FRESH)
    yield made
    await east.stop()
    await proxy.stop()
    await west.stop()


async def healed(link: Link) -> None:
    """Faults gone: live and fresh again, everything still there, nothing was ever removed."""
    link.proxy.faults = Faults()
    await link.until(PeerState.LIVE)
    await link.east.until(lambda: link.freshness is Freshness.FRESH)
    assert len(link.east.imports[link.key]) == 100
    assert link.removals() == []
    assert link.error == ""


@pytest.mark.parametrize("how", ["reset", "close_connections"])
async def test_a_broken_connection_is_named_and_made_anew(link: Link, how: str) -> None:
    link.proxy.faults.refuse = True
    getattr(link.proxy, how)()
    await link.until(PeerState.CONNECTING)
    assert link.error
    assert link.freshness is Freshness.FRESH
    await healed(link)


async def test_a_black_hole_is_noticed_by_heartbeats_and_the_peer_grows_stale(link: Link) -> None:
    """The connection stays open and says nothing: no error of TCP would ever come."""
    link.proxy.faults.black_hole = True
    await link.east.until(lambda: "no heartbeat for" in link.error)
    await link.until(PeerState.STALE)
    assert link.freshness is Freshness.STALE
    assert len(link.east.imports[link.key]) == 100, "stale is kept"
    await healed(link)


async def test_a_half_open_connection_is_noticed_by_heartbeats(link: Link) -> None:
    """The server is gone, our end was never told."""
    link.proxy.faults = Faults(black_hole=True, half_open=True)
    target = link.west.address
    await link.west.hang_up()
    await link.east.until(lambda: "no heartbeat for" in link.error)
    await link.west.listen(target)
    await healed(link)


async def test_latency_and_a_thin_line_slow_a_sync_and_do_not_break_it(link: Link) -> None:
    link.proxy.faults = Faults(latency=0.05, bandwidth=200_000)
    link.proxy.reset()
    link.west.service.commit([(f"shop/s{n}", service(f"s{n}", 4)) for n in range(100)])
    await link.until(PeerState.CONNECTING)
    await link.until(PeerState.LIVE)
    assert {s.capacity[0].healthy for s in link.east.imports[link.key].values()} == {4}
    await healed(link)


@pytest.mark.parametrize("after", [0, 1, 500, 2_000, 5_000, 9_000])
async def test_a_connection_cut_at_any_point_of_the_sync_removes_nothing(link: Link, after: int) -> None:
    link.west.service.commit([(f"shop/s{n}", service(f"s{n}", 5)) for n in range(0, 100, 2)])
    link.proxy.faults.truncate = after
    link.proxy.reset()
    accepted = link.proxy.accepted
    await link.until(PeerState.CONNECTING, PeerState.STALE)
    await link.proxy.until_accepted(accepted + 3)
    assert len(link.east.imports[link.key]) == 100
    await healed(link)


async def test_a_peer_that_stays_away_expires_and_comes_back(link: Link) -> None:
    """Expiry, 24 h by default, is of the wall clock: here it is set forward."""
    link.proxy.faults.refuse = True
    link.proxy.reset()
    await link.until(PeerState.STALE)
    assert link.removals() == []
    link.clock.offset = 86_400.0
    await link.until(PeerState.EXPIRED)
    assert link.freshness is Freshness.EXPIRED
    await link.east.until(lambda: link.east.imports[link.key] == {})
    link.proxy.faults = Faults()
    await link.until(PeerState.LIVE)
    assert len(link.east.imports[link.key]) == 100


async def test_a_clock_set_back_makes_a_lost_peer_stale_and_never_expired(link: Link) -> None:
    link.proxy.faults.refuse = True
    link.proxy.reset()
    link.clock.offset = -1_000_000.0
    await link.until(PeerState.STALE)
    assert link.removals() == []
    await healed(link)


async def test_a_process_that_is_paused_longer_than_the_heartbeat_recovers(link: Link) -> None:
    """SIGSTOP of the whole west process, as east sees it: nothing answers, then everything does."""
    link.proxy.faults.black_hole = True
    await link.until(PeerState.STALE)
    link.proxy.faults.black_hole = False  # SIGCONT: old connections speak again, too late
    await healed(link)


async def test_our_own_pause_is_not_taken_for_the_peers(link: Link) -> None:
    """This process stops for longer than `stale_after`; on waking, the connection goes on or is made anew."""
    time.sleep(FAST.stale_after * 1.3)  # noqa: ASYNC251 (the pause is what is tested)
    await healed(link)


async def test_rotated_certificates_of_both_sides_are_taken_up_by_the_next_dial(link: Link) -> None:
    root = link.east.authority.root
    link.east.tls.material = Authority("east-2", root).leaf()
    link.west.tls.material = Authority("west-2", root).leaf()
    link.proxy.reset()
    await link.until(PeerState.CONNECTING)
    await healed(link)


async def test_a_peer_that_becomes_another_cluster_is_taken_for_what_it_is(link: Link) -> None:
    """Same address and identity, another lineage and other services: the old ones are swept."""
    other = PeeringCluster("west", link.west.authority, lineage="built anew", rules=FAST)
    await other.start(service("s1", 3), service("fresh"))
    link.proxy.target = other.address
    link.proxy.reset()
    await link.until(PeerState.CONNECTING)
    await link.until(PeerState.LIVE)
    assert set(link.east.imports[link.key]) == {"shop/s1", "shop/fresh"}
    assert link.east.row(link.key).counts.info.lineage == "built anew"
    await other.stop()


async def test_another_cluster_behind_the_gateways_address_is_refused_and_removes_nothing(link: Link) -> None:
    root = link.east.authority.root
    north = PeeringCluster("north", Authority("north", root), rules=FAST)
    await north.start(service("other"))
    link.proxy.target = north.address
    link.proxy.reset()
    await link.until(PeerState.REFUSED)
    assert "is cluster 'north'" in link.error
    assert len(link.east.imports[link.key]) == 100
    link.proxy.target = link.west.address
    await healed(link)
    await north.stop()


async def test_one_dead_peer_does_not_slow_a_healthy_one(link: Link) -> None:
    root = link.east.authority.root
    north = PeeringCluster("north", Authority("north", root), rules=FAST)
    await north.start(service("n"))
    link.proxy.faults.black_hole = True
    key = link.east.link(north)
    await link.east.until(lambda: link.east.row(key).status.state is PeerState.LIVE, "north beside it")
    await link.until(PeerState.STALE)
    await link.east.until(lambda: link.east.row(key).status.state is PeerState.LIVE, "north still")
    await healed(link)
    await north.stop()
