"""Small limits, as scenarios: each is reached, refuses by its message, and harms nobody else.

The limits are real ones, made so small for a while that a world of two clusters reaches them.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest import mock

from peerd import limits
from peerd.app import federation
from peerd.limits import Limit
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD, FEDERATED_SERVICE
from peerd.peering import dialer
from peerd.peering.persistence import LAG
from peerd.peering.rate import RateLimit
from peerd.protocol.envelope import parse_delta_request
from peerd.protocol.peer_state import PeerState
from peerd.resources import collection
from peerd.serve import window
from peerd.transport.base import StatusCode
from tests.simulation.clients import must
from tests.simulation.flat_lies import FLAT_LIES
from tests.simulation.guarantees import LIMITS, LIVENESS, REFUSAL, STATUS
from tests.simulation.lies import CHORUS, LIES, Liar, Lie
from tests.simulation.oracle import gateway_key
from tests.simulation.probe import Probe
from tests.simulation.replica import Replica
from tests.simulation.scenarios import EXPIRY, Scenarios, cut, replica_of, shown, until
from tests.simulation.streams import Parcel
from tests.simulation.telling import stop, tell
from tests.simulation.truth import GLOBAL
from tests.simulation.world import World
from tests.support import clusters as objects

BOUNDS = Scenarios()

_SOON = 3.0


@contextmanager
def smaller(limit: Limit, value: int) -> Iterator[None]:
    """*limit* is *value* wherever peerd looks."""
    small = limit._replace(value=value)
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.startswith("peerd.")
        for name, found in list(vars(module).items())
        if found is limit
    ]
    for module, name in places:
        setattr(module, name, small)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, limit)


def _refused(viewer: Replica, peer: str) -> dict[str, str]:
    assert viewer.peerd is not None
    return dict(viewer.peerd.federation._importer.counts(gateway_key(peer)).refused)


def _last_error(viewer: Replica) -> str:
    assert viewer.peerd is not None
    (row,) = viewer.peerd.federation.table.snapshot()
    return row.status.last_error


def _reconnect(world: World) -> None:
    for connection in world.fabric.between("east", "west"):
        connection.drop()


async def _live(world: World, within: float = 100.0) -> None:
    east = replica_of(world, "east")
    await until(world, lambda: shown(east, "west") is PeerState.LIVE, within, "west is live")


# -- ztunnels --------------------------------------------------------------------------------------------


@BOUNDS.add("too many names", "end a stream that follows single names, and none that has the wildcard")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    names = [f"shop/{number}.shop.svc.cluster.local" for number in range(9)]
    with smaller(limits.NAMES_PER_STREAM, 8):
        single, all_of_them = Probe(world, east, "single-names"), Probe(world, east, "wildcard")
        await single.ask(ADDRESS, subscribe=names)
        await all_of_them.ask(ADDRESS, subscribe=("*",))
        for part in (names[:5], names[5:]):  # one request has a limit of its own
            await all_of_them.ask(ADDRESS, subscribe=part)
        await world.pass_time(_SOON)
        code = single.ended.code if single.ended is not None else None
        must(LIMITS, code is StatusCode.RESOURCE_EXHAUSTED, f"who follows too many names was told {code}")
        must(LIMITS, all_of_them.ended is None, f"names under the wildcard end a stream: {all_of_them.ended}")
    await single.close()
    await all_of_them.close()


@BOUNDS.add("too many refusals", "of one client are not kept, and those that are stay shown")
async def _(world: World) -> None:
    probe = Probe(world, replica_of(world, "east"), "refuses-much", answers=False)
    with smaller(limits.REJECTIONS_PER_STREAM, 2):
        await probe.ask(AUTHORIZATION)
        await probe.ask(ADDRESS)
        await world.pass_time(_SOON)
        (first,) = probe.of(ADDRESS)
        names = [each.name for each in first.resources][:4]
        await probe.ask(ADDRESS, nonce=first.nonce, error="; ".join(f"{name}: no" for name in names))
        await world.pass_time(1)
        kept = [name for name, _ in probe.status(ADDRESS).rejections]
        must(LIMITS, kept == names[:2], f"of {names} are kept, at most two, {kept}")
    await probe.close()


@BOUNDS.add("behind the change log", "who does not answer comes back with its versions, and lacks nothing")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    assert east.peerd is not None
    for name in ("web", "pay"):
        world.put_policy("east", name)
    await world.pass_time(_SOON)
    for type_url in (ADDRESS, AUTHORIZATION):
        east.peerd.store.collection(type_url).log._limit = 2

    async def services() -> None:
        for name in ("pay", "web", "pay", "pay"):  # of "web" the log knows nothing in the end
            world.next_generation("east", name)
            await world.pass_time(1)

    async def policies() -> None:
        for name in ("web", "pay"):
            world.delete_policy("east", name)
            world.put_policy("east", "cart")
            world.next_generation("east", "web")
            await world.pass_time(1)
        world.delete_policy("east", "cart")
        await world.pass_time(1)

    for change in (services, policies):
        cut(world, "zt-east", "east")  # its answers do not arrive
        behind = limits.hits(limits.CHANGE_LOG_NAMES)
        await change()
        cut(world, "zt-east", "east", mended=True)
        await world.pass_time(20)
        must(LIMITS, limits.hits(limits.CHANGE_LOG_NAMES) > behind, "a client behind the change log goes on")
        await world.quiesce()
    (client,) = (each for each in world.ztunnels if each.name == "zt-east")
    await world.restart_ztunnel(client)
    await world.pass_time(10)  # and one that holds nothing needs no log at all
    (fresh,) = (each for each in world.ztunnels if each.name == "zt-east")
    must(LIMITS, fresh.connected_since >= 0, "a client that holds nothing is behind the change log")


# -- peers -----------------------------------------------------------------------------------------------


@BOUNDS.add(
    "too much of a peer", "is refused by name, in words; what it had stays, and all comes once it may"
)
async def _(world: World) -> None:
    east = replica_of(world, "east")
    assert east.peerd is not None
    held = east.peerd.federation._importer._peers[gateway_key("west")].holdings
    for limit, value in (
        (limits.PEER_BYTES, held.bytes + 40),
        (limits.PEER_RESOURCES, len(held.of(FEDERATED_SERVICE))),
    ):
        with smaller(limit, value):
            world.put_service("west", "cart", GLOBAL)
            await world.pass_time(_SOON)
            reason = _refused(east, "west").get("shop/cart", "it is not refused")
            must(LIMITS, reason.startswith("over quota: more than"), f"{limit.name}: {reason}")
            must(LIMITS, shown(east, "west") is PeerState.LIVE, f"{limit.name} ends a connection")
        world.delete_service("west", "cart")
        await world.pass_time(_SOON)


@BOUNDS.add("too much refused", "in one sync ends the connection; in a live stream it is nothing")
async def _(world: World) -> None:
    east, west = replica_of(world, "east"), replica_of(world, "west")
    with smaller(limits.PEER_REFUSED_BYTES, 300):
        liar = tell(world, CHORUS[0], west, east, Random(1))
        assert liar is not None
        await until(world, lambda: liar.told, 60, "it lies")
        await world.pass_time(_SOON)
        must(
            LIMITS, shown(east, "west") is PeerState.LIVE, f"refusals end a live stream: {_last_error(east)}"
        )
        stop(world, liar, west, east)
        await _live(world)
        with smaller(limits.PEER_RESOURCES, 1), smaller(limits.PEER_REFUSED_BYTES, 100):
            await east.crash(silently=False)
            east.lose_disk()
            await east.start()
            await world.pass_time(20)
            error = _last_error(east)
            must(LIMITS, "more than is remembered" in error, f"a sync that was refused whole: {error}")
    await _live(world)


@BOUNDS.add("too many changes", "of a peer are taken as fast as they may be, and all of them in the end")
async def _(world: World) -> None:
    east = replica_of(world, "east")

    def imported() -> int:
        assert east.peerd is not None
        return east.peerd.federation._importer.counts(gateway_key("west")).services

    with mock.patch.object(RateLimit.__init__, "__defaults__", (0.5,)):
        _reconnect(world)
        await world.pass_time(2)
        await _live(world)
        before, names = imported(), ("cart", "web-2", "web-3", "web-4", "web-5", "web-6")
        for name in names:
            world.put_service("west", name, GLOBAL)
            await world.pass_time(0.2)
        await world.pass_time(20)
        must(LIMITS, imported() == before + len(names), f"of {len(names)} changes {imported() - before} came")
        for name in names:
            world.delete_service("west", name)
        _reconnect(world)
        await world.pass_time(2)
    world.validators.work.begin()


@BOUNDS.add("published in slices", "what comes meanwhile is another revision, and neither is lost")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    assert east.peerd is not None
    with mock.patch.object(window, "_AT_ONCE", 0), mock.patch.object(collection, "_SLICE", 1):
        for count in (9, 3, 7):
            world.scale("east", "web", count)
            world.scale("east", "pay", count + 1)
            for _ in range(60):
                await world.pass_time(0.002)
                await east.peerd.ads.window.published()
                east.peerd.ads.window.publish()
        await world.pass_time(2)


@contextmanager
def _one_by_one(replica: Replica) -> Iterator[None]:
    """What a peer brought is taken back one by one, and a second passes after each."""
    assert replica.peerd is not None
    speaking = replica.peerd.federation._speaking
    assert speaking is not None
    derived = speaking.dialer._derived

    async def slowly() -> None:
        await derived()
        await asyncio.sleep(1.0)

    with (
        mock.patch.object(speaking.dialer, "_derived", slowly),
        mock.patch.object(dialer, "WITHDRAWN", 1),
        mock.patch.object(federation, "TURN", 1),
    ):
        yield


async def _half_gone(world: World) -> None:
    east = replica_of(world, "east")
    assert east.peerd is not None
    importer, west = east.peerd.federation._importer, gateway_key("west")
    assert importer.holds(west) > 3
    world.unlink("east", "west")
    await until(world, lambda: importer.holds(west) == 3, 10, "a part of it is taken back")
    must(STATUS, shown(east, "west") is None, "a peer that leaves is shown")


@BOUNDS.add("unlinked in turns", "one part after the other goes, and the Gateway last")
async def _(world: World) -> None:
    with _one_by_one(replica_of(world, "east")):
        await _half_gone(world)
        await world.pass_time(10)


@BOUNDS.add("linked again in the middle", "the new link begins when nothing of the old one is left")
async def _(world: World) -> None:
    with _one_by_one(replica_of(world, "east")):
        await _half_gone(world)
        world.link("east", "west", EXPIRY)
        world.scale("west", "web", 3)
        await world.pass_time(1)
        must(STATUS, shown(replica_of(world, "east"), "west") is None, "it is dialled while it leaves")
        await world.pass_time(10)
    await _live(world)


@BOUNDS.add("crashed in the middle", "of an unlinking: the rest is gone before anybody is served")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    with _one_by_one(east):
        await _half_gone(world)
        await world.pass_time(LAG)
        await east.crash(silently=False)
    await east.start()
    must(LIVENESS, not any("west" in each for each in east.versions()[ADDRESS]), "some of it is served")


@BOUNDS.add("too many versions", "are not named to a peer: it is asked for everything instead")
async def _(world: World) -> None:
    named: list[int] = []
    sent = world.fabric.sent

    def see(parcel: Parcel) -> None:
        if (*parcel[:3], parcel.answer) == ("east", "west", DELTA_METHOD, False):
            named.append(len(parse_delta_request(parcel.message).versions))
        assert sent is not None
        sent(parcel)

    with smaller(limits.PEER_VERSION_MAP_BYTES, 10):
        world.fabric.sent = see
        cut(world, "west", "east")
        _reconnect(world)
        world.put_service("west", "cart", GLOBAL)
        await world.pass_time(1)
        cut(world, "west", "east", mended=True)
        await _live(world)
        world.fabric.sent = sent
    must(LIMITS, bool(named) and max(named) <= 1, f"so many versions were named, in place of none: {named}")


@BOUNDS.add("a sum that is wrong once", "of one that begins with nothing: the connection ends at once")
async def _(world: World) -> None:
    east, west = replica_of(world, "east"), replica_of(world, "west")
    (wrong,) = (each for each in LIES if each.title == "a sum that is wrong")

    def once(response: object, info: object) -> str | None:
        return None if wrong.change(response, info) is None else ""  # type: ignore[arg-type]

    await east.crash(silently=False)
    east.lose_disk()
    assert west.peerd is not None
    assert west.peerd.federation.info is not None
    lie = Lie("a sum that is wrong once", wrong.type_url, once)
    liar = world.fabric.tampered["west", "east"] = Liar((lie,), west.peerd.federation.info)
    await east.start()
    await until(world, lambda: liar.told, 60, "it lies")
    await world.pass_time(1)
    ended = world.validators.peers._ended.get(("east", "west"), 0.0) >= liar.told_at
    must(REFUSAL, ended, "what does not add up, and was all there is, does not end the connection")
    del world.fabric.tampered["west", "east"]


# -- flat networks ---------------------------------------------------------------------------------------


@BOUNDS.add("lies on a flat network", "workloads are taken one by one, and each lie about one is refused")
async def _(world: World) -> None:
    east, west = replica_of(world, "east"), replica_of(world, "west")
    for name in world.clusters:
        for service in ("web", "pay"):
            world.scale(name, service, 0)
    await world.quiesce()
    networks = {name: each.network for name, each in world.clusters.items()}
    _networks(world, dict.fromkeys(networks, "flat"))
    await world.pass_time(10)
    await _live(world)
    liar = tell(world, FLAT_LIES, west, east, Random(1))
    assert liar is not None
    await until(world, lambda: liar.told, 60, "it lies")
    await world.pass_time(_SOON)
    for name, lie in liar.names.items():
        said = {each: why for each, why in _refused(east, "west").items() if name[:80] in each}
        must(REFUSAL, any(lie.words in why for why in said.values()), f"taken: {lie.title}; {said}")
    must(REFUSAL, shown(east, "west") is PeerState.LIVE, f"a lie ends the connection: {_last_error(east)}")
    stop(world, liar, west, east)
    _networks(world, networks)
    await world.pass_time(10)


def _networks(world: World, networks: dict[str, str]) -> None:
    now = world.loop.time()
    for name, network in networks.items():
        world.clusters[name].network = network
        world.clusters[name].apply(objects.system(network))
    for name in networks:
        for viewer in networks:
            world.truth.rerouted(viewer, name, now)
        world.reroute(name)
