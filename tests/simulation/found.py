"""Bugs of peerd that the simulation found, as scenarios: what it did, and does no more."""

from peerd.model.types import ADDRESS
from peerd.protocol.peer_state import PeerState
from tests.simulation.chaos import Chaos
from tests.simulation.process_faults import change_version
from tests.simulation.scenarios import (
    EXPIRY,
    Scenarios,
    cut,
    dialled,
    just_heard,
    known,
    moment,
    replica_of,
    shown,
    told,
    until,
)
from tests.simulation.truth import GLOBAL, LOCAL
from tests.simulation.user_operators import SHARED_NETWORK
from tests.simulation.world import World

FOUND = Scenarios()


@FOUND.add("the first of two speaks", "what lacked the second was sent as any other change", a=1, b=1, c=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "a", "c")
    await a.start()
    await until(world, lambda: shown(a, "b") is PeerState.LIVE, 60, "the first has spoken")
    await world.pass_time(20)
    assert shown(a, "c") is not PeerState.LIVE, "and the second has not"
    assert a.peerd is not None
    found = a.peerd.snapshot()
    assert found.withheld > 0
    assert found.withheld_for == ("istio-system/peer-c",), "log and metric name it (decision D13)"
    cut(world, "a", "c", mended=True)


@FOUND.add("ours goes, theirs may be", "a global name went with our Service, though a peer had one", a=1, b=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "a", "b")
    await a.start()
    await world.pass_time(15)
    assert shown(a, "b") is not PeerState.LIVE
    world.put_service("a", "web", LOCAL)
    await world.pass_time(10)
    assert told(world, "zt-a", "shop/web.shop.mesh.internal")
    cut(world, "a", "b", mended=True)


@FOUND.add("a first sync is cut short", "what a crash left of it was taken for all there was", a=1, b=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    await a.start()
    await moment(world, lambda: known(a, "b").info is not None, 20, "PeerInfo comes")
    cut(world, "b", "a")  # the services take longer
    await world.pass_time(10)  # it is written down
    assert shown(a, "b") is PeerState.SYNCING
    await a.crash(silently=False)
    await a.start()
    assert known(a, "b").info is not None, "the crash left something of it"
    assert not known(a, "b").services
    await world.pass_time(10)
    cut(world, "b", "a", mended=True)


@FOUND.add(
    "members that came meanwhile",
    "a ztunnel on demand that resumed was not sent what its services had got",
    on_demand=("east",),
)
async def _(world: World) -> None:
    east = replica_of(world, "east")
    cut(world, "east", "zo-east")
    for connection in world.fabric.of("zo-east"):
        connection.drop()
    before = set(east.versions()[ADDRESS])
    world.scale("west", "web", 0)
    world.scale("west", "web", 1)
    world.move("west")
    world.reroute("west")

    def members() -> set[str]:
        return {name for name in east.versions()[ADDRESS] if name.startswith("autogen.west.shop.web")}

    await until(world, lambda: bool(members() - before), 60, "the service has got another member")
    assert not any(told(world, "zo-east", name) for name in members()), "while nobody asked"
    cut(world, "east", "zo-east", mended=True)
    await until(world, lambda: all(told(world, "zo-east", name) for name in members()), 30, "it is sent")


@FOUND.add("two replicas", "they opened streams as one, and displaced each other for ever", east=2, west=2)
async def _(world: World) -> None:
    world.scale("west", "web", 5)
    await world.pass_time(60)
    for replica in world.clusters["east"].replicas:
        assert shown(replica, "west") is PeerState.LIVE


@FOUND.add("somebody else answers", "at a peer's address, and that kept the peer's imports fresh")
async def _(world: World) -> None:
    world.put_service("west", "cart", GLOBAL)
    await world.quiesce()
    world.mirror("east", "west", says_so=False)
    await until(world, lambda: shown(replica_of(world, "east"), "west") is PeerState.SELF, 60, "it is itself")
    await world.pass_time(100)  # the validators see that nothing stays fresh
    world.unmirror("east")


@FOUND.add(
    "an expiry in the middle of a sync", "what was offered was gone, and the peer stayed empty for good"
)
async def expiry_in_a_sync(world: World) -> None:
    east = replica_of(world, "east")
    heard = await just_heard(world, "east", "west")
    cut(world, "west", "east")
    await world.pass_time(EXPIRY - 20)  # before the silence is noticed
    for connection in dialled(world, "east", "west"):
        connection.drop()
    cut(world, "west", "east", mended=True)
    await moment(world, lambda: shown(east, "west") is PeerState.SYNCING, 20, "it is dialled again")
    cut(world, "west", "east")  # it was reached, and what it says comes late
    assert world.loop.time() < heard + EXPIRY, "the sync begins before the expiry"
    await world.pass_time(heard + EXPIRY + 5 - world.loop.time())
    assert shown(east, "west") is PeerState.SYNCING, "and is not over after it"
    cut(world, "west", "east", mended=True)


@FOUND.add("answers that waited", "in the socket of a paused process counted as fresh signs of life")
async def answers_that_waited(world: World) -> None:
    east, peers = replica_of(world, "east"), world.validators.peers
    assert east.process is not None
    before = peers.asked("east", "west")
    await moment(world, lambda: peers.asked("east", "west") != before, 20, "east asks")
    asked = world.loop.time()
    world.loop.pause(east.process)
    await world.pass_time(1)
    assert peers.answered("east", "west") > asked, "the answer is there"
    assert peers.heard("east", "west") <= asked, "and nobody reads it"
    cut(world, "west", "east")
    cut(world, "east", "west")
    await world.pass_time(43)
    world.loop.resume(east.process)
    east.disturbed_at = world.loop.time()
    await world.pass_time(20)
    cut(world, "west", "east", mended=True)
    cut(world, "east", "west", mended=True)


@FOUND.add("somebody listens again", "and a peer that had expired became merely stale")
async def somebody_listens_again(world: World) -> None:
    cut(world, "west", "east")
    await world.pass_time(EXPIRY + 60)
    cut(world, "west", "east", mended=True)
    east = replica_of(world, "east")
    assert shown(east, "west") is PeerState.EXPIRED
    await moment(world, lambda: bool(dialled(world, "east", "west")), 90, "it is reached")
    cut(world, "west", "east")
    await world.pass_time(40)
    assert shown(east, "west") is PeerState.SYNCING, "and answers nothing"
    cut(world, "west", "east", mended=True)


@FOUND.add(
    "a replica that wakes up",
    "the validator's mistake: a ztunnel that moves to it is told of nothing that it has not seen yet (seed"
    " 654145)",
    east=1,
    west=2,
)
async def _(world: World) -> None:
    first, second = world.clusters["west"].replicas
    (client,) = (each for each in world.ztunnels if each.name == "zt-west")
    if client.at != first.name:
        first, second = second, first
    assert second.process is not None
    world.loop.pause(second.process)
    world.scale("west", "web", 6)
    await world.pass_time(5)
    pod = f"west//Pod/shop/{world.truth.services['west']['web'].pods[-1]}"
    assert told(world, "zt-west", pod)
    await first.stop()
    await world.pass_time(5)
    world.loop.resume(second.process)
    second.disturbed_at = world.loop.time()
    await moment(world, lambda: not told(world, "zt-west", pod), 5, "it is told what the other knows")
    await moment(world, lambda: told(world, "zt-west", pod), 2, "and soon the rest")
    await first.start()


@FOUND.add("domains of others", "their global names were taken for nobody's once the disk was lost", a=1, b=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    world.join("a", "green")
    await world.quiesce()
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "a", "b")
    await a.start()
    await world.pass_time(15)
    assert shown(a, "b") is not PeerState.LIVE
    assert told(world, "zt-a", "shop/web.shop.mesh.internal"), "nobody said that it is gone"
    cut(world, "a", "b", mended=True)


@FOUND.add(
    "what a neighbour tells",
    "the ports of its endpoints followed what others had told it of the name",
    a=1,
    b=1,
    c=1,
)
async def ports_of_neighbours(world: World) -> None:
    world.unlink("c", "a")  # c knows b's web only, and b knows a's too
    for name in ("b", "c"):
        world.relabel(name, SHARED_NETWORK)
        world.reroute(name)
    await world.quiesce()
    assert told(world, "zt-c", "autogenflat.b.shop.web")


@FOUND.add("an old neighbour", "who did not know Workloads was never in sync", a=1, b=1)
async def old_neighbour(world: World) -> None:
    chaos = Chaos(world)
    for name in ("a", "b"):
        world.relabel(name, SHARED_NETWORK)
        world.reroute(name)
    await world.quiesce()
    assert told(world, "zt-a", "autogenflat.b.shop.web")
    for old in (True, False):
        await change_version(chaos, world.clusters["b"], 0.5)
        await chaos.heal()
        await until(world, lambda: shown(replica_of(world, "a"), "b") is PeerState.LIVE, 90, "it has spoken")
        await world.quiesce()
        assert told(world, "zt-a", "autogenflat.b.shop.web") is not old, "what it does not know is gone"


@FOUND.add("another view", "a peer that left the network was told revisions of this epoch again", a=1, b=1)
async def another_view(world: World) -> None:
    for name in ("a", "b"):
        world.relabel(name, SHARED_NETWORK)
        world.reroute(name)
    await world.quiesce()
    for count in (3, 4, 5):  # which only neighbours are told one by one
        world.scale("a", "web", count)
        await world.pass_time(2)
    assert told(world, "zt-b", "autogenflat.a.shop.web")
    world.relabel("b")
    world.reroute("b")
