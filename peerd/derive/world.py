"""The world: all of derivation in one object, from changes of inputs to what is served.

This file says what goes in, what comes out, and in which order the kinds are derived; the rules are in one
file per kind, the machinery in engine.py (with graph.py and tables.py):

    mesh.py              mesh configuration, trust domain, network, discovery selectors
    namespaces.py        what Namespaces give to the objects inside
    nodes.py             locality
    waypoints.py         waypoints and who is bound to them
    services.py          Kubernetes Services
    service_entries.py   ServiceEntries
    hostnames.py         several definitions of one host name
    policies.py          AuthorizationPolicy (authorization.py), PeerAuthentication (peer_authentication.py)
    gateways.py          network gateways
    peers.py             peers to dial
    segments.py          the segment of this cluster
    own_info.py          what this cluster says of itself to peers
    global_services.py   names that several clusters serve (scope.py, imports.py, global_names.py)
    endpoints.py         what workloads of all kinds have in common
    slices.py            EndpointSlices
    pods.py              Pods
    workload_entries.py  WorkloadEntries and inline endpoints
    global_endpoints.py  what is exported, and the endpoints of what is imported (remote_workloads.py)
    federation_status.py who serves a global name, for people to see
    generation.py        what is written into the own cluster (generated_*.py)
    gateway_config.py    what our east-west gateways are configured with (gateway_endpoints.py)
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from peerd.derive.endpoints import Endpoints, PodShape
from peerd.derive.engine import Collection, Engine, Input, Output
from peerd.derive.federation_status import FederationStatus
from peerd.derive.gateway_config import GatewayConfig
from peerd.derive.gateways import NetworkGateways
from peerd.derive.generation import Generation
from peerd.derive.global_endpoints import GlobalEndpoints
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import ONLY, Mesh, ParsedMesh, is_mesh_config, parse_mesh
from peerd.derive.namespaces import NamespaceFacts, namespace_facts
from peerd.derive.nodes import node_address, node_locality
from peerd.derive.own_info import OwnInfo
from peerd.derive.peers import Peers
from peerd.derive.pods import PodFacts, Pods, pod_facts, pod_uid
from peerd.derive.policies import Policies
from peerd.derive.problems import fault, is_named, keyed, misnamed
from peerd.derive.segments import Segments
from peerd.derive.service_entries import ServiceEntries
from peerd.derive.services import Services
from peerd.derive.slices import Slices
from peerd.derive.waypoints import Waypoints
from peerd.derive.workload_entries import WorkloadEntries
from peerd.limits import POD_SHAPES
from peerd.model.address import Locality
from peerd.model.authorization import Authorization
from peerd.model.changes import (
    AllocationChange,
    Change,
    ImportChange,
    ImportedWorkloadChange,
    IstiodChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import (
    Allocation,
    FederatedName,
    FederatedService,
    NetworkGateway,
    PeerInfo,
    PeerView,
    RemotePeer,
    Takeover,
)
from peerd.model.gateway_config import GatewayCluster, GatewayEndpoints, GatewayListener, OwnGateway
from peerd.model.generated import Generate, Generated, IstiodFlags
from peerd.model.kube.core import ConfigMap, EndpointSlice, Namespace, Node, Pod, Service
from peerd.model.kube.gateway import Gateway, GatewayClass
from peerd.model.kube.istio import (
    AuthorizationPolicy,
    PeerAuthentication,
    Segment,
    ServiceEntry,
    WorkloadEntry,
)
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.model.mesh import Settings
from peerd.model.record import Record
from peerd.model.service import Service as WireService
from peerd.model.sharing import shared
from peerd.model.workload import Workload

_Put = tuple[Input[Any, Any], Any, Any]


class Commit(Record, frozen=True):
    """One revision: what changed since the one before, as pairs of name and record, None = gone.

    Names are resource names (addresses, policies, exports), `<namespace>/<name>` of the istio-remote Gateway
    (peers) or of the Service (takeovers), host names (wanted hosts, with the pool they want an address of),
    and keys that stay equal as long as a problem does (diagnostics). `info` is set when it changed, its
    lineage left to the application; `network` is the cluster's own, always. `gateway_*` configure our
    east-west gateways, who prove to be one of `gateways` (`<namespace>/<name>`).

    `flat_exports` are our endpoints of global services, by uid, for peers on our own network (decision D31);
    peers of our own segment are given `segment_flat_exports` instead, which include services of scope
    segment. `takeovers` are to be recorded, and given back as `TakeoverChange` (decision D23). `generated` is
    for our own API server, under `<Kind>/<namespace>/<name>`. So is `federation`, under `<namespace>/<host>`
    of a global name. `ways` lead into other networks: namespace and name of their istio-remote Gateway, and
    which of its addresses.
    """

    revision: int
    addresses: tuple[tuple[str, Workload | WireService | None], ...] = ()
    policies: tuple[tuple[str, Authorization | None], ...] = ()
    exports: tuple[tuple[str, FederatedService | None], ...] = ()
    flat_exports: tuple[tuple[str, Workload | None], ...] = ()
    segment_flat_exports: tuple[tuple[str, Workload | None], ...] = ()
    takeovers: tuple[tuple[str, Takeover | None], ...] = ()
    peers: tuple[tuple[str, RemotePeer | None], ...] = ()
    wanted_hosts: tuple[tuple[str, str | None], ...] = ()
    diagnostics: tuple[tuple[str, Diagnostic | None], ...] = ()
    generated: tuple[tuple[str, Generated | None], ...] = ()
    federation: tuple[tuple[str, FederatedName | None], ...] = ()
    ways: tuple[tuple[tuple[str, str, int], NetworkGateway | None], ...] = ()
    gateways: tuple[tuple[str, OwnGateway | None], ...] = ()
    gateway_listeners: tuple[tuple[str, GatewayListener | None], ...] = ()
    gateway_clusters: tuple[tuple[str, GatewayCluster | None], ...] = ()
    gateway_endpoints: tuple[tuple[str, GatewayEndpoints | None], ...] = ()
    info: PeerInfo | None = None
    network: str = ""


class _Inputs:
    """The inputs of the graph, keyed `<namespace>/<name>` or `<name>`; Pods by uid."""

    def __init__(self, engine: Engine) -> None:
        self.namespaces: Input[str, NamespaceFacts] = engine.input("namespaces")
        self.localities: Input[str, Locality] = engine.input("node localities")
        self.node_addresses: Input[str, str] = engine.input("node addresses")
        self.gateways: Input[str, Gateway] = engine.input("gateways")
        self.gateway_classes: Input[str, GatewayClass] = engine.input("gateway classes")
        self.services: Input[str, Service] = engine.input("kubernetes services")
        self.slices: Input[str, EndpointSlice] = engine.input("endpoint slices")
        self.pods: Input[str, PodFacts] = engine.input("pods")
        self.problems: Input[str, tuple[Diagnostic, ...]] = engine.input("problems found on the way in")
        self.service_entries: Input[str, ServiceEntry] = engine.input("all service entries")
        self.workload_entries: Input[str, WorkloadEntry] = engine.input("all workload entries")
        self.authorizations: Input[str, AuthorizationPolicy] = engine.input("all authorization policies")
        self.authentications: Input[str, PeerAuthentication] = engine.input("all peer authentications")
        self.segments: Input[str, Segment] = engine.input("segments")
        self.allocations: Input[str, Allocation] = engine.input("allocations")
        self.views: Input[str, PeerView] = engine.input("peer views")
        self.imports: Input[tuple[str, str], FederatedService] = engine.input("imports")
        self.imported_workloads: Input[tuple[str, str], Workload] = engine.input("imported workloads")
        self.takeovers: Input[str, Takeover] = engine.input("recorded takeovers")
        self.istiod: Input[str, IstiodFlags] = engine.input("flags of istiod")
        self.istiod.common = True


class World:
    """Derivation, incrementally: `apply` changes, `work` until done, `commit` a revision.

        world.apply(changes)
        while not world.work(should_yield):
            ...  # let others run
        commit = world.commit()

    `transformations` counts how often anything was derived, over the life of the world.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = engine = Engine()
        self.inputs = inputs = _Inputs(engine)
        cluster, domain, revision = settings.cluster_id, settings.domain, settings.revision
        beside = settings.generate is Generate.BESIDE
        self._shapes: dict[PodShape, PodShape] = {}
        self._mesh_maps: dict[str, ParsedMesh] = {}
        self._told: dict[tuple[str, Any], Exception] = {}

        self.mesh = mesh = Mesh(engine, settings, inputs.namespaces)
        waypoints = Waypoints(engine, mesh, inputs.namespaces, inputs.gateways, inputs.gateway_classes)
        services = Services(
            engine,
            domain=domain,
            mesh=mesh,
            namespaces=inputs.namespaces,
            waypoints=waypoints,
            services=inputs.services,
        )
        entries = ServiceEntries(
            engine,
            revision=revision,
            mesh=mesh,
            namespaces=inputs.namespaces,
            waypoints=waypoints,
            entries=inputs.service_entries,
            allocations=inputs.allocations,
        )
        self.hostnames = hostnames = Hostnames(engine, services, entries)
        policies = Policies(
            engine,
            revision=revision,
            mesh=mesh,
            authorizations=inputs.authorizations,
            authentications=inputs.authentications,
        )
        self.gateways = gateways = NetworkGateways(
            engine, mesh=mesh, gateways=inputs.gateways, views=inputs.views, beside=beside
        )
        peers = Peers(engine, settings=settings, mesh=mesh, gateways=gateways, views=inputs.views)
        segments = Segments(
            engine,
            settings=settings,
            mesh=mesh,
            namespaces=inputs.namespaces,
            segments=inputs.segments,
        )
        info = OwnInfo(
            engine,
            settings=settings,
            mesh=mesh,
            segments=segments,
            gateways=inputs.gateways,
            services=inputs.services,
            node_addresses=inputs.node_addresses,
        )
        self.global_services = names = GlobalServices(
            engine,
            settings=settings,
            mesh=mesh,
            segments=segments,
            namespaces=inputs.namespaces,
            objects=inputs.services,
            services=services,
            hostnames=hostnames,
            gateways=gateways,
            views=inputs.views,
            imports=inputs.imports,
            allocations=inputs.allocations,
        )
        self.endpoints = endpoints = Endpoints(
            engine,
            mesh=mesh,
            hostnames=hostnames,
            waypoints=waypoints,
            policies=policies,
            gateways=gateways,
            global_services=names,
        )
        slices = Slices(
            engine,
            cluster=cluster,
            domain=domain,
            mesh=mesh,
            hostnames=hostnames,
            global_services=names,
            slices=inputs.slices,
        )
        self.pods = pods = Pods(
            engine,
            cluster=cluster,
            domain=domain,
            pods=inputs.pods,
            localities=inputs.localities,
            endpoints=endpoints,
            slices=slices,
        )
        self.workload_entries = workloads = WorkloadEntries(
            engine,
            cluster=cluster,
            revision=revision,
            entries=inputs.workload_entries,
            service_entries=entries,
            endpoints=endpoints,
        )

        # What is sent. Local workloads, each kind under its uid, are also what global services count.
        self.local_workloads: tuple[Collection[str, Workload], ...] = (
            pods.wire,
            workloads.wire,
            workloads.endpoint_wire,
            slices.wire,
        )
        remote = GlobalEndpoints(
            engine,
            mesh=mesh,
            names=names,
            gateways=gateways,
            workloads=self.local_workloads,
            beside=beside,
        )
        own = GatewayConfig(
            engine,
            domain=domain,
            mesh=mesh,
            names=names,
            gateways=inputs.gateways,
            exports=remote.exports,
            workloads=self.local_workloads,
        )
        addresses: list[Collection[str, Any]] = [
            names.all_wire,
            gateways.wire,
            *self.local_workloads,
            remote.wire,
        ]
        # Beside istiod it is istiod that allocates (decision D28).
        allocating = () if beside else (names.wanted, entries.wanted)
        wanted = engine.union("wanted hosts", *allocating)
        diagnostics: list[Collection[str, Diagnostic]] = [
            mesh.diagnostics,
            waypoints.diagnostics,
            entries.diagnostics,
            hostnames.diagnostics,
            *policies.diagnostics,
            peers.diagnostics,
            segments.diagnostics,
            *names.diagnostics,
            *remote.diagnostics,
            slices.diagnostics,
            workloads.diagnostics,
            own.diagnostics,
            info.diagnostics,
            engine.derive_many("early diagnostics", inputs.problems, lambda _c, _k, found: keyed(found)),
        ]

        generated: list[Collection[str, Generated]] = []
        if settings.generate is not Generate.NOTHING:
            generation = Generation(
                engine,
                settings=settings,
                mesh=mesh,
                segments=segments,
                namespaces=inputs.namespaces,
                objects=inputs.services,
                names=names,
                hostnames=hostnames,
                flags=inputs.istiod,
                remote=remote.wire,
            )
            generated = generation.tables
            diagnostics += generation.diagnostics

        self._addresses = _outputs(engine, addresses)
        self._policies = _outputs(engine, [policies.wire])
        self._exports = _outputs(engine, [remote.exports])
        self._peers = _outputs(engine, [peers.table])
        self._wanted = _outputs(engine, [wanted])
        self._diagnostics = _outputs(engine, diagnostics)
        self._gateways = _outputs(engine, [own.gateways])
        self._listeners = _outputs(engine, [own.listeners])
        self._clusters = _outputs(engine, [own.clusters])
        self._endpoints = _outputs(engine, [own.endpoints])
        self._generated = _outputs(engine, generated)
        self._federation = _outputs(engine, self._status_of(names))
        self._ways, self._info = engine.output(gateways.table), engine.output(info.table)
        engine.submit([(mesh.anchor, ONLY, "mesh")])

    def _status_of(self, names: GlobalServices) -> list[Collection[str, FederatedName]]:
        """Where there is a cluster to write to, what is told of global names in it."""
        if self._settings.generate is Generate.NOTHING:
            return []
        return [FederationStatus(self.engine, names=names, workloads=self.local_workloads).table]

    @property
    def transformations(self) -> int:
        """How many transformations have run."""
        return self.engine.runs

    def apply(self, changes: Iterable[Change]) -> None:
        """Queue changes for the next batch. May be called at any time."""
        self.engine.submit(self._puts(tuple(changes)))

    def work(self, should_yield: Callable[[], bool] = lambda: False) -> bool:
        """Derive until the batch is done (True) or *should_yield* says so (False): then call it again."""
        return self.engine.work(should_yield)

    def commit(self) -> Commit:
        """The changes of the batch that `work` finished, as one revision.

        Raises:
            RuntimeError: `work` has not said that it was done.
        """
        revision = self.engine.commit()
        facts = self.mesh.facts.values[ONLY]
        return Commit(
            revision=revision,
            addresses=_taken(self._addresses),
            policies=_taken(self._policies),
            exports=_taken(self._exports),
            peers=_taken(self._peers),
            wanted_hosts=_taken(self._wanted),
            diagnostics=(*_taken(self._diagnostics), *self._faults()),
            gateways=_taken(self._gateways),
            gateway_listeners=_taken(self._listeners),
            gateway_clusters=_taken(self._clusters),
            gateway_endpoints=_taken(self._endpoints),
            generated=_taken(self._generated),
            federation=_taken(self._federation),
            ways=tuple(self._ways.take()),
            info=dict(self._info.take()).get(ONLY),
            network=facts.network,
        )

    def _faults(self) -> Iterator[tuple[str, Diagnostic | None]]:
        """What derivation itself could not do: a bug of ours, told where its object is."""
        faults = self.engine.faults
        for name in [name for name in self._told if name not in faults]:
            del self._told[name]
            yield f"fault: {name}", None
        for name, problem in faults.items():
            if self._told.get(name) is not problem:
                self._told[name] = problem
                yield f"fault: {name}", fault(*name, problem)

    # -- from changes to inputs --------------------------------------------------------------------------

    def _puts(self, changes: Iterable[Change]) -> Iterator[_Put]:
        inputs = self.inputs
        for change in changes:
            if isinstance(change, ObjectChange):
                if is_named(change.kind, change.key):
                    yield from self._object(change.kind, change.key, change.object)
                else:
                    told = None if change.object is None else (misnamed(change.kind, change.key),)
                    yield inputs.problems, f"{change.kind}/{change.key}", told
            elif isinstance(change, ImportChange):
                yield inputs.imports, (shared(str(change.peer)), change.name), change.service
            elif isinstance(change, ImportedWorkloadChange):
                yield inputs.imported_workloads, (shared(str(change.peer)), change.uid), change.workload
            elif isinstance(change, TakeoverChange):
                yield inputs.takeovers, change.service, change.takeover
            elif isinstance(change, IstiodChange):
                yield inputs.istiod, ONLY, change.flags
            elif isinstance(change, PeerChange):
                yield inputs.views, str(change.peer), change.view
            elif isinstance(change, AllocationChange):
                yield inputs.allocations, change.host, change.allocation

    def _object(self, kind: str, key: ObjectKey, found: KubeObject | None) -> Iterator[_Put]:
        """The puts of one object. Pods, Nodes, Namespaces are reduced to what is used at once."""
        inputs = self.inputs
        name = str(key)
        match kind, found:
            case "Pod", Pod():
                facts, problems = pod_facts(found)
                uid = pod_uid(self._settings.cluster_id, key.namespace, key.name)
                yield inputs.pods, uid, None if facts is None else self._shared(facts)
                yield inputs.problems, uid, problems or None
            case "Pod", _:
                uid = pod_uid(self._settings.cluster_id, key.namespace, key.name)
                yield inputs.pods, uid, None
                yield inputs.problems, uid, None
            case "Node", _:
                node = found if isinstance(found, Node) else None
                yield inputs.localities, key.name, None if node is None else node_locality(node)
                yield inputs.node_addresses, key.name, None if node is None else node_address(node)
            case "Namespace", _:
                facts_of = namespace_facts(found) if isinstance(found, Namespace) else None
                yield inputs.namespaces, key.name, facts_of
            case "ConfigMap", _:
                if is_mesh_config(self._settings, key.namespace, key.name):
                    yield self.mesh.config_maps, key.name, self._mesh_map(key.name, found)
            case _:
                table = _TABLES.get(kind)
                if table is not None:
                    yield getattr(inputs, table), name, found

    def _shared(self, facts: PodFacts) -> PodFacts:
        """The same facts, holding the one copy of their shape that all Pods alike share."""
        shapes = self._shapes
        shape = shapes.get(facts.shape)
        if shape is None:
            if len(shapes) >= POD_SHAPES.value:
                shapes.clear()  # Pods keep what they have; only sharing starts anew
            shape = shapes[facts.shape] = facts.shape
        return facts if shape is facts.shape else msgspec.structs.replace(facts, shape=shape)

    def _mesh_map(self, name: str, found: KubeObject | None) -> ParsedMesh | None:
        """A mesh ConfigMap; one that cannot be read keeps the last good configuration, with its problems."""
        if not isinstance(found, ConfigMap):
            self._mesh_maps.pop(name, None)
            return None
        parsed = parse_mesh(found)
        last = self._mesh_maps.get(name)
        if parsed.config is None and last is not None:
            parsed = ParsedMesh(last.config, parsed.diagnostics)
        self._mesh_maps[name] = parsed
        return parsed


# Kinds that enter as they are: the attribute of _Inputs.
_TABLES = {
    "Gateway": "gateways",
    "GatewayClass": "gateway_classes",
    "Service": "services",
    "EndpointSlice": "slices",
    "ServiceEntry": "service_entries",
    "WorkloadEntry": "workload_entries",
    "AuthorizationPolicy": "authorizations",
    "PeerAuthentication": "authentications",
    "Segment": "segments",
}


def _outputs(engine: Engine, tables: Iterable[Collection[str, Any]]) -> tuple[Output[str, Any], ...]:
    return tuple(engine.output(table) for table in tables)


def _taken(outputs: Iterable[Output[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple(chain.from_iterable(output.take() for output in outputs))
