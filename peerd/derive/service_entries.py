"""ServiceEntries: a service for each host (wire-contract §4.4)."""

from collections.abc import Mapping

from peerd.derive import app_protocol, labels
from peerd.derive.addresses import pack, parse_block
from peerd.derive.allocation import SERVICE_ENTRY_POOL
from peerd.derive.distribution import distribution
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, keyed, name_of, warning
from peerd.derive.services import SERVICE_ENTRY, ServiceInfo, valid_port
from peerd.derive.waypoints import Waypoints, binding_diagnostics
from peerd.model.address import NetworkAddress, Port
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation
from peerd.model.kube.istio import ServiceEntry, ServiceEntryPort
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Service, Visibility

# Users' ServiceEntries get addresses of istiod's own pool (decision D28).
POOL = SERVICE_ENTRY_POOL

PASSTHROUGH = LoadBalancing((), Mode.PASSTHROUGH, HealthPolicy.ALLOW_ALL)


def is_wildcard(host: str) -> bool:
    """Whether *host* begins with a star."""
    return host.startswith("*")


def resolution_of(entry: ServiceEntry) -> str:
    """The resolution; unset is NONE, the first value of Istio's enum."""
    return entry.spec.resolution or "NONE"


def may_allocate(entry: ServiceEntry) -> bool:
    """Whether hosts get addresses of their own: none in spec, not NONE, no opt-out (wire-contract §4.4)."""
    return (
        not entry.spec.addresses
        and resolution_of(entry) != "NONE"
        and entry.metadata.labels.get(labels.AUTO_ALLOCATE, "").lower() != "false"
    )


def allocatable(entry: ServiceEntry, host: str) -> bool:
    """Whether *host* in particular does: a wildcard only where it is resolved as it is called."""
    return may_allocate(entry) and (not is_wildcard(host) or resolution_of(entry) == "DYNAMIC_DNS")


def status_addresses(entry: ServiceEntry, host: str) -> tuple[bytes, ...]:
    """What status says was allocated to *host*; what cannot be read is passed over."""
    found = (pack(address.value) for address in entry.status.addresses if address.host == host)
    return tuple(address for address in found if address is not None)


def _usable_host(host: str) -> bool:
    # A slash would make its resource name unremovable for ztunnel (wire-contract §1.4).
    return bool(host) and "/" not in host


def check(entry: ServiceEntry) -> tuple[Diagnostic, ...]:
    """What is wrong with a ServiceEntry as such."""
    where = name_of("ServiceEntry", entry)
    spec = entry.spec
    found: list[Diagnostic] = []
    if not spec.hosts:
        found.append(error(where, "spec.hosts", "is empty", "name at least one host"))
    for at, host in enumerate(spec.hosts):
        if not _usable_host(host):
            found.append(error(where, f"spec.hosts[{at}]", f"{host!r} is no host name", "write a DNS name"))
    for at, text in enumerate(spec.addresses):
        if parse_block(text, "") is None:
            fix = "write an IP address or CIDR block; no host of it is served"
            found.append(error(where, f"spec.addresses[{at}]", f"{text!r} is neither", fix))
    for at, port in enumerate(spec.ports):
        if not _usable_port(port):
            message = f"{port.number} to {port.target_port} is no pair of ports"
            found.append(error(where, f"spec.ports[{at}]", message, "use ports from 1 to 65535"))
    seen: set[str] = set()
    for at, endpoint in enumerate(spec.endpoints):
        field = f"spec.endpoints[{at}]"
        if endpoint.address in seen:
            message = f"{endpoint.address!r} is there twice; the first one counts"
            found.append(error(where, f"{field}.address", message, "remove one"))
        seen.add(endpoint.address)
        for name, number in endpoint.ports.items():
            if not valid_port(number):
                fix = "use ports from 1 to 65535"
                found.append(error(where, f"{field}.ports[{name}]", f"{number} is no port", fix))
        if not 0 <= endpoint.weight < 1 << 32:
            found.append(
                warning(where, f"{field}.weight", f"{endpoint.weight} is no weight", "use 1 or more")
            )
    return tuple(found)


def _usable_port(port: ServiceEntryPort) -> bool:
    return valid_port(port.number) and (port.target_port == 0 or valid_port(port.target_port))


class ServiceEntries:
    """Services of ServiceEntries, under `<namespace>/<name>/<host>`, and the hosts that want addresses."""

    def __init__(
        self,
        engine: Engine,
        *,
        revision: str,
        mesh: Mesh,
        namespaces: Input[str, NamespaceFacts],
        waypoints: Waypoints,
        entries: Input[str, ServiceEntry],
        allocations: Input[str, Allocation],
    ) -> None:
        self._revision = revision
        self._mesh = mesh
        self._namespaces = namespaces
        self._waypoints = waypoints
        self._allocations = allocations
        # Discovery selectors and revision decide once for all that follows (wire-contract §4.1).
        self.admitted = engine.derive("service entries", entries, self._admit)
        self.table = engine.derive_many("service entry hosts", self.admitted, self._infos)
        self.wanted = engine.derive_many("hosts that want addresses", self.admitted, self._wanted)
        self.diagnostics = engine.derive_many(
            "service entry diagnostics", self.admitted, lambda _ctx, _key, entry: keyed(check(entry))
        )

    def _admit(self, ctx: Context, _key: str, entry: ServiceEntry) -> ServiceEntry | None:
        meta = entry.metadata
        ours = labels.in_revision(meta.labels, self._revision)
        return entry if ours and ctx.ask(self._mesh.selected, meta.namespace) else None

    def _wanted(self, _ctx: Context, _key: str, entry: ServiceEntry) -> dict[str, str]:
        return {
            host: POOL
            for host in entry.spec.hosts
            if _usable_host(host) and allocatable(entry, host) and not status_addresses(entry, host)
        }

    def visibility(self, ctx: Context, namespace: str) -> str:
        """PUBLIC, NAMESPACE or NONE: the first policy of MeshConfig.serviceEntryVisibility that matches."""
        config = self._mesh.of(ctx).config
        if config.visibility_policies:
            facts = ctx.get(self._namespaces, namespace)
            found: Mapping[str, str] = {} if facts is None else facts.labels
            for policy in config.visibility_policies:
                if all(each is not None and labels.matches(each, found) for each in policy.namespaces):
                    return policy.visibility
        return config.service_entry_visibility

    def _addresses(
        self, ctx: Context, entry: ServiceEntry, host: str, own: tuple[NetworkAddress, ...], network: str
    ) -> tuple[NetworkAddress, ...]:
        """Spec's addresses, else those of status, else what was allocated to the host (decision D28)."""
        if own or not allocatable(entry, host):
            return own
        found = status_addresses(entry, host)
        if not found:
            allocation = ctx.get(self._allocations, host)
            if allocation is not None:
                found = tuple(address for address in (allocation.ipv4, allocation.ipv6) if address)
        return tuple(NetworkAddress(network, address) for address in found)

    def _infos(self, ctx: Context, _key: str, entry: ServiceEntry) -> dict[str, ServiceInfo]:
        meta, spec = entry.metadata, entry.spec
        visibility = self.visibility(ctx, meta.namespace)
        network = self._mesh.of(ctx).network
        own = tuple(parse_block(text, network) for text in spec.addresses)
        if visibility == "NONE" or None in own:
            return {}  # one unreadable address hides the whole entry, as in istiod
        addresses = tuple(address for address in own if address is not None)
        private = visibility == "NAMESPACE"
        binding = self._waypoints.for_service(ctx, meta.namespace, meta.labels, private=private)
        waypoint = binding.waypoint
        weight = meta.annotations.waypoint_canary_weight
        weighted, canary = self._waypoints.weighted(ctx, meta.namespace, meta.labels, weight, waypoint)
        ports = [port for port in spec.ports if _usable_port(port)]
        wire_ports = tuple(
            Port(port.number, port.target_port or port.number, app_protocol.declared(port.protocol))
            for port in ports
        )
        names = {port.number: (port.name, "") for port in ports}
        if resolution_of(entry) == "NONE":
            balancing: LoadBalancing | None = PASSTHROUGH
        else:
            namespace = ctx.get(self._namespaces, meta.namespace)
            inherited = "" if namespace is None else namespace.traffic_distribution
            balancing = distribution("", meta.annotations.traffic_distribution, inherited)
        selector = spec.workload_selector
        infos: dict[str, ServiceInfo] = {}
        for host in spec.hosts:
            if not _usable_host(host):
                continue
            infos[f"{meta.namespace}/{meta.name}/{host}"] = ServiceInfo(
                service=Service(
                    name=meta.name,
                    namespace=meta.namespace,
                    hostname=host,
                    addresses=self._addresses(ctx, entry, host, addresses, network),
                    ports=wire_ports,
                    subject_alt_names=spec.subject_alt_names,
                    waypoint=None if waypoint is None else waypoint.address,
                    load_balancing=balancing,
                    ingress_use_waypoint=waypoint is not None
                    and self._waypoints.ingress(ctx, meta.namespace, meta.labels),
                    weighted_waypoints=weighted,
                    visibility=Visibility.NAMESPACE if private else Visibility.PUBLIC,
                ),
                source=SERVICE_ENTRY,
                object=entry.key,
                created=meta.creation_timestamp,
                selector=() if selector is None else labels.freeze(selector.labels),
                port_names=tuple(names[port.number] for port in ports),
                diagnostics=binding_diagnostics(name_of("ServiceEntry", entry), binding, canary),
            )
        return infos
