"""Bugs that others had in public, as scenarios (scenarios.py): what happened there, and passes here."""

from collections.abc import Callable
from typing import Any

from peerd.model.types import DELTA_METHOD
from peerd.protocol.peer_state import PeerState
from tests.simulation.scenarios import (
    EXPIRY,
    Scenario,
    Scenarios,
    cut,
    data_stream,
    dialled,
    replica_of,
    shown,
    told,
    until,
)
from tests.simulation.streams import Parcel
from tests.simulation.truth import GLOBAL, LOCAL
from tests.simulation.world import World

SCENARIOS = Scenarios()


@SCENARIOS.add(
    "Consul #22868", "a peering stayed ACTIVE without heartbeats; its catalogue was stale for good"
)
async def _(world: World) -> None:
    cut(world, "west", "east")
    east = replica_of(world, "east")
    await until(world, lambda: shown(east, "west") is not PeerState.LIVE, 50, "the silence shows")
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 1)
    await world.pass_time(30)
    cut(world, "west", "east", mended=True)
    await until(
        world, lambda: told(world, "zt-east", "autogen.west.shop.cart"), 90, "it comes back by itself"
    )


@SCENARIOS.add(
    "Consul #15052", "peering worked on the leader only; others answered with errors", east=2, west=1
)
async def _(world: World) -> None:
    await replica_of(world, "east").crash(silently=False)
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 1)
    await until(
        world, lambda: told(world, "zt-east", "autogen.west.shop.cart"), 60, "the other replica peers"
    )
    await replica_of(world, "east").start()


@SCENARIOS.add(
    "Kuma #9455", "when one zone disconnected, others saw its resources deleted for seconds", a=1, b=1, c=1
)
async def _(world: World) -> None:
    await replica_of(world, "b").crash(silently=False)
    await world.pass_time(40)
    assert told(world, "zt-a", "autogen.b.shop.web")
    assert told(world, "zt-c", "autogen.b.shop.web")
    await replica_of(world, "b").start()


@SCENARIOS.add(
    "Kuma #10463", "one resource that was rejected stopped its whole type until somebody restarted it"
)
async def _(world: World) -> None:
    peerd = replica_of(world, "east").peerd
    assert peerd is not None
    importer = peerd.federation._importer
    take, refused = importer.take, 0

    def picky(key: Any, type_url: str, puts: Any) -> dict[str, str]:
        nonlocal refused
        wanted = [put for put in puts if put.name != "shop/web"]
        refused += len(puts) - len(wanted)
        return take(key, type_url, wanted) | {
            put.name: "the webhook says no" for put in puts if put.name == "shop/web"
        }

    importer.take = picky  # type: ignore[method-assign]
    world.next_generation("west", "web")
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 1)
    await until(world, lambda: told(world, "zt-east", "autogen.west.shop.cart"), 60, "the others go on")
    assert refused, "and one was refused"
    importer.take = take  # type: ignore[method-assign]
    world.next_generation("west", "web")


@SCENARIOS.add("Kuma #3545", "sync stopped silently while health checks passed; a restart helped")
async def _(world: World) -> None:
    data_stream(world, "east", "west").lose()  # at west's end only: heartbeats go on
    await world.pass_time(5)
    assert shown(replica_of(world, "east"), "west") is PeerState.LIVE, "nobody can know yet"
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 1)
    await until(world, lambda: told(world, "zt-east", "autogen.west.shop.cart"), 120, "it is noticed")


@SCENARIOS.add(
    "Kuma #13624", "a zone's stream hung after a network change, and the control plane called it online"
)
async def _(world: World) -> None:
    (connection,) = dialled(world, "east", "west")
    connection.vanish("west")  # east does not learn that it is gone
    await world.pass_time(5)
    assert shown(replica_of(world, "east"), "west") is PeerState.LIVE, "nobody can know yet"
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 1)
    await until(
        world, lambda: told(world, "zt-east", "autogen.west.shop.cart"), 120, "the newest stream wins"
    )


@SCENARIOS.add("Cilium #23823", "a restarting agent dropped the backends of global services for a moment")
async def _(world: World) -> None:
    cut(world, "east", "west")
    await replica_of(world, "east").stop()
    await replica_of(world, "east").start()
    await world.pass_time(20)
    assert shown(replica_of(world, "east"), "west") is not PeerState.LIVE, "its peer could not be asked"
    assert told(world, "zt-east", "autogen.west.shop.web")
    cut(world, "east", "west", mended=True)


@SCENARIOS.add(
    "Cilium #45441", "backends that went while an agent was down stayed for ever after its restart"
)
async def _(world: World) -> None:
    await replica_of(world, "east").stop()
    world.delete_service("west", "web")
    world.scale("west", "pay", 0)
    await replica_of(world, "east").start()
    await until(world, lambda: not told(world, "zt-east", "autogen.west"), 60, "they go")


@SCENARIOS.add("Cilium #37333", "what was known of a cluster that is gone stayed for ever")
async def _(world: World) -> None:
    await replica_of(world, "west").crash(silently=True)
    await world.pass_time(EXPIRY - 5)
    assert told(world, "zt-east", "autogen.west.shop.web"), "but not before its time"
    await until(world, lambda: not told(world, "zt-east", "autogen.west"), 60, "it expires")
    await replica_of(world, "west").start()


@SCENARIOS.add("Linkerd #12608", "10,000 Pods in a remote cluster took the local control plane down")
async def _(world: World) -> None:
    before, received = world.fabric.delivered, 0
    assert before is not None

    def count(parcel: Parcel) -> None:
        nonlocal received
        before(parcel)
        if parcel[:3] == ("west", "east", DELTA_METHOD):
            received += len(parcel.message)

    world.fabric.delivered = count
    for number in (100, 400, 50, 500):
        world.scale("west", "web", number)
        await world.pass_time(3)
    await world.quiesce()
    assert 0 < received < 20_000, "a summary does not grow with the Pods"


@SCENARIOS.add("Linkerd #11480", "proxies went on to use endpoints that were gone")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    await east.crash(silently=True)  # the ztunnel does not learn that its stream is dead
    world.scale("west", "web", 0)
    await east.start()
    assert world.fabric.of("zt-east"), "it believes in its connection"
    await until(world, lambda: not told(world, "zt-east", "autogen.west.shop.web"), 120, "it learns that")


@SCENARIOS.add(
    "Linkerd #10635", "the gateway's load balancer got another address; mirrors led to the old one"
)
async def _(world: World) -> None:
    world.move("west")
    world.scale("west", "web", 5)
    await world.pass_time(20)
    assert shown(replica_of(world, "east"), "west") is not PeerState.LIVE, "nobody answers at the old one"
    world.reroute("west")
    await until(world, lambda: shown(replica_of(world, "east"), "west") is PeerState.LIVE, 90, "it is found")


@SCENARIOS.add(
    "Skupper #2504",
    "a restarting controller pushed partial state: all but one listener vanished",
    a=1,
    b=1,
    c=1,
)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "c", "a")  # one peer speaks, the other cannot
    await a.start()
    await world.pass_time(30)
    assert shown(a, "b") is PeerState.LIVE
    assert shown(a, "c") is not PeerState.LIVE
    assert told(world, "zt-a", "autogen.c.shop.web"), "nobody said that it is gone"
    cut(world, "c", "a", mended=True)


def _while_down(name: str, there: str, change: Callable[[World], None]) -> None:
    """Lighthouse's cases of what became stale while its agent was down."""

    async def act(world: World) -> None:
        await replica_of(world, "east").stop()
        change(world)
        await world.pass_time(5)
        assert not replica_of(world, "east").running
        await replica_of(world, "east").start()

    SCENARIOS.append(Scenario(f"Lighthouse: {name}", there, act))


def _renamed(world: World) -> None:
    world.delete_service("west", "web")
    world.put_service("west", "cart", GLOBAL)
    world.scale("west", "cart", 2)


def _replaced(world: World) -> None:
    world.scale("west", "web", 0)
    world.scale("west", "web", 2)


_STALE = "it stayed, because it went while the agent was down"
_while_down("a service is deleted", _STALE, lambda world: world.delete_service("east", "web"))
_while_down("an export is deleted", _STALE, lambda world: world.delete_service("west", "web"))
_while_down("an export is taken back", _STALE, lambda world: world.put_service("west", "web", LOCAL))
_while_down("an export gets another name", _STALE, _renamed)
_while_down(
    "an import's ports change", "the old ones stayed", lambda world: world.next_generation("west", "web")
)
_while_down("endpoints go", _STALE, lambda world: world.scale("west", "web", 0))
_while_down("endpoints are replaced", "both old and new were served", _replaced)
_while_down("a cluster leaves", _STALE, lambda world: world.unlink("east", "west"))
