"""Peers that pass TLS and then misbehave, beside a cluster that has a healthy one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from peerd.encode.frame import any_header, decode_frame, frame
from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.model.digest import digest
from peerd.model.federation import FederatedService, PeerInfo
from peerd.model.resource import Resource
from peerd.model.types import ADDRESS, DELTA_METHOD, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.wire import field
from peerd.protocol.envelope import parse_delta_request
from peerd.protocol.peer_state import PeerState
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Sync, SyncState, encode_sync
from peerd.transport.base import Stream
from peerd.transport.http2 import Http2Server
from peerd.transport.tls import FixedTls, TlsMaterial
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, handshakes_over, renamed, service

INFO = PeerInfo("hostile", "hostile-net", "cluster.local", "some-lineage")
MESSAGE = 1 << 20
Behaviour = Callable[["Hostile"], Awaitable[None]]


def response(type_url: str, nonce: str, *frames: bytes, removed: tuple[str, ...] = ()) -> bytes:
    parts = [field(1, b"epoch/1"), *frames, field(4, type_url.encode()), field(5, nonce.encode())]
    return b"".join([*parts, *(field(6, name.encode()) for name in removed)])


def complete(versions: dict[str, str]) -> bytes:
    return encode_sync(Sync(SyncState.COMPLETE, digest(versions.items())))


class Hostile:
    """One data stream of such a peer."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.refusals: list[str] = []
        self.refused = asyncio.Event()

    async def read(self) -> None:
        while (message := await self.stream.receive()) is not None:
            request = parse_delta_request(message)
            if request.error is not None:
                self.refusals.append(request.error)
                self.refused.set()
            if request.subscribe:
                await self.asked.put(request.type_url)

    async def say(self, type_url: str, *frames: bytes, removed: tuple[str, ...] = ()) -> None:
        await self.stream.send(response(type_url, "n", *frames, removed=removed))

    async def introduce(self, info: PeerInfo = INFO) -> None:
        """A good beginning: PeerInfo in sync."""
        resource = encode_peer_info(info)
        assert await self.asked.get() == PEER_INFO
        await self.say(PEER_INFO, resource.frame, complete({"self": resource.version}))
        while await self.asked.get() != FEDERATED_SERVICE:
            pass

    async def nothing_of(self, *type_urls: str) -> None:
        """Complete syncs of nothing."""
        for type_url in type_urls:
            await self.say(type_url, complete({}))

    async def export(self, type_url: str, *resources: Resource) -> None:
        """A whole sync, in messages of at most 1 MiB."""
        part: list[bytes] = []
        size = 0
        for resource in resources:
            if size + len(resource.frame) > MESSAGE:
                await self.say(type_url, *part)
                part, size = [], 0
            part.append(resource.frame)
            size += len(resource.frame)
        await self.say(type_url, *part, complete({each.name: each.version for each in resources}))

    async def idle(self) -> None:
        await asyncio.Event().wait()


def summaries(*services: FederatedService) -> list[Resource]:
    return [encode_federated_service(each) for each in services]


def with_version(resource: Resource, version: str) -> bytes:
    """Its frame, with the version that its peer says it has."""
    found = decode_frame(resource.frame)
    return frame(found.name, version, any_header(found.type_url), found.payload)


def exporting(*services: FederatedService, info: PeerInfo = INFO) -> Behaviour:
    """A peer that says these, all of them in sync, and then nothing."""
    resources = summaries(*services)

    async def behave(peer: Hostile) -> None:
        await peer.introduce(info)
        await peer.nothing_of(SEGMENT, ADDRESS)
        await peer.export(FEDERATED_SERVICE, *resources)
        await peer.idle()

    return behave


@asynccontextmanager
async def hostile(
    root: Authority, behave: Behaviour, *, material: TlsMaterial | None = None
) -> AsyncIterator[tuple[str, list[Hostile]]]:
    """Its address, and the streams that it had."""
    streams: list[Hostile] = []

    async def data(stream: Stream) -> None:
        peer = Hostile(stream)
        streams.append(peer)
        reading = asyncio.ensure_future(peer.read())
        try:
            await behave(peer)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def beats(stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)

    tls = FixedTls(material or Authority("hostile", root).leaf())
    server = Http2Server("127.0.0.1:0", {DELTA_METHOD: data, HEARTBEAT_METHOD: beats}, tls=tls)
    try:
        yield await server.start(), streams
    finally:
        await server.close(0)
        await handshakes_over(server)


@asynccontextmanager
async def east_with_healthy_peer(
    network: str = "",
) -> AsyncIterator[tuple[Authority, PeeringCluster, PeeringCluster]]:
    """East, with west linked and live; on *network* both, where one is named.

    Their heartbeats have all the time that those of clusters have: floods are made on the same event loop.
    """
    root = Authority("root")
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    if network:
        east.info, west.info = (renamed(each.info, network=network) for each in (east, west))
    await east.start()
    await west.start(service("reviews", 3))
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    try:
        yield root, east, west
    finally:
        await east.stop()
        await west.stop()


async def healthy(east: PeeringCluster, west: PeeringCluster) -> None:
    """West is live in east, and its changes arrive there."""
    key = east.gateway(west).key
    assert east.row(key).status.state is PeerState.LIVE
    for _ in range(3):
        now = east.imports[key]["shop/reviews"].capacity[0].healthy
        wanted = service("reviews", now + 1)
        west.service.commit([("shop/reviews", wanted)])
        await east.until(lambda wanted=wanted: east.imports[key].get("shop/reviews") == wanted)
