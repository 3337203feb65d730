"""What this cluster exports: a summary of each global service, and what of it other clusters cannot reach.

One changed Pod changes sums only (decision D3): capacity and identities are aggregates over local workloads,
and an export follows from its sums.
"""

from collections.abc import Iterable

from peerd.derive.engine import Collection, Context, Engine, Total
from peerd.derive.global_services import GlobalServices
from peerd.derive.mesh import Mesh, MeshFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.scoped import Scoped
from peerd.model.address import GatewayAddress, Locality, NamespacedHostname
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Capacity, FederatedService
from peerd.model.identity import SpiffeId
from peerd.model.record import Record
from peerd.model.workload import TunnelProtocol, Workload, WorkloadStatus

# Service, network, locality.
_Place = tuple[str, str, Locality]
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


class Exports:
    """FederatedServices under `<namespace>/<name>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        names: GlobalServices,
        workloads: tuple[Collection[str, Workload], ...],
    ) -> None:
        self._mesh = mesh
        self._names = names
        capacity = engine.derive(
            "capacity", engine.aggregate("capacity sums", workloads, capacity_of), _capacity
        )
        # Under the resource name of the local Service.
        self.capacity = engine.index("capacity of services", capacity, lambda key, _found: (key[0],))
        accounts = engine.derive(
            "accounts", engine.aggregate("account sums", workloads, account_of), _account
        )
        self._accounts = engine.index("accounts of services", accounts, lambda key, _found: (key[0],))
        self._outside = tuple(
            engine.index("endpoints outside ambient", found, outside_of) for found in workloads
        )
        self.table = engine.derive("exports", names.scoped, self._export)
        self.diagnostics = engine.derive_many("export diagnostics", names.scoped, self._export_diagnostics)

    def _export(self, ctx: Context, _key: str, found: Scoped) -> FederatedService | None:
        said = found.contribution
        if said is None:
            return None
        mesh = self._mesh.of(ctx)
        return FederatedService(
            name=said.name,
            namespace=said.namespace,
            global_host=said.host,
            local_host=self._names.local_host(said.name, said.namespace),
            scope=said.scope,
            takeover=said.takeover,
            aliases=found.aliases,
            ports=said.ports,
            identities=self._identities(ctx, found, mesh),
            # What lies in other networks is not ours to give on.
            capacity=tuple(
                sorted(
                    place
                    for place in ctx.find(self.capacity, found.info.key)
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
                    f"{found.info.source}/{key}",
                    "spec.selector",
                    f"{len(outside)} of its endpoints are outside ambient, {_some(outside)}:"
                    " other clusters cannot reach them",
                    "add their Pods to the mesh (istio.io/dataplane-mode=ambient)",
                ),
            ),
            "export",
        )


def _capacity(_ctx: Context, key: _Place, total: Total) -> Capacity | None:
    return Capacity(key[1], key[2], total.amount) if total.amount else None


def _account(_ctx: Context, key: _Account, total: Total) -> Account | None:
    return Account(key[1], key[2]) if total.records else None


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_OUTSIDE
    return ", ".join(names[:_NAMED_OUTSIDE]) + (f" and {more} more" if more > 0 else "")
