"""What an unmodified istiod makes of the objects of one cluster: a model of its reading, as a test oracle.

Written from wire-contract §4 and what was measured of istiod (docs/beside-istiod.md);
tests/unit/support/test_istiod_model.py holds it against recordings of a real one. It covers what global
services need: Services, ServiceEntries, Pods, WorkloadEntries, inline endpoints, waypoints of services, and
gateways of other networks. Policies, slices and DNS endpoints are not in it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from peerd.model.address import (
    AppProtocol,
    GatewayAddress,
    Locality,
    NamespacedHostname,
    NetworkAddress,
    Port,
    parse_ip,
)
from peerd.model.kube.core import Namespace, Node, Pod, Service
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.istio import ServiceEntry, WorkloadEntry
from peerd.model.kube.meta import Annotations, KubeObject
from peerd.model.record import Record
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope, WeightedWaypoint
from peerd.model.service import Service as WireService
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload, WorkloadStatus

_PROTOCOLS = {
    "http": AppProtocol.HTTP11,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    "tcp": AppProtocol.TCP,
}
_CLOSE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE), Mode.FAILOVER)
_NODE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE), Mode.FAILOVER)
_DISTRIBUTIONS = {"preferclose": _CLOSE, "prefersamezone": _CLOSE, "prefersamenode": _NODE}

T = TypeVar("T", bound=KubeObject)


class Flags(Record, frozen=True):
    """The two settings that matter (decision D41); the defaults are those that peerd needs."""

    services_select_entries: bool = False
    multi_network: bool = False


class _Definition(Record, frozen=True):
    """A service, from whatever object, with what finds its endpoints."""

    service: WireService
    from_service: bool
    created: str
    object_name: str
    selector: tuple[tuple[str, str], ...]
    port_names: tuple[tuple[str, str], ...]  # the port's name, and its named target


def istiod(
    objects: Iterable[KubeObject],
    flags: Flags | None = None,
    *,
    cluster: str = "Kubernetes",
    system: str = "istio-system",
    domain: str = "cluster.local",
) -> dict[str, WireService | Workload]:
    """What istiod tells a ztunnel of *cluster*, by resource name."""
    return _Reading(tuple(objects), flags or Flags(), cluster, system, domain).told()


class _Reading:
    def __init__(
        self, objects: tuple[KubeObject, ...], flags: Flags, cluster: str, system: str, domain: str
    ) -> None:
        self._domain = domain
        self._objects = objects
        self._flags = flags
        self._cluster = cluster
        self._namespaces = {found.metadata.name: found for found in self._all(Namespace)}
        self._nodes = {found.metadata.name: found for found in self._all(Node)}
        own = self._namespaces.get(system)
        self._network = "" if own is None else own.metadata.labels.get("topology.istio.io/network", "")
        self._gateways = {str(found.key): found for found in self._all(Gateway)}
        self._definitions = self._served()
        self._ways = self._ways_out()

    def told(self) -> dict[str, WireService | Workload]:
        found: dict[str, WireService | Workload] = {
            each.service.resource_name: each.service for each in self._definitions
        }
        for workload in (*self._pods(), *self._entries(), *self._inline(), *self._gateway_workloads()):
            found[workload.uid] = workload
        return found

    def _all(self, kind: type[T]) -> list[T]:
        return [found for found in self._objects if isinstance(found, kind)]

    # -- services (§4.4) ---------------------------------------------------------------------------------

    def _served(self) -> list[_Definition]:
        """In each namespace a Service wins over ServiceEntries, of these the oldest; one is canonical."""
        by_host: dict[str, list[_Definition]] = defaultdict(list)
        for service in self._all(Service):
            if service.spec.type != "ExternalName":
                found = self._of_service(service)
                by_host[found.service.hostname].append(found)
        for entry in self._all(ServiceEntry):
            for host in entry.spec.hosts:
                by_host[host].append(self._of_entry(entry, host))
        served: list[_Definition] = []
        for definitions in by_host.values():
            definitions.sort(
                key=lambda d: (not d.from_service, d.created, d.service.namespace, d.object_name)
            )
            winners: dict[str, _Definition] = {}
            for found in definitions:
                winners.setdefault(found.service.namespace, found)
            if not any(found.from_service for found in winners.values()):
                first = next(iter(winners.values()))
                canonical = msgspec.structs.replace(first.service, canonical=True)
                winners[first.service.namespace] = msgspec.structs.replace(first, service=canonical)
            served += winners.values()
        return served

    def _of_service(self, service: Service) -> _Definition:
        meta, spec = service.metadata, service.spec
        addresses = [text for text in spec.cluster_ips or (spec.cluster_ip,) if text not in {"", "None"}]
        if spec.internal_traffic_policy == "Local":
            balancing: LoadBalancing | None = LoadBalancing((Scope.NODE,), Mode.STRICT)
        else:
            balancing = self._distribution(spec.traffic_distribution, service)
        if spec.publish_not_ready_addresses:
            balancing = msgspec.structs.replace(
                balancing or LoadBalancing(), health_policy=HealthPolicy.ALLOW_ALL
            )
        ports = [(port, port.target_port or port.port) for port in spec.ports]
        waypoint, weighted = self._waypoint(service)
        return _Definition(
            service=WireService(
                name=meta.name,
                namespace=meta.namespace,
                hostname=f"{meta.name}.{meta.namespace}.svc.{self._domain}",
                addresses=self._addresses(addresses),
                ports=tuple(
                    Port(port.port, target if isinstance(target, int) else 0) for port, target in ports
                ),
                waypoint=waypoint,
                weighted_waypoints=weighted,
                load_balancing=balancing,
                canonical=True,
            ),
            from_service=True,
            created=meta.creation_timestamp,
            object_name=meta.name,
            selector=tuple(sorted(spec.selector.items())),
            port_names=tuple(
                (port.name, target if isinstance(target, str) else "") for port, target in ports
            ),
        )

    def _of_entry(self, entry: ServiceEntry, host: str) -> _Definition:
        meta, spec = entry.metadata, entry.spec
        addresses = spec.addresses or tuple(
            found.value for found in entry.status.addresses if found.host == host
        )
        waypoint, weighted = self._waypoint(entry)
        selector = {} if spec.workload_selector is None else spec.workload_selector.labels
        return _Definition(
            service=WireService(
                name=meta.name,
                namespace=meta.namespace,
                hostname=host,
                addresses=self._addresses(addresses),
                ports=tuple(
                    Port(
                        port.number,
                        port.target_port or port.number,
                        _PROTOCOLS.get(port.protocol.lower(), AppProtocol.UNKNOWN),
                    )
                    for port in spec.ports
                ),
                subject_alt_names=spec.subject_alt_names,
                waypoint=waypoint,
                weighted_waypoints=weighted,
                load_balancing=self._distribution("", entry),
            ),
            from_service=False,
            created=meta.creation_timestamp,
            object_name=meta.name,
            selector=tuple(sorted(selector.items())),
            port_names=tuple((port.name, "") for port in spec.ports),
        )

    def _addresses(self, found: Iterable[str]) -> tuple[NetworkAddress, ...]:
        packed = (parse_ip(text) for text in found)
        return tuple(NetworkAddress(self._network, address) for address in packed if address is not None)

    def _distribution(self, spec: str, found: KubeObject) -> LoadBalancing | None:
        """The field, else the object's annotation, else its namespace's; a word it does not know is none."""
        if spec.lower() in _DISTRIBUTIONS:
            return _DISTRIBUTIONS[spec.lower()]
        own = _annotations(found).traffic_distribution
        namespace = self._namespaces.get(found.metadata.namespace)
        inherited = "" if namespace is None else namespace.metadata.annotations.traffic_distribution
        return _DISTRIBUTIONS.get((own or inherited).lower())

    # -- waypoints of services (§4.5) --------------------------------------------------------------------

    def _waypoint(self, found: KubeObject) -> tuple[GatewayAddress | None, tuple[WeightedWaypoint, ...]]:
        labels, namespace = found.metadata.labels, found.metadata.namespace
        if labels.get("gateway.istio.io/managed", "").startswith("istio.io-"):
            return None, ()
        weight = _annotations(found).waypoint_canary_weight
        if "istio.io/use-waypoint" not in labels:
            space = self._namespaces.get(namespace)
            if space is None:
                return None, ()
            labels = {**space.metadata.labels, **{k: v for k, v in labels.items() if "canary" in k}}
            weight = weight or space.metadata.annotations.waypoint_canary_weight
        primary = self._named_waypoint(labels, "istio.io/use-waypoint", namespace)
        canary = self._named_waypoint(labels, "istio.io/use-waypoint-canary", namespace)
        share = int(weight or 0) if (weight or "0").isdigit() else 101
        if primary is None or canary is None or canary == primary or share > 100:
            return primary, ()
        return primary, (WeightedWaypoint(primary, 100 - share), WeightedWaypoint(canary, share))

    def _named_waypoint(self, labels: Mapping[str, str], label: str, namespace: str) -> GatewayAddress | None:
        name = labels.get(label, "none")
        where = labels.get(f"{label}-namespace", namespace)
        gateway = self._gateways.get(f"{where}/{name}")
        if name == "none" or gateway is None or not self._attaches(gateway, namespace):
            return None
        traffic = gateway.metadata.labels.get("istio.io/waypoint-for", "service")
        if traffic not in {"service", "all"}:
            return None
        for kind in ("Hostname", "IPAddress"):
            for address in gateway.status.addresses:
                if address.type == kind:
                    return self._gateway_address(where, self._network, address.value, 15008)
        return None

    def _attaches(self, gateway: Gateway, namespace: str) -> bool:
        for listener in gateway.spec.listeners:
            if listener.protocol == "HBONE" and listener.port == 15008:
                if listener.allowed_routes.namespaces.from_ == "All":
                    return True
                break
        return gateway.metadata.namespace == namespace

    def _gateway_address(self, namespace: str, network: str, value: str, port: int) -> GatewayAddress:
        ip = parse_ip(value)
        if ip is None:
            return GatewayAddress(NamespacedHostname(namespace, value), port)
        return GatewayAddress(NetworkAddress(network, ip), port)

    # -- gateways of other networks (§4.6) ---------------------------------------------------------------

    def _ways_out(self) -> dict[str, list[tuple[GatewayAddress, Gateway, str]]]:
        found: dict[str, list[tuple[GatewayAddress, Gateway, str]]] = defaultdict(list)
        for _, gateway in sorted(self._gateways.items()):
            network = gateway.metadata.labels.get("topology.istio.io/network", "")
            if gateway.spec.gateway_class_name != "istio-remote" or not network:
                continue
            port = next((each.port for each in gateway.spec.listeners if each.protocol == "HBONE"), 0)
            for address in gateway.status.addresses:
                if port and address.type in {"IPAddress", "Hostname"}:
                    way = self._gateway_address(gateway.metadata.namespace, network, address.value, port)
                    found[network].append((way, gateway, address.value))
        return found

    def _way(self, network: str) -> GatewayAddress | None:
        """One gateway for a whole network: of several the first (golden README, quirks)."""
        ways = self._ways.get(network)
        return ways[0][0] if ways else None

    def _gateway_workloads(self) -> Iterable[Workload]:
        for network, ways in self._ways.items():
            for way, gateway, value in ways:
                meta = gateway.metadata
                uid = f"NetworkGateway/{network}/{value}/{way.hbone_mtls_port}"
                account = meta.annotations.gateway_service_account or f"{meta.name}-istio-remote"
                ip = parse_ip(value)
                yield Workload(
                    uid=uid,
                    name=uid,
                    namespace=meta.namespace,
                    addresses=() if ip is None else (ip,),
                    hostname=value if ip is None else "",
                    network=network,
                    service_account=account,
                )

    # -- workloads (§4.2, §4.3) --------------------------------------------------------------------------

    def _selecting(self, namespace: str, labels: Mapping[str, str]) -> list[_Definition]:
        found = [
            each
            for each in self._definitions
            if each.service.namespace == namespace
            and each.selector
            and all(labels.get(key) == value for key, value in each.selector)
        ]
        return sorted(found, key=lambda each: each.service.resource_name)

    def _pods(self) -> Iterable[Workload]:
        for pod in self._all(Pod):
            meta, status = pod.metadata, pod.status
            texts = [found.ip for found in status.pod_ips] or [status.pod_ip]
            addresses = tuple(ip for text in texts if (ip := parse_ip(text)) is not None)
            if status.phase in {"Failed", "Succeeded"} or not addresses:
                continue
            ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions)
            healthy = ready and not meta.deletion_timestamp
            native = "http" in meta.labels.get("networking.istio.io/tunnel", "").split(",")
            hbone = native or meta.annotations.redirection == "enabled"
            container_ports = {
                port.name: port.container_port
                for container in reversed(pod.spec.containers)
                for port in reversed(container.ports)
                if port.name and port.protocol in {"", "TCP"}
            }
            node = self._nodes.get(pod.spec.node_name)
            yield Workload(
                uid=f"{self._cluster}//Pod/{meta.namespace}/{meta.name}",
                name=meta.name,
                namespace=meta.namespace,
                addresses=addresses,
                network=self._network,
                tunnel_protocol=TunnelProtocol.HBONE if hbone else TunnelProtocol.NONE,
                service_account=pod.spec.service_account_name,
                node=pod.spec.node_name,
                status=WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY,
                cluster_id=self._cluster,
                network_gateway=self._way(self._network),
                services=tuple(
                    _pod_ports(each, container_ports) for each in self._selecting(meta.namespace, meta.labels)
                ),
                locality=None if node is None else _locality_of(node),
            )

    def _entries(self) -> Iterable[Workload]:
        for entry in self._all(WorkloadEntry):
            meta, spec = entry.metadata, entry.spec
            network = spec.network or self._network
            if self._flags.multi_network and network != self._network:
                continue  # only services of its own global scope are coalesced, and these are not (measured)
            labels = {**spec.labels, **meta.labels}
            selecting = [
                each
                for each in self._selecting(meta.namespace, labels)
                if not each.from_service or self._flags.services_select_entries
            ]
            address = parse_ip(spec.address)
            native = "http" in labels.get("networking.istio.io/tunnel", "").split(",")
            hbone = native or meta.annotations.redirection == "enabled"
            region, zone, subzone = [*spec.locality.split("/"), "", ""][:3]
            yield Workload(
                uid=f"{self._cluster}/networking.istio.io/WorkloadEntry/{meta.namespace}/{meta.name}",
                name=meta.name,
                namespace=meta.namespace,
                addresses=() if address is None else (address,),
                hostname=spec.address if address is None else "",
                network=network,
                tunnel_protocol=TunnelProtocol.HBONE if hbone else TunnelProtocol.NONE,
                service_account=spec.service_account,
                cluster_id=self._cluster,
                network_gateway=self._way(network),
                services=tuple(_entry_ports(each, spec.ports) for each in selecting),
                locality=Locality(region, zone, subzone) if spec.locality else None,
                capacity=spec.weight or None,
            )

    def _inline(self) -> Iterable[Workload]:
        """Inline endpoints with an address, of entries that some host of is served."""
        for entry in self._all(ServiceEntry):
            meta = entry.metadata
            of_entry = [
                each
                for each in self._definitions
                if not each.from_service
                and (each.service.namespace, each.object_name) == (meta.namespace, meta.name)
            ]
            for spec in entry.spec.endpoints if of_entry else ():
                address, network = parse_ip(spec.address), spec.network or self._network
                uid = f"{self._cluster}/networking.istio.io/ServiceEntry/{meta.namespace}/{meta.name}"
                yield Workload(
                    uid=f"{uid}/{spec.address}",
                    name=meta.name,
                    namespace=meta.namespace,
                    addresses=() if address is None else (address,),
                    hostname=spec.address if address is None else "",
                    network=network,
                    service_account=spec.service_account,
                    cluster_id=self._cluster,
                    network_gateway=self._way(network),
                    services=tuple(_entry_ports(each, spec.ports) for each in of_entry),
                    capacity=spec.weight or None,
                )


def _pod_ports(found: _Definition, container_ports: Mapping[str, int]) -> ServicePorts:
    """Named targets by the container's ports; a ServiceEntry's ports by the container port of their name."""
    ports: list[Port] = []
    for port, (name, target_name) in zip(found.service.ports, found.port_names, strict=True):
        if target_name:
            if target_name in container_ports:
                ports.append(Port(port.service_port, container_ports[target_name]))
        elif not found.from_service and name in container_ports:
            ports.append(Port(port.service_port, container_ports[name]))
        else:
            ports.append(Port(port.service_port, port.target_port))
    return ServicePorts(found.service.resource_name, tuple(ports))


def _entry_ports(found: _Definition, mapped: Mapping[str, int]) -> ServicePorts:
    """By the entry's port map, else the target; a Service's named target must be in the map."""
    ports: list[Port] = []
    for port, (name, target_name) in zip(found.service.ports, found.port_names, strict=True):
        if target_name:
            if target_name in mapped:
                ports.append(Port(port.service_port, mapped[target_name]))
        else:
            ports.append(Port(port.service_port, mapped.get(name, port.target_port)))
    return ServicePorts(found.service.resource_name, tuple(ports))


def _annotations(found: KubeObject) -> Annotations:
    return found.metadata.known if isinstance(found, Service) else found.metadata.annotations


def _locality_of(node: Node) -> Locality | None:
    labels = node.metadata.labels
    found = Locality(
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
        labels.get("topology.istio.io/subzone", ""),
    )
    return None if found == Locality() else found
