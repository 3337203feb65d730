"""Operators (chaos.py): what happens to processes, their disks and their clocks."""

from random import Random

from tests.simulation.chaos import Chaos
from tests.simulation.cluster import SimCluster
from tests.simulation.replica import Replica
from tests.simulation.upgrades import Newer, Older


async def ztunnel_restart(chaos: Chaos, random: Random) -> bool:
    client = random.choice(chaos.world.ztunnels)
    chaos.note(client.name, "restarts, remembering nothing")
    await chaos.world.restart_ztunnel(client)
    return True


async def gateway_restart(chaos: Chaos, random: Random) -> bool:
    """A gateway's Pod is replaced, or its connection to peerd breaks."""
    if not chaos.world.gateways:
        return False
    gateway, forgets = random.choice(chaos.world.gateways), random.random() < 0.5
    chaos.note(gateway.name, "restarts, remembering nothing" if forgets else "its connection breaks")
    if forgets:
        await chaos.world.restart_gateway(gateway)
        return True
    connections = chaos.world.fabric.of(gateway.name)
    for connection in connections:
        connection.drop()
    return bool(connections)


async def ztunnel_stall(chaos: Chaos, random: Random) -> bool:
    """It reads nothing for longer than a peerd waits for its answers, and finds its stream ended."""
    client = random.choice(chaos.world.ztunnels)
    process = chaos.world.process_of(client)
    if process.paused:
        return False
    seconds = random.choice((20.0, 70.0, 100.0)) * random.uniform(0.8, 1.2)
    chaos.note(client.name, f"reads nothing for {seconds:.0f} s")
    chaos.world.loop.pause(process)
    client.rests = True

    async def mend() -> None:
        if not process.dead:
            chaos.world.loop.resume(process)
            client.rests, client.rested_at = False, chaos.world.loop.time()

    chaos.later(seconds, mend)
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


async def upgrade(chaos: Chaos, random: Random) -> bool:
    """One control plane is restarted as one of a later version; after a while it speaks as before."""
    replica, tampered = chaos.up(random), chaos.world.fabric.tampered
    if replica is None:
        return False
    ways = [(replica.name, other) for other in chaos.world.replicas if other != replica.name]
    if any(way in tampered for way in ways):
        return False
    chaos.note(replica.name, "is upgraded")
    await replica.stop()
    chaos.world.validators.ended(replica.name, chaos.world.loop.time())
    tampered.update((way, Newer()) for way in ways)
    _back(chaos, replica, random.choice((0.5, 5.0)))

    async def roll_back() -> None:
        for way in ways:
            tampered.pop(way, None)

    chaos.later(random.uniform(20, 120), roll_back)
    return True


async def downgrade(chaos: Chaos, random: Random) -> bool:
    """A cluster's control plane is replaced by one of the first version, or that by today's again."""
    cluster = random.choice(list(chaos.world.clusters.values()))
    if not all(each.running for each in cluster.replicas):
        return False
    return await change_version(chaos, cluster, random.choice((0.5, 5.0)))


async def change_version(chaos: Chaos, cluster: SimCluster, seconds: float) -> bool:
    """Within so many seconds every replica is of the other one."""
    world, tampered = chaos.world, chaos.world.fabric.tampered
    ways = [(each.name, other) for each in cluster.replicas for other in world.replicas if other != each.name]
    if not cluster.older and any(way in tampered for way in ways):
        return False
    chaos.note(cluster.name, "is upgraded to today's version" if cluster.older else "is downgraded")
    for replica in cluster.replicas:
        await replica.stop()
        world.validators.ended(replica.name, world.loop.time())
    cluster.older = not cluster.older
    for way in ways:
        if cluster.older:
            tampered[way] = Older()
        else:
            tampered.pop(way, None)
    for viewer in world.clusters:
        if cluster.name in world.truth.links[viewer]:
            world.truth.rerouted(viewer, cluster.name, world.loop.time())
    for replica in cluster.replicas:
        _back(chaos, replica, seconds)
    return True


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
        chaos.world.validators.ended(replica.name, chaos.world.loop.time())
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
    chaos.world.validators.ended(replica.name, chaos.world.loop.time())
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
    replica.set_back = replica.set_back or replica.clock.skew == -3600
    chaos.note(replica.name, f"its wall clock is wrong by {replica.clock.skew:.0f} s")
    return True


async def new_issuer(chaos: Chaos, random: Random) -> bool:
    cluster = random.choice(list(chaos.world.clusters.values()))
    chaos.note(cluster.name, "its CA's key is replaced")
    cluster.new_issuer()
    return True
