"""Scenarios: named histories that are written down instead of drawn (track_record.py, found.py).

Each gets a world of linked clusters that has come to rest; the guarantees (validators.py) hold all the time,
and at its end every view must be what the sources imply.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peerd.model.types import DELTA_METHOD
from peerd.peering.importer import ImportCounts
from peerd.protocol.peer_state import PeerState
from tests.simulation.guarantees import LIVENESS
from tests.simulation.history import History, Violation
from tests.simulation.logs import watched_logs
from tests.simulation.loop import run
from tests.simulation.oracle import gateway_key
from tests.simulation.replica import Replica
from tests.simulation.streams import Connection, SimStream
from tests.simulation.truth import GLOBAL
from tests.simulation.world import World

EXPIRY = 60


@dataclass(frozen=True)
class Scenario:
    """`what` happened, in a line; `clusters` are names and numbers of replicas."""

    name: str
    what: str
    act: Callable[[World], Awaitable[None]]
    clusters: Mapping[str, int] = field(default_factory=lambda: {"east": 1, "west": 1})
    on_demand: tuple[str, ...] = ()


class Scenarios(list[Scenario]):
    """A list of them, filled by a decorator."""

    def add(
        self, name: str, what: str, *, on_demand: tuple[str, ...] = (), **clusters: int
    ) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[World], Awaitable[None]]]:
        """Enter a scenario; without *clusters* east and west."""

        def enter(act: Callable[[World], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
            self.append(Scenario(name, what, act, clusters or {"east": 1, "west": 1}, on_demand))
            return act

        return enter


def play(scenario: Scenario, root: Path, ca: Path) -> History:
    """Run it. Raises Violation or AssertionError where it fails."""
    home = root / "scenario"

    async def main() -> History:
        world = World(scenario.name, home, ca, scenario.clusters, scenario.on_demand)
        with watched_logs(world.fail, world.error_is_due):
            try:
                await world.start()
                for name in world.clusters:
                    for service in ("web", "pay"):
                        world.put_service(name, service, GLOBAL)
                        world.scale(name, service, 2)
                    for peer in world.clusters:
                        if peer != name:
                            world.link(name, peer, EXPIRY)
                await world.quiesce()
                await scenario.act(world)
                await world.quiesce()
            finally:
                await world.close()
        if world.failure is not None:
            raise world.failure
        return world.history

    try:
        return run(main())
    finally:
        shutil.rmtree(home, ignore_errors=True)


# -- what scenarios look at ------------------------------------------------------------------------------


def shown(replica: Replica, peer: str) -> PeerState | None:
    """What people are told of a peer, None before anything is."""
    assert replica.peerd is not None
    rows = {row.key: row.status.state for row in replica.peerd.federation.table.snapshot()}
    return rows.get(gateway_key(peer))


def known(replica: Replica, peer: str) -> ImportCounts:
    """What a replica holds of a peer."""
    assert replica.peerd is not None
    return replica.peerd.federation._importer.counts(gateway_key(peer))


def told(world: World, client: str, name: str) -> bool:
    """Whether a ztunnel holds a resource whose name begins so."""
    (found,) = (each for each in world.ztunnels if each.name == client)
    return any(each.startswith(name) for each in found.addresses)


def cut(world: World, one: str, other: str, *, mended: bool = False) -> None:
    """Nothing passes from *one* to *other*, or again."""
    link = world.fabric.link(one, other)
    if mended:
        link.mend()
    else:
        link.cut = True


async def until(world: World, holds: Callable[[], bool], within: float, what: str) -> None:
    """Wait for it."""
    end = world.loop.time() + within
    while not holds():
        if world.loop.time() >= end:
            raise Violation(LIVENESS, f"not within {within:.0f} s: {what}")
        await world.pass_time(1.0)


async def moment(world: World, holds: Callable[[], bool], within: float, what: str) -> None:
    """Wait for what is over in a moment: as `until`, to the millisecond."""
    end = world.loop.time() + within
    while not holds():
        if world.loop.time() >= end:
            raise Violation(LIVENESS, f"not within {within:.0f} s: {what}")
        await asyncio.sleep(0.001)


async def just_heard(world: World, viewer: str, peer: str) -> float:
    """Wait until a replica has heard a cluster anew; returns when that was asked, its last sign of life."""
    heard = world.validators.peers.heard
    before = heard(viewer, peer)
    await moment(world, lambda: heard(viewer, peer) != before, 20, f"{viewer} hears {peer}")
    return heard(viewer, peer)


def replica_of(world: World, name: str) -> Replica:
    """The only replica of a cluster, or one by its name."""
    return world.replicas[name]


def dialled(world: World, client: str, server: str) -> list[Connection]:
    """Open connections that *client* made to *server*."""
    return [each for each in world.fabric.between(client, server) if each.client == client]


def data_stream(world: World, client: str, server: str) -> SimStream:
    """The server's end of the data stream that *client* dialled."""
    return next(
        stream
        for connection in dialled(world, client, server)
        for stream in connection.streams
        if stream.method == DELTA_METHOD and stream.host == server
    )
