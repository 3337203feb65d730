"""The load of bench/fanout: clients that speak as ztunnel does, one TLS connection each."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from bench._processes import Command, serve, usage
from peerd.api.envoy import discovery_pb2 as discovery
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.wire import map_entry
from peerd.transport.base import StatusCode, StreamClosed
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions

OPTIONS = GrpcOptions(max_message=256 * 1024 * 1024)
NODE_ID = "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local"
LARGE = 100_000


class Client:
    """One stream: answers everything, keeps how old what it received was."""

    def __init__(self, load: "Load", channel: GrpcChannel) -> None:
        self._load = load
        self._channel = channel
        self.first: set[str] = set()

    async def run(self, versions: list[bytes]) -> None:
        stream = await self._channel.open(DELTA_METHOD)
        for type_url in (ADDRESS, AUTHORIZATION):
            request = discovery.DeltaDiscoveryRequest(type_url=type_url)
            request.node.id = NODE_ID
            request.node.metadata.update({"NAMESPACE": "istio-system", "NODE_NAME": "node-a"})
            if type_url == ADDRESS:
                request.initial_resource_versions.extend(versions)
            await stream.send(request.SerializeToString())
        count = 0
        while (message := await stream.receive()) is not None:
            count += 1
            self._load.received(message, first=count <= 2)
            response = discovery.DeltaDiscoveryResponse.FromString(message)
            if count > 2:
                now = time.monotonic_ns()
                self._load.ages += [
                    (now - int.from_bytes(each.resource.value[:8])) / 1e6 for each in response.resources
                ]
            elif len(message) > LARGE and self._load.versions is None:
                self._load.versions = [map_entry(each.name, each.version) for each in response.resources]
            nonce = response.nonce
            del response, message
            await stream.send(
                discovery.DeltaDiscoveryRequest(
                    type_url=ADDRESS if count > 2 else self._type(count), response_nonce=nonce
                ).SerializeToString()
            )
            if count == 2:
                self._load.connected()

    @staticmethod
    def _type(count: int) -> str:
        return AUTHORIZATION if count == 1 else ADDRESS  # peerd's order; the bare server does not look


class Load:
    """Takes the benchmark's commands."""

    def __init__(self, roots: bytes) -> None:
        self._roots = roots
        self._channels: list[GrpcChannel] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.ages: list[float] = []
        self.versions: list[bytes] | None = None
        self._bytes = 0
        self._first_bytes = 0
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._wanted = 0

    def received(self, message: bytes, *, first: bool) -> None:
        self._bytes += len(message)
        if first:
            self._first_bytes += len(message)

    def connected(self) -> None:
        self._ready += 1
        if self._ready >= self._wanted:
            self._all_ready.set()

    async def handle(self, command: Command) -> Command:
        match command["op"]:
            case "connect":
                return await self._connect(command["address"], command["count"], command)
            case "ages":
                ages, self.ages = self.ages, []
                return {"ages": ages}
            case "close":
                await self._close()
        return usage()

    async def _connect(self, address: str, count: int, command: Command) -> Command:
        self._ready, self._wanted, self._first_bytes = 0, count, 0
        self._all_ready.clear()
        versions = (self.versions or []) if command.get("resume") else []
        start = time.monotonic()
        batch = command.get("batch", count)
        for begin in range(0, count, batch):
            for _ in range(begin, min(count, begin + batch)):
                channel = GrpcChannel(
                    address, roots=self._roots, server_name="istiod.istio-system.svc", options=OPTIONS
                )
                self._channels.append(channel)
                self._tasks.append(asyncio.ensure_future(self._run(Client(self, channel), versions)))
            while self._ready < min(count, begin + batch):  # noqa: ASYNC110 (one counter, many steps)
                await asyncio.sleep(0.01)
        await asyncio.wait_for(self._all_ready.wait(), 300)
        return {"seconds": time.monotonic() - start, "first_bytes": self._first_bytes}

    async def _run(self, client: Client, versions: list[bytes]) -> None:
        try:
            await client.run(versions)
        except StreamClosed as closed:
            if closed.code is not StatusCode.CANCELLED:
                print(f"a client's stream ended: {closed}", file=sys.stderr)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self._channels))
        self._tasks, self._channels = [], []


def main() -> None:
    load: Any = Load((Path(sys.argv[1]) / "roots.pem").read_bytes())
    serve(load.handle)


if __name__ == "__main__":
    main()
