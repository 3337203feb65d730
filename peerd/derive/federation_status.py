"""What people are told of a global name: who serves it, and what of ours others cannot reach (D27).

Capacity is not in it, nor any Pod's name: a replaced Pod changes nothing here.
"""

from collections.abc import Iterable

from peerd.derive.engine import Collection, Context, Engine, Total
from peerd.derive.global_names import Contribution
from peerd.derive.global_services import GlobalServices
from peerd.derive.services import SERVICE
from peerd.limits import STATUS_NAMES
from peerd.model.federation import FederatedName
from peerd.model.workload import TunnelProtocol, Workload

# Service (resource name), and what its Pods belong to.
_Outside = tuple[str, str]


def outside_of(_uid: str, workload: Workload) -> Iterable[tuple[_Outside, int]]:
    """The services of a local workload that other clusters cannot reach, by what made it."""
    if workload.tunnel_protocol is not TunnelProtocol.HBONE:
        for entry in workload.services:
            yield (entry.service, workload.workload_name or workload.name), 1


class FederationStatus:
    """One FederatedName for each global name, under `<namespace>/<host>`."""

    def __init__(
        self, engine: Engine, *, names: GlobalServices, workloads: tuple[Collection[str, Workload], ...]
    ) -> None:
        self._names = names
        sums = engine.aggregate("sums outside ambient", workloads, outside_of)
        outside = engine.derive("makers outside ambient", sums, _maker)
        self._outside = engine.index("makers of services", outside, lambda key, _found: (key[0],))
        self.table = engine.derive("federation of names", names.contributions, self._name)

    def _name(self, ctx: Context, _key: str, found: tuple[Contribution, ...]) -> FederatedName:
        first = found[0]
        service = f"{first.namespace}/{first.name}"
        # A status is a Service's: what a ServiceEntry shares is not told there.
        own = any(not each.peer and each.source == SERVICE for each in found)
        others = sorted({each.cluster for each in found if each.peer})
        scoped = ctx.get(self._names.scoped, service) if own else None
        outside = () if scoped is None else ctx.find(self._outside, scoped.info.key)
        return FederatedName(
            service=service,
            host=first.host,
            own=own,
            clusters=tuple(others[: STATUS_NAMES.value]),
            others=len(others),
            outside=tuple(sorted(outside)[: STATUS_NAMES.value]),
        )


def _maker(_ctx: Context, key: _Outside, total: Total) -> str | None:
    return key[1] if total.records else None
