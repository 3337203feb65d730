"""Operators: what users, administrators and the world do to clusters, all drawn from one Random.

Each is a function of the world and a Random; it does one thing, or finds nothing to do it to and returns
False. What breaks for a while mends itself within the phase, or at its end by `heal`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random

from tests.simulation.cluster import IDENTITY
from tests.simulation.lies import draw_lies
from tests.simulation.replica import Replica
from tests.simulation.strangers import STRANGERS
from tests.simulation.telling import stop, tell
from tests.simulation.truth import GLOBAL, LOCAL, TAKEOVER
from tests.simulation.world import World

NAMES = ("cart", "pay", "web")
_EXPIRIES = (60, 90, 86_400)

Operator = Callable[["Chaos", Random], Awaitable[bool]]


class Chaos:
    """A world, and what is broken in it at the moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._over = asyncio.Event()
        self._mending: list[asyncio.Task[None]] = []

    def later(self, seconds: float, mend: Callable[[], Awaitable[None]]) -> None:
        """Mend something after a while, or when `heal` is called if that is sooner."""

        async def wait() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
            await mend()

        self._mending.append(asyncio.ensure_future(wait()))

    async def heal(self) -> None:
        """Stop every fault."""
        mending, self._mending = self._mending, []
        self._over.set()
        await asyncio.gather(*mending)
        self._over.clear()
        for replica in self.world.replicas.values():
            replica.clock.skew = 0.0
            replica.skewed_at = self.world.loop.time()
        self.note("world", "every fault ends")

    def note(self, where: str, what: str) -> None:
        self.world.history.now = self.world.loop.time()
        self.world.history.note(where, what)

    def two(self, random: Random) -> tuple[str, str]:
        one, other = random.sample(list(self.world.clusters), 2)
        return one, other

    def hosts(self, random: Random) -> tuple[str, str]:
        """One replica each of two clusters."""
        one, other = self.two(random)
        clusters = self.world.clusters
        return random.choice(clusters[one].replicas).name, random.choice(clusters[other].replicas).name

    def up(self, random: Random) -> Replica | None:
        found = [each for each in self.world.replicas.values() if each.running]
        return random.choice(found) if found else None


# -- users -----------------------------------------------------------------------------------------------


async def scale(chaos: Chaos, random: Random) -> bool:
    cluster = random.choice(list(chaos.world.clusters))
    services = sorted(chaos.world.truth.services[cluster])
    if not services:
        return False
    chaos.world.scale(cluster, random.choice(services), random.choice((0, 1, 1, 2, 3, 6)))
    return True


async def label(chaos: Chaos, random: Random) -> bool:
    """Create a Service, or change how far it reaches."""
    cluster, name = random.choice(list(chaos.world.clusters)), random.choice(NAMES)
    new = name not in chaos.world.truth.services[cluster]
    chaos.world.put_service(cluster, name, random.choice((LOCAL, GLOBAL, GLOBAL, TAKEOVER)))
    if new:
        chaos.world.scale(cluster, name, random.choice((1, 2)))
    return True


async def edit(chaos: Chaos, random: Random) -> bool:
    cluster = random.choice(list(chaos.world.clusters))
    services = sorted(chaos.world.truth.services[cluster])
    if not services:
        return False
    chaos.world.next_generation(cluster, random.choice(services))
    return True


async def delete(chaos: Chaos, random: Random) -> bool:
    cluster = random.choice(list(chaos.world.clusters))
    services = sorted(chaos.world.truth.services[cluster])
    if not services:
        return False
    chaos.world.delete_service(cluster, random.choice(services))
    return True


async def policy(chaos: Chaos, random: Random) -> bool:
    cluster, name = random.choice(list(chaos.world.clusters)), random.choice(NAMES)
    if name in chaos.world.policies(cluster):
        chaos.world.delete_policy(cluster, name)
    else:
        chaos.world.put_policy(cluster, name)
    return True


async def relink(chaos: Chaos, random: Random) -> bool:
    viewer, peer = chaos.two(random)
    if peer in chaos.world.truth.links[viewer]:
        chaos.world.unlink(viewer, peer)
    else:
        chaos.world.link(viewer, peer, random.choice(_EXPIRIES))
    return True


# -- the network -----------------------------------------------------------------------------------------


async def partition(chaos: Chaos, random: Random) -> bool:
    one, other = chaos.two(random)
    ways = _ways(chaos, one, other)
    return _cut(chaos, random, [*ways, *((b, a) for a, b in ways)], f"partition {one} | {other}")


async def one_way(chaos: Chaos, random: Random) -> bool:
    one, other = chaos.two(random)
    return _cut(chaos, random, _ways(chaos, one, other), f"nothing passes from {one} to {other}")


def _ways(chaos: Chaos, one: str, other: str) -> list[tuple[str, str]]:
    clusters = chaos.world.clusters
    return [(a.name, b.name) for a in clusters[one].replicas for b in clusters[other].replicas]


def _cut(chaos: Chaos, random: Random, ways: list[tuple[str, str]], what: str) -> bool:
    links = [chaos.world.fabric.link(*way) for way in ways]
    if any(link.cut for link in links):
        return False
    for link in links:
        link.cut = True
    seconds = random.choice((3.0, 20.0, 50.0, 80.0, 150.0)) * random.uniform(0.5, 1.5)
    chaos.note("network", f"{what} for {seconds:.0f} s")

    async def mend() -> None:
        for link in links:
            link.mend()

    chaos.later(seconds, mend)
    return True


async def drop(chaos: Chaos, random: Random) -> bool:
    connections = chaos.world.fabric.between(*chaos.hosts(random))
    for connection in connections:
        chaos.note("network", f"drop {connection.client} -> {connection.server}")
        connection.drop()
    return bool(connections)


async def half_open(chaos: Chaos, random: Random) -> bool:
    """One end loses the connection, and the other does not learn it."""
    connections = chaos.world.fabric.between(*chaos.hosts(random))
    for connection in connections:
        host = random.choice((connection.client, connection.server))
        chaos.note("network", f"half-open {connection.client} -> {connection.server}, lost at {host}")
        connection.vanish(host)
    return bool(connections)


async def throttle(chaos: Chaos, random: Random) -> bool:
    link = chaos.world.fabric.link(*chaos.hosts(random))
    if link.bytes_per_second:
        return False
    link.bytes_per_second = random.choice((100.0, 2000.0))
    chaos.note("network", f"throttle to {link.bytes_per_second:.0f} B/s")

    async def mend() -> None:
        link.bytes_per_second = 0.0

    chaos.later(random.uniform(5, 60), mend)
    return True


async def ztunnel_drop(chaos: Chaos, random: Random) -> bool:
    client = random.choice(chaos.world.ztunnels)
    connections = chaos.world.fabric.of(client.name)
    for connection in connections:
        chaos.note(client.name, "its connection breaks")
        connection.drop()
    return bool(connections)


# -- processes -------------------------------------------------------------------------------------------


async def ztunnel_restart(chaos: Chaos, random: Random) -> bool:
    client = random.choice(chaos.world.ztunnels)
    chaos.note(client.name, "restarts, remembering nothing")
    await chaos.world.restart_ztunnel(client)
    return True


async def pause(chaos: Chaos, random: Random) -> bool:
    replica = chaos.up(random)
    if replica is None or replica.process is None:
        return False
    process, seconds = replica.process, random.choice((1.0, 10.0, 40.0, 60.0)) * random.uniform(0.5, 1.5)
    chaos.note(replica.name, f"pause for {seconds:.0f} s")
    chaos.world.loop.pause(process)

    async def mend() -> None:
        if process.paused:
            chaos.world.loop.resume(process)
            replica.disturbed_at = chaos.world.loop.time()

    chaos.later(seconds, mend)
    return True


async def restart(chaos: Chaos, random: Random) -> bool:
    return await _restart(chaos, random, "restart")


async def crash(chaos: Chaos, random: Random) -> bool:
    return await _restart(chaos, random, "crash")


async def power_loss(chaos: Chaos, random: Random) -> bool:
    return await _restart(chaos, random, "power loss")


async def lose_disk(chaos: Chaos, random: Random) -> bool:
    return await _restart(chaos, random, "disk loss")


async def recreate(chaos: Chaos, random: Random) -> bool:
    """A new cluster under the same name, with the same objects."""
    cluster = random.choice(list(chaos.world.clusters.values()))
    if not all(replica.running for replica in cluster.replicas):
        return False
    seconds = random.choice((0.5, 5.0, 30.0, 70.0)) * random.uniform(0.5, 1.5)
    chaos.note(cluster.name, f"recreate, back after {seconds:.0f} s")
    for replica in cluster.replicas:
        await replica.crash(silently=False)
        chaos.world.validators.crashed(replica.name, chaos.world.loop.time())
    cluster.new_lineage()
    for replica in cluster.replicas:
        _back(chaos, replica, seconds)
    return True


async def _restart(chaos: Chaos, random: Random, how: str) -> bool:
    replica = chaos.up(random)
    if replica is None:
        return False
    seconds = random.choice((0.5, 5.0, 30.0, 70.0)) * random.uniform(0.5, 1.5)
    chaos.note(replica.name, f"{how}, back after {seconds:.0f} s")
    if how == "restart":
        await replica.stop()
    else:
        await replica.crash(silently=how == "power loss")
        chaos.world.validators.crashed(replica.name, chaos.world.loop.time())
    if how == "disk loss":
        replica.lose_disk()
    _back(chaos, replica, seconds)
    return True


def _back(chaos: Chaos, replica: Replica, seconds: float) -> None:
    async def mend() -> None:
        await replica.start()
        chaos.note(replica.name, "is back")

    chaos.later(seconds, mend)


async def skew(chaos: Chaos, random: Random) -> bool:
    replica = random.choice(list(chaos.world.replicas.values()))
    replica.clock.skew = random.choice((-3600.0, -60.0, -5.0, 5.0, 40.0, 0.0))
    replica.skewed_at = chaos.world.loop.time()
    chaos.note(replica.name, f"its wall clock is wrong by {replica.clock.skew:.0f} s")
    return True


async def new_issuer(chaos: Chaos, random: Random) -> bool:
    cluster = random.choice(list(chaos.world.clusters.values()))
    chaos.note(cluster.name, "its CA's key is replaced")
    cluster.new_issuer()
    return True


async def stranger(chaos: Chaos, random: Random) -> bool:
    """Somebody breaks the protocol (strangers.py)."""
    replica, who = chaos.up(random), random.choice([each for each in STRANGERS if not each.costly])
    if replica is None:
        return False
    chaos.note(replica.name, f"a stranger comes: {who.name}")
    chaos.world.visit(who, replica, Random(random.random()))
    return True


async def liar(chaos: Chaos, random: Random) -> bool:
    """A peer tells a lie (lies.py)."""
    world = chaos.world
    viewer, teller, lies = chaos.up(random), chaos.up(random), draw_lies(random)
    if viewer is None or teller is None:
        return False
    found = tell(world, lies, teller, viewer, random)
    if found is None:
        return False
    chaos.note(teller.name, f"lies to {viewer.name}: {lies[0].title}")
    world.catch(found, teller, viewer)

    async def mend() -> None:
        stop(world, found, teller, viewer)

    chaos.later(random.uniform(10, 30), mend)
    return True


async def impostor(chaos: Chaos, random: Random) -> bool:
    """A control plane shows another identity for a while: nobody wants it, nor believes it."""
    cluster = random.choice(list(chaos.world.clusters.values()))
    if cluster.identity != IDENTITY:
        return False
    chaos.note(cluster.name, "shows another identity")
    cluster.show("spiffe://cluster.local/ns/default/sa/nobody")
    for replica in cluster.replicas:
        for connection in chaos.world.fabric.of(replica.name):
            if {connection.client, connection.server} <= chaos.world.replicas.keys():
                connection.drop()

    async def mend() -> None:
        cluster.show(IDENTITY)

    chaos.later(random.choice((10.0, 60.0, 140.0)), mend)
    return True


async def mirror(chaos: Chaos, random: Random) -> bool:
    """A Gateway is edited to lead to its own cluster: it says so itself, or only who answers there does."""
    viewer = random.choice(list(chaos.world.clusters))
    peers = sorted(chaos.world.truth.links[viewer])
    if not peers or chaos.world.mirrored & {viewer}:
        return False
    chaos.world.mirror(viewer, random.choice(peers), says_so=random.random() < 0.5)

    async def mend() -> None:
        chaos.world.unmirror(viewer)

    chaos.later(random.choice((5.0, 60.0)), mend)
    return True


async def move(chaos: Chaos, random: Random) -> bool:
    """Its address changes, and the Gateways that name it are edited only later."""
    cluster = random.choice(list(chaos.world.clusters))
    chaos.world.move(cluster)
    _rerouted_later(chaos, random, cluster)
    return True


async def relabel(chaos: Chaos, random: Random) -> bool:
    """Its network changes; until the Gateways that name it are edited, its peers refuse it."""
    cluster = random.choice(list(chaos.world.clusters))
    chaos.world.relabel(cluster)
    _rerouted_later(chaos, random, cluster)
    return True


def _rerouted_later(chaos: Chaos, random: Random, cluster: str) -> None:
    async def mend() -> None:
        chaos.world.reroute(cluster)

    chaos.later(random.choice((0.5, 10.0, 70.0)), mend)


USERS: dict[str, tuple[int, Operator]] = {
    "scale": (6, scale),
    "label": (3, label),
    "edit": (2, edit),
    "delete": (1, delete),
    "policy": (2, policy),
    "relink": (1, relink),
    "move": (1, move),
    "relabel": (1, relabel),
    "mirror": (1, mirror),
}
FAULTS: dict[str, tuple[int, Operator]] = {
    "partition": (3, partition),
    "one way": (3, one_way),
    "drop": (3, drop),
    "half-open": (3, half_open),
    "throttle": (2, throttle),
    "ztunnel drop": (2, ztunnel_drop),
    "ztunnel restart": (1, ztunnel_restart),
    "pause": (3, pause),
    "restart": (2, restart),
    "crash": (2, crash),
    "power loss": (1, power_loss),
    "disk loss": (1, lose_disk),
    "recreate": (1, recreate),
    "skew": (1, skew),
    "new issuer": (1, new_issuer),
    "impostor": (1, impostor),
    "stranger": (2, stranger),
    "liar": (2, liar),
}


def draw(random: Random, operators: dict[str, tuple[int, Operator]]) -> str:
    """The name of one of them, by weight."""
    names = list(operators)
    return random.choices(names, [operators[each][0] for each in names])[0]
