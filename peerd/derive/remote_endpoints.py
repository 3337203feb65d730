"""Endpoints of global services in other networks: the Workloads of what peers export.

The rules are in remote_workloads.py; endpoints on our own network are in flat_endpoints.py.
"""

from collections.abc import Iterable

from peerd.derive.engine import Context, Engine, Total
from peerd.derive.exports import Exports
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_services import GlobalServices
from peerd.derive.imports import Import
from peerd.derive.mesh import Mesh
from peerd.derive.problems import keyed, warning
from peerd.derive.remote_workloads import ports_of, remote_workloads
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import NetworkGateway
from peerd.model.sharing import shared
from peerd.model.workload import ServicePorts, Workload

# Gateway, cluster, trust domain, networks with capacity.
_Origin = tuple[str, str, str, tuple[str, ...]]


class RemoteEndpoints:
    """Remote Workloads under their uid."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        names: GlobalServices,
        gateways: NetworkGateways,
        exports: Exports,
        beside: bool = False,
    ) -> None:
        self._beside = beside
        self._mesh = mesh
        self._names = names
        self._gateways = gateways
        self._capacity = exports.capacity
        self._fresh = engine.aggregate("fresh remote capacity", (names.imports,), _fresh)
        self.wire = engine.derive_many(
            "remote workloads", names.imports, self._remote, joined=(names.taken_over,)
        )
        # What keeps a peer's endpoints out is the same for all its services.
        origins = engine.aggregate("origins of imports", (names.imports,), _origin)
        self.diagnostics = engine.derive_many("import diagnostics", origins, self._import_diagnostics)

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
        aliases = names.alias_keys(ctx, service.resource_name, found.aliases)
        served = [ctx.get(names.ports, key) for key in (found.key, *aliases)]
        if ctx.same(names.taken_over) is not None:
            key = f"{service.namespace}/{service.local_host}"
            served.append(ctx.get(names.local_ports, key) or ctx.get(names.ports, key))
        entries = [shared(ServicePorts(to.service, ports_of(found, to.ports))) for to in served if to]
        return shared(tuple(sorted(entries, key=lambda entry: entry.service)))

    def _remote(self, ctx: Context, _key: tuple[str, str], found: Import) -> dict[str, Workload]:
        own = self._mesh.of(ctx).network
        networks = {capacity.network for capacity in found.service.capacity} - {own}
        ways = [way for network in sorted(networks) for way in self._ways(ctx, found.peer, network)]
        if found.flat and found.service.waypoint:
            ways += self._own_ways(ctx, found.peer, own)
        return remote_workloads(
            found,
            ways,
            self._services(ctx, found),
            own_network=own,
            fresh_elsewhere=found.stale and self.is_fresh(ctx, found),
        )

    def _own_ways(self, ctx: Context, peer: str, own: str) -> tuple[NetworkGateway, ...]:
        """The gateway of a peer on our own network, for services behind a waypoint (ADR 10).

        Beside istiod there is none: it enters its own network by no gateway.
        """
        if self._beside:
            return ()
        return tuple(way for way in ctx.find(self._gateways.by_network, own) if str(way.gateway) == peer)

    def is_fresh(self, ctx: Context, found: Import) -> bool:
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
                if not own:
                    told.append(
                        warning(
                            where,
                            "metadata.labels[topology.istio.io/network]",
                            f"neither this cluster nor {cluster} names its network:"
                            " whether its Pods can be reached is unknown, and they are not used",
                            "label the system namespace of both, equally where Pods reach each other",
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


def _origin(_key: tuple[str, str], found: Import) -> Iterable[tuple[_Origin, int]]:
    networks = tuple(sorted({capacity.network for capacity in found.service.capacity}))
    yield (found.peer, found.cluster, found.trust_domain, networks), 1


def _fresh(_key: tuple[str, str], found: Import) -> Iterable[tuple[str, int]]:
    if not found.stale:
        yield found.key, sum(capacity.healthy for capacity in found.service.capacity)
