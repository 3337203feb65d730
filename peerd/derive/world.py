"""The world: all of derivation in one object, from changes of inputs to what is served.

This file says in which order the kinds are derived; the rules are in one
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
    scoped.py            what labels of our Services say (scope.py), and of ServiceEntries (scoped_entries.py)
    imports.py           what is taken in of peers (peer_ways.py)
    takeovers.py         local names that peers answer to
    global_services.py   names that several clusters serve (global_names.py)
    endpoints.py         what workloads of all kinds have in common
    slices.py            EndpointSlices
    pods.py              Pods
    workload_entries.py  WorkloadEntries and inline endpoints
    exports.py           what peers are told of our global services
    flat_exports.py      and of their endpoints, on our own network
    remote_endpoints.py  the endpoints of what is imported (remote_workloads.py)
    flat_endpoints.py    and those on our own network
    federation_status.py who serves a global name, for people to see
    generation.py        what is written into the own cluster (generated_*.py)
    gateway_config.py    what our east-west gateways are configured with (gateway_endpoints.py)
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from peerd.derive.commit import Commit
from peerd.derive.endpoints import Endpoints
from peerd.derive.engine import Collection, Engine, Input, Output
from peerd.derive.exports import Exports
from peerd.derive.federation_status import FederationStatus
from peerd.derive.flat_endpoints import FlatEndpoints
from peerd.derive.flat_exports import FlatExports
from peerd.derive.gateway_config import GatewayConfig
from peerd.derive.gateways import NetworkGateways
from peerd.derive.generation import Generation
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.inputs import Inputs
from peerd.derive.mesh import ONLY, Mesh
from peerd.derive.own_info import OwnInfo
from peerd.derive.peers import Peers
from peerd.derive.pods import Pods
from peerd.derive.policies import Policies
from peerd.derive.problems import fault, keyed
from peerd.derive.remote_endpoints import RemoteEndpoints
from peerd.derive.segments import Segments
from peerd.derive.service_entries import ServiceEntries
from peerd.derive.services import Services
from peerd.derive.slices import Slices
from peerd.derive.waypoints import Waypoints
from peerd.derive.workload_entries import WorkloadEntries
from peerd.model.changes import (
    Change,
)
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import (
    FederatedName,
)
from peerd.model.generated import Generate, Generated
from peerd.model.mesh import Settings
from peerd.model.workload import Workload

_Put = tuple[Input[Any, Any], Any, Any]

__all__ = ["Commit", "World"]


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
        self.inputs = inputs = Inputs(engine, settings)
        cluster, domain, revision = settings.cluster_id, settings.domain, settings.revision
        beside = settings.generate is Generate.BESIDE
        self._told: dict[tuple[str, Any], Exception] = {}

        self.mesh = mesh = Mesh(engine, settings, inputs.namespaces, inputs.config_maps)
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
            entries=entries,
            workload_entries=inputs.workload_entries,
            hostnames=hostnames,
            gateways=gateways,
            views=inputs.views,
            imports=inputs.imports,
            allocations=inputs.allocations,
            recorded=inputs.takeovers,
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
        exports = Exports(engine, mesh=mesh, names=names, workloads=self.local_workloads)
        flat_exports = FlatExports(
            engine, mesh=mesh, domain=domain, names=names, workloads=self.local_workloads
        )
        remote = RemoteEndpoints(
            engine, mesh=mesh, names=names, gateways=gateways, exports=exports, beside=beside
        )
        flat = FlatEndpoints(
            engine,
            names=names,
            gateways=gateways,
            remote=remote,
            imported=inputs.imported_workloads,
            workloads=self.local_workloads,
            node_addresses=inputs.node_addresses,
        )
        own = GatewayConfig(
            engine,
            domain=domain,
            mesh=mesh,
            names=names,
            gateways=inputs.gateways,
            exports=exports.table,
            workloads=self.local_workloads,
        )
        addresses: list[Collection[str, Any]] = [
            names.all_wire,
            gateways.wire,
            *self.local_workloads,
            remote.wire,
            flat.wire,
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
            *segments.diagnostics,
            *names.diagnostics,
            exports.diagnostics,
            remote.diagnostics,
            flat.diagnostics,
            slices.diagnostics,
            workloads.diagnostics,
            own.diagnostics,
            info.diagnostics,
            engine.derive_many("early diagnostics", inputs.problems, lambda _c, _k, found: keyed(found)),
        ]

        generated: list[Collection[str, Generated]] = []
        takeovers = names.takeovers
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
                remote=engine.union("all remote workloads", remote.wire, flat.wire),
            )
            generated, takeovers = generation.tables, generation.takeovers
            diagnostics += generation.diagnostics

        tables: dict[str, Iterable[Collection[Any, Any]]] = {
            "addresses": addresses,
            "policies": [policies.wire],
            "exports": [exports.table],
            "flat_exports": [flat_exports.everybody],
            "segment_flat_exports": [flat_exports.segment],
            "takeovers": [takeovers],
            "peers": [peers.table],
            "wanted_hosts": [wanted],
            "diagnostics": diagnostics,
            "gateways": [own.gateways],
            "gateway_listeners": [own.listeners],
            "gateway_clusters": [own.clusters],
            "gateway_endpoints": [own.endpoints],
            "generated": generated,
            "federation": self._status_of(names),
            "ways": [gateways.table],
        }
        # Under the fields of Commit.
        self._outputs = {
            field: tuple(engine.output(table) for table in sources) for field, sources in tables.items()
        }
        self._info = engine.output(info.table)
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
        self.engine.submit(self.inputs.puts(tuple(changes)))

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
        taken: dict[str, Any] = {field: _taken(outputs) for field, outputs in self._outputs.items()}
        taken["diagnostics"] += tuple(self._faults())
        info = dict(self._info.take()).get(ONLY)
        return Commit(revision=revision, info=info, network=facts.network, **taken)

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


def _taken(outputs: Iterable[Output[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple(chain.from_iterable(output.take() for output in outputs))
