"""How a lie (lies.py) comes into a world, and how it is taken back."""

from random import Random

from peerd.model.types import FEDERATED_SERVICE
from tests.simulation.lies import Liar, Lie
from tests.simulation.replica import Replica
from tests.simulation.truth import LOCAL
from tests.simulation.world import World


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
    if len(teller.cluster.replicas) > 1 or world.mirrored:
        return None
    exported = [name for name, each in world.truth.services[peer].items() if each.scope != LOCAL]
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
