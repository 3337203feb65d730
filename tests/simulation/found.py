"""Bugs of peerd that the simulation found, as scenarios: what it did, and does no more."""

import asyncio

from peerd.protocol.peer_state import PeerState
from tests.simulation.scenarios import (
    EXPIRY,
    Scenarios,
    cut,
    dialled,
    just_heard,
    moment,
    replica_of,
    shown,
    told,
    until,
)
from tests.simulation.truth import GLOBAL, LOCAL
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
    cut(world, "a", "c", mended=True)


@FOUND.add("ours goes, theirs may be", "a global name went with our Service, though a peer had one", a=1, b=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "a", "b")
    await a.start()
    await world.pass_time(15)
    world.put_service("a", "web", LOCAL)
    await world.pass_time(10)
    assert told(world, "zt-a", "shop/web.shop.mesh.internal")
    cut(world, "a", "b", mended=True)


@FOUND.add("a first sync is cut short", "what a crash left of it was taken for all there was", a=1, b=1)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    world.fabric.link("b", "a").bytes_per_second = 60.0  # PeerInfo comes, the services take longer
    await a.start()
    await world.pass_time(14)
    assert shown(a, "b") is PeerState.SYNCING
    await a.crash(silently=False)
    await a.start()
    await world.pass_time(10)
    world.fabric.link("b", "a").bytes_per_second = 0.0


@FOUND.add(
    "members that came meanwhile",
    "a ztunnel on demand that resumed was not sent what its services had got",
    on_demand=("east",),
)
async def _(world: World) -> None:
    for connection in world.fabric.of("zo-east"):
        connection.drop()
    world.scale("west", "web", 0)
    world.scale("west", "web", 1)
    world.move("west")
    world.reroute("west")


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
    before = dict(peers._asked)

    def asks() -> bool:
        return any(key[0] == "east" and before.get(key) != at for key, at in peers._asked.items())

    while not asks():  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0.001)
    world.loop.pause(east.process)
    await world.pass_time(1)  # the answer is there, and nobody reads it
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
    while not any(each.client == "east" for each in world.fabric.between("east", "west")):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    cut(world, "west", "east")  # it was reached, and answers nothing
    await world.pass_time(40)
    cut(world, "west", "east", mended=True)
