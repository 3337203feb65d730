"""Operators (chaos.py): what a network does to connections."""

from random import Random

from tests.simulation.chaos import Chaos


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
