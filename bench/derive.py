"""50,000 Pods, 1,000 Services, 1,000 Nodes: from JSON bytes to encoded resources, then one change at a time.

The stage is built from the application's own parts (World, Pipeline, ResourceStore) in a process of its own,
one for each size, so that its memory is its own.
"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Figures, quantile
from peerd.api.istio import workload_pb2
from peerd.app.pipeline import Pipeline
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import address_payload, encode_address
from peerd.model.changes import Change, ObjectChange
from peerd.model.kube.kinds import GATEWAY, NAMESPACE, NODE, POD, SERVICE, Kind
from peerd.model.mesh import Settings
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.resources.store import ResourceStore
from peerd.sources.decode import decode_json

PODS, NODES = 50_000, 1_000
PODS_OF_A_SERVICE = 50
SMALL = 1_000
CHANGES = 2_000
GATEWAY_TURNS = 5
SEED = 20_261_121


def _json(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def pod(number: int, *, ready: bool = True) -> bytes:
    """A Pod as an API server returns it, with the fields peerd drops."""
    service = number // PODS_OF_A_SERVICE
    template = f"{service * 2654435761 % (1 << 32):08x}"
    ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return _json(
        {
            "metadata": {
                "name": f"web-{service}-{template}-{number:05x}",
                "generateName": f"web-{service}-{template}-",
                "namespace": f"ns-{service % 50}",
                "uid": f"{number:032x}",
                "resourceVersion": str(number),
                "creationTimestamp": "2026-11-21T00:00:00Z",
                "labels": {
                    "app": f"web-{service}",
                    "pod-template-hash": template,
                    "topology.kubernetes.io/region": "eu-west",
                    "topology.kubernetes.io/zone": f"eu-west-1{'abc'[number % 3]}",
                    "version": "v1",
                },
                "annotations": {
                    "ambient.istio.io/redirection": "enabled",
                    "other.example.org/note": "x" * 80,
                },
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": f"web-{service}-{template}",
                        "uid": "11111111-1111-1111-1111-111111111111",
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                "containers": [
                    {
                        "name": "app",
                        "image": "registry.example.org/app:1",
                        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                        "env": [{"name": f"E{i}", "value": "v"} for i in range(5)],
                        "terminationMessagePath": "/dev/termination-log",
                        "imagePullPolicy": "IfNotPresent",
                    }
                ],
                "restartPolicy": "Always",
                "serviceAccountName": f"web-{service}",
                "nodeName": f"node-{number % NODES}",
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}
                ],
            },
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-21T00:00:01Z"},
                    {"type": "Ready", "status": "True" if ready else "False"},
                ],
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "containerStatuses": [{"name": "app", "ready": ready, "restartCount": 0}],
            },
        }
    )


def service(number: int) -> bytes:
    """A Service that selects fifty Pods."""
    ip = f"10.96.{number >> 8}.{number & 255}"
    return _json(
        {
            "metadata": {
                "name": f"web-{number}",
                "namespace": f"ns-{number % 50}",
                "creationTimestamp": "2026-11-21T00:00:00Z",
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIPs": [ip],
                "ipFamilies": ["IPv4"],
                "selector": {"app": f"web-{number}"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            },
        }
    )


def node(number: int) -> bytes:
    """A Node with its locality."""
    zone = f"eu-west-1{'abc'[number % 3]}"
    labels = {"topology.kubernetes.io/region": "eu-west", "topology.kubernetes.io/zone": zone}
    return _json({"metadata": {"name": f"node-{number}", "labels": labels}})


def system_namespace(_number: int) -> bytes:
    """The Namespace that names the cluster's network."""
    return _json({"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "net1"}}})


REMOTE_GATEWAY = _json(
    {
        "metadata": {
            "name": "peer",
            "namespace": "istio-system",
            "labels": {"topology.istio.io/network": "net1"},
        },
        "spec": {
            "gatewayClassName": "istio-remote",
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "listeners": [{"name": "hbone", "port": 15008, "protocol": "HBONE"}],
        },
        "status": {"addresses": [{"type": "IPAddress", "value": "192.0.2.1"}]},
    }
)


def put(kind: Kind, raw: bytes) -> ObjectChange:
    """One object, decoded as the source does it."""
    found = decode_json(kind, raw)
    return ObjectChange(kind.name, found.key, found)


class Stage:
    """The application's own derivation and store, without sources and streams."""

    def __init__(self) -> None:
        self.world = World(Settings())
        self.store = ResourceStore((ADDRESS, AUTHORIZATION), "bench")
        self.pipeline = Pipeline(self.world, self.store, _Clock(), _nothing_follows)
        self._task: asyncio.Task[None] | None = None

    async def run(self, changes: list[Change]) -> None:
        """Submit changes and wait until they are in the store."""
        if self._task is None:
            self._task = asyncio.create_task(self.pipeline.run())
        self.pipeline.submit(changes)
        quiet = asyncio.create_task(self.pipeline.quiet())
        done, _ = await asyncio.wait({quiet, self._task}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _nothing_follows(_commit: Commit) -> Sequence[Change]:
    return ()


class _Clock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


async def holds_of(work: Coroutine[Any, Any, None]) -> tuple[list[float], list[float]]:
    """Run *work* beside a task that only wants its turn: how long it waited each time, in ms.

    By the clock, and in CPU time of this thread: the difference is other processes' doing.
    """
    waits: list[float] = []
    burnt: list[float] = []
    task = asyncio.ensure_future(work)
    last, last_cpu = time.perf_counter(), time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now, cpu = time.perf_counter(), time.thread_time()
        waits.append((now - last) * 1000)
        burnt.append((cpu - last_cpu) * 1000)
        last, last_cpu = now, cpu
    await task
    return waits, burnt


def resident() -> float:
    """MiB of memory this process holds."""
    text = Path("/proc/self/statm").read_text("ascii")
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def one_change(stage: Stage, raw: bytes) -> float:
    """Microseconds from the JSON of one changed Pod to its encoded resource."""
    before = time.perf_counter()
    stage.world.apply([put(POD, raw)])
    stage.world.work()
    resources = [encode_address(record) for _, record in stage.world.commit().addresses if record is not None]
    after = time.perf_counter()
    if len(resources) != 1:
        raise AssertionError(f"{len(resources)} resources changed, not one")
    return (after - before) * 1e6


async def measure(pods: int) -> dict[str, Any]:
    """All figures of one size."""
    chance = random.Random(SEED)
    text = bytearray()
    parts: list[tuple[Kind, int, int]] = []
    for kind, make, count in (
        (NAMESPACE, system_namespace, 1),
        (NODE, node, NODES),
        (SERVICE, service, pods // PODS_OF_A_SERVICE),
        (POD, pod, pods),
    ):
        for number in range(count):
            raw = make(number)
            parts.append((kind, len(text), len(text) + len(raw)))
            text += raw
    stage = Stage()
    gc.collect()
    started, started_cpu = time.perf_counter(), time.process_time()
    await stage.run([put(kind, bytes(text[start:end])) for kind, start, end in parts])
    total, total_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    stage.store.close_window()
    del text, parts
    gc.collect()
    memory = resident()
    gc.freeze()  # as the application does after the first sync
    ran = stage.world.transformations
    picks = [chance.randrange(pods) for _ in range(CHANGES // 2)]
    changes = [one_change(stage, pod(number, ready=ready)) for number in picks for ready in (False, True)]
    per_change = (stage.world.transformations - ran) / len(changes)
    holds: list[float] = []
    burnt: list[float] = []
    for turn in range(GATEWAY_TURNS):
        # Adding it, and every other time taking it away again: each touches every workload.
        found = put(GATEWAY, REMOTE_GATEWAY)
        change = found if turn % 2 == 0 else ObjectChange(GATEWAY.name, found.key, None)
        waits, cpu = await holds_of(stage.run([change]))
        stage.store.close_window()
        holds.append(max(waits))
        burnt.append(max(cpu))
    collection = stage.store.collection(ADDRESS)
    sample = collection.get(f"Kubernetes//Pod/ns-0/{json.loads(pod(0))['metadata']['name']}")
    return {
        "seconds": total,
        "cpu": total_cpu,
        "memory": memory,
        "changes": changes,
        "per_change": per_change,
        "holds": holds,
        "burnt": burnt,
        "gateway_reached": sample is not None and b"\xc0\x00\x02\x01" in sample.frame,
        "reference": reference_seconds(pods),
    }


def reference_seconds(pods: int) -> float:
    """How long protobuf alone takes to encode as many ready Workload messages."""
    world = World(Settings())
    world.apply([put(POD, pod(0)), put(SERVICE, service(0)), put(NODE, node(0))])
    world.work()
    record = next(record for name, record in world.commit().addresses if "//Pod/" in name and record)
    messages = [workload_pb2.Address.FromString(address_payload(record)) for _ in range(pods)]
    started = time.perf_counter()
    for message in messages:
        message.SerializeToString(deterministic=True)
    return time.perf_counter() - started


def _in_own_process(pods: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.derive", str(pods)], capture_output=True, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Measure both sizes and print the figures."""
    figures = Figures("derive", SEED)
    large, small = _in_own_process(PODS), _in_own_process(SMALL)
    figures.figure("derive_encode_50000", large["seconds"], "s", at_most=4.0)
    figures.figure("derive_encode_50000_cpu", large["cpu"], "s")
    figures.figure("protobuf_encode_50000", large["reference"], "s")
    figures.figure("memory_50000", large["memory"], "MiB", at_most=350.0)
    figures.quantile("one_change_p50", large["changes"], 0.5, "us", at_most=200.0)
    figures.quantile("one_change_p99", large["changes"], 0.99, "us")
    more = large["per_change"] - small["per_change"]
    figures.figure("transformations_per_change_50000", large["per_change"], "runs")
    figures.figure("transformations_more_than_at_1000", more, "runs", at_most=0.0)
    ratio = quantile(large["changes"], 0.5) / quantile(small["changes"], 0.5)
    figures.figure("one_change_ratio_to_1000", ratio, "x", at_most=2.0)
    # The median of five: other processes of the machine hold the loop as well.
    figures.quantile("gateway_longest_hold", large["holds"], 0.5, "ms", at_most=20.0)
    figures.quantile("gateway_longest_hold_cpu", large["burnt"], 0.5, "ms")
    figures.figure("gateway_reached", float(large["gateway_reached"]), "yes", at_least=1.0)
    return figures.finish()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))
