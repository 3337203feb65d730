"""Endpoints: Pods, WorkloadEntries, and those written inside ServiceEntries (§4.2, §4.3)."""

from collections.abc import Iterable, Mapping

from peerd.model.address import Locality, Port, parse_ip
from peerd.model.kube.core import Pod
from peerd.model.kube.istio import ServiceEntry, WorkloadEntry
from peerd.model.record import Record
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload, WorkloadStatus
from tests.support.istiod_model.definitions import Definition
from tests.support.istiod_model.networks import Networks
from tests.support.istiod_model.objects import Held, locality_of


class Flags(Record, frozen=True):
    """The two settings that matter (decision D41); the defaults are those that peerd needs."""

    services_select_entries: bool = False
    multi_network: bool = False


class Workloads:
    """Those of one cluster."""

    def __init__(
        self, held: Held, definitions: list[Definition], networks: Networks, flags: Flags, cluster: str
    ) -> None:
        self._held = held
        self._definitions = definitions
        self._networks = networks
        self._flags = flags
        self._cluster = cluster

    def all(self) -> Iterable[Workload]:
        """From every kind of object."""
        yield from self._pods()
        yield from self._entries()
        yield from self._inline()

    def _selecting(self, namespace: str, labels: Mapping[str, str]) -> list[Definition]:
        found = [
            each
            for each in self._definitions
            if each.service.namespace == namespace
            and each.selector
            and all(labels.get(key) == value for key, value in each.selector)
        ]
        return sorted(found, key=lambda each: each.service.resource_name)

    def _pods(self) -> Iterable[Workload]:
        network = self._held.network
        for pod in self._held.all(Pod):
            meta, status = pod.metadata, pod.status
            texts = [found.ip for found in status.pod_ips] or [status.pod_ip]
            addresses = tuple(ip for text in texts if (ip := parse_ip(text)) is not None)
            if status.phase in {"Failed", "Succeeded"} or not addresses:
                continue
            ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions)
            healthy = ready and not meta.deletion_timestamp
            container_ports = {
                port.name: port.container_port
                for container in reversed(pod.spec.containers)
                for port in reversed(container.ports)
                if port.name and port.protocol in {"", "TCP"}
            }
            yield Workload(
                uid=f"{self._cluster}//Pod/{meta.namespace}/{meta.name}",
                name=meta.name,
                namespace=meta.namespace,
                addresses=addresses,
                network=network,
                tunnel_protocol=_tunnel(meta.labels, meta.annotations.redirection),
                service_account=pod.spec.service_account_name,
                node=pod.spec.node_name,
                status=WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY,
                cluster_id=self._cluster,
                network_gateway=self._networks.way(network),
                services=tuple(
                    _pod_ports(each, container_ports) for each in self._selecting(meta.namespace, meta.labels)
                ),
                locality=locality_of(self._held.nodes.get(pod.spec.node_name)),
            )

    def _entries(self) -> Iterable[Workload]:
        for entry in self._held.all(WorkloadEntry):
            meta, spec = entry.metadata, entry.spec
            network = spec.network or self._held.network
            if self._flags.multi_network and network != self._held.network:
                continue  # only services of its own global scope are coalesced, and these are not (measured)
            labels = {**spec.labels, **meta.labels}
            selecting = [
                each
                for each in self._selecting(meta.namespace, labels)
                if not each.from_service or self._flags.services_select_entries
            ]
            address = parse_ip(spec.address)
            region, zone, subzone = [*spec.locality.split("/"), "", ""][:3]
            yield Workload(
                uid=f"{self._cluster}/networking.istio.io/WorkloadEntry/{meta.namespace}/{meta.name}",
                name=meta.name,
                namespace=meta.namespace,
                addresses=() if address is None else (address,),
                hostname=spec.address if address is None else "",
                network=network,
                tunnel_protocol=_tunnel(labels, meta.annotations.redirection),
                service_account=spec.service_account,
                cluster_id=self._cluster,
                network_gateway=self._networks.way(network),
                services=tuple(_entry_ports(each, spec.ports) for each in selecting),
                locality=Locality(region, zone, subzone) if spec.locality else None,
                capacity=spec.weight or None,
            )

    def _inline(self) -> Iterable[Workload]:
        """Inline endpoints with an address, of entries that some host of is served."""
        for entry in self._held.all(ServiceEntry):
            meta = entry.metadata
            of_entry = [
                each
                for each in self._definitions
                if not each.from_service
                and (each.service.namespace, each.object_name) == (meta.namespace, meta.name)
            ]
            for spec in entry.spec.endpoints if of_entry else ():
                address, network = parse_ip(spec.address), spec.network or self._held.network
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
                    network_gateway=self._networks.way(network),
                    services=tuple(_entry_ports(each, spec.ports) for each in of_entry),
                    capacity=spec.weight or None,
                )


def _tunnel(labels: Mapping[str, str], redirection: str) -> TunnelProtocol:
    """HBONE by the label of what speaks it itself, or the annotation of what is captured."""
    native = "http" in labels.get("networking.istio.io/tunnel", "").split(",")
    return TunnelProtocol.HBONE if native or redirection == "enabled" else TunnelProtocol.NONE


def _pod_ports(found: Definition, container_ports: Mapping[str, int]) -> ServicePorts:
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


def _entry_ports(found: Definition, mapped: Mapping[str, int]) -> ServicePorts:
    """By the entry's port map, else the target; a Service's named target must be in the map."""
    ports: list[Port] = []
    for port, (name, target_name) in zip(found.service.ports, found.port_names, strict=True):
        if target_name:
            if target_name in mapped:
                ports.append(Port(port.service_port, mapped[target_name]))
        else:
            ports.append(Port(port.service_port, mapped.get(name, port.target_port)))
    return ServicePorts(found.service.resource_name, tuple(ports))
