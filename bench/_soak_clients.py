"""The load of bench/soak: clients that come, go, dawdle, refuse, fall silent and ask for single names."""

import asyncio
import itertools
import random
import sys
from pathlib import Path
from typing import Any

from bench._processes import Command, serve, usage
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node
from peerd.transport.base import StreamClosed
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions

NODE = Node(
    "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local", "", {"NAMESPACE": "istio-system"}
)
OPTIONS = GrpcOptions(max_message=256 * 1024 * 1024)
KINDS = ("steady", "slow", "refusing", "leaving", "mute", "asking")


class Load:
    """Takes the benchmark's commands."""

    def __init__(self, roots: bytes) -> None:
        self._roots = roots
        self._random = random.Random(20_261_121)
        self._tasks: list[asyncio.Task[None]] = []
        self._counts = {"streams": 0, "responses": 0, "nacks": 0, "ended": 0}

    async def handle(self, command: Command) -> Command:
        match command["op"]:
            case "connect":
                for kind in KINDS:
                    for _ in range(command["count"]):
                        self._tasks.append(asyncio.ensure_future(self._client(kind, command["address"])))
            case "close":
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self._tasks = []
        return {**usage(), **self._counts}

    async def _client(self, kind: str, address: str) -> None:
        client = DeltaClient((ADDRESS, AUTHORIZATION), NODE, on_demand=(ADDRESS,) if kind == "asking" else ())
        while True:
            channel = GrpcChannel(
                address, roots=self._roots, server_name="istiod.istio-system.svc", options=OPTIONS
            )
            try:
                stay = self._random.uniform(1, 10) if kind == "leaving" else None
                async with asyncio.timeout(stay):
                    await self._stream(kind, client, channel)
            except (TimeoutError, StreamClosed):
                self._counts["ended"] += 1
            finally:
                await channel.close()
            await asyncio.sleep(self._random.uniform(0.01, 1))

    async def _stream(self, kind: str, client: DeltaClient, channel: GrpcChannel) -> None:
        stream: Any = await channel.open(DELTA_METHOD)
        self._counts["streams"] += 1
        for message in client.start():
            await stream.send(message)
        for received in itertools.count(1):
            if kind == "slow":  # the first answer does not fit into windows: the server waits in its write
                await asyncio.sleep(self._random.uniform(0, 5))
            if (message := await stream.receive()) is None:
                return
            self._counts["responses"] += 1
            response = client.receive(message)
            if kind == "slow":
                await asyncio.sleep(self._random.uniform(0, 5))
            if kind == "mute" and received > 10:
                continue  # until the server has enough of it
            await stream.send(self._answer(kind, client, response))
            if kind == "asking" and response.type_url == ADDRESS:
                await self._ask(client, stream)

    def _answer(self, kind: str, client: DeltaClient, response: DeltaResponse) -> bytes:
        if kind == "refusing" and response.resources and self._random.random() < 0.2:
            self._counts["nacks"] += 1
            return client.reject(response, {response.resources[0].name: "soaked"})
        return client.accept(response)

    async def _ask(self, client: DeltaClient, stream: Any) -> None:
        """Names that are there, that come and go, and that never are; some are no longer wanted."""
        await asyncio.sleep(self._random.uniform(0.1, 1))
        names = [f"churn-{self._random.randrange(20_000)}" for _ in range(3)]
        static = self._random.randrange(5_000)
        names.append(f"Kubernetes//Pod/namespace-{static % 100}/deployment-7c5ddbdf54-{static:05d}")
        await stream.send(client.subscribe(ADDRESS, names))
        held = list(client.versions(ADDRESS))
        if len(held) > 20:
            await stream.send(client.unsubscribe(ADDRESS, held[:10]))


def main() -> None:
    load = Load((Path(sys.argv[1]) / "roots.pem").read_bytes())
    serve(load.handle)


if __name__ == "__main__":
    main()
