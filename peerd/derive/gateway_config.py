"""What this cluster's east-west gateways are configured with (decisions D25, D30, D37).

Listeners follow from Gateways of class `istio-eastwest`; the names that can be called, and who answers, from
what the cluster exports: nothing else can be reached through a gateway.
"""

from collections.abc import Iterable

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.alias_owners import claim_rank
from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.gateway_endpoints import RANKED, Member, places
from peerd.derive.gateways import gateway_service_account, hbone_port
from peerd.derive.global_names import global_distribution
from peerd.derive.global_services import GlobalServices
from peerd.derive.mesh import Mesh
from peerd.derive.problems import error, keyed, name_of
from peerd.derive.scoped import Scoped
from peerd.derive.waypoints import HBONE_PORT
from peerd.model.address import GatewayAddress, NamespacedHostname, Port
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedService
from peerd.model.gateway_config import (
    ANY_IPV4,
    ANY_IPV6,
    GatewayCluster,
    GatewayEndpoints,
    GatewayListener,
    ListenerKind,
    OwnGateway,
)
from peerd.model.kube.gateway import Gateway
from peerd.model.service import Mode, Scope
from peerd.model.workload import TunnelProtocol, Workload, WorkloadStatus

EAST_WEST_CLASS = "istio-eastwest"


def is_own(gateway: Gateway) -> bool:
    """Whether peerd configures the Gateway."""
    return gateway.spec.gateway_class_name == EAST_WEST_CLASS


def exposed_port(gateway: Gateway) -> int | None:
    """The port on which other clusters reach our peer port: the label's value (D37), 0 where it has none.

    None: the label is there and names no port.
    """
    value = gateway.metadata.labels.get(labels.EXPOSE_ISTIOD)
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65_536):
        return None
    return int(value)


def listeners(gateway: Gateway) -> dict[str, GatewayListener]:
    """Every listener of a Gateway, for each address that a replica may bind, by name."""
    found = {ANY_IPV4: None, ANY_IPV6: None}
    for address in (*gateway.spec.addresses, *gateway.status.addresses):
        if pack(address.value) is not None:
            found[address.value] = None
    ports = {ListenerKind.HBONE: hbone_port(gateway), ListenerKind.PEERS: exposed_port(gateway)}
    key = str(gateway.key)
    made = (GatewayListener(key, kind, bind, port) for kind, port in ports.items() if port for bind in found)
    return {listener.name: listener for listener in made}


def endpoints_name(service: FederatedService, port: int) -> str:
    """What the endpoints of one port are called between us and the gateways."""
    return f"{service.namespace}/{service.name}:{port}"


def clusters(service: FederatedService, aliases: Iterable[str] = ()) -> dict[str, GatewayCluster]:
    """The authorities of an exported service: all its hosts, whoever took them over (D25), on all ports."""
    hosts = dict.fromkeys((service.global_host, service.local_host, *aliases))
    found: dict[str, GatewayCluster] = {}
    for port in service.ports:
        for host in hosts:
            authority = f"{host}:{port.number}"
            found[authority] = GatewayCluster(authority, endpoints_name(service, port.number))
    return found


def preference(distribution: str) -> tuple[Scope, ...]:
    """What a service's own word prefers among the endpoints of its cluster (D26); mostly nothing."""
    balancing = global_distribution(distribution, None)
    if balancing is None or balancing.mode is not Mode.FAILOVER:
        return ()
    return tuple(scope for scope in balancing.routing_preference if scope in RANKED)


class GatewayConfig:
    """Listeners and clusters by name, endpoints under theirs, own gateways under `<namespace>/<name>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        domain: str,
        mesh: Mesh,
        names: GlobalServices,
        gateways: Input[str, Gateway],
        exports: Collection[str, FederatedService],
        workloads: tuple[Collection[str, Workload], ...],
    ) -> None:
        self._mesh = mesh
        self._names = names
        self._own = engine.derive("gateways of ours", gateways, self._ours)
        self.gateways = engine.derive("own gateways", self._own, lambda _ctx, _key, found: _account(found))
        self.listeners = engine.derive_many(
            "gateway listeners", self._own, lambda _ctx, _key, found: listeners(found)
        )
        self._claims = engine.index("exports by alias", exports, lambda _key, found: found.aliases)
        self.clusters = engine.derive_many("gateway clusters", exports, self._clusters)
        # Only who answers for a global name, and waypoints: a gateway costs other Pods nothing.
        suffix = f".svc.{domain}"

        def groups(_uid: str, workload: Workload) -> Iterable[str]:
            if workload.tunnel_protocol is TunnelProtocol.HBONE and workload.addresses:
                for entry in workload.services:
                    if not entry.service.endswith(suffix) or _serves(entry.ports, HBONE_PORT):
                        yield entry.service

        self._members = engine.index("gateway members", workloads, groups)
        self.endpoints = engine.derive_many("gateway endpoints", exports, self._endpoints)
        self.diagnostics = engine.derive_many("gateway port diagnostics", self._own, _diagnostics)

    def _ours(self, ctx: Context, _key: str, gateway: Gateway) -> Gateway | None:
        return (
            gateway if is_own(gateway) and ctx.ask(self._mesh.selected, gateway.metadata.namespace) else None
        )

    def _clusters(self, ctx: Context, _key: str, service: FederatedService) -> dict[str, GatewayCluster]:
        """An alias that several of ours want is the oldest's: who calls one of ours by it means that one."""
        own = (
            alias
            for alias in service.aliases
            if min(ctx.find(self._claims, alias), key=claim_rank).resource_name == service.resource_name
        )
        return clusters(service, own)

    def _endpoints(self, ctx: Context, key: str, service: FederatedService) -> dict[str, GatewayEndpoints]:
        scoped = ctx.get(self._names.scoped, key)
        if scoped is None:
            return {}
        name = f"{service.namespace}/{service.global_host}"
        local = scoped.info.key
        waypoints = self._waypoints(ctx, scoped)
        prefers = preference(service.distribution) if waypoints is None else ()
        found = {}
        for port in service.ports:
            members = waypoints
            if members is None:
                members = self._healthy(ctx, name, port.number, local)
            eds = endpoints_name(service, port.number)
            found[eds] = GatewayEndpoints(eds, places(members, prefers), prefers)
        return found

    def _healthy(self, ctx: Context, service: str, port: int, local: str = "") -> list[Member]:
        """Who answers for one port: as capacity counts (decision D27), and on our own network.

        A global name's ports are others' word too: those of its *local* name count, whatever peers say.
        """
        network = self._mesh.of(ctx).network
        return [
            Member.of(workload)
            for workload in ctx.find(self._members, service)
            if workload.status is WorkloadStatus.HEALTHY
            and workload.network == network
            and workload.capacity != 0
            and any(entry.service == service for entry in workload.services)
            and _serves(_ports(workload, local, service), port)
        ]

    def _waypoints(self, ctx: Context, scoped: Scoped) -> list[Member] | None:
        """The Pods of the service's waypoint, or of both during a canary; None where it has none (D30).

        An empty list is not None: without its waypoint, and so its policies, a service is not reachable.
        """
        service = scoped.info.service
        if service.weighted_waypoints:
            groups = [
                (self._of_waypoint(ctx, entry.destination), entry.weight)
                for entry in service.weighted_waypoints
            ]
            # Shares hold whatever the number of Pods behind each.
            sizes = [max(1, sum(member.weight for member in members)) for members, _ in groups]
            common = sizes[0] * sizes[-1]
            return [
                member.times(share * common // size)
                for (members, share), size in zip(groups, sizes, strict=True)
                if share
                for member in members
            ]
        return None if service.waypoint is None else self._of_waypoint(ctx, service.waypoint)

    def _of_waypoint(self, ctx: Context, waypoint: GatewayAddress) -> list[Member]:
        destination = waypoint.destination
        if isinstance(destination, NamespacedHostname):
            return self._healthy(ctx, f"{destination.namespace}/{destination.hostname}", HBONE_PORT)
        services = ctx.find(self._names.by_address, destination)
        if services:
            return [member for info in services for member in self._healthy(ctx, info.key, HBONE_PORT)]
        # An address that is no Service's is the waypoint itself, outside or a Pod.
        return [Member(destination.address, waypoint.hbone_mtls_port)]


def _ports(workload: Workload, *services: str) -> tuple[Port, ...]:
    """Those of the first of the services that it has."""
    found = {entry.service: entry.ports for entry in workload.services}
    return next((found[each] for each in services if each in found), ())


def _serves(ports: Iterable[Port], number: int) -> bool:
    return any(port.service_port == number for port in ports)


def _account(gateway: Gateway) -> OwnGateway:
    meta = gateway.metadata
    return OwnGateway(meta.namespace, meta.name, gateway_service_account(gateway))


def _diagnostics(_ctx: Context, _key: str, gateway: Gateway) -> dict[str, Diagnostic]:
    where = name_of("Gateway", gateway)
    found: list[Diagnostic] = []
    if exposed_port(gateway) is None:
        value = gateway.metadata.labels[labels.EXPOSE_ISTIOD]
        found.append(
            error(
                where,
                f"metadata.labels[{labels.EXPOSE_ISTIOD}]",
                f"{value!r} is no port, so peers cannot connect through this gateway",
                'write a port, usually "15012"',
            )
        )
    ports = [port for port in (hbone_port(gateway), exposed_port(gateway)) if port]
    if len(set(ports)) < len(ports):
        found.append(
            error(
                where,
                f"metadata.labels[{labels.EXPOSE_ISTIOD}]",
                f"port {ports[0]} is that of the HBONE listener, too",
                "give peers and workloads a port each",
            )
        )
    return keyed(found)
