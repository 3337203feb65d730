"""However selectors, names and ports meet: what is generated is admitted, true, nobody else gains (D41)."""

import random
from typing import Any

import msgspec
import pytest

from peerd.model.changes import IstiodChange, ObjectChange
from peerd.model.generated import Generate, GeneratedServiceEntry, IstiodFlags
from peerd.model.kube.core import Service as KubeService
from peerd.model.kube.istio import ServiceEntry
from peerd.model.kube.meta import KubeObject
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.beside import Records, Seen, manifests, told_by_istiod
from tests.support.clusters import Cluster, namespace, pod, put, remote_gateway, system
from tests.support.istiod_model import Flags
from tests.support.istiod_webhook import refusals

# Few words, so that they meet.
NAMES = ("a", "b", "c")
SELECTORS = ({"app": "x"}, {"app": "x"}, {"app": "x", "version": "1"}, {"app": "y"})
SCOPES = ("global", "global", "global-only", "segment", "cluster")
PORTS = (
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "grpc-api", "port": 81, "targetPort": "grpc"},
    {"name": "tcp-db", "port": 82},
    {"port": 83},
)


def a_service(draw: random.Random, name: str) -> ObjectChange:
    ports = [PORTS[NAMES.index(name)]]  # mostly what all clusters have, or the name has no endpoints
    if draw.random() < 0.2:
        ports = draw.sample(PORTS, draw.randint(1, 3))
    labels = {"solo.io/service-scope": draw.choice(SCOPES)} if draw.random() < 0.8 else {}
    return put(
        "Service",
        {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": labels,
                "creationTimestamp": f"2026-01-0{draw.randint(1, 3)}T00:00:00Z",
            },
            "spec": {
                "clusterIP": f"10.96.0.{ord(name)}",
                "selector": draw.choice((*SELECTORS, {})),
                "ports": ports,
            },
        },
    )


def an_entry(draw: random.Random, name: str) -> ObjectChange:
    """A ServiceEntry of a user, sometimes of a host that we would serve."""
    labels = {"solo.io/service-scope": "global"} if draw.random() < 0.5 else {}
    hosts = [f"{name}.example.org", *(["a.shop.mesh.internal"] if draw.random() < 0.1 else [])]
    ports = [
        {"number": 80, "name": "http", "protocol": "HTTP"},
        *([{"number": 82, "name": "db"}] if len(hosts) == 1 else []),
    ]
    return put(
        "ServiceEntry",
        {
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {
                "hosts": hosts,
                "ports": ports,
                "resolution": "STATIC",
                "workloadSelector": {"labels": draw.choice(SELECTORS)},
            },
        },
    )


def some_pods(draw: random.Random, net: int) -> list[ObjectChange]:
    return [pod(f"{app}-{net}", app, f"10.{net}.0.{ord(app)}") for app in "xy" if draw.random() < 0.8]


def a_world(draw: random.Random) -> tuple[Cluster, list[KubeObject], dict[str, Cluster]]:
    """A cluster beside istiod, its users' objects, and two peers, one perhaps on its own network."""
    takeover = {"solo.io/service-takeover": "true"} if draw.random() < 0.5 else {}
    own = [
        system("east"),
        namespace("shop", takeover),
        *(a_service(draw, name) for name in NAMES if draw.random() < 0.7),
        *(an_entry(draw, name) for name in ("a", "legacy") if draw.random() < 0.2),
        *some_pods(draw, 1),
    ]
    flat = draw.random() < 0.3
    networks = {"west": "east" if flat else "west", "north": "north"}
    gateways = [
        remote_gateway(name, network, f"198.51.100.{at}")
        for at, (name, network) in enumerate(networks.items(), 1)
    ]
    safe = IstiodChange(IstiodFlags(draw.random() < 0.8))
    cluster = Cluster("east", [*own, *gateways, safe], generate=Generate.BESIDE)
    peers = {}
    for at, (name, network) in enumerate(networks.items(), 2):
        services = [a_service(draw, each) for each in NAMES if draw.random() < 0.7]
        peers[name] = Cluster(name, [system(network), *services, *some_pods(draw, at)])
        cluster.pull(name, peers[name])
    return cluster, [change.object for change in own if change.object is not None], peers


@pytest.mark.parametrize("seed", range(150))
def test_what_is_generated_is_admitted_and_true_and_nobody_else_gains(seed: int) -> None:
    """By istiod's webhook. No name leads to a cluster that has no endpoint of it, shared entries included.

    Services and users' ServiceEntries have the endpoints that they have without us.
    """
    cluster, users, peers = a_world(random.Random(seed))
    for key, tree in manifests(cluster.generated).items():
        assert refusals(key.partition("/")[0], tree) == [], key
    without, there = (
        told_by_istiod(users, generated, "east", Flags()) for generated in ({}, cluster.generated)
    )
    assert _ordinary(there, users) == _ordinary(without, users)
    seen = Seen(cluster, there)
    for entry in cluster.generated.values():
        for host in entry.hosts if isinstance(entry, GeneratedServiceEntry) else ():
            members = seen.workloads_of(f"{entry.namespace}/{host}")
            remote = {found.cluster_id for found in members if "/WorkloadEntry/" in found.uid}
            serving = {
                name
                for name, peer in peers.items()
                if (found := peer.exports.get(entry.service)) is not None and found.capacity
            }
            assert remote <= serving, host


def _ordinary(told: Records, users: list[KubeObject]) -> dict[str, Any]:
    """Services of users' objects with their endpoints; who else has the name (`canonical`) is left out."""
    own = {found.key for found in users if isinstance(found, KubeService | ServiceEntry)}
    names = {(key.namespace, key.name) for key in own}
    found: dict[str, tuple[Service, list[Any]]] = {
        record.resource_name: (msgspec.structs.replace(record, canonical=False), [])
        for record in told.values()
        if isinstance(record, Service) and (record.namespace, record.name) in names
    }
    for uid, record in sorted(told.items()):
        for entry in record.services if isinstance(record, Workload) else ():
            if entry.service in found:
                found[entry.service][1].append((uid, entry))
    return found
