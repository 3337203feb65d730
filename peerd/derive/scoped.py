"""What the labels of our own Services say to other clusters (decisions D25, D26)."""

import msgspec

from peerd.derive import scope
from peerd.derive.aliases import Named, made
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.global_names import DISTRIBUTIONS, Contribution, is_distribution
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import keyed, name_of, warning
from peerd.derive.scope import Reach
from peerd.derive.segments import Segments
from peerd.derive.services import ServiceInfo, Services
from peerd.model.address import NamespacedHostname, ip_text
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedPort
from peerd.model.kube.core import Service
from peerd.model.mesh import Settings
from peerd.model.record import Record


class Scoped(Record, frozen=True):
    """A local Service whose labels reach beyond this cluster, or want others in.

    `contribution` is what it says of its global name, None where it is not exported, `aliases` are further
    names; `waypoint` its own,
    `<namespace>/<name>` or empty. `asks` says that its own labels want its local name taken over, not only
    its Namespace's, which outlive it.
    """

    info: ServiceInfo
    reach: Reach
    contribution: Contribution | None
    waypoint: str = ""
    asks: bool = False
    aliases: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


class ScopedServices:
    """Scoped, under `<namespace>/<name>` of the Service."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        segments: Segments,
        namespaces: Input[str, NamespaceFacts],
        objects: Input[str, Service],
        services: Services,
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._segments = segments
        self._namespaces = namespaces
        self._objects = objects
        self.table = engine.derive("scoped services", services.table, self._scoped, joined=(objects,))
        self.diagnostics = engine.derive_many(
            "scope diagnostics", self.table, lambda _ctx, _key, found: keyed(found.diagnostics, "scope")
        )

    def _scoped(self, ctx: Context, _key: str, info: ServiceInfo) -> Scoped | None:
        service = ctx.same(self._objects)
        if service is None:
            return None
        meta, where = service.metadata, name_of("Service", service)
        namespace = ctx.get(self._namespaces, meta.namespace)
        inherited = {} if namespace is None else namespace.labels
        rules = self._mesh.of(ctx).config.scope_rules
        reach = scope.reach(meta.labels, inherited, rules)
        asks = reach.takeover and scope.reach(meta.labels, {}, rules).takeover
        diagnostics = list(scope.problems(where, meta.labels))
        if meta.namespace == self._settings.system_namespace:
            # Whoever imports refuses it (D23).
            reach = msgspec.structs.replace(reach, scope=None)
        if reach.scope is None and not reach.takeover and not reach.opted_out and not diagnostics:
            return None
        word = (
            service.spec.traffic_distribution
            or meta.known.traffic_distribution
            or ("" if namespace is None else namespace.traffic_distribution)
        )
        contribution = None
        aliases: tuple[str, ...] = ()
        if reach.scope is not None:
            if word and not is_distribution(word):
                fix = f"write one of {', '.join(DISTRIBUTIONS)}; PreferNetwork is used for the global name"
                diagnostics.append(warning(where, "spec.trafficDistribution", f"unknown {word!r}", fix))
                word = ""
            domain = self._segments.of(ctx).domain
            host = f"{meta.name}.{meta.namespace}.{domain}"
            aliases = made(
                self._segments.aliases(ctx),
                Named(meta.name, meta.namespace, meta.labels, meta.annotations),
                reserved=(self._settings.domain, domain),
            )
            contribution = Contribution(
                key=f"{meta.namespace}/{host}",
                host=host,
                name=meta.name,
                namespace=meta.namespace,
                cluster=self._settings.cluster_id,
                peer="",
                ports=_federated_ports(service, info),
                # Labels of solo.io imply PreferNetwork, for taken-over names too; a mesh rule does not (D26).
                distribution=word or ("" if reach.by_rule else "PreferNetwork"),
                scope=reach.scope,
                takeover=reach.takeover,
                identities=(),
                created=meta.creation_timestamp,
            )
        return Scoped(info, reach, contribution, waypoint_name(info), asks, aliases, tuple(diagnostics))


def _federated_ports(service: Service, info: ServiceInfo) -> tuple[FederatedPort, ...]:
    """TCP ports as callers name them, each number once; the mesh carries no UDP."""
    served = {port.service_port: port for port in info.service.ports}
    ports: dict[int, FederatedPort] = {}
    for port in service.spec.ports:
        found = served.get(port.port)
        if found is not None and port.protocol in {"", "TCP"}:
            ports.setdefault(
                port.port,
                FederatedPort(
                    port.port, port.name, app_protocol=found.app_protocol, target=found.target_port
                ),
            )
    return tuple(ports.values())


def waypoint_name(info: ServiceInfo) -> str:
    """`<namespace>/<name>` of the waypoint's Service; its IP takes the name's place where it has no other."""
    waypoint = info.service.waypoint
    if waypoint is None:
        return ""
    match waypoint.destination:
        case NamespacedHostname(namespace, host):
            return f"{namespace}/{host.partition('.')[0]}"
        case found:
            return f"{info.service.namespace}/{ip_text(found.address)}"
