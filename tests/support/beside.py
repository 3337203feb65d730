"""Clusters beside istiod: what peerd generates there, what istiod makes of it, and how that compares."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from peerd.derive.distribution import LOCAL_NODE, SAME_NODE, SAME_ZONE
from peerd.derive.global_names import PREFER_NETWORK, PREFER_REGION
from peerd.model.address import GatewayAddress, Locality, ip_text
from peerd.model.changes import IstiodChange
from peerd.model.generated import Generate, Generated, GeneratedWorkloadEntry, IstiodFlags
from peerd.model.kube.istio import AllocatedAddress, ServiceEntry, ServiceEntryStatus
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject
from peerd.model.service import LoadBalancing, Service
from peerd.model.workload import TunnelProtocol, Workload, WorkloadStatus
from peerd.publish.generated_manifests import manifest
from tests.support.clusters import Cluster
from tests.support.istiod_model import Flags, istiod
from tests.support.scenarios import Scenario

Records = dict[str, Service | Workload]
SCENARIOS = Path(__file__).parents[1] / "conformance" / "scenarios"
SAFE = IstiodFlags(True)
UNSAFE = IstiodFlags(False, "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES is not false", "Deployment/istiod")


def manifests(generated: Mapping[str, Generated]) -> dict[str, dict[str, Any]]:
    """What would be written, by `<Kind>/<namespace>/<name>`."""
    return {key: manifest(found) for key, found in sorted(generated.items())}


def objects(generated: Mapping[str, Generated]) -> list[KubeObject]:
    """The same as objects that an API server holds, with addresses where istiod allocates some."""
    return [
        _allocated(msgspec.convert(tree, KINDS_BY_NAME[key.partition("/")[0]].type), position)
        for position, (key, tree) in enumerate(manifests(generated).items())
    ]


def _allocated(found: KubeObject, position: int) -> KubeObject:
    """With addresses, if it is a ServiceEntry that istiod gives some."""
    if not isinstance(found, ServiceEntry) or found.spec.addresses or found.spec.resolution in {"", "NONE"}:
        return found
    addresses = tuple(
        AllocatedAddress(f"240.240.{position}.{at}", host) for at, host in enumerate(found.spec.hosts, 1)
    )
    return msgspec.structs.replace(found, status=ServiceEntryStatus(addresses))


def told_by_istiod(
    local: Iterable[KubeObject],
    generated: Mapping[str, Generated],
    cluster: str,
    flags: Flags | None = None,
    domain: str = "cluster.local",
) -> Records:
    """What a ztunnel of *cluster* would be told, by the model of istiod's reading."""
    users = (_allocated(found, 255 - position) for position, found in enumerate(local))
    return istiod([*users, *objects(generated)], flags, cluster=cluster, domain=domain)


class Seen(Cluster):
    """A cluster as its ztunnels see it through istiod, for the oracle of paths (tests/support/paths.py)."""

    def __init__(self, cluster: Cluster, told: Records) -> None:
        self.info = cluster.info
        self.network = cluster.network
        # Istiod counts entries to its own cluster; whose they are the oracle must know.
        owners = {
            f"/WorkloadEntry/{found.namespace}/{found.name}": found.cluster
            for found in cluster.generated.values()
            if isinstance(found, GeneratedWorkloadEntry)
        }
        self.addresses = {
            name: msgspec.structs.replace(
                record, cluster_id=owners.get(name[name.find("/WorkloadEntry/") :], record.cluster_id)
            )
            if isinstance(record, Workload)
            else record
            for name, record in told.items()
        }


def shape(records: Iterable[Service | Workload], *, cluster: str) -> dict[str, Any]:
    """Services by host name, endpoints as what reaches them, and gateways, in comparable form.

    Names and namespaces of our own making, addresses of services, and whose cluster an entry is counted to
    are left out; istiod has its own word for each of them.
    """
    found = list(records)
    services = [record for record in found if isinstance(record, Service)]
    workloads = [record for record in found if isinstance(record, Workload)]
    return {
        **{service.hostname: _service(service, workloads, cluster) for service in services},
        "ways": sorted(
            (record.uid, record.service_account, record.trust_domain)
            for record in workloads
            if record.uid.startswith("NetworkGateway/")
        ),
    }


def _service(service: Service, workloads: list[Workload], cluster: str) -> dict[str, Any]:
    return {
        "ports": {port.service_port: (port.target_port, port.app_protocol) for port in service.ports},
        "identities": service.subject_alt_names,
        "waypoint": service.waypoint,
        "weighted": service.weighted_waypoints,
        "prefers": service.load_balancing,
        "endpoints": sorted(
            _endpoint(service, workload, cluster)
            for workload in workloads
            if any(entry.service == service.resource_name for entry in workload.services)
        ),
    }


def _endpoint(service: Service, workload: Workload, cluster: str) -> tuple[Any, ...]:
    (entry,) = [each for each in workload.services if each.service == service.resource_name]
    locality = workload.locality or Locality()
    local = workload.uid.startswith(f"{cluster}//Pod/")
    return (
        workload.uid if local else "remote",
        workload.network,
        ",".join(ip_text(address) for address in workload.addresses),
        _gateway(workload.network_gateway) if not local else "",
        (locality.region, locality.zone, locality.subzone),
        workload.capacity or 1,
        workload.tunnel_protocol is TunnelProtocol.HBONE,
        workload.status is WorkloadStatus.HEALTHY,
        tuple(sorted((port.service_port, port.target_port) for port in entry.ports)),
    )


def _gateway(gateway: GatewayAddress | None) -> str:
    return "" if gateway is None else repr(gateway)


def as_istiod_knows(host: str, balancing: LoadBalancing | None) -> LoadBalancing | None:
    """What the distribution of a name comes to beside istiod (decision D26)."""
    if balancing in {PREFER_NETWORK, PREFER_REGION}:
        return SAME_ZONE
    return SAME_NODE if balancing == LOCAL_NODE and ".svc." not in host else balancing


class Beside(Scenario):
    """A scenario whose clusters run peerd beside an istiod with *flags*, as peerd has read them."""

    def __init__(self, name: str, flags: IstiodFlags | None = SAFE) -> None:
        super().__init__(SCENARIOS / f"{name}.yaml", generate=Generate.BESIDE)
        for cluster in self.clusters.values():
            cluster.apply([] if flags is None else [IstiodChange(flags)])

    def domain(self, cluster: str) -> str:
        """The cluster domain."""
        return str(self._settings[cluster].get("domain", "cluster.local"))

    def told(self, cluster: str, flags: Flags | None = None, *, without: bool = False) -> Records:
        """What istiod, running with *flags*, tells the ztunnels of a cluster; or would *without* peerd."""
        domain = self.domain(cluster)
        generated = {} if without else self.clusters[cluster].generated
        return told_by_istiod(self.objects(cluster), generated, cluster, flags, domain)
