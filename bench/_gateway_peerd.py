"""The peerd of bench/gateway: a whole one, whose API server is this process, and who tells of ACKs."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bench._processes import Command, serve, usage
from peerd.app.collector import settle
from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.types import CLUSTER, ENDPOINT
from peerd.serve.connections import TypeView
from peerd.sources.base import Sink

TYPES = (CLUSTER, ENDPOINT)


class Pushed:
    """A source that tells what it is given, at once: an API server's watch without the wire before it."""

    def __init__(self, objects: Sequence[ObjectChange]) -> None:
        self._first = objects
        self._sink: Sink | None = None

    async def run(self, sink: Sink) -> None:
        """`Source.run`."""
        self._sink = sink
        for start in range(0, len(self._first), 1_000):
            sink.apply(self._first[start : start + 1_000])
            await asyncio.sleep(0)
        sink.synced()
        await asyncio.Event().wait()

    def event(self, changes: Sequence[ObjectChange]) -> None:
        """An event of the watch."""
        assert self._sink is not None
        self._sink.apply(changes)


class Server:
    """Answers the benchmark's commands."""

    def __init__(self) -> None:
        self._peerd: Peerd | None = None
        self._source = Pushed(())

    async def handle(self, command: Command) -> Command:
        """One command."""
        match command["op"]:
            case "start":
                self._source = Pushed([put(kind, tree) for kind, tree in objects(command)])
                config = msgspec.convert(command["config"], ServeConfig)
                self._peerd = Peerd(config, Parts(self._source))
                bound = await self._peerd.start()
                await self._peerd.ready()
                settle()  # as `peerd serve` does
                return {"bound": bound, **usage()}
            case "event":
                return await self._event([put(kind, tree) for kind, tree in command["objects"]])
            case "settled":
                await self._settled(time.time(), {})
                return {"bytes": self._bytes(), **usage()}
        raise ValueError(command["op"])

    async def _event(self, changes: Sequence[ObjectChange]) -> Command:
        """Apply changes; the seconds until Envoy had ACKed all that follows from them, and what was sent."""
        before, pushes = self._bytes(), self._pushes()
        began = time.time()
        self._source.event(changes)
        acked = await self._settled(began, pushes)
        return {"seconds": acked - began, "bytes": self._bytes() - before}

    async def _settled(self, began: float, pushes: dict[str, int]) -> float:
        """When the last ACK came, once nothing has been owed for 20 ms: two merge windows."""
        async with asyncio.timeout(120):
            quiet = time.monotonic()
            while True:
                await asyncio.sleep(0.001)
                rows = list(self._rows())
                pushed = self._pushes() != pushes
                if not rows or not pushed or any(row.sent != row.acked for row in rows):
                    quiet = time.monotonic()
                elif time.monotonic() - quiet > 0.02:
                    return max((row.acked_at for row in rows), default=began)

    def _rows(self) -> Iterator[TypeView]:
        assert self._peerd is not None
        for connection in self._peerd.registry:
            yield from (row for row in connection.views() if row.type_url in TYPES)

    def _pushes(self) -> dict[str, int]:
        assert self._peerd is not None
        return {each: self._peerd.registry.pushes[each] for each in TYPES}

    def _bytes(self) -> int:
        assert self._peerd is not None
        return sum(self._peerd.registry.pushed_bytes[each] for each in TYPES)


def put(kind: str, tree: dict[str, Any]) -> ObjectChange:
    """An object as it is watched."""
    found = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
    return ObjectChange(kind, found.key, found)


def objects(command: Command) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cluster: its gateway, and so many exported services with two Pods each."""
    yield (
        "Namespace",
        {"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "bench"}}},
    )
    yield "Namespace", {"metadata": {"name": "shop"}}
    yield (
        "Gateway",
        {
            "metadata": {"name": "istio-eastwest", "namespace": "istio-system"},
            "spec": {
                "gatewayClassName": "istio-eastwest",
                "addresses": [{"type": "IPAddress", "value": command["address"]}],
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        },
    )
    yield from exported("first", 0, command["pod"])
    for number in range(1, command["services"]):
        yield from exported(f"service-{number:05d}", number, "")


def exported(name: str, number: int, address: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A global Service and its Pods; *address* is where something really listens."""
    a, b = divmod(number, 250)
    yield (
        "Service",
        {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {"solo.io/service-scope": "global"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "clusterIP": f"10.{a}.{b}.1",
                "selector": {"app": name},
                "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
            },
        },
    )
    for pod in range(2):
        yield "Pod", a_pod(name, pod, address or f"10.{100 + a}.{b}.{pod + 1}", ready=True)
        if address:
            return


def a_pod(name: str, number: int, address: str, *, ready: bool) -> dict[str, Any]:
    """A Pod of a service."""
    return {
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": "shop",
            "labels": {"app": name},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        },
        "spec": {"serviceAccountName": "default", "nodeName": "node"},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


if __name__ == "__main__":
    serve(Server().handle)
