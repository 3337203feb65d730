"""Our endpoints of global services, one by one, for peers on our own network (decision D31).

What is nobody's business there is left out: policies, gateways, and everything else but the global names. An
endpoint behind a waypoint is left out whole: ztunnel finds a waypoint by the service, and a caller elsewhere
would pass this cluster's by. Such services are entered by the gateway (ADR 10).
"""

import msgspec

from peerd.derive.engine import Collection, Context, Engine
from peerd.derive.global_services import GlobalServices
from peerd.derive.mesh import Mesh
from peerd.derive.scoped import Scoped
from peerd.model.address import Port
from peerd.model.federation import FederationScope
from peerd.model.record import Record
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload


class Exported(Record, frozen=True):
    """How far a global name of ours reaches, and the resource name of the local one behind it."""

    scope: FederationScope
    local: str


class FlatExports:
    """Workloads under their uid: `everybody` for all peers, `segment` for those of our own segment."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        domain: str,
        names: GlobalServices,
        workloads: tuple[Collection[str, Workload], ...],
    ) -> None:
        self._mesh = mesh
        local = f".svc.{domain}"
        # Under the resource name of the global name.
        self._exported = engine.derive_many("exported names", names.scoped, _exported)
        # Most workloads have local names only, and of those nothing is asked.
        some = engine.filter(
            "candidates of flat exports", workloads, lambda found: _is_candidate(found, local)
        )
        self.segment = engine.derive("flat exports", some, self._flat)
        self.everybody = engine.derive("flat exports for everybody", self.segment, self._public)

    def _flat(self, ctx: Context, _uid: str, workload: Workload) -> Workload | None:
        services = tuple(
            ServicePorts(entry.service, _own_ports(workload, entry, exported))
            for entry in workload.services
            if (exported := ctx.get(self._exported, entry.service)) is not None
        )
        if not services or workload.network != self._mesh.of(ctx).network:
            return None
        return msgspec.structs.replace(
            workload,
            services=services,
            authorization_policies=(),
            waypoint=None,
            network_gateway=None,
            application_tunnel=None,
        )

    def _public(self, ctx: Context, _uid: str, workload: Workload) -> Workload | None:
        """Without services of scope segment."""
        services = tuple(
            entry
            for entry in workload.services
            if (exported := ctx.get(self._exported, entry.service)) is not None
            and exported.scope is FederationScope.GLOBAL
        )
        if not services:
            return None
        return (
            workload
            if services == workload.services
            else msgspec.structs.replace(workload, services=services)
        )


def _is_candidate(workload: Workload, local: str) -> bool:
    """Callers must be able to prove what they have reached: HBONE, at an address of its own, ready or not."""
    return (
        workload.tunnel_protocol is TunnelProtocol.HBONE
        and bool(workload.addresses)
        and not all(entry.service.endswith(local) for entry in workload.services)
    )


def _own_ports(workload: Workload, entry: ServicePorts, exported: Exported) -> tuple[Port, ...]:
    """As our own Service has them: the global name's are others' word too, and nothing told is told on."""
    local = (each.ports for each in workload.services if each.service == exported.local)
    return next(local, entry.ports)


def _exported(_ctx: Context, _key: str, found: Scoped) -> dict[str, Exported]:
    service = found.info.service
    if found.contribution is None or service.waypoint is not None or service.weighted_waypoints:
        return {}
    local = f"{service.namespace}/{service.hostname}"
    return {found.contribution.key: Exported(found.contribution.scope, local)}
