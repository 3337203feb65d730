"""A discovery service on a real listener, for tests that speak to it over the wire."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from peerd.model.caller import Caller, CallerKind
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.envelope import DeltaResponse, parse_delta_response
from peerd.resources.store import ResourceStore
from peerd.serve.admission import AdmissionLimits
from peerd.serve.ads import AdsService, ztunnel_rules
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.debug_types import DebugTypes
from peerd.transport.base import ClientStream, Stream
from peerd.transport.grpcaio import GrpcChannel, GrpcServer

SOON = 30.0


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


async def anybody(_stream: Stream) -> Caller:
    """Everybody is the loopback caller."""
    return Caller(CallerKind.LOOPBACK)


@dataclass
class RunningAds:
    """A service, where it listens, and what it serves from."""

    service: AdsService
    store: ResourceStore
    registry: ConnectionRegistry
    address: str

    def commit(self, changes: Iterable[ResourceChange]) -> None:
        """Commit; the window closes by itself."""
        self.store.commit(changes)

    def publish(self, changes: Iterable[ResourceChange]) -> None:
        """Commit, and close the window now."""
        self.store.commit(changes)
        self.service.window.publish()


@asynccontextmanager
async def running_ads(
    changes: Iterable[ResourceChange] = (),
    *,
    authenticate=anybody,
    allowed=lambda _caller, _type: True,
    limits: AdmissionLimits | None = None,
    instance: str = "test",
    **options: object,
) -> AsyncIterator[RunningAds]:
    """A service on a loopback port of grpc.aio that already holds *changes*."""
    store = ResourceStore((AUTHORIZATION, ADDRESS), instance)
    registry = ConnectionRegistry()
    service = AdsService(
        store,
        ztunnel_rules(),
        authenticate=authenticate,
        allowed=allowed,
        registry=registry,
        debug=DebugTypes(registry, "peerd-0"),
        clock=SystemClock(),
        limits=limits,
        **options,  # type: ignore[arg-type]
    )
    store.commit(changes)
    service.window.publish()
    await service.start()
    server = GrpcServer("127.0.0.1:0", service.handlers)
    try:
        yield RunningAds(service, store, registry, await server.start())
    finally:
        await server.close(0)
        await service.close()


@asynccontextmanager
async def stream_to(address: str, method: str) -> AsyncIterator[ClientStream]:
    """A stream over a connection of its own."""
    channel = GrpcChannel(address)
    try:
        yield await channel.open(method, {"authorization": "Bearer token", "clusterid": "Kubernetes"})
    finally:
        await channel.close()


async def receive(stream: ClientStream) -> DeltaResponse:
    """The next delta response."""
    message = await stream.receive()
    assert message is not None, "the stream ended"
    return parse_delta_response(message)
