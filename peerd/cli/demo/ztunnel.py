"""A client that asks as ztunnel does and keeps what it is told, with the moment each message came."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from peerd.cli.demo.errors import DemoError
from peerd.encode.address import decode_address
from peerd.encode.frame import DecodeError
from peerd.encode.policy import decode_policy
from peerd.model.authorization import Authorization
from peerd.model.service import Service
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.workload import Workload
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node
from peerd.transport.base import ClientStream, StreamClosed
from peerd.transport.grpcaio import GrpcChannel


class Message(NamedTuple):
    """One response as it came: when (monotonic), of what type, how many bytes, how many resources."""

    at: float
    type_url: str
    size: int
    resources: int
    removed: int


class Ztunnel:
    """One ztunnel-like client over TLS with a token; wildcard for both types (wire-contract §1.3).

    Args:
        cluster: the cluster id, sent as ztunnel sends it.
        target: `host:port` of the xDS port.
        roots: PEM of the roots that vouch for the server.
        token: gives the bearer token, asked for at each stream.
    """

    def __init__(self, cluster: str, target: str, roots: bytes, token: Callable[[], str]) -> None:
        self._cluster = cluster
        self._token = token
        self._channel = GrpcChannel(target, roots=roots, server_name="istiod.istio-system.svc")
        node = Node(
            id="ztunnel~10.244.0.11~ztunnel-1.istio-system~istio-system.svc.cluster.local",
            metadata={
                "NAME": "ztunnel-1",
                "NAMESPACE": "istio-system",
                "INSTANCE_IPS": "10.244.0.11",
                "NODE_NAME": f"{cluster}-node-1",
                "CLUSTER_ID": cluster,
                "ISTIO_VERSION": "demo",
            },
        )
        self._machine = DeltaClient((ADDRESS, AUTHORIZATION), node)
        self._stream: ClientStream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._ended = ""
        self.services: dict[str, Service] = {}
        self.workloads: dict[str, Workload] = {}
        self.policies: dict[str, Authorization] = {}
        self.messages: list[Message] = []

    @property
    def ended(self) -> str:
        """Why the stream ended, empty while it is open."""
        return self._ended

    async def connect(self, seconds: float) -> None:
        """Open the stream and wait until both types have been accepted, as ztunnel's readiness does.

        After the end of a stream: the next one, with all that is held.
        """
        metadata = {"authorization": f"Bearer {self._token()}", "clusterid": self._cluster}
        try:
            async with asyncio.timeout(seconds):
                self._stream = await self._channel.open(DELTA_METHOD, metadata)
                for request in self._machine.start():
                    await self._stream.send(request)
        except (StreamClosed, TimeoutError) as error:
            raise DemoError(f"{self._cluster}: its ztunnel could not connect: {_told(error)}") from error
        self._ended = ""
        self._reader = asyncio.create_task(self._read(self._stream))
        await self.until(
            lambda: self._machine.ready(ADDRESS) and self._machine.ready(AUTHORIZATION),
            seconds,
            "both first answers, of Address and of Authorization",
        )

    async def until(self, happened: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait until *happened*; returns the monotonic moment of the message that made it true.

        Raises:
            DemoError: it did not happen in time, or the stream ended.
        """
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: happened() or bool(self._ended))
        except TimeoutError:
            raise DemoError(
                f"{self._cluster}: its ztunnel was not told within {seconds:.0f} s: {what}"
            ) from None
        if not happened():
            raise DemoError(f"{self._cluster}: its ztunnel's stream ended ({self._ended}) before: {what}")
        return self.messages[-1].at if self.messages else time.monotonic()

    async def close(self) -> None:
        """End the stream and the connection."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._stream is not None:
            await self._stream.cancel()
        await self._channel.close()

    async def _read(self, stream: ClientStream) -> None:
        try:
            while (raw := await stream.receive()) is not None:
                response = self._machine.receive(raw)
                answer = self._take(response)
                await stream.send(answer)
                self.messages.append(
                    Message(
                        time.monotonic(),
                        response.type_url,
                        len(raw),
                        len(response.resources),
                        len(response.removed),
                    )
                )
                async with self._changed:
                    self._changed.notify_all()
            self._ended = "closed by peerd"
        except StreamClosed as closed:
            self._ended = str(closed)
        finally:
            self._ended = self._ended or "client error"
            with contextlib.suppress(RuntimeError):
                async with self._changed:
                    self._changed.notify_all()

    def _take(self, response: DeltaResponse) -> bytes:
        """Keep what can be read, refuse the rest by name, as ztunnel does (wire-contract §1.4)."""
        refused: dict[str, str] = {}
        for resource in response.resources:
            try:
                if response.type_url == AUTHORIZATION:
                    self.policies[resource.name] = decode_policy(resource.payload)
                    continue
                record = decode_address(resource.payload)
            except DecodeError as error:
                refused[resource.name] = str(error)
                continue
            if isinstance(record, Workload):
                self.workloads[record.uid] = record
            else:
                self.services[record.resource_name] = record
        for name in response.removed:
            if response.type_url == AUTHORIZATION:
                self.policies.pop(name, None)
            elif self.workloads.pop(name, None) is None:
                self.services.pop(name, None)
        return self._machine.reject(response, refused) if refused else self._machine.accept(response)

    def endpoints(self, service: str) -> list[Workload]:
        """The workloads behind a service's resource name, by uid."""
        return [
            workload
            for _, workload in sorted(self.workloads.items())
            if any(ports.service == service for ports in workload.services)
        ]

    def remote(self, service: str) -> list[Workload]:
        """Those that stand for another cluster: no address, reached through a network gateway."""
        return [
            workload
            for workload in self.endpoints(service)
            if not workload.addresses and workload.network_gateway is not None
        ]


def _told(error: Exception) -> str:
    return str(error) or "no answer in time"
