"""Global names in this cluster's graph: who serves them, their Services, the local names they take over.

The rules are in scope.py (how far a Service reaches), imports.py (what is taken in of peers), global_names.py
(what a name is that several clusters serve). This half of the graph comes before workloads, because local
endpoints list the global names of their Services. Capacity is not in it: see exports.py, remote_endpoints.py.
"""

import msgspec

from peerd.derive import scope
from peerd.derive.alias_owners import AliasOwners
from peerd.derive.allocation import GLOBAL_POOL
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_names import (
    Contribution,
    GlobalName,
    as_the_service_says,
    global_distribution,
    global_service,
    is_distribution,
    merge,
    own_targets,
)
from peerd.derive.hostnames import Hostnames
from peerd.derive.imports import Import, Imports, contribution_of
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.scoped import Scoped, ScopedServices
from peerd.derive.scoped_entries import ScopedEntries
from peerd.derive.segments import Segments
from peerd.derive.service_entries import ServiceEntries
from peerd.derive.services import SERVICE, ServiceInfo, Services
from peerd.derive.takeovers import Takeovers
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation, FederatedService, PeerView, Takeover
from peerd.model.generated import Generate
from peerd.model.kube.core import Service
from peerd.model.kube.istio import WorkloadEntry
from peerd.model.mesh import Settings
from peerd.model.record import Record
from peerd.model.service import Mode
from peerd.model.service import Service as WireService
from peerd.model.workload import ServicePorts


class Membership(Record, frozen=True):
    """A global name whose Service takes the endpoints of a local one, and the ports it has."""

    service: str
    ports: frozenset[int]


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
        entries: ServiceEntries,
        workload_entries: Input[str, WorkloadEntry],
        hostnames: Hostnames,
        gateways: NetworkGateways,
        views: Input[str, PeerView],
        imports: Input[tuple[str, str], FederatedService],
        allocations: Input[str, Allocation],
        recorded: Input[str, Takeover],
    ) -> None:
        self._settings = settings
        self._beside = settings.generate is Generate.BESIDE
        self._mesh = mesh
        self._hostnames = hostnames
        self._allocations = allocations
        # Under `<namespace>/<name>` of the Service.
        scoped = ScopedServices(
            engine,
            settings=settings,
            mesh=mesh,
            segments=segments,
            namespaces=namespaces,
            objects=objects,
            services=services,
        )
        scoped_entries = ScopedEntries(
            engine,
            settings=settings,
            mesh=mesh,
            segments=segments,
            namespaces=namespaces,
            entries=entries,
            workloads=workload_entries,
            hostnames=hostnames,
        )
        # A Service before a ServiceEntry of its name.
        self.scoped = engine.union("scoped", scoped.table, scoped_entries.table)
        # Waypoints may be named by IP.
        self.by_address = engine.index(
            "services by address", hostnames.table, lambda _key, info: info.service.addresses
        )
        admitted = Imports(
            engine,
            settings=settings,
            mesh=mesh,
            segments=segments,
            gateways=gateways,
            views=views,
            imports=imports,
        )
        # Under the Gateway's key and the service's name.
        self.imports = admitted.table
        self._takeovers = Takeovers(
            engine,
            settings=settings,
            namespaces=namespaces,
            hostnames=hostnames,
            scoped=self.scoped,
            imports=self.imports,
            recorded=recorded,
        )
        self.taken_over = self._takeovers.contributions
        self.local_host = self._takeovers.local_host
        self._aliases = AliasOwners(engine, scoped=self.scoped, imports=self.imports)
        # Under `<namespace>/<host>`, as all that follows. A local name that is taken over is among them.
        self.contributions = engine.index(
            "contributions by name",
            (
                engine.derive_many("own contributions", self.scoped, self._own_contribution),
                engine.derive("peers' contributions", self.imports, _told),
                self.taken_over,
                self._aliases.contributions,
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
        # What outlives Services, under `<namespace>/<name>` of theirs.
        self.takeovers = self._takeovers.to_record(engine, self.names)
        self.diagnostics = (
            scoped.diagnostics,
            *scoped_entries.diagnostics,
            engine.derive_many(
                "namespace scope diagnostics",
                namespaces,
                lambda _ctx, name, found: keyed(scope.problems(f"Namespace/{name}", found.labels), "scope"),
            ),
            engine.derive_many(
                "conflict diagnostics",
                self.names,
                _conflicts,
            ),
            self._aliases.diagnostics,
            engine.derive_many("entries of shared names", hostnames.table, self._entry_diagnostics),
            self._takeovers.diagnostics,
            admitted.diagnostics,
        )

    def _own_contribution(
        self, _ctx: Context, key: str, found: Scoped
    ) -> dict[tuple[str, str], Contribution]:
        return {} if found.contribution is None else {("", key): found.contribution}

    def _defined_here(self, ctx: Context) -> bool:
        """Whether an object of the cluster defines the name itself; then it stays what it is."""
        return ctx.same(self._hostnames.table) is not None

    def _own(self, ctx: Context, name: GlobalName) -> ServiceInfo | None:
        """Our Service behind a global name, where we export it under that name."""
        if not name.own:
            return None
        scoped = ctx.get(self.scoped, f"{name.namespace}/{name.name}")
        if scoped is None or scoped.contribution is None:
            return None
        return scoped.info if name.host in {scoped.contribution.host, *scoped.aliases} else None

    def distribution(self, ctx: Context, name: GlobalName) -> str:
        """The word that counts for *name*: what is said of it, else its default (decision D26)."""
        said, default = name.distribution, "PreferNetwork"
        if name.host == self._takeovers.local_host(name.name, name.namespace):
            asked = ctx.ask(self._takeovers.asked, f"{name.namespace}/{name.name}")
            if asked.by_rule:
                return "Any"  # stays as istiod has it
            default = "PreferNetwork" if asked.own else "Any"
        return said if is_distribution(said) else default

    def _service(self, ctx: Context, _key: str, name: GlobalName) -> WireService | None:
        """Served once its addresses are recorded (decision D28)."""
        allocation = ctx.get(self._allocations, name.host)
        if allocation is None and self._beside:
            allocation = Allocation(b"", b"")  # istiod gives it one, and serves it
        if allocation is None or self._defined_here(ctx):
            return None
        name = msgspec.structs.replace(name, distribution=self.distribution(ctx, name))
        return global_service(name, allocation, self._mesh.of(ctx).network, self._own(ctx, name))

    def _wanted(self, ctx: Context, _key: str, name: GlobalName) -> dict[str, str]:
        return {} if self._beside or self._defined_here(ctx) else {name.host: GLOBAL_POOL}

    def _local(self, ctx: Context, key: str, info: ServiceInfo) -> WireService:
        """A Service of the cluster; where peers answer to its name too, with their identities (§3.4)."""
        name = ctx.get(self.names, key)
        service = info.service
        if info.source != SERVICE:
            shared = self._shared_elsewhere(ctx, service)
            return service if shared is None else msgspec.structs.replace(service, canonical=False)
        if name is None:
            return service
        balancing = service.load_balancing
        if balancing is None or balancing.mode is Mode.UNSPECIFIED:
            said = global_distribution(self.distribution(ctx, name), None)
            balancing = as_the_service_says(said, balancing)
        return msgspec.structs.replace(
            service,
            ports=own_targets(service.ports, name.everywhere),
            subject_alt_names=tuple(sorted({*service.subject_alt_names, *name.identities})),
            load_balancing=balancing,
        )

    def _shared_elsewhere(self, ctx: Context, service: WireService) -> WireService | None:
        """The name of *service* where clusters share it and it is another namespace's.

        One Service of a host name is canonical (§4.4), and an entry must not take others' requests.
        """
        if not service.canonical:
            return None
        host = service.hostname
        named = host.split(".")[1:2]
        for namespace in (*named, self._aliases.owner(ctx, host).partition("/")[0]):
            shared = ctx.get(self.wire, f"{namespace}/{host}") if namespace != service.namespace else None
            if shared is not None:
                return shared
        return None

    def _entry_diagnostics(self, ctx: Context, _key: str, info: ServiceInfo) -> dict[str, Diagnostic]:
        shared = None if info.source == SERVICE else self._shared_elsewhere(ctx, info.service)
        if shared is None:
            return {}
        field = f"spec.hosts[{info.service.hostname}]"
        text = f"clusters share it as {shared.namespace}/{shared.name}; this one counts in its namespace only"
        fix = "use a host name of your own"
        return keyed((warning(f"{info.source}/{info.object}", field, text, fix),), "shared")

    def _membership(self, ctx: Context, _key: str, found: Scoped) -> dict[str, tuple[Membership, ...]]:
        said = found.contribution
        if said is None:
            return {}
        keys = (said.key, *self.alias_keys(ctx, f"{said.namespace}/{said.name}", found.aliases))
        services = [service for key in keys if (service := ctx.get(self.wire, key)) is not None]
        if not services:
            return {}
        return {
            found.info.key: tuple(
                Membership(service.resource_name, frozenset(port.service_port for port in service.ports))
                for service in services
            )
        }

    def alias_keys(self, ctx: Context, service: str, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Resource names of those aliases of *service*, `<namespace>/<name>`, that are its own."""
        return self._aliases.keys(ctx, service, hosts) if hosts else ()

    def expand(self, ctx: Context, services: tuple[ServicePorts, ...]) -> tuple[ServicePorts, ...]:
        """*services* of a local workload, and the global names of those that have one, by resource name."""
        added: list[ServicePorts] = []
        for entry in services:
            for membership in ctx.get(self._members, entry.service) or ():
                ports = tuple(port for port in entry.ports if port.service_port in membership.ports)
                added.append(ServicePorts(membership.service, ports))
        if not added:
            return services
        return tuple(sorted((*services, *added), key=lambda entry: entry.service))


def _conflicts(_ctx: Context, _key: str, found: GlobalName) -> dict[str, Diagnostic]:
    """Told of the name itself; of its aliases it would be the same again."""
    if not found.host.startswith(f"{found.name}.{found.namespace}."):
        return {}
    return keyed(found.diagnostics, f"conflict {found.host}")


def _told(_ctx: Context, _key: tuple[str, str], found: Import) -> Contribution:
    return contribution_of(found)


def _ports(_ctx: Context, key: str, service: WireService) -> ServicePorts:
    return ServicePorts(key, service.ports)
