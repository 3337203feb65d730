"""What a FakeApiServer serves to a peerd, and the manifests that every cluster has."""

from peerd.model.kube.kinds import KINDS
from tests.support.fake_apiserver.server import FakeApiServer
from tests.support.fake_apiserver.storage import Definition, Tree

BUILT_IN = (
    Definition("", "v1", "namespaces", "Namespace", namespaced=False),
    Definition("", "v1", "nodes", "Node", namespaced=False),
    Definition("", "v1", "configmaps", "ConfigMap"),
    Definition("", "v1", "secrets", "Secret"),
    Definition("", "v1", "pods", "Pod"),
    Definition("", "v1", "services", "Service"),
    Definition("", "v1", "serviceaccounts", "ServiceAccount"),
    Definition("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Definition("events.k8s.io", "v1", "events", "Event"),
    Definition("coordination.k8s.io", "v1", "leases", "Lease"),
    Definition("apps", "v1", "deployments", "Deployment"),
)
DEFINED = tuple(
    Definition(kind.group, kind.versions[0], kind.plural, kind.name, kind.namespaced)
    for kind in KINDS
    if kind.group not in {each.group for each in BUILT_IN}
)


def cluster(*, streams_lists: bool = True, definitions: bool = True) -> FakeApiServer:
    """A server with all kinds and a system Namespace."""
    server = FakeApiServer(streams_lists=streams_lists)
    for each in (*BUILT_IN, *(DEFINED if definitions else ())):
        server.define(each)
    server.put(namespace("istio-system"))
    return server


def namespace(name: str) -> Tree:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(name: str, address: str = "10.0.0.1", namespace: str = "shop") -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": "web", "containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None}],
        },
    }


def service(name: str, namespace: str = "shop", **labels: str) -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "targetPort": 8080}]},
    }


def service_entry(name: str, host: str, namespace: str = "shop", **labels: str) -> Tree:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"hosts": [host], "ports": [{"number": 80, "name": "http"}]},
    }
