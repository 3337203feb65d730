"""200,000 services of 2,000 peers, under distinct names and under the same 100: then one change at a time.

The stage is built from the application's own parts (World, Pipeline, ResourceStore) in a process of its own,
one for each case, so that its memory is its own. Each peer has a network and a gateway of its own and says
two identities of each service: one that all clusters share, and one of its own. In the second case this
cluster has the 100 Services as well, so that 2,001 clusters agree, or not, on each name. A change is measured
from the importer's record to the encoded resources.
"""

# ruff: noqa: N999 (its name is the word users type: `make bench NAME=global`)

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bench.derive import put, resident
from bench.figures import Figures
from peerd.app.pipeline import Pipeline
from peerd.derive.allocation import choose
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import encode_address
from peerd.model.address import Locality
from peerd.model.changes import AllocationChange, Change, ImportChange, PeerChange
from peerd.model.federation import Capacity, FederatedPort, FederatedService, Freshness, PeerInfo, PeerView
from peerd.model.kube.kinds import GATEWAY, NAMESPACE, SERVICE
from peerd.model.kube.meta import ObjectKey
from peerd.model.mesh import Settings
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.resources.store import ResourceStore

PEERS, SERVICES = 2_000, 100
CHANGES = 1_000
SEED = 20_261_121
DISTINCT, SAME = "distinct", "same"


def _name(case: str, peer: int, number: int) -> str:
    return f"svc-{number}" if case == SAME else f"svc-{peer}-{number}"


def key(peer: int) -> ObjectKey:
    """The istio-remote Gateway that leads to a peer."""
    return ObjectKey("istio-system", f"peer-{peer}")


def gateway(peer: int) -> bytes:
    """That Gateway, with an address and an HBONE listener."""
    addresses = [{"type": "IPAddress", "value": f"198.18.{peer >> 8}.{peer & 255}"}]
    return msgspec.json.encode(
        {
            "metadata": {
                "name": key(peer).name,
                "namespace": key(peer).namespace,
                "creationTimestamp": "2026-11-21T00:00:00Z",
                "labels": {"topology.istio.io/network": f"net-{peer}"},
                "annotations": {"gateway.istio.io/service-account": "istio-eastwest"},
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": addresses,
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
            "status": {"addresses": addresses},
        }
    )


def own_service(number: int) -> bytes:
    """This cluster's Service of the same name."""
    return msgspec.json.encode(
        {
            "metadata": {
                "name": f"svc-{number}",
                "namespace": "shop",
                "creationTimestamp": "2026-11-21T00:00:00Z",
                "labels": {"solo.io/service-scope": "global-only"},
            },
            "spec": {
                "clusterIPs": [f"10.96.0.{number + 1}"],
                "selector": {"app": f"svc-{number}"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            },
        }
    )


def federated(case: str, peer: int, number: int, *, healthy: int = 3, extra: str = "") -> FederatedService:
    """What a peer says of one service."""
    name = _name(case, peer, number)
    identities = {
        f"spiffe://cluster.local/ns/shop/sa/{who}" for who in (name, f"{name}-of-{peer}", extra) if who
    }
    return FederatedService(
        name=name,
        namespace="shop",
        global_host=f"{name}.shop.mesh.internal",
        local_host=f"{name}.shop.svc.cluster.local",
        ports=(FederatedPort(80, "http", target=8080),),
        identities=tuple(sorted(identities)),
        capacity=(Capacity(f"net-{peer}", Locality("eu-west", "eu-west-1a"), healthy),),
        distribution="PreferNetwork",  # as the label implies
        created="2026-11-21T00:00:00Z",
    )


def view(peer: int) -> PeerView:
    """A peer in touch."""
    return PeerView(
        key(peer),
        PeerInfo(f"cluster-{peer}", f"net-{peer}", "cluster.local", f"lineage-{peer}"),
        Freshness.FRESH,
    )


class Stage:
    """The application's own derivation and store; addresses are allocated as they are wanted."""

    def __init__(self) -> None:
        self.world = World(Settings())
        self.store = ResourceStore((ADDRESS, AUTHORIZATION), "bench")
        self.pipeline = Pipeline(self.world, self.store, _Clock(), self._allocate)
        self._taken: set[bytes] = set()

    async def run(self, changes: Sequence[Change]) -> None:
        """Submit changes and wait until they are in the store, and what followed from them."""
        running = asyncio.create_task(self.pipeline.run())
        self.pipeline.submit(changes)
        quiet = asyncio.create_task(self.pipeline.quiet())
        await asyncio.wait({quiet, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _allocate(self, commit: Commit) -> Sequence[Change]:
        changes: list[Change] = []
        for host, pool in commit.wanted_hosts:
            found = None if pool is None else choose(host, pool, self._taken)
            if found is not None:
                self._taken |= {found.ipv4, found.ipv6}
            changes.append(AllocationChange(host, found))
        return changes


class _Clock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def _changes(case: str) -> Iterator[Change]:
    yield put(
        NAMESPACE,
        b'{"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "home"}}}',
    )
    if case == SAME:
        for number in range(SERVICES):
            yield put(SERVICE, own_service(number))
    for peer in range(PEERS):
        yield put(GATEWAY, gateway(peer))
        yield PeerChange(key(peer), view(peer))
        for number in range(SERVICES):
            found = federated(case, peer, number)
            yield ImportChange(key(peer), found.resource_name, found)


def one_change(stage: Stage, peer: int, found: FederatedService, resources: int) -> float:
    """Milliseconds from a changed import to the encoded resources, which must be so many."""
    before = time.perf_counter()
    stage.world.apply([ImportChange(key(peer), found.resource_name, found)])
    stage.world.work()
    encoded = [encode_address(record) for _, record in stage.world.commit().addresses if record is not None]
    after = time.perf_counter()
    if len(encoded) != resources:
        raise AssertionError(f"{len(encoded)} resources changed, not {resources}")
    return (after - before) * 1000


async def measure(case: str) -> dict[str, Any]:
    """All figures of one case."""
    chance = random.Random(SEED)
    stage = Stage()
    changes = list(_changes(case))
    gc.collect()
    without = resident()
    started, started_cpu = time.perf_counter(), time.process_time()
    await stage.run(changes)
    total, total_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    stage.store.close_window()
    del changes
    gc.collect()
    memory = resident()
    gc.freeze()  # as the application does after the first sync
    served = stage.store.collection(ADDRESS)
    sample = served.get(f"shop/{_name(case, 0, 0)}.shop.mesh.internal")
    if sample is None or b"-of-0" not in sample.frame:
        raise AssertionError("the services of peers are not served")
    picks = [divmod(pick, SERVICES) for pick in chance.sample(range(PEERS * SERVICES), CHANGES)]
    # The global Service; in the second case the local one, whose name is taken over, too.
    services = 2 if case == SAME else 1
    capacity = [
        one_change(stage, peer, federated(case, peer, number, healthy=4 + turn), 1)
        for turn, (peer, number) in enumerate(picks)
    ]
    identities = [
        one_change(
            stage, peer, federated(case, peer, number, healthy=4 + turn, extra=f"new-{turn}"), services
        )
        for turn, (peer, number) in enumerate(picks)
    ]
    return {
        "seconds": total,
        "cpu": total_cpu,
        "inputs": without,
        "memory": memory,
        "capacity": capacity,
        "identities": identities,
    }


def _in_own_process(case: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.global", case], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Measure both cases and print the figures."""
    figures = Figures("global", SEED)
    for case in (DISTINCT, SAME):
        found = _in_own_process(case)
        figures.figure(f"{case}_derive_encode_200000", found["seconds"], "s")
        figures.figure(f"{case}_derive_encode_200000_cpu", found["cpu"], "s")
        figures.figure(f"{case}_memory_inputs", found["inputs"], "MiB")
        figures.figure(f"{case}_memory", found["memory"], "MiB")
        figures.quantile(f"{case}_capacity_change", found["capacity"], 0.5, "ms", at_most=1.0)
        figures.quantile(f"{case}_capacity_change_p99", found["capacity"], 0.99, "ms")
        figures.quantile(f"{case}_identities_change", found["identities"], 0.5, "ms", at_most=10.0)
        figures.quantile(f"{case}_identities_change_p99", found["identities"], 0.99, "ms")
    return figures.finish()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1]))))
