"""A cluster of many Pods in a real API server: made once, then changed one Pod at a time."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.apiserver import ApiServer

NODES, SERVICES, PODS = 1_000, 1_000, 50_000
NAMESPACES = 50
GLOBAL_SHARE = 10  # every tenth Service is global
_AT_ONCE = 24
_CREATED = "2026-01-10T06:00:00Z"


@asynccontextmanager
async def session(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the admin's."""
    tls = ssl.create_default_context(cafile=str(server.ca))
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls.load_cert_chain(server.root / "admin.pem", server.root / "admin.key")
    connector = aiohttp.TCPConnector(ssl=tls, limit=_AT_ONCE)
    async with aiohttp.ClientSession(server.url, connector=connector) as made:
        yield made


async def fill(api: aiohttp.ClientSession, nodes: int, services: int, pods: int) -> None:
    """Create it all: objects by POST, the status of Nodes and Pods through its subresource."""
    await _each(api, _namespaces(), _create)
    await _each(api, _nodes(nodes), _create)
    await _each(api, _services(services), _create)
    await _each(api, _pods(pods, nodes, services), _create)


async def set_ready(api: aiohttp.ClientSession, number: int, services: int, *, ready: bool) -> float:
    """Write one Pod's readiness; returns the moment (monotonic) of the answer."""
    path = f"/api/v1/namespaces/{namespace_of(number, services)}/pods/{pod_name(number)}/status"
    status = {"conditions": _conditions(ready=ready)}
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    async with api.patch(path, json={"status": status}, headers=headers) as answer:
        await answer.read()
        moment = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"PATCH {path}: {answer.status} {await answer.text()}")
    return moment


def pod_name(number: int) -> str:
    return f"app-{number:05d}-7d9c5b6f4-x2k9p"


def namespace_of(number: int, services: int) -> str:
    """Of a Pod: that of its Service."""
    return f"team-{number % services % NAMESPACES}"


async def _each(
    api: aiohttp.ClientSession,
    manifests: Iterator[dict[str, Any]],
    act: Callable[[aiohttp.ClientSession, dict[str, Any]], Any],
) -> None:
    async def work() -> None:
        for manifest in manifests:  # shared: each takes the next
            await act(api, manifest)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


async def _create(api: aiohttp.ClientSession, manifest: dict[str, Any]) -> None:
    plural = f"{manifest['kind'].lower()}s"
    namespace = manifest["metadata"].get("namespace")
    path = f"/api/v1/namespaces/{namespace}/{plural}" if namespace else f"/api/v1/{plural}"
    await _send(api, "POST", path, manifest)
    if status := manifest.get("status"):
        await _send(api, "PATCH", f"{path}/{manifest['metadata']['name']}/status", {"status": status})


async def _send(api: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any]) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    async with api.request(method, path, json=body, headers={"Content-Type": kind}) as answer:
        await answer.read()
        if answer.status not in {200, 201}:
            raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")


# -- manifests: as long as those of ordinary Deployments ---------------------------------------------------


def _namespaces() -> Iterator[dict[str, Any]]:
    labels = {"topology.istio.io/network": "bench-net"}
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "istio-system", "labels": labels},
    }
    for number in range(NAMESPACES):
        labels = {"istio.io/dataplane-mode": "ambient"}
        metadata = {"name": f"team-{number}", "labels": labels}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _nodes(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        name = f"node-{number}"
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/region": "region-1",
            "topology.kubernetes.io/zone": f"zone-{number % 3}",
        }
        address = f"172.16.{number // 250}.{number % 250 + 1}"
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": f"10.{number // 250}.{number % 250}.0/24"},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": address},
                    {"type": "Hostname", "address": name},
                ],
                "capacity": {"cpu": "16", "memory": "64Gi", "pods": "110"},
                "conditions": [_condition("Ready", up=True)],
            },
        }


def _services(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        labels = {"app": f"app-{number}"}
        if number % GLOBAL_SHARE == 0:
            labels["solo.io/service-scope"] = "global"
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"app-{number}",
                "namespace": f"team-{number % NAMESPACES}",
                "labels": labels,
            },
            "spec": {
                "clusterIP": f"10.97.{number // 250}.{number % 250 + 1}",
                "selector": {"app": f"app-{number}"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}],
            },
        }


def _pods(count: int, nodes: int, services: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        service = number % services
        ip = f"10.{number // 250 // 250 + 128}.{number // 250 % 250}.{number % 250 + 1}"
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod_name(number),
                "namespace": namespace_of(number, services),
                "labels": {
                    "app": f"app-{service}",
                    "version": "v1",
                    "pod-template-hash": "7d9c5b6f4",
                    "team": f"team-{service % NAMESPACES}",
                },
                "annotations": {
                    "ambient.istio.io/redirection": "enabled",
                    "kubectl.kubernetes.io/restartedAt": _CREATED,
                    "checksum/config": "0f343b0931126a20f133d67c2b018a3b" * 2,
                },
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": f"app-{service}-7d9c5b6f4",
                        "uid": "4d3f0a9e-2f5b-4d57-9a70-0d6a3f5e0c11",
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                "nodeName": f"node-{number % nodes}",
                "serviceAccountName": f"app-{service}",
                "containers": [_container(service)],
                "volumes": [{"name": "config", "configMap": {"name": f"app-{service}"}}],
            },
            "status": {
                "phase": "Running",
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "hostIP": f"172.16.{number % nodes // 250}.{number % nodes % 250 + 1}",
                "startTime": _CREATED,
                "conditions": _conditions(ready=True),
                "containerStatuses": [
                    {
                        "name": "app",
                        "ready": True,
                        "started": True,
                        "restartCount": 0,
                        "image": f"registry.example/app-{service}:1.4.2",
                        "imageID": "registry.example/app@sha256:" + "9b" * 32,
                        "containerID": "containerd://" + "5e" * 32,
                        "state": {"running": {"startedAt": _CREATED}},
                    }
                ],
            },
        }


def _container(service: int) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    return {
        "name": "app",
        "image": f"registry.example/app-{service}:1.4.2",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [
            {"name": "SERVICE_NAME", "value": f"app-{service}"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LOG_LEVEL", "value": "info"},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}],
    }


def _conditions(*, ready: bool) -> list[dict[str, str]]:
    return [
        _condition("Initialized", up=True),
        _condition("PodScheduled", up=True),
        _condition("ContainersReady", up=ready),
        _condition("Ready", up=ready),
    ]


def _condition(kind: str, *, up: bool) -> dict[str, str]:
    return {"type": kind, "status": "True" if up else "False", "lastTransitionTime": _CREATED}
