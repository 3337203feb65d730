"""How a lie (lies.py) comes into a world, and how it is taken back."""

import asyncio
from random import Random

from peerd.model.types import ADDRESS, FEDERATED_SERVICE
from tests.simulation.flat_lies import FLAT_LIES
from tests.simulation.guarantees import REFUSAL
from tests.simulation.lies import Liar, Lie
from tests.simulation.replica import Replica
from tests.simulation.truth import LOCAL
from tests.simulation.world import World

_SEEN_THROUGH = 3.0  # seconds after which a lie must have had its consequence


def tell(
    world: World, lies: tuple[Lie, ...], teller: Replica, viewer: Replica, random: Random
) -> Liar | None:
    """Let *teller* tell *viewer* at its next word of that type, and make it speak; None where it cannot."""
    lie, peer, way = lies[0], teller.cluster.name, (teller.name, viewer.name)
    if viewer.peerd is None or teller.peerd is None or way in world.fabric.tampered:
        return None
    whose = (viewer if lie.itself else teller).peerd
    assert whose is not None
    info = whose.federation.info
    if info is None or peer not in world.truth.links[viewer.cluster.name]:
        return None
    if len(teller.cluster.replicas) > 1 or world.mirrored or world.inherited:
        return None
    exported = [name for name, each in world.truth.services[peer].items() if each.scope != LOCAL]
    if lie.type_url == ADDRESS and viewer.cluster.network == teller.cluster.network:
        if world.truth.segments[peer]:
            return None  # of another domain these would be other lies
        lies = FLAT_LIES  # where workloads are exchanged, others are lies
    service = lie.told_instead_of == FEDERATED_SERVICE
    if service and not exported:
        return None
    liar = world.fabric.tampered[way] = Liar(lies, info)
    if service:
        world.next_generation(peer, random.choice(sorted(exported)))
    if not service or lie.title.startswith("a sum"):
        for connection in world.fabric.between(*way):
            connection.drop()
    world.truth.rerouted(viewer.cluster.name, peer, world.loop.time())  # what is refused may be missing
    return liar


def stop(world: World, liar: Liar, teller: Replica, viewer: Replica) -> None:
    """The truth again, from the next connection on."""
    peer, way = teller.cluster.name, (teller.name, viewer.name)
    world.fabric.tampered.pop(way, None)
    world.truth.rerouted(viewer.cluster.name, peer, world.loop.time())
    if liar.lie.itself:
        # Nobody dials itself again before its Gateway is edited.
        world.move(peer)
        world.reroute(peer)
    for connection in world.fabric.between(*way):
        connection.drop()  # what was refused is offered again


async def catch(world: World, liar: Liar, teller: Replica, viewer: Replica) -> None:
    """See that a lie is seen through. Raises Violation."""
    for _ in range(100):
        await asyncio.sleep(0.1)
        if liar.told:
            break
    else:
        return
    told, way = world.loop.time(), (teller.name, viewer.name)
    await asyncio.sleep(_SEEN_THROUGH)
    links = [world.fabric.link(*each) for each in (way, way[::-1])]
    quiet = not any(link.cut or link.bytes_per_second for link in links)
    alone = max(viewer.disturbed_at, viewer.ready_at, teller.disturbed_at) < told - _SEEN_THROUGH
    alone = alone and not world.inherited and world.inherited_at < told  # else nobody knows which way it came
    if not (quiet and alone and viewer.running and teller.running):
        return
    if world.validators.peers.seen_through(viewer, teller.cluster.name, liar):
        world.history.checks[REFUSAL] += 1
