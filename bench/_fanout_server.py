"""The servers of bench/fanout: peerd's ADS on grpc.aio, and a bare tuned grpc.aio server doing the same."""

import asyncio
import contextlib
import ctypes
import gc
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench._processes import Command, forget_peak, serve, usage
from peerd.app.collector import settle
from peerd.app.parts import SystemClock
from peerd.encode.frame import any_header, frame, version_of
from peerd.model.caller import Caller, CallerKind
from peerd.model.resource import Resource, ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.wire import field
from peerd.resources.store import ResourceStore
from peerd.serve.admission import AdmissionLimits
from peerd.serve.ads import AdsService, ztunnel_rules
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.debug_types import DebugTypes
from peerd.transport.base import Stream
from peerd.transport.grpcaio import GrpcOptions, GrpcServer
from peerd.transport.tls import FixedTls, TlsMaterial

HEADER = any_header(ADDRESS)
PUSHED = 330  # bytes of one push, as measured on istiod
STATIC = 200  # payload bytes of a resource that only lies there: a Pod's


def resource(name: str, payload: bytes, type_url: str = ADDRESS) -> ResourceChange:
    version = version_of(payload)
    header = HEADER if type_url == ADDRESS else any_header(type_url)
    return ResourceChange(type_url, name, Resource(name, version, frame(name, version, header, payload)))


def stamped(size: int) -> bytes:
    """A payload that says when it was made: 8 bytes of CLOCK_MONOTONIC, one clock for all processes."""
    return time.monotonic_ns().to_bytes(8) + b"x" * max(0, size - 8)


async def anybody(_stream: Stream) -> Caller:
    return Caller(CallerKind.LOOPBACK)


class Peerd:
    """The real thing, without what is in front of the store."""

    def __init__(self, **store: int) -> None:
        self.store = ResourceStore((AUTHORIZATION, ADDRESS), "bench", **store)
        self.registry = ConnectionRegistry()
        self.service = AdsService(
            self.store,
            ztunnel_rules(),
            authenticate=anybody,
            allowed=lambda _caller, _type: True,
            registry=self.registry,
            debug=DebugTypes(self.registry, "bench"),
            clock=SystemClock(),
            limits=AdmissionLimits(streams_per_second=100_000),
        )
        self.handlers = self.service.handlers
        # So that a pushed message is PUSHED bytes long.
        probe = len(resource("churn-00", b"").resource.frame) + 70  # type: ignore[union-attr]
        self._size = PUSHED - probe
        self._numbers = itertools.count()

    async def start(self) -> None:
        await self.service.start()

    async def fill(self, count: int) -> None:
        for start in range(0, count, 1000):
            self.store.stage(
                resource(
                    f"Kubernetes//Pod/namespace-{i % 100}/deployment-7c5ddbdf54-{i:05d}",
                    i.to_bytes(8) + b"x" * STATIC,
                )
                for i in range(start, min(count, start + 1000))
            )
            await asyncio.sleep(0)
        self.store.commit()
        self.service.window.publish()

    def push(self, changes: int) -> None:
        for _ in range(changes):
            self.store.commit([resource(f"churn-{next(self._numbers) % 50:02d}", stamped(self._size))])

    def replace(self) -> None:
        """One of fifty goes and another comes, as Pods do; now and then a policy too."""
        number = next(self._numbers)
        changes = [
            ResourceChange(ADDRESS, f"churn-{number - 50}", None),
            resource(f"churn-{number}", stamped(self._size)),
        ]
        if number % 10 == 0:
            changes += [
                ResourceChange(AUTHORIZATION, f"ns/churn-{number - 50}", None),
                resource(f"ns/churn-{number}", stamped(self._size), AUTHORIZATION),
            ]
        self.store.commit(changes)

    def counts(self) -> Command:
        return {
            "followed": self.service.followed,
            "pushes": sum(self.registry.pushes.values()),
            "bytes": sum(self.registry.pushed_bytes.values()),
            "streams": len(self.registry),
        }


class Bare:
    """The least a server can do: write what is due, read its ACK."""

    def __init__(self, *, parse: bool) -> None:
        self.handlers = {DELTA_METHOD: self.handle}
        self._waiting: list[asyncio.Future[bytes]] = []
        self._pushes = 0
        self._bytes = 0
        self._streams = 0
        self._parse = parse

    async def start(self) -> None:
        if self._parse:
            from envoy.service.discovery.v3 import discovery_pb2

            self._request = discovery_pb2.DeltaDiscoveryRequest

    async def fill(self, count: int) -> None:
        """Nothing to hold."""

    async def handle(self, stream: Stream) -> None:
        self._streams += 1
        try:
            await self._serve(stream)
        finally:
            self._streams -= 1

    async def _serve(self, stream: Stream) -> None:
        for _ in range(2):  # as from ztunnel, one request a type
            request = await stream.receive()
            if self._parse and request is not None:
                dict(self._request.FromString(request).initial_resource_versions)
            await self._send(stream, response(b""))
            await stream.receive()
        while True:
            turn: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await self._send(stream, await turn)
            if await stream.receive() is None:
                return

    async def _send(self, stream: Stream, message: bytes) -> None:
        await stream.send(message)
        self._pushes += 1
        self._bytes += len(message)

    def push(self, changes: int) -> None:
        waiting, self._waiting = self._waiting, []
        body = b"".join(frame("churn-00", "0123456789abcdef", HEADER, stamped(190)) for _ in range(changes))
        message = response(body)
        for turn in waiting:
            if not turn.done():
                turn.set_result(message)

    def counts(self) -> Command:
        return {"pushes": self._pushes, "bytes": self._bytes, "streams": self._streams}


def response(body: bytes) -> bytes:
    return body + field(4, ADDRESS.encode()) + field(5, b"bench-1000-1001")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Control:
    """Takes the benchmark's commands."""

    def __init__(self, kind: str, tls: FixedTls) -> None:
        match kind:
            case "peerd":
                self._stage: Any = Peerd()
            case "soak":
                self._stage = Peerd(log_names=500)
            case _:
                self._stage = Bare(parse=kind == "parsing")
        self._server = GrpcServer(
            "127.0.0.1:0", self._stage.handlers, tls=tls, options=GrpcOptions(max_age=0)
        )
        self._churn: asyncio.Task[None] | None = None

    async def handle(self, command: Command) -> Command:
        match command["op"]:
            case "start":
                await self._stage.start()
                settle()  # as `peerd serve` does once it is ready
                return {"address": await self._server.start()}
            case "fill":
                await self._stage.fill(command["count"])
                return {}
            case "churn":
                return await self._churned(command["rate"], command["seconds"], command.get("merge", 1))
            case "churn-on":
                change = self._stage.replace if command.get("replace") else lambda: self._stage.push(1)
                self._churn = asyncio.ensure_future(self._forever(command["rate"], change))
                return {}
            case "churn-off":
                assert self._churn is not None
                self._churn.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._churn
                return {}
            case "forget-peak":
                forget_peak()
            case "collect":
                gc.collect()
                ctypes.CDLL(None).malloc_trim(0)  # what is free but kept for later use is not held
        return {
            **usage(),
            **self._stage.counts(),
            "tasks": len(asyncio.all_tasks()),
            "files": open_files(),
            "blocks": sys.getallocatedblocks(),
        }

    async def _churned(self, rate: float, seconds: float, merge: int) -> Command:
        before, start = {**usage(), **self._stage.counts()}, time.monotonic()
        turns = int(rate * seconds)
        for turn in range(turns):
            await asyncio.sleep(max(0.0, start + turn / rate - time.monotonic()))
            self._stage.push(merge)
        await asyncio.sleep(max(1.0, 1 / rate))  # what is still under way
        after = {**usage(), **self._stage.counts()}
        return {key: after[key] - before[key] for key in ("cpu", "pushes", "bytes")}

    async def _forever(self, rate: float, change: Callable[[], None]) -> None:
        while True:
            change()
            await asyncio.sleep(1 / rate)


def main() -> None:
    kind, folder = sys.argv[1:]
    chain, key = (Path(folder) / name for name in ("chain.pem", "key.pem"))
    control = Control(kind, FixedTls(TlsMaterial(chain.read_bytes(), key.read_bytes(), b"")))
    serve(control.handle)


if __name__ == "__main__":
    main()
