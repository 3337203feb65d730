"""Endpoints of global services: what we count and export, and the Workloads of what peers export.

One changed Pod changes sums only (decision D3): capacity and identities are aggregates over local workloads,
and an export follows from its sums. The rules for remote endpoints are in remote_workloads.py.
"""

from collections.abc import Iterable

from peerd.derive.engine import Collection, Context, Engine, Total
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_services import GlobalServices, Scoped
from peerd.derive.imports import Import
from peerd.derive.mesh import Mesh, MeshFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.remote_workloads import ports_of, remote_workloads
from peerd.model.address import GatewayAddress, Locality, NamespacedHostname
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Capacity, FederatedService, NetworkGateway
from peerd.model.identity import SpiffeId
from peerd.model.record import Record
from peerd.model.sharing import shared
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload, WorkloadStatus

# Service, network, locality.
_Place = tuple[str, str, Locality]
# Gateway, cluster, trust domain, networks with capacity.
_Origin = tuple[str, str, str, tuple[str, ...]]
# Service, namespace and account of its endpoints.
_Account = tuple[str, str, str]
_NAMED_OUTSIDE = 3


class Account(Record, frozen=True):
    """Who serves a Service: a namespace's account."""

    namespace: str
    account: str


def capacity_of(_uid: str, workload: Workload) -> Iterable[tuple[_Place, int]]:
    """What a local workload adds: healthy and reachable on 15008 it counts, else it does not (D27)."""
    if workload.tunnel_protocol is TunnelProtocol.HBONE and workload.status is WorkloadStatus.HEALTHY:
        locality = workload.locality or Locality()
        amount = 1 if workload.capacity is None else workload.capacity
        for entry in workload.services:
            yield (entry.service, workload.network, locality), amount


def account_of(_uid: str, workload: Workload) -> Iterable[tuple[_Account, int]]:
    """Who a local workload is, ready or not: it may answer at any moment (D27)."""
    if workload.tunnel_protocol is TunnelProtocol.HBONE:
        for entry in workload.services:
            yield (entry.service, workload.namespace, workload.service_account or "default"), 1


def outside_of(_uid: str, workload: Workload) -> Iterable[str]:
    """The services of a local workload that other clusters cannot reach."""
    if workload.tunnel_protocol is not TunnelProtocol.HBONE:
        for entry in workload.services:
            yield entry.service


class GlobalEndpoints:
    """Exports under `<namespace>/<name>`, remote Workloads under their uid."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        names: GlobalServices,
        gateways: NetworkGateways,
        workloads: tuple[Collection[str, Workload], ...],
        beside: bool = False,
    ) -> None:
        self._beside = beside
        self._mesh = mesh
        self._names = names
        self._gateways = gateways
        capacity = engine.derive(
            "capacity", engine.aggregate("capacity sums", workloads, capacity_of), _capacity
        )
        self._capacity = engine.index("capacity of services", capacity, lambda key, _found: (key[0],))
        accounts = engine.derive(
            "accounts", engine.aggregate("account sums", workloads, account_of), _account
        )
        self._accounts = engine.index("accounts of services", accounts, lambda key, _found: (key[0],))
        self._outside = tuple(
            engine.index("endpoints outside ambient", found, outside_of) for found in workloads
        )
        self.exports = engine.derive("exports", names.scoped, self._export)
        self._fresh = engine.aggregate("fresh remote capacity", (names.imports,), _fresh)
        self.wire = engine.derive_many(
            "remote workloads", names.imports, self._remote, joined=(names.taken_over,)
        )
        # What keeps a peer's endpoints out is the same for all its services.
        origins = engine.aggregate("origins of imports", (names.imports,), _origin)
        self.diagnostics = (
            engine.derive_many("export diagnostics", names.scoped, self._export_diagnostics),
            engine.derive_many("import diagnostics", origins, self._import_diagnostics),
        )

    # -- what we export ----------------------------------------------------------------------------------

    def _export(self, ctx: Context, _key: str, found: Scoped) -> FederatedService | None:
        said = found.contribution
        if said is None:
            return None
        mesh = self._mesh.of(ctx)
        return FederatedService(
            name=said.name,
            namespace=said.namespace,
            global_host=said.host,
            local_host=found.info.service.hostname,
            scope=said.scope,
            takeover=said.takeover,
            ports=said.ports,
            identities=self._identities(ctx, found, mesh),
            # What lies in other networks is not ours to give on.
            capacity=tuple(
                sorted(
                    place
                    for place in ctx.find(self._capacity, found.info.key)
                    if place.network == mesh.network
                )
            ),
            distribution=said.distribution,
            waypoint=found.waypoint,
            created=said.created,
        )

    def _identities(self, ctx: Context, found: Scoped, mesh: MeshFacts) -> tuple[str, ...]:
        """Everybody who may answer for the Service: its HBONE endpoints, and its waypoint's."""
        domain = mesh.identity_domain
        identities = self._identities_of(ctx, found.info.key, domain)
        weighted = [entry.destination for entry in found.info.service.weighted_waypoints]
        for waypoint in (found.info.service.waypoint, *weighted):
            if waypoint is not None:
                for service in self._waypoint_services(ctx, waypoint):
                    identities |= self._identities_of(ctx, service, domain)
        return tuple(sorted(identities))

    def _waypoint_services(self, ctx: Context, waypoint: GatewayAddress) -> tuple[str, ...]:
        """The Services behind a waypoint's host name or IP."""
        match waypoint.destination:
            case NamespacedHostname(namespace, hostname):
                return (f"{namespace}/{hostname}",)
            case address:
                return tuple(found.key for found in ctx.find(self._names.by_address, address))

    def _identities_of(self, ctx: Context, service: str, domain: str) -> set[str]:
        return {
            str(SpiffeId(domain, found.namespace, found.account))
            for found in ctx.find(self._accounts, service)
        }

    def _export_diagnostics(self, ctx: Context, key: str, found: Scoped) -> dict[str, Diagnostic]:
        if found.contribution is None:
            return {}
        outside = sorted(
            workload.name for index in self._outside for workload in ctx.find(index, found.info.key)
        )
        if not outside:
            return {}
        return keyed(
            (
                warning(
                    f"Service/{key}",
                    "spec.selector",
                    f"{len(outside)} of its endpoints are outside ambient, {_some(outside)}:"
                    " other clusters cannot reach them",
                    "add their Pods to the mesh (istio.io/dataplane-mode=ambient)",
                ),
            ),
            "export",
        )

    # -- what peers export -------------------------------------------------------------------------------

    def _ways(self, ctx: Context, peer: str, network: str) -> tuple[NetworkGateway, ...]:
        """The entries into a peer's network: its own Gateway's, else any (a network may span clusters)."""
        ways = ctx.find(self._gateways.by_network, network)
        if self._beside:
            return ways[:1]  # istiod enters a network through one gateway
        return tuple(way for way in ways if str(way.gateway) == peer) or ways

    def _services(self, ctx: Context, found: Import) -> tuple[ServicePorts, ...]:
        """The names served here that lead to an import, by resource name."""
        service, names = found.service, self._names
        # A user's ServiceEntry may have the global name: it gets no endpoints of ours.
        served = [ctx.get(names.ports, found.key)]
        if ctx.same(names.taken_over) is not None:
            key = f"{service.namespace}/{service.local_host}"
            served.append(ctx.get(names.local_ports, key) or ctx.get(names.ports, key))
        entries = [shared(ServicePorts(to.service, ports_of(found, to.ports))) for to in served if to]
        return shared(tuple(sorted(entries, key=lambda entry: entry.service)))

    def _remote(self, ctx: Context, _key: tuple[str, str], found: Import) -> dict[str, Workload]:
        own = self._mesh.of(ctx).network
        networks = {capacity.network for capacity in found.service.capacity} - {own}
        ways = [way for network in sorted(networks) for way in self._ways(ctx, found.peer, network)]
        return remote_workloads(
            found,
            ways,
            self._services(ctx, found),
            fresh_elsewhere=found.stale and self._is_fresh(ctx, found),
        )

    def _is_fresh(self, ctx: Context, found: Import) -> bool:
        """Whether this cluster, or a peer in touch, has capacity for the same name (decision D21)."""
        service = found.service
        fresh = ctx.get(self._fresh, found.key)
        if fresh is not None and fresh.amount:
            return True
        scoped = ctx.get(self._names.scoped, service.resource_name)
        if scoped is None or scoped.contribution is None or scoped.contribution.host != service.global_host:
            return False
        return bool(ctx.find(self._capacity, scoped.info.key))

    def _import_diagnostics(self, ctx: Context, origin: _Origin, _total: Total) -> dict[str, Diagnostic]:
        """What keeps all of a peer's endpoints out; told once for each Gateway."""
        peer, cluster, trust_domain, networks = origin
        mesh, where = self._mesh.of(ctx), f"Gateway/{peer}"
        own = mesh.network
        told: list[Diagnostic] = []
        if trust_domain != mesh.identity_domain:
            # The receiving ztunnel wants callers of its own trust domain (wire-contract §3.4, decision D29).
            told.append(
                warning(
                    where,
                    "metadata.annotations[gateway.istio.io/trust-domain]",
                    f"cluster {cluster} has trust domain {trust_domain},"
                    f" we {mesh.identity_domain}: its ztunnels refuse our requests",
                    "use one trust domain; control planes and gateways of unlike ones do connect",
                )
            )
        for network in networks:
            if network == own:
                told.append(
                    warning(
                        where,
                        "metadata.labels[topology.istio.io/network]",
                        f"cluster {cluster} is on our own network {own!r}: its endpoints are not used",
                        "give each cluster a network of its own, reached through its east-west gateway",
                    )
                )
            elif not self._ways(ctx, peer, network):
                told.append(
                    warning(
                        where,
                        "spec.listeners",
                        f"there is no way into network {network!r} of cluster {cluster}",
                        "add an HBONE listener (port 15008) and an address, or expose the peer's gateway",
                    )
                )
        return keyed(told, "import")


def _capacity(_ctx: Context, key: _Place, total: Total) -> Capacity | None:
    return Capacity(key[1], key[2], total.amount) if total.amount else None


def _account(_ctx: Context, key: _Account, total: Total) -> Account | None:
    return Account(key[1], key[2]) if total.records else None


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_OUTSIDE
    return ", ".join(names[:_NAMED_OUTSIDE]) + (f" and {more} more" if more > 0 else "")


def _origin(_key: tuple[str, str], found: Import) -> Iterable[tuple[_Origin, int]]:
    networks = tuple(sorted({capacity.network for capacity in found.service.capacity}))
    yield (found.peer, found.cluster, found.trust_domain, networks), 1


def _fresh(_key: tuple[str, str], found: Import) -> Iterable[tuple[str, int]]:
    if not found.stale:
        yield found.key, sum(capacity.healthy for capacity in found.service.capacity)
