"""Global names in this cluster's graph: who serves them, their Services, the local names they take over.

The rules are in scope.py (how far a Service reaches), imports.py (what is taken in of peers), global_names.py
(what a name is that several clusters serve). This half of the graph comes before workloads, because local
endpoints list the global names of their Services. Capacity is not in it: see exports.py, remote_endpoints.py.
"""

import msgspec

from peerd.derive import scope
from peerd.derive.allocation import GLOBAL_POOL
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_names import (
    DISTRIBUTIONS,
    PREFER_NETWORK,
    Contribution,
    GlobalName,
    global_distribution,
    global_service,
    is_distribution,
    merge,
    own_targets,
)
from peerd.derive.hostnames import Hostnames
from peerd.derive.imports import Import, admit
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.peer_ways import PeerWays
from peerd.derive.problems import keyed, name_of, warning
from peerd.derive.scope import Reach
from peerd.derive.segments import Segments
from peerd.derive.services import SERVICE, ServiceInfo, Services, hostname
from peerd.model.address import NamespacedHostname
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation, FederatedPort, FederatedService, PeerView
from peerd.model.generated import Generate
from peerd.model.kube.core import Service
from peerd.model.mesh import Settings
from peerd.model.record import Record
from peerd.model.service import Service as WireService
from peerd.model.sharing import shared
from peerd.model.workload import ServicePorts


class Scoped(Record, frozen=True):
    """A local Service whose labels reach beyond this cluster, or want others in.

    `contribution` is what it says of its global name, None where it is not exported; `waypoint` its own,
    `<namespace>/<name>` or empty.
    """

    info: ServiceInfo
    reach: Reach
    contribution: Contribution | None
    waypoint: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()


class Membership(Record, frozen=True):
    """A global name whose Service takes the endpoints of a local one, and the ports it has."""

    service: str
    ports: frozenset[int]


class Asked(Record, frozen=True):
    """Whether a local name is to lead to remote endpoints too (decision D23).

    `own`: our Service or Namespace asked; `by_rule`: by a mesh rule; `open`: the Gateway's word may decide.
    """

    own: bool
    by_rule: bool = False
    open: bool = True


class GlobalServices:
    """Names, their Services, and the local Services they take over."""

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
        hostnames: Hostnames,
        gateways: NetworkGateways,
        views: Input[str, PeerView],
        imports: Input[tuple[str, str], FederatedService],
        allocations: Input[str, Allocation],
    ) -> None:
        self._settings = settings
        self._beside = settings.generate is Generate.BESIDE
        self._mesh = mesh
        self._segments = segments
        self._namespaces = namespaces
        self._objects = objects
        self._hostnames = hostnames
        self._gateways = gateways
        self._views = views
        self._allocations = allocations
        # Under `<namespace>/<name>` of the Service.
        self.scoped = engine.derive("scoped services", services.table, self._scoped, joined=(objects,))
        self.asked = engine.memo("takeovers", self._asked)
        # Waypoints may be named by IP.
        self.by_address = engine.index(
            "services by address", hostnames.table, lambda _key, info: info.service.addresses
        )
        self._ways = PeerWays(engine, gateways=gateways, views=views)
        # Under the Gateway's key and the service's name.
        self._told = imports
        self.imports = engine.derive("admitted imports", imports, self._admitted)
        self.taken_over = engine.derive(
            "contributions to local names", self.imports, self._local_contribution
        )
        # Under `<namespace>/<host>`, as all that follows. A local name that is taken over is among them.
        self.contributions = engine.index(
            "contributions by name",
            (
                engine.derive_many("own contributions", self.scoped, self._own_contribution),
                engine.derive("peers' contributions", self.imports, self._contribution),
                self.taken_over,
            ),
            lambda _key, found: (found.key,),
        )
        self.names = engine.derive("global names", self.contributions, lambda _ctx, _key, found: merge(found))
        self.wire = engine.derive("global services", self.names, self._service, joined=(hostnames.table,))
        self.local_wire = engine.derive("local services", hostnames.table, self._local)
        self.all_wire = engine.union("wire services", self.local_wire, self.wire)
        # Thousands of remote endpoints look at ports, which stay when identities change.
        self.ports = engine.derive("ports of global services", self.wire, _ports)
        self.local_ports = engine.derive("ports of local services", self.local_wire, _ports)
        self._members = engine.derive_many("global names of services", self.scoped, self._membership)
        # Under the host alone.
        self.wanted = engine.derive_many(
            "global hosts that want addresses", self.names, self._wanted, joined=(hostnames.table,)
        )
        self.diagnostics = (
            engine.derive_many(
                "scope diagnostics", self.scoped, lambda _ctx, _key, found: keyed(found.diagnostics, "scope")
            ),
            engine.derive_many(
                "namespace scope diagnostics",
                namespaces,
                lambda _ctx, name, found: keyed(scope.problems(f"Namespace/{name}", found.labels), "scope"),
            ),
            engine.derive_many(
                "conflict diagnostics",
                self.names,
                lambda _ctx, _key, found: keyed(found.diagnostics, f"conflict {found.host}"),
            ),
            engine.derive_many("takeover diagnostics", self.imports, self._takeover_diagnostics),
            self._ways.diagnostics,
        )

    # -- what our own Services say -----------------------------------------------------------------------

    def _scoped(self, ctx: Context, _key: str, info: ServiceInfo) -> Scoped | None:
        service = ctx.same(self._objects)
        if service is None:
            return None
        meta, where = service.metadata, name_of("Service", service)
        namespace = ctx.get(self._namespaces, meta.namespace)
        inherited = {} if namespace is None else namespace.labels
        reach = scope.reach(meta.labels, inherited, self._mesh.of(ctx).config.scope_rules)
        diagnostics = list(scope.problems(where, meta.labels))
        if meta.namespace == self._settings.system_namespace:
            # Whoever imports refuses it (D23).
            reach = msgspec.structs.replace(reach, scope=None)
        if reach.scope is None and not reach.takeover and not reach.opted_out and not diagnostics:
            return None
        word = (
            service.spec.traffic_distribution
            or meta.annotations.traffic_distribution
            or ("" if namespace is None else namespace.traffic_distribution)
        )
        contribution = None
        if reach.scope is not None:
            if word and not is_distribution(word):
                fix = f"write one of {', '.join(DISTRIBUTIONS)}; PreferNetwork is used for the global name"
                diagnostics.append(warning(where, "spec.trafficDistribution", f"unknown {word!r}", fix))
                word = ""
            host = f"{meta.name}.{meta.namespace}.{self._segments.of(ctx).domain}"
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
        return Scoped(info, reach, contribution, _waypoint(info), tuple(diagnostics))

    def _own_contribution(
        self, _ctx: Context, key: str, found: Scoped
    ) -> dict[tuple[str, str], Contribution]:
        return {} if found.contribution is None else {("", key): found.contribution}

    # -- what peers say ----------------------------------------------------------------------------------

    def _admitted(self, ctx: Context, key: tuple[str, str], service: FederatedService) -> Import | None:
        """What is taken in; of one cluster's word through several Gateways the first Gateway's."""
        found = self._admit(ctx, key[0], service)
        if found is None:
            return None
        for gateway in ctx.ask(self._ways.before, key[0]):
            other = ctx.get(self._told, (gateway, key[1]))
            if other is not None and self._admit(ctx, gateway, other) is not None:
                return None
        return found

    def _admit(self, ctx: Context, through: str, service: FederatedService) -> Import | None:
        gateway, view = ctx.get(self._gateways.remote, through), ctx.get(self._views, through)
        if gateway is None or view is None:
            return None
        return admit(
            gateway,
            view,
            service,
            segment=self._segments.of(ctx).name,
            system_namespace=self._settings.system_namespace,
            own_network=self._mesh.of(ctx).network,
        )

    def local_host(self, service: FederatedService) -> str:
        """What the service is called inside our own cluster."""
        return hostname(service.name, service.namespace, self._settings.domain)

    def _takes_over(self, ctx: Context, name: str, found: Import) -> bool:
        """Whether an import, service *name*, also answers to its local name here (decisions D23, D25)."""
        service = found.service
        if service.local_host != self.local_host(service):
            return False
        asked = ctx.ask(self.asked, name)
        return asked.own or (asked.open and found.may_take_over and service.takeover)

    def _asked(self, ctx: Context, name: str) -> Asked:
        namespace, _, service = name.partition("/")
        namespace = shared(namespace)  # it is kept, as a look-up
        host = hostname(service, namespace, self._settings.domain)
        here = ctx.get(self._hostnames.table, f"{namespace}/{host}")
        if here is not None and here.source != SERVICE:
            return Asked(own=False, open=False)  # a ServiceEntry of the user has that name
        if here is not None and self._beside:
            return Asked(own=False, open=False)  # istiod gives a Service no identities (D25)
        if here is not None:
            scoped = ctx.get(self.scoped, name)
            reach = Reach() if scoped is None else scoped.reach
            return Asked(reach.takeover, reach.by_rule, not reach.opted_out)
        facts = ctx.get(self._namespaces, namespace)
        reach = scope.reach({}, {} if facts is None else facts.labels)
        return shared(Asked(reach.takeover, open=not reach.opted_out))

    def _contribution(self, _ctx: Context, _key: tuple[str, str], found: Import) -> Contribution:
        """What a peer says of its global name."""
        service = found.service
        return Contribution(
            key=found.key,
            host=service.global_host,
            name=service.name,
            namespace=service.namespace,
            cluster=found.cluster,
            peer=found.peer,
            ports=service.ports,
            distribution=service.distribution,
            scope=service.scope,
            takeover=service.takeover,
            identities=service.identities,
            created=service.created,
        )

    def _local_contribution(self, ctx: Context, key: tuple[str, str], found: Import) -> Contribution | None:
        """What it says of the local name, where that is taken over."""
        if not self._takes_over(ctx, key[1], found):
            return None
        host = found.service.local_host
        said = self._contribution(ctx, key, found)
        return msgspec.structs.replace(said, key=f"{said.namespace}/{host}", host=host)

    def _takeover_diagnostics(
        self, ctx: Context, key: tuple[str, str], found: Import
    ) -> dict[str, Diagnostic]:
        service = found.service
        if service.local_host == self.local_host(service):
            return {}
        if not ctx.ask(self.asked, key[1]).own:
            return {}
        return keyed(
            (
                warning(
                    f"Service/{service.namespace}/{service.name}",
                    f"metadata.labels[{scope.TAKEOVER}]",
                    f"cluster {found.cluster} calls it {service.local_host}, of another cluster domain",
                    f"use {service.global_host} to reach that cluster",
                ),
            ),
            f"takeover {found.cluster}",
        )

    # -- what the names are here -------------------------------------------------------------------------

    def _defined_here(self, ctx: Context) -> bool:
        """Whether an object of the cluster defines the name itself; then it stays what it is."""
        return ctx.same(self._hostnames.table) is not None

    def _own(self, ctx: Context, name: GlobalName) -> ServiceInfo | None:
        """Our Service behind a global name, where we export it under that name."""
        if not name.own:
            return None
        scoped = ctx.get(self.scoped, f"{name.namespace}/{name.name}")
        if scoped is None or scoped.contribution is None or scoped.contribution.host != name.host:
            return None
        return scoped.info

    def _service(self, ctx: Context, _key: str, name: GlobalName) -> WireService | None:
        """Served once its addresses are recorded (decision D28)."""
        allocation = ctx.get(self._allocations, name.host)
        if allocation is None and self._beside:
            allocation = Allocation(b"", b"")  # istiod gives it one, and serves it
        if allocation is None or self._defined_here(ctx):
            return None
        is_local_name = name.host == hostname(name.name, name.namespace, self._settings.domain)
        default = None if is_local_name else PREFER_NETWORK
        return global_service(name, allocation, self._mesh.of(ctx).network, self._own(ctx, name), default)

    def _wanted(self, ctx: Context, _key: str, name: GlobalName) -> dict[str, str]:
        return {} if self._beside or self._defined_here(ctx) else {name.host: GLOBAL_POOL}

    def _local(self, ctx: Context, key: str, info: ServiceInfo) -> WireService:
        """A Service of the cluster; where peers answer to its name too, with their identities (§3.4)."""
        name = ctx.get(self.names, key)
        service = info.service
        if name is None or info.source != SERVICE:
            return service
        balancing = service.load_balancing
        asked = ctx.ask(self.asked, f"{service.namespace}/{service.name}")
        if balancing is None and not asked.by_rule:
            default = PREFER_NETWORK if asked.own else None
            balancing = global_distribution(name.distribution, default)
        return msgspec.structs.replace(
            service,
            ports=own_targets(service.ports, name.everywhere),
            subject_alt_names=tuple(sorted({*service.subject_alt_names, *name.identities})),
            load_balancing=balancing,
        )

    def _membership(self, ctx: Context, _key: str, found: Scoped) -> dict[str, Membership]:
        if found.contribution is None:
            return {}
        service = ctx.get(self.wire, found.contribution.key)
        if service is None:
            return {}
        ports = frozenset(port.service_port for port in service.ports)
        return {found.info.key: Membership(service.resource_name, ports)}

    def expand(self, ctx: Context, services: tuple[ServicePorts, ...]) -> tuple[ServicePorts, ...]:
        """*services* of a local workload, and the global names of those that have one, by resource name."""
        added: list[ServicePorts] = []
        for entry in services:
            membership = ctx.get(self._members, entry.service)
            if membership is not None:
                ports = tuple(port for port in entry.ports if port.service_port in membership.ports)
                added.append(ServicePorts(membership.service, ports))
        if not added:
            return services
        return tuple(sorted((*services, *added), key=lambda entry: entry.service))


def _ports(_ctx: Context, key: str, service: WireService) -> ServicePorts:
    return ServicePorts(key, service.ports)


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


def _waypoint(info: ServiceInfo) -> str:
    """`<namespace>/<name>` of the waypoint's Service, empty where it is reached by IP."""
    waypoint = info.service.waypoint
    if waypoint is None or not isinstance(waypoint.destination, NamespacedHostname):
        return ""
    return f"{waypoint.destination.namespace}/{waypoint.destination.hostname.partition('.')[0]}"
