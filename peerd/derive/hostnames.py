"""One host name, several definitions: who is served, who is canonical (wire-contract §4.4)."""

import msgspec

from peerd.derive.engine import Context, Engine
from peerd.derive.problems import keyed, warning
from peerd.derive.service_entries import ServiceEntries
from peerd.derive.services import SERVICE, ServiceInfo, Services
from peerd.model.diagnostic import Diagnostic
from peerd.model.service import Visibility


def _age(info: ServiceInfo) -> tuple[str, str, str]:
    # Names decide between objects of one second, so that the order of events does not.
    return (info.created, info.object.namespace, info.object.name)


def winners(infos: tuple[ServiceInfo, ...]) -> dict[str, ServiceInfo]:
    """The services of one host name, by namespace.

    In each namespace a Kubernetes Service wins, else the oldest. Of the winners one is canonical: the
    Kubernetes Service, else the oldest that other namespaces may see.
    """
    best: dict[str, ServiceInfo] = {}
    for info in sorted(infos, key=lambda info: (info.source != SERVICE, *_age(info))):
        best.setdefault(info.service.namespace, info)
    services = [info for info in best.values() if info.source == SERVICE]
    if not services:
        public = [info for info in best.values() if info.service.visibility is Visibility.PUBLIC]
        if public:
            winner = min(public, key=_age)
            best[winner.service.namespace] = msgspec.structs.replace(
                winner, service=msgspec.structs.replace(winner.service, canonical=True)
            )
    return best


class Hostnames:
    """All services that are served, under `<namespace>/<hostname>`, and the indexes that find them."""

    def __init__(self, engine: Engine, services: Services, entries: ServiceEntries) -> None:
        typed = engine.union(
            "defined services",
            engine.derive_many(
                "keyed services", services.table, lambda _ctx, key, info: {f"{SERVICE}/{key}": info}
            ),
            entries.table,
        )
        self._by_host = engine.index("services by host", typed, lambda _key, info: (info.service.hostname,))
        self.table = engine.derive_many("served services", self._by_host, self._served)
        # Under the namespace and one pair of the selector: who looks for its services asks once for each of
        # its own labels, and is woken only by services that share one with it.
        self.selecting = engine.index(
            "services by selector",
            self.table,
            lambda _key, info: ((info.service.namespace, *info.selector[-1]),) if info.selector else (),
        )
        self.by_object = engine.index(
            "services by object", self.table, lambda _key, info: ((info.source, str(info.object)),)
        )
        self.diagnostics = engine.derive_many("service diagnostics", typed, self._diagnostics)

    def _served(self, _ctx: Context, _host: str, infos: tuple[ServiceInfo, ...]) -> dict[str, ServiceInfo]:
        return {info.key: info for info in winners(infos).values()}

    def _diagnostics(self, ctx: Context, _key: str, info: ServiceInfo) -> dict[str, Diagnostic]:
        found = list(info.diagnostics)
        served = ctx.get(self.table, info.key)
        if served is not None and (served.source, served.object) != (info.source, info.object):
            found.append(
                warning(
                    f"{info.source}/{info.object}",
                    f"spec.hosts[{info.service.hostname}]",
                    f"is already defined by {served.source} {served.object}, which wins",
                    "remove one of the two",
                )
            )
        return keyed(found)
