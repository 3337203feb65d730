"""What a cluster's ztunnels are told, for people to read: one short line for each thing that matters."""

from typing import Any

from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, Port, ip_text
from peerd.model.federation import FederatedService
from peerd.model.service import HealthPolicy, LoadBalancing, Service
from peerd.model.workload import TunnelProtocol, Workload, WorkloadStatus
from tests.support.clusters import Cluster
from tests.support.ztunnel_choice import identity_of


def view(cluster: Cluster) -> dict[str, Any]:
    """Services with their endpoints, ways into other networks, exports, and what users are told."""
    services = [record for record in cluster.addresses.values() if isinstance(record, Service)]
    workloads = [record for record in cluster.addresses.values() if isinstance(record, Workload)]
    ways = [record for record in workloads if record.uid.startswith("NetworkGateway/")]
    told: dict[str, list[str]] = {}
    for found in sorted(cluster.diagnostics.values(), key=lambda found: (found.object, found.message)):
        told.setdefault(found.object, []).append(found.message)
    return {
        name: part
        for name, part in {
            "services": {
                found.resource_name: _service(cluster, found)
                for found in sorted(services, key=lambda found: found.resource_name)
            },
            "ways": sorted(f"{found.uid} is {identity_of(found)}" for found in ways),
            "exports": {name: _export(found) for name, found in sorted(cluster.exports.items())},
            "told": told,
        }.items()
        if part
    }


def _service(cluster: Cluster, service: Service) -> dict[str, Any]:
    waypoints = [f"{_gateway(entry.destination)} {entry.weight}" for entry in service.weighted_waypoints]
    parts = {
        "addresses": ", ".join(ip_text(found.address) for found in service.addresses),
        "ports": ", ".join(map(_port, service.ports)),
        "prefers": _prefers(service.load_balancing),
        "waypoint": ", ".join(waypoints) or (_gateway(service.waypoint) if service.waypoint else ""),
        "identities": list(service.subject_alt_names),
        "endpoints": [
            _endpoint(cluster, service, found) for found in cluster.workloads_of(service.resource_name)
        ],
    }
    return {name: part for name, part in parts.items() if part}


def _port(port: Port) -> str:
    return f"{port.service_port} to {port.target_port or 'each its own'}"


def _prefers(balancing: LoadBalancing | None) -> str:
    if balancing is None:
        return ""
    scopes = ", ".join(scope.name.lower() for scope in balancing.routing_preference)
    everybody = ", unready too" if balancing.health_policy is HealthPolicy.ALLOW_ALL else ""
    return f"{balancing.mode.name.lower()} {scopes}{everybody}".strip()


def _endpoint(cluster: Cluster, service: Service, workload: Workload) -> str:
    (entry,) = [entry for entry in workload.services if entry.service == service.resource_name]
    parts = [workload.name]
    if workload.network != cluster.network:
        parts = [f"{workload.capacity or 1} in {workload.cluster_id}"]
        if workload.network_gateway is not None:
            parts.append(f"through {_gateway(workload.network_gateway)}")
    elif workload.capacity is not None:
        parts[0] += f" for {workload.capacity}"
    parts.append(_place(workload.locality or Locality()))
    if workload.tunnel_protocol is not TunnelProtocol.HBONE:
        parts.append("outside ambient")
    if workload.status is not WorkloadStatus.HEALTHY:
        parts.append("not ready")
    if {port.service_port for port in entry.ports} != {port.service_port for port in service.ports}:
        parts.append(f"port {', '.join(str(port.service_port) for port in entry.ports) or 'none'} only")
    return ", ".join(filter(None, parts))


def _export(found: FederatedService) -> dict[str, Any]:
    capacity = [
        " ".join(filter(None, (str(part.healthy), "in", part.network, _place(part.locality))))
        for part in found.capacity
    ]
    parts = {
        "names": ", ".join((found.global_host, *found.aliases)),
        "scope": f"{found.scope}{' and takeover' if found.takeover else ''}",
        "distribution": found.distribution,
        "ports": ", ".join(str(port.number) for port in found.ports),
        "capacity": "; ".join(capacity),
        "waypoint": found.waypoint,
        "identities": list(found.identities),
    }
    return {name: part for name, part in parts.items() if part}


def _place(locality: Locality) -> str:
    return "/".join(filter(None, (locality.region, locality.zone, locality.subzone)))


def _gateway(gateway: GatewayAddress) -> str:
    match gateway.destination:
        case NamespacedHostname(namespace, hostname):
            return f"{namespace}/{hostname}:{gateway.hbone_mtls_port}"
        case found:
            return f"{ip_text(found.address)}:{gateway.hbone_mtls_port}"
