"""Operators (chaos.py): what users do, and who administers clusters and links."""

from random import Random

from tests.simulation.chaos import Chaos
from tests.simulation.truth import GLOBAL, LOCAL, SEGMENT, TAKEOVER

NAMES = ("cart", "pay", "web")
SHARED_NETWORK = "flat-net"
_SCOPES = (LOCAL, SEGMENT, GLOBAL, GLOBAL, GLOBAL, TAKEOVER)
_EXPIRIES = (60, 90, 86_400)


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
    chaos.world.put_service(cluster, name, random.choice(_SCOPES))
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


async def addresses(chaos: Chaos, random: Random) -> bool:
    """A Gateway gets more addresses, or loses them again: nobody answers at the first ones."""
    world = chaos.world
    viewer = random.choice(list(world.clusters))
    peers = sorted(world.truth.links[viewer])
    if not peers:
        return False
    count, silent = random.choice((0, 1, 1, 2, 3)), random.random() < 0.5
    world.lengthen(viewer, random.choice(peers), count, silent=silent)
    return True


async def move(chaos: Chaos, random: Random) -> bool:
    """Its address changes, and the Gateways that name it are edited only later."""
    cluster = random.choice(list(chaos.world.clusters))
    chaos.world.move(cluster)
    _rerouted_later(chaos, random, cluster)
    return True


async def segment(chaos: Chaos, random: Random) -> bool:
    """A cluster joins a segment, or leaves it (decision D25)."""
    cluster = random.choice(list(chaos.world.clusters))
    chaos.world.join(cluster, "" if chaos.world.truth.segments[cluster] else "green")
    return True


async def relabel(chaos: Chaos, random: Random) -> bool:
    """Its network changes; until the Gateways that name it are edited, its peers refuse it.

    Clusters that come to share one tell each other of their Pods (decision D31).
    """
    cluster = random.choice(list(chaos.world.clusters))
    flat = chaos.world.clusters[cluster].network != SHARED_NETWORK and random.random() < 0.6
    chaos.world.relabel(cluster, SHARED_NETWORK if flat else "")
    _rerouted_later(chaos, random, cluster)
    return True


async def inherit(chaos: Chaos, random: Random) -> bool:
    """A peer moves away, and later its old address is that of the cluster that still dials it there."""
    world = chaos.world
    viewer = random.choice(list(world.clusters))
    peers = sorted(world.truth.links[viewer])
    if not peers or world.mirrored & {viewer}:
        return False
    peer = random.choice(peers)
    address = world.clusters[peer].address
    world.move(peer)

    async def reuse() -> None:
        world.inherit(viewer, address)
        _rerouted_later(chaos, random, peer)

    chaos.later(random.choice((5.0, 60.0, 130.0)), reuse)
    return True


def _rerouted_later(chaos: Chaos, random: Random, cluster: str) -> None:
    async def mend() -> None:
        chaos.world.reroute(cluster)

    chaos.later(random.choice((0.5, 10.0, 70.0)), mend)
