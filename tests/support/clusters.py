"""Several clusters' worlds side by side: what one exports the others are told, without any network."""

from collections.abc import Iterable
from typing import Any

import msgspec

from peerd.derive.allocation import choose
from peerd.derive.world import World
from peerd.model.changes import (
    AllocationChange,
    Change,
    ImportChange,
    ImportedWorkloadChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation, FederatedService, Freshness, PeerInfo, PeerView, Takeover
from peerd.model.gateway_config import GatewayCluster, GatewayEndpoints, GatewayListener
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import ObjectKey
from peerd.model.mesh import Settings
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.ztunnel_rules import world_violations


class Cluster:
    """One cluster: its world, everything it has told, and addresses allocated as they are wanted."""

    def __init__(self, cluster_id: str, objects: Iterable[Change] = (), **settings: Any) -> None:
        self.world = World(Settings(cluster_id=cluster_id, **settings))
        self.addresses: dict[str, Workload | Service] = {}
        self.exports: dict[str, FederatedService] = {}
        self.flat_exports: dict[str, Workload] = {}
        self.segment_flat_exports: dict[str, Workload] = {}
        self.diagnostics: dict[str, Diagnostic] = {}
        self.wanted: dict[str, str] = {}
        self.allocations: dict[str, Allocation] = {}
        self.takeovers: dict[str, Takeover] = {}
        self.policies: dict[str, Any] = {}
        self.generated: dict[str, Any] = {}
        # What gateways are configured with, by resource name.
        self.gateway_listeners: dict[str, GatewayListener] = {}
        self.gateway_clusters: dict[str, GatewayCluster] = {}
        self.gateway_endpoints: dict[str, GatewayEndpoints] = {}
        self.info: PeerInfo | None = None
        self.network = ""
        self.changed: set[str] = set()
        self._recorded: dict[str, Takeover] = {}
        self.links: dict[str, Cluster] = {}
        self.apply(objects)

    def apply(self, changes: Iterable[Change], *, allocate: bool = True) -> None:
        """Derive *changes*, and what follows from wanted addresses; hold all against ztunnel's rules."""
        self.changed = set()
        queue = list(changes)
        while True:
            self._derive(queue)
            queue = self._allocate() if allocate else []
            queue += self._record()
            if not queue:
                break
        found = world_violations(self.addresses.values(), self.policies.values(), network=self.network)
        assert found == []

    def _derive(self, changes: list[Change]) -> None:
        self.world.apply(changes)
        assert self.world.work()
        commit = self.world.commit()
        self.network = commit.network
        self.info = self.info if commit.info is None else commit.info
        self.changed |= {name for name, _ in commit.addresses}
        for told, records in (
            (commit.addresses, self.addresses),
            (commit.policies, self.policies),
            (commit.gateway_listeners, self.gateway_listeners),
            (commit.gateway_clusters, self.gateway_clusters),
            (commit.gateway_endpoints, self.gateway_endpoints),
            (commit.exports, self.exports),
            (commit.flat_exports, self.flat_exports),
            (commit.segment_flat_exports, self.segment_flat_exports),
            (commit.diagnostics, self.diagnostics),
            (commit.wanted_hosts, self.wanted),
            (commit.takeovers, self.takeovers),
            (commit.generated, self.generated),
        ):
            assert len({name for name, _ in told}) == len(told)
            for name, record in told:
                if record is None:
                    del records[name]
                else:
                    records[name] = record

    def _record(self) -> list[Change]:
        """What an application gives back of takeovers that it was told to record."""
        before, self._recorded = self._recorded, dict(self.takeovers)
        gone = [TakeoverChange(name, None) for name in before.keys() - self.takeovers.keys()]
        return gone + [
            TakeoverChange(name, found)
            for name, found in sorted(self.takeovers.items())
            if before.get(name) != found
        ]

    def _allocate(self) -> list[Change]:
        taken = {address for found in self.allocations.values() for address in (found.ipv4, found.ipv6)}
        changes: list[Change] = []
        for host in sorted(self.wanted.keys() - self.allocations.keys()):
            found = choose(host, self.wanted[host], taken)
            assert found is not None
            taken |= {found.ipv4, found.ipv6}
            self.allocations[host] = found
            changes.append(AllocationChange(host, found))
        for host in sorted(self.allocations.keys() - self.wanted.keys()):
            del self.allocations[host]
            changes.append(AllocationChange(host, None))
        return changes

    def pull(self, gateway: str, peer: "Cluster", freshness: Freshness = Freshness.FRESH) -> None:
        """Take in all that *peer* exports, as through the istio-remote Gateway `istio-system/<gateway>`."""
        key = ObjectKey("istio-system", gateway)
        assert peer.info is not None
        changes: list[Change] = [PeerChange(key, PeerView(key, peer.info, freshness))]
        before = getattr(self, f"_from_{gateway}", {})
        changes += [ImportChange(key, name, None) for name in before.keys() - peer.exports.keys()]
        changes += [ImportChange(key, name, service) for name, service in sorted(peer.exports.items())]
        setattr(self, f"_from_{gateway}", dict(peer.exports))
        flat = flat_exports(peer, self)
        before = getattr(self, f"_flat_from_{gateway}", {})
        changes += [ImportedWorkloadChange(key, uid, None) for uid in before.keys() - flat.keys()]
        changes += [ImportedWorkloadChange(key, uid, found) for uid, found in sorted(flat.items())]
        setattr(self, f"_flat_from_{gateway}", flat)
        self.apply(changes)

    def service(self, name: str) -> Service:
        """The Service of that resource name."""
        found = self.addresses[name]
        assert isinstance(found, Service)
        return found

    def workloads_of(self, service: str) -> list[Workload]:
        """The Workloads that belong to the Service of that resource name, by uid."""
        found = [record for record in self.addresses.values() if isinstance(record, Workload)]
        members = [record for record in found if any(entry.service == service for entry in record.services)]
        return sorted(members, key=lambda record: record.uid)

    def told(self, place: str) -> list[str]:
        """The messages about the object *place* (`Service/shop/reviews`)."""
        return sorted(found.message for found in self.diagnostics.values() if found.object == place)


def flat_exports(peer: Cluster, home: Cluster) -> dict[str, Workload]:
    """The endpoints that *peer* tells *home* one by one: none where they are not on one network."""
    if peer.info is None or home.info is None or peer.info.network != home.info.network:
        return {}
    same_segment = peer.info.segment == home.info.segment
    return dict(peer.segment_flat_exports if same_segment else peer.flat_exports)


def put(kind: str, tree: dict[str, Any]) -> ObjectChange:
    """An object put, from the tree of its manifest (`metadata` needs a name)."""
    found = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
    return ObjectChange(kind, found.key, found)


def gone(kind: str, namespace: str, name: str) -> ObjectChange:
    """An object deleted."""
    return ObjectChange(kind, ObjectKey(namespace, name), None)


def namespace(name: str, labels: dict[str, str] | None = None) -> ObjectChange:
    """A Namespace."""
    return put("Namespace", {"metadata": {"name": name, "labels": labels or {}}})


def system(network: str, labels: dict[str, str] | None = None) -> ObjectChange:
    """The system Namespace on *network*."""
    return namespace("istio-system", {"topology.istio.io/network": network, **(labels or {})})


def service(
    name: str,
    labels: dict[str, str] | None = None,
    *,
    ports: tuple[int, ...] = (80,),
    namespace: str = "shop",
    created: str = "2026-01-01T00:00:00Z",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> ObjectChange:
    """A Service of *namespace* that selects `app: <name>`, targets 8080."""
    number = sum(map(ord, f"{name}.{namespace}")) % 250 + 1
    tree = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "clusterIP": f"10.96.0.{number}",
            "selector": {"app": name},
            "ports": [{"port": port, "targetPort": 8080, "protocol": "TCP"} for port in ports],
            **spec,
        },
    }
    return put("Service", tree)


def pod(
    name: str,
    app: str,
    ip: str,
    *,
    namespace: str = "shop",
    ready: bool = True,
    ambient: bool = True,
    node: str = "",
    account: str = "",
) -> ObjectChange:
    """A running Pod labelled `app`, by default ready, captured, and of the account *app*."""
    tree = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": app},
            "annotations": {"ambient.istio.io/redirection": "enabled"} if ambient else {},
        },
        "spec": {"serviceAccountName": account or app, "nodeName": node},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    return put("Pod", tree)


def node(name: str, region: str, zone: str) -> ObjectChange:
    """A Node with a place."""
    labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
    return put("Node", {"metadata": {"name": name, "labels": labels}})


def remote_gateway(
    name: str,
    network: str,
    *addresses: str,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
) -> ObjectChange:
    """An istio-remote Gateway in the system namespace with an HBONE listener on 15008."""
    found = [{"type": "IPAddress", "value": address} for address in addresses]
    tree = {
        "metadata": {
            "name": name,
            "namespace": "istio-system",
            "creationTimestamp": created,
            "labels": {"topology.istio.io/network": network, **(labels or {})},
            "annotations": {"gateway.istio.io/service-account": "eastwest", **(annotations or {})},
        },
        "spec": {
            "gatewayClassName": "istio-remote",
            "addresses": found,
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
        "status": {"addresses": found},
    }
    return put("Gateway", tree)
