"""WorkloadEntries of remote endpoints (decisions D27, D38; docs/beside-istiod.md).

One for each remote Workload, so that istiod's ztunnels have the endpoints that ours would have: behind a
gateway without address and with the capacity as weight, on our own network one for each Pod.
"""

from peerd.derive import labels
from peerd.derive.engine import Collection, Context, Engine
from peerd.derive.generated_names import workload_entry_name
from peerd.derive.generated_services import GeneratedServices, Target
from peerd.derive.imports import Import
from peerd.model.address import Locality, ip_text
from peerd.model.generated import GeneratedWorkloadEntry
from peerd.model.identity import parse_spiffe_id
from peerd.model.record import Record
from peerd.model.workload import Workload, WorkloadStatus

# The waypoint is the service's matter (decision D30): a namespace's label must not add one.
_NO_WAYPOINT = (labels.USE_WAYPOINT, "none")


class GeneratedWorkloads:
    """WorkloadEntries under `WorkloadEntry/<namespace>/<name>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        services: GeneratedServices,
        imports: Collection[tuple[str, str], Import],
        workloads: Collection[str, Workload],
    ) -> None:
        self._services = services
        # Who is behind an endpoint, under the cluster and the global name's resource name.
        self._origins = engine.index(
            "origins of remote endpoints",
            engine.derive("origins of imports", imports, _origin),
            lambda _key, origin: ((origin.cluster, origin.key),),
        )
        self.table = engine.derive_many("generated workload entries", workloads, self._entry)

    def _entry(self, ctx: Context, uid: str, workload: Workload) -> dict[str, GeneratedWorkloadEntry]:
        if workload.status is not WorkloadStatus.HEALTHY:
            return {}  # an entry cannot say so, and istiod would send requests there
        targets = [
            (target, {port.service_port: port.target_port for port in entry.ports})
            for entry in workload.services
            if (target := ctx.get(self._services.targets, entry.service)) is not None
        ]
        # An entry has every port of what selects it: one that lacks a port must not be selected.
        targets = [(target, ports) for target, ports in targets if _has_all(target, ports)]
        if not targets:
            return {}
        carried = dict((_NO_WAYPOINT, *(pair for target, _ in targets for pair in target.selector)))
        elsewhere = {
            port.name: ports[port.number]
            for target, ports in reversed(targets)
            for port in target.ports
            if ports[port.number] != (port.target or port.number)
        }
        namespace = targets[0][0].namespace
        origin = self._origin(ctx, workload)
        account = workload.service_account or ("" if origin is None else origin.account)
        found = GeneratedWorkloadEntry(
            namespace=namespace,
            name=workload_entry_name(uid, workload.cluster_id, workload.namespace, workload.name),
            cluster=workload.cluster_id,
            gateway="" if origin is None else origin.gateway,
            network=workload.network,
            labels=labels.freeze(carried),
            address=ip_text(workload.addresses[0]) if workload.addresses else "",
            weight=1 if workload.capacity is None else workload.capacity,
            locality=_locality(workload.locality),
            # An account means nothing in a namespace that is not its own.
            service_account=account if namespace == workload.namespace else "",
            ports=tuple(sorted(elsewhere.items())),
        )
        return {f"WorkloadEntry/{namespace}/{found.name}": found}

    def _origin(self, ctx: Context, workload: Workload) -> "_Origin | None":
        for entry in workload.services:
            for found in ctx.find(self._origins, (workload.cluster_id, entry.service)):
                return found
        return None


class _Origin(Record, frozen=True):
    """Whose an import is: `account` where all its endpoints have one account of its own namespace."""

    cluster: str
    key: str
    gateway: str
    account: str


def _origin(_ctx: Context, _key: tuple[str, str], found: Import) -> _Origin:
    identities = [parse_spiffe_id(identity) for identity in found.service.identities]
    one = len(identities) == 1 and identities[0].namespace == found.service.namespace
    return _Origin(found.cluster, found.key, found.peer, identities[0].service_account if one else "")


def _has_all(target: Target, ports: dict[int, int]) -> bool:
    return all(port.number in ports for port in target.ports)


def _locality(found: Locality | None) -> str:
    """`region/zone/subzone`, without trailing slashes."""
    return "" if found is None else f"{found.region}/{found.zone}/{found.subzone}".rstrip("/")
