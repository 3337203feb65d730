"""ServiceEntries that are global: what their label says to other clusters (ADR 14).

Only their own label counts: a Namespace's is for its Services, and most entries are of hosts elsewhere.
"""

from peerd.derive import scope
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.global_names import DISTRIBUTIONS, Contribution, is_distribution
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, keyed, name_of, warning
from peerd.derive.scope import Reach
from peerd.derive.scoped import Scoped, waypoint_name
from peerd.derive.segments import Segments
from peerd.derive.service_entries import ServiceEntries, resolution_of
from peerd.derive.services import SERVICE_ENTRY, ServiceInfo
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedPort
from peerd.model.kube.istio import ServiceEntry, WorkloadEntry
from peerd.model.mesh import Settings


class ScopedEntries:
    """Scoped, under `<namespace>/<name>` of the ServiceEntry."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        segments: Segments,
        namespaces: Input[str, NamespaceFacts],
        entries: ServiceEntries,
        workloads: Input[str, WorkloadEntry],
        hostnames: Hostnames,
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._segments = segments
        self._namespaces = namespaces
        self._hostnames = hostnames
        self.table = engine.derive("scoped service entries", entries.admitted, self._scoped)
        self.diagnostics = (
            engine.derive_many("entry scope diagnostics", self.table, lambda _c, _k, found: _told(found)),
            engine.derive_many("endpoint scope diagnostics", workloads, lambda _c, _k, found: _check(found)),
        )

    def _scoped(self, ctx: Context, key: str, entry: ServiceEntry) -> Scoped | None:
        meta, where = entry.metadata, name_of("ServiceEntry", entry)
        if scope.SCOPE not in meta.labels:
            return None
        infos = ctx.find(self._hostnames.by_object, (SERVICE_ENTRY, key))
        if not infos:
            return None
        # All its hosts have the same endpoints.
        info = min(infos, key=lambda found: found.service.hostname)
        reach = scope.reach(meta.labels, {})
        told = list(scope.problems(where, meta.labels))
        system = meta.namespace == self._settings.system_namespace
        if reach.scope is not None and resolution_of(entry) == "NONE":
            fix = "name endpoints, or select workloads, with resolution STATIC"
            told.append(error(where, "spec.resolution", "NONE has no endpoints to share", fix))
        elif reach.scope is not None and not system:
            return Scoped(
                info,
                Reach(reach.scope),  # the ordinary name of a service is not an entry's to take over
                self._contribution(ctx, entry, info, reach, told),
                waypoint_name(info),
                diagnostics=tuple(told),
            )
        return Scoped(info, Reach(), None, diagnostics=tuple(told)) if told else None

    def _contribution(
        self, ctx: Context, entry: ServiceEntry, info: ServiceInfo, reach: Reach, told: list[Diagnostic]
    ) -> Contribution | None:
        meta = entry.metadata
        if reach.scope is None:
            return None
        namespace = ctx.get(self._namespaces, meta.namespace)
        word = meta.annotations.traffic_distribution or (
            "" if namespace is None else namespace.traffic_distribution
        )
        if word and not is_distribution(word):
            fix = f"write one of {', '.join(DISTRIBUTIONS)}; PreferNetwork is used for the global name"
            field = "metadata.annotations[networking.istio.io/traffic-distribution]"
            told.append(warning(name_of("ServiceEntry", entry), field, f"unknown {word!r}", fix))
            word = ""
        host = f"{meta.name}.{meta.namespace}.{self._segments.of(ctx).domain}"
        return Contribution(
            key=f"{meta.namespace}/{host}",
            host=host,
            name=meta.name,
            namespace=meta.namespace,
            cluster=self._settings.cluster_id,
            peer="",
            ports=_federated_ports(entry, info),
            distribution=word or "PreferNetwork",
            scope=reach.scope,
            takeover=False,
            identities=(),
            created=meta.creation_timestamp,
            source=SERVICE_ENTRY,
        )


def _federated_ports(entry: ServiceEntry, info: ServiceInfo) -> tuple[FederatedPort, ...]:
    served = {port.service_port: port for port in info.service.ports}
    ports: dict[int, FederatedPort] = {}
    for port in entry.spec.ports:
        found = served.get(port.number)
        if found is not None and port.protocol.upper() != "UDP":
            ports.setdefault(
                port.number,
                FederatedPort(
                    port.number, port.name, app_protocol=found.app_protocol, target=found.target_port
                ),
            )
    return tuple(ports.values())


def _told(found: Scoped) -> dict[str, Diagnostic]:
    return keyed(found.diagnostics, "scope")


def _check(entry: WorkloadEntry) -> dict[str, Diagnostic]:
    """An endpoint is as global as what selects it."""
    if scope.SCOPE not in entry.metadata.labels:
        return {}
    field = f"metadata.labels[{scope.SCOPE}]"
    text = "says nothing: an endpoint is as global as the Service or ServiceEntry that selects it"
    fix = "label that instead"
    return keyed((warning(name_of("WorkloadEntry", entry), field, text, fix),), "scope")
