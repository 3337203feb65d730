"""Every stranger and every lie, one after the other, in a world where nothing else goes wrong."""

from random import Random

from peerd.protocol.peer_state import PeerState
from tests.simulation.guarantees import REFUSAL
from tests.simulation.history import Violation
from tests.simulation.lies import CHORUS, LIES
from tests.simulation.network import Host
from tests.simulation.scenarios import Scenarios, replica_of, shown, until
from tests.simulation.strangers import STRANGERS, visit
from tests.simulation.telling import stop, tell
from tests.simulation.world import World

GAUNTLET = Scenarios()


@GAUNTLET.add("strangers", "each must be told what it did wrong, and nobody else may notice")
async def strangers(world: World) -> None:
    for number, stranger in enumerate(STRANGERS):
        host = Host(world.fabric, f"stranger-{number}")
        if not await visit(stranger, replica_of(world, "east"), Random(number), host):
            raise Violation(REFUSAL, f"{stranger.name} could not be judged")
        await world.pass_time(1)


@GAUNTLET.add("lies", "each must be seen through, and all is well once they are over")
async def lies(world: World) -> None:
    east, west = replica_of(world, "east"), replica_of(world, "west")
    for number, told in enumerate((*CHORUS, *((lie,) for lie in LIES if not lie.words))):
        liar = tell(world, told, west, east, Random(number))
        assert liar is not None
        began, tries = world.loop.time(), 0
        while not liar.told:
            await world.pass_time(0.1)
            tries += 1
            assert tries < 900, f"never told: {told[0].title}"
        await world.pass_time(3.0)
        if not world.validators.peers.seen_through(east, "west", liar):
            raise Violation(REFUSAL, f"{told[0].title} could not be judged, from {began:.0f} on")
        stop(world, liar, west, east)
        await until(world, lambda: shown(east, "west") is PeerState.LIVE, 120, f"well after {told[0].title}")
        await world.pass_time(5)


@GAUNTLET.add("policies", "that come, change and go while ztunnels are away are neither lost nor kept")
async def policies(world: World) -> None:
    east = replica_of(world, "east")
    for name in ("web", "pay"):
        world.put_policy("east", name)
    await world.quiesce()
    await east.stop()
    world.delete_policy("east", "web")
    world.put_policy("east", "cart")
    world.scale("east", "pay", 3)
    await east.start()
    await world.quiesce()
    connections = world.fabric.of("zt-east")
    assert connections
    for connection in connections:
        connection.drop()
    world.delete_policy("east", "pay")
