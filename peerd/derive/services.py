"""Kubernetes Services (wire-contract §4.4)."""

import msgspec

from peerd.derive import app_protocol, labels
from peerd.derive.addresses import pack
from peerd.derive.distribution import LOCAL_NODE, distribution
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, name_of
from peerd.derive.waypoints import Waypoints, binding_diagnostics
from peerd.model.address import NetworkAddress, Port
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import Service
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record
from peerd.model.service import HealthPolicy, IPFamilies, LoadBalancing
from peerd.model.service import Service as WireService

SERVICE = "Service"
SERVICE_ENTRY = "ServiceEntry"


class ServiceInfo(Record, frozen=True):
    """A service as it goes on the wire, and what finds its endpoints.

    `source` is SERVICE or SERVICE_ENTRY, `object` the object it comes from, `selector` its labels (empty
    selects nothing). `port_names` goes with `service.ports`: the port's name and its named target port.
    """

    service: WireService
    source: str
    object: ObjectKey
    created: str
    selector: labels.Labels = ()
    port_names: tuple[tuple[str, str], ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def key(self) -> str:
        """`<namespace>/<hostname>`, the resource name."""
        return self.service.resource_name


def hostname(name: str, namespace: str, domain: str) -> str:
    """`<name>.<namespace>.svc.<domain>`."""
    return f"{name}.{namespace}.svc.{domain}"


def valid_port(number: int) -> bool:
    """Whether *number* is a port; others never reach the wire."""
    return 0 < number < 65536


def _ports(where: str, service: Service) -> tuple[list[Port], list[tuple[str, str]], list[Diagnostic]]:
    ports: list[Port] = []
    diagnostics: list[Diagnostic] = []
    names: dict[int, tuple[str, str]] = {}
    for at, port in enumerate(service.spec.ports):
        target = port.target_port or port.port
        if not valid_port(port.port) or (isinstance(target, int) and not valid_port(target)):
            fix = "use a port from 1 to 65535; the port is left out"
            diagnostics.append(
                error(where, f"spec.ports[{at}]", f"{port.port} to {target} is no pair of ports", fix)
            )
            continue
        # A named target is 0 on the wire: each endpoint maps it itself.
        number = target if isinstance(target, int) else 0
        ports.append(Port(port.port, number, app_protocol.of_service_port(port)))
        # Keyed by number: of 53/TCP and 53/UDP the last one's names count for both, as in istiod.
        names[port.port] = (port.name, target if isinstance(target, str) else "")
    return ports, [names[port.service_port] for port in ports], diagnostics


def _load_balancing(service: Service, inherited: str) -> LoadBalancing | None:
    """`internalTrafficPolicy: Local` beats any distribution; unready endpoints may be wanted besides."""
    spec = service.spec
    if spec.internal_traffic_policy == "Local":
        balancing: LoadBalancing | None = LOCAL_NODE
    else:
        annotation = service.metadata.known.traffic_distribution
        balancing = distribution(spec.traffic_distribution, annotation, inherited)
    if spec.publish_not_ready_addresses:
        balancing = balancing or LoadBalancing()
        balancing = msgspec.structs.replace(balancing, health_policy=HealthPolicy.ALLOW_ALL)
    return balancing


def _ip_families(families: tuple[str, ...]) -> IPFamilies:
    if len(families) == 2:
        return IPFamilies.DUAL
    if len(families) == 1:
        return IPFamilies.IPV4_ONLY if families[0] == "IPv4" else IPFamilies.IPV6_ONLY
    return IPFamilies.AUTOMATIC


def service_addresses(service: Service) -> tuple[str, ...]:
    """The cluster IPs; headless services have none."""
    found = service.spec.cluster_ips or (service.spec.cluster_ip,)
    return tuple(text for text in found if text not in {"", "None"})


class Services:
    """One ServiceInfo for each Service that is not ExternalName, under `<namespace>/<name>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        domain: str,
        mesh: Mesh,
        namespaces: Input[str, NamespaceFacts],
        waypoints: Waypoints,
        services: Input[str, Service],
    ) -> None:
        self._domain = domain
        self._mesh = mesh
        self._namespaces = namespaces
        self._waypoints = waypoints
        self.table = engine.derive("services", services, self._info)

    def _info(self, ctx: Context, _key: str, service: Service) -> ServiceInfo | None:
        meta, spec = service.metadata, service.spec
        if spec.type == "ExternalName" or not ctx.ask(self._mesh.selected, meta.namespace):
            return None
        where = name_of("Service", service)
        network = self._mesh.of(ctx).network
        namespace = ctx.get(self._namespaces, meta.namespace)
        addresses: list[NetworkAddress] = []
        broken: list[Diagnostic] = []
        for text in service_addresses(service):
            address = pack(text)
            if address is None:
                fix = "remove it or write an IP; the Service is not served"
                broken.append(error(where, "spec.clusterIPs", f"{text!r} is no IP address", fix))
            else:
                addresses.append(NetworkAddress(network, address))
        ports, port_names, diagnostics = _ports(where, service)
        binding = self._waypoints.for_service(ctx, meta.namespace, meta.labels)
        waypoint = binding.waypoint
        weight = meta.known.waypoint_canary_weight
        weighted, canary = self._waypoints.weighted(ctx, meta.namespace, meta.labels, weight, waypoint)
        return ServiceInfo(
            service=WireService(
                name=meta.name,
                namespace=meta.namespace,
                hostname=hostname(meta.name, meta.namespace, self._domain),
                addresses=tuple(addresses),
                ports=tuple(ports),
                waypoint=None if waypoint is None else waypoint.address,
                load_balancing=_load_balancing(
                    service, "" if namespace is None else namespace.traffic_distribution
                ),
                ip_families=_ip_families(spec.ip_families),
                canonical=True,  # always; who overrides it does so for the own namespace only
                ingress_use_waypoint=waypoint is not None
                and self._waypoints.ingress(ctx, meta.namespace, meta.labels),
                weighted_waypoints=weighted,
            ),
            source=SERVICE,
            object=service.key,
            created=meta.creation_timestamp,
            selector=labels.freeze(spec.selector),
            port_names=tuple(port_names),
            diagnostics=(*broken, *diagnostics, *binding_diagnostics(where, binding, canary)),
        )
