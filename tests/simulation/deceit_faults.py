"""Operators (chaos.py): who breaks the protocol, lies, or shows another identity."""

from random import Random

from tests.simulation.chaos import Chaos
from tests.simulation.cluster import IDENTITY
from tests.simulation.lies import draw_lies
from tests.simulation.network import Host
from tests.simulation.strangers import STRANGERS, come
from tests.simulation.telling import catch, stop, tell


async def stranger(chaos: Chaos, random: Random) -> bool:
    """Somebody breaks the protocol (strangers.py)."""
    replica, who = chaos.up(random), random.choice([each for each in STRANGERS if not each.costly])
    if replica is None:
        return False
    chaos.note(replica.name, f"a stranger comes: {who.name}")
    chaos.strangers += 1
    host = Host(chaos.world.fabric, f"stranger-{chaos.strangers}")
    dice = Random(random.random())
    chaos.world.background(come(who, replica, dice, host, chaos.world.history))
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
    world.background(catch(world, found, teller, viewer))

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
