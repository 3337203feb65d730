"""Peers at the edges: every state met by every event, addresses, certificates, clocks and disks."""

from collections.abc import Callable

import msgspec

from peerd.api.envoy.discovery_pb2 import DeltaDiscoveryResponse as Response
from peerd.encode.peering import encode_peer_info
from peerd.model.digest import digest
from peerd.model.federation import Freshness, PeerInfo
from peerd.model.types import PEER_INFO
from peerd.protocol.peer_state import PeerState
from peerd.protocol.peer_wire import Sync, SyncState, encode_sync
from tests.simulation.clients import must
from tests.simulation.cluster import IDENTITY
from tests.simulation.guarantees import (
    BOUNDED_STALENESS,
    LIVENESS,
    NO_PHANTOM_DELETE,
    NO_WORK,
    REFUSAL,
    STATUS,
)
from tests.simulation.lies import LIES, Liar, Lie
from tests.simulation.oracle import gateway_key
from tests.simulation.replica import Replica
from tests.simulation.scenarios import EXPIRY, Scenarios, cut, replica_of, shown, told, until
from tests.simulation.truth import LOCAL
from tests.simulation.world import World
from tests.support import clusters as objects

PEER_EDGES = Scenarios()

_STRANGER = "spiffe://cluster.local/ns/default/sa/nobody"
_NEVER = 86_400


# -- every state, every event ----------------------------------------------------------------------------


async def _silent(world: World, state: PeerState) -> None:
    """Bring what east shows of west to *state*, with nothing getting through."""
    world.link("east", "west", _NEVER if state is PeerState.STALE else EXPIRY)
    for way in (("east", "west"), ("west", "east")):
        cut(world, *way)
    for connection in world.fabric.between("east", "west"):
        connection.drop()
    await until(world, lambda: shown(replica_of(world, "east"), "west") is state, 150, f"west is {state}")


async def _again(world: World) -> None:
    for way in (("east", "west"), ("west", "east")):
        cut(world, *way, mended=True)
    await _shows(world, PeerState.LIVE)


async def _shows(world: World, state: PeerState, within: float = 100.0) -> None:
    east = replica_of(world, "east")
    await until(world, lambda: shown(east, "west") is state, within, f"west is shown as {state.value}")


def _edit(world: World) -> None:
    world.move("west")
    world.reroute("west")


_SILENT = (PeerState.CONNECTING, PeerState.STALE, PeerState.EXPIRED)


@PEER_EDGES.add("silent, and edited", "a Gateway that is edited says nothing of how old the peer's word is")
async def _(world: World) -> None:
    for state in _SILENT:
        await _silent(world, state)
        _edit(world)
        await world.pass_time(3)
        must(STATUS, shown(replica_of(world, "east"), "west") is state, f"{state} by an edit alone")
        await _again(world)


@PEER_EDGES.add("silent, and itself", "a Gateway that comes to lead to its own cluster shows that at once")
async def _(world: World) -> None:
    for state in _SILENT:
        await _silent(world, state)
        world.mirror("east", "west", says_so=True)
        await _shows(world, PeerState.SELF, 3)
        world.unmirror("east")
        await _again(world)


@PEER_EDGES.add("silent, and somebody else", "who answers at last with a wrong identity is refused")
async def _(world: World) -> None:
    for state in _SILENT:
        await _silent(world, state)
        world.clusters["west"].show(_STRANGER)
        for way in (("east", "west"), ("west", "east")):
            cut(world, *way, mended=True)
        await _shows(world, PeerState.REFUSED)
        world.clusters["west"].show(IDENTITY)
        await _shows(world, PeerState.LIVE)


@PEER_EDGES.add(
    "refused, and then", "lost, expired, edited: the refusal is what people see until it is mended"
)
async def _(world: World) -> None:
    east, west = replica_of(world, "east"), world.clusters["west"]
    west.show(_STRANGER)
    for connection in world.fabric.between("east", "west"):
        connection.drop()
    await _shows(world, PeerState.REFUSED)
    await world.pass_time(EXPIRY + 30)
    must(STATUS, shown(east, "west") is PeerState.REFUSED, "a refusal does not show once the imports expired")
    cut(world, "west", "east")
    await world.pass_time(80)
    must(STATUS, shown(east, "west") is PeerState.REFUSED, "a refusal is forgotten where nobody answers")
    _edit(world)
    await world.pass_time(3)
    must(STATUS, shown(east, "west") is not PeerState.REFUSED, "an edit leaves the refusal standing")
    west.show(IDENTITY)
    cut(world, "west", "east", mended=True)
    await _shows(world, PeerState.LIVE)


@PEER_EDGES.add("syncing, and then", "lost, refused, edited, itself, before anything was said")
async def _(world: World) -> None:
    async def syncing() -> None:
        world.fabric.link("west", "east").bytes_per_second = 2.0
        for connection in world.fabric.between("east", "west"):
            connection.drop()
        await world.pass_time(0.5)
        await _shows(world, PeerState.SYNCING)

    def lose() -> None:
        for connection in world.fabric.between("east", "west"):
            connection.drop()

    def other_network() -> None:
        world.relabel("west")

    def itself() -> None:
        world.mirror("east", "west", says_so=True)

    mended: dict[Callable[[], None], Callable[[], None]] = {
        lose: lambda: None,
        lambda: _edit(world): lambda: None,
        other_network: lambda: world.reroute("west"),
        itself: lambda: world.unmirror("east"),
    }
    for happens, mend in mended.items():
        await syncing()
        happens()
        await world.pass_time(5)
        world.fabric.link("west", "east").bytes_per_second = 0.0
        await world.pass_time(20)
        mend()
        await _shows(world, PeerState.LIVE)


@PEER_EDGES.add("a day passes at once", "a clock that is set forward withdraws what was fresh a moment ago")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    world.link("east", "west", 3600)
    await world.pass_time(5)
    await _lost(world)
    assert shown(east, "west") is PeerState.CONNECTING
    _skew(world, east, 7200.0)
    await world.pass_time(3)
    must(STATUS, shown(east, "west") is PeerState.EXPIRED, "an expired peer does not show")
    _skew(world, east, 0.0)
    await _again(world)


@PEER_EDGES.add("an hour too early", "a clock that is set back makes nobody's word fresh: its age is unknown")
async def an_hour_too_early(world: World) -> None:
    east = replica_of(world, "east")
    world.link("east", "west", _NEVER)
    await world.pass_time(5)
    await _lost(world)
    _skew(world, east, -3600.0)
    await world.pass_time(8)
    assert east.peerd is not None
    found = east.peerd.federation._importer.freshness(gateway_key("west"))
    must(BOUNDED_STALENESS, found is Freshness.STALE, f"a word of the future counts as {found.value}")
    _skew(world, east, 0.0)
    await _again(world)


async def _lost(world: World) -> None:
    for way in (("east", "west"), ("west", "east")):
        cut(world, *way)
    for connection in world.fabric.between("east", "west"):
        connection.drop()
    await world.pass_time(2)


def _skew(world: World, replica: Replica, seconds: float) -> None:
    replica.clock.skew = seconds
    replica.skewed_at = world.loop.time()


# -- addresses, certificates, windows --------------------------------------------------------------------


@PEER_EDGES.add("the first address is dead", "the next one of the Gateway is dialled in the same round")
async def _(world: World) -> None:
    gateway = objects.remote_gateway(
        gateway_key("west").name,
        world.clusters["west"].network,
        world.new_address("west"),  # nobody listens there
        world.clusters["west"].address,
        labels={"topology.istio.io/cluster": "west"},
        annotations={"peering.peerd.io/expire-after": str(EXPIRY)},
    )
    world.clusters["east"].apply(gateway)
    world.truth.rerouted("east", "west", world.loop.time())
    await world.pass_time(1)
    east = replica_of(world, "east")
    await until(world, lambda: shown(east, "west") is PeerState.LIVE, 15, "the second address is dialled")
    world.reroute("west")


@PEER_EDGES.add("a name that nobody knows", "is told of in words, and dialled again once it is known")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    assert east.peerd is not None
    assert east.peerd.federation._speaking is not None
    dialer = east.peerd.federation._speaking.dialer
    known = dialer._resolve

    async def nobody(_host: str) -> list[str]:
        raise OSError("no such name")

    dialer._resolve = nobody
    _edit(world)
    await world.pass_time(5)
    (row,) = east.peerd.federation.table.snapshot()
    must(STATUS, "cannot be resolved" in row.status.last_error, f"it says {row.status.last_error!r}")
    dialer._resolve = known
    _edit(world)


@PEER_EDGES.add("no certificate", "who shows none is refused, and told of in words")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    server = world.fabric.servers["west:15012"]
    kept, server.certificate = server.certificate, None
    for connection in world.fabric.between("east", "west"):
        connection.drop()
    await _shows(world, PeerState.REFUSED)
    assert east.peerd is not None
    (row,) = east.peerd.federation.table.snapshot()
    must(STATUS, "showed no certificate" in row.status.last_error, f"it says {row.status.last_error}")
    server.certificate = kept
    await _shows(world, PeerState.LIVE)


@PEER_EDGES.add("a peer that does not read", "is given up after 45 s of silence all the same")
async def _(world: World) -> None:
    west = replica_of(world, "west")
    assert west.process is not None
    world.fabric.link("east", "west").window = 0
    world.loop.pause(west.process)
    await world.pass_time(70)  # the validators see that it does not count as live
    world.loop.resume(west.process)
    west.disturbed_at = world.loop.time()
    world.fabric.link("east", "west").window = 64 * 1024


# -- processes and disks ---------------------------------------------------------------------------------


@PEER_EDGES.add("recreated in a moment", "another cluster under the same name is refused once, by what it is")
async def recreated_in_a_moment(world: World) -> None:
    west = replica_of(world, "west")
    await west.crash(silently=False)
    world.validators.ended("west", world.loop.time())
    world.clusters["west"].new_lineage()
    await west.start()
    await _shows(world, PeerState.REFUSED, 60)


@PEER_EDGES.add("lies at the first meeting", "a peer of which nothing is known is held against its Gateway")
async def _(world: World) -> None:
    east, west = replica_of(world, "east"), replica_of(world, "west")
    assert west.peerd is not None
    info = west.peerd.federation.info
    assert info is not None
    network, address = world.clusters["west"].network, world.clusters["west"].address
    unnamed = objects.remote_gateway(gateway_key("west").name, network, address)
    told = [each for each in LIES if each.type_url == PEER_INFO and not each.words]
    lies = [each for each in told if "sync" not in each.title]  # which is for the protocol to see
    same = Lie("the viewer's own name", PEER_INFO, _of_the_same_name)
    for lie in (*lies, Lie("nothing of itself", PEER_INFO, _of_nothing), same):
        await east.crash(silently=False)
        east.lose_disk()
        if lie is same:
            world.clusters["east"].apply(unnamed)
            world.truth.rerouted("east", "west", world.loop.time())
        liar = world.fabric.tampered["west", "east"] = Liar((lie,), info)
        begun = len(world.history.lines)
        await east.start()
        await until(world, lambda liar=liar: liar.told, 60, "it lies")  # type: ignore[misc]
        await world.pass_time(1)
        refused = any("peer-west is refused" in line for line in world.history.lines[begun:])
        must(REFUSAL, refused, f"at a first meeting a peer is believed: {lie.title}")
        del world.fabric.tampered["west", "east"]
        world.reroute("west")
        await _shows(world, PeerState.LIVE)


def _of_nothing(response: Response, _info: PeerInfo) -> str:
    """It says nothing of itself, and that this is all."""
    response.CopyFrom(_said(encode_sync(Sync(SyncState.COMPLETE, digest(()))), response))
    return ""


def _said(frame: bytes, instead_of: Response) -> Response:
    said = Response.FromString(frame)
    said.type_url, said.nonce = instead_of.type_url, instead_of.nonce
    said.system_version_info = instead_of.system_version_info
    return said


def _of_the_same_name(response: Response, info: PeerInfo) -> str:
    """It calls itself as the viewer does."""
    lie = msgspec.structs.replace(info, cluster="east")
    response.CopyFrom(_said(encode_peer_info(lie).frame, response))
    return "self"


@PEER_EDGES.add("unlinked, and linked again", "what was imported goes at once, and comes back whole")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    world.unlink("east", "west")
    await world.pass_time(3)
    must(STATUS, shown(east, "west") is None, "a peer is shown that has no Gateway")
    must(LIVENESS, not told(world, "zt-east", "autogen.west"), "imports outlive their Gateway")
    world.link("east", "west", EXPIRY)


@PEER_EDGES.add("edited while it was down", "what was kept of another network's cluster is not believed")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    await east.stop()
    world.relabel("west")
    world.reroute("west")
    await east.start()


@PEER_EDGES.add("another expiry", "is no reason to dial anew: what a link depends on is what ends it")
async def _(world: World) -> None:
    before = [each for each in world.fabric.between("east", "west") if each.client == "east"]
    for expiry in (_NEVER, EXPIRY):
        world.link("east", "west", expiry)
        await world.pass_time(5)
    after = [each for each in world.fabric.between("east", "west") if each.client == "east"]
    must(NO_WORK, before == after, "a stream to a peer was ended for an edit that does not concern it")


@PEER_EDGES.add(
    "kept from who asked for it", "a name that goes while a peer may have it", a=1, b=1, on_demand=("a",)
)
async def _(world: World) -> None:
    a = replica_of(world, "a")
    await a.crash(silently=False)
    a.lose_disk()
    cut(world, "a", "b")
    await a.start()
    await world.pass_time(15)
    world.put_service("a", "web", LOCAL)
    await world.pass_time(10)  # no empty answer either, as the validators see
    must(NO_PHANTOM_DELETE, told(world, "zo-a", "shop/web.shop.mesh.internal"), "a name went too soon")
    cut(world, "a", "b", mended=True)


@PEER_EDGES.add("a gateway of its own", "that a cluster gets is told to its peers, and ends no stream")
async def _(world: World) -> None:
    tree = {
        "metadata": {"name": "eastwest", "namespace": "istio-system"},
        "spec": {
            "gatewayClassName": "istio-eastwest",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
        "status": {"addresses": [{"type": "IPAddress", "value": "192.0.2.250"}]},
    }
    before = [each for each in world.fabric.between("east", "west") if each.client == "east"]
    world.clusters["east"].apply(objects.put("Gateway", tree))
    await world.pass_time(10)
    after = [each for each in world.fabric.between("east", "west") if each.client == "east"]
    must(LIVENESS, before == after, "streams to peers were ended for what does not concern them")
    world.clusters["east"].apply(objects.gone("Gateway", "istio-system", "eastwest"))
