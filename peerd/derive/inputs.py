"""The inputs of derivation, and how changes become them: what is not used of an object is dropped here."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from peerd.derive.endpoints import PodShape
from peerd.derive.engine import Engine, Input
from peerd.derive.mesh import ONLY, ParsedMesh, is_mesh_config, parse_mesh
from peerd.derive.namespaces import NamespaceFacts, namespace_facts
from peerd.derive.nodes import node_address, node_locality
from peerd.derive.pods import PodFacts, pod_facts, pod_uid
from peerd.derive.problems import is_named, misnamed
from peerd.limits import POD_SHAPES
from peerd.model.address import Locality
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
from peerd.model.federation import Allocation, FederatedService, PeerView, Takeover
from peerd.model.generated import IstiodFlags
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
from peerd.model.sharing import shared
from peerd.model.workload import Workload

_Put = tuple[Input[Any, Any], Any, Any]


class Inputs:
    """The inputs of the graph, keyed `<namespace>/<name>` or `<name>`; Pods by uid."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._settings = settings
        self._shapes: dict[PodShape, PodShape] = {}
        self._mesh_maps: dict[str, ParsedMesh] = {}
        self.config_maps: Input[str, ParsedMesh] = engine.input("mesh config maps")
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

    def puts(self, changes: Iterable[Change]) -> Iterator[_Put]:
        """What to submit to the engine for *changes*, lazily."""
        for change in changes:
            if isinstance(change, ObjectChange):
                if is_named(change.kind, change.key):
                    yield from self._object(change.kind, change.key, change.object)
                else:
                    told = None if change.object is None else (misnamed(change.kind, change.key),)
                    yield self.problems, f"{change.kind}/{change.key}", told
            elif isinstance(change, ImportChange):
                yield self.imports, (shared(str(change.peer)), change.name), change.service
            elif isinstance(change, ImportedWorkloadChange):
                yield self.imported_workloads, (shared(str(change.peer)), change.uid), change.workload
            elif isinstance(change, TakeoverChange):
                yield self.takeovers, change.service, change.takeover
            elif isinstance(change, IstiodChange):
                yield self.istiod, ONLY, change.flags
            elif isinstance(change, PeerChange):
                yield self.views, str(change.peer), change.view
            elif isinstance(change, AllocationChange):
                yield self.allocations, change.host, change.allocation

    def _object(self, kind: str, key: ObjectKey, found: KubeObject | None) -> Iterator[_Put]:
        """The puts of one object. Pods, Nodes, Namespaces are reduced to what is used at once."""
        name = str(key)
        match kind, found:
            case "Pod", Pod():
                facts, problems = pod_facts(found)
                uid = pod_uid(self._settings.cluster_id, key.namespace, key.name)
                yield self.pods, uid, None if facts is None else self._shared(facts)
                yield self.problems, uid, problems or None
            case "Pod", _:
                uid = pod_uid(self._settings.cluster_id, key.namespace, key.name)
                yield self.pods, uid, None
                yield self.problems, uid, None
            case "Node", _:
                node = found if isinstance(found, Node) else None
                yield self.localities, key.name, None if node is None else node_locality(node)
                yield self.node_addresses, key.name, None if node is None else node_address(node)
            case "Namespace", _:
                facts_of = namespace_facts(found) if isinstance(found, Namespace) else None
                yield self.namespaces, key.name, facts_of
            case "ConfigMap", _:
                if is_mesh_config(self._settings, key.namespace, key.name):
                    yield self.config_maps, key.name, self._mesh_map(key.name, found)
            case _:
                table = _TABLES.get(kind)
                if table is not None:
                    yield getattr(self, table), name, found

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


# Kinds that enter as they are: the attribute of Inputs.
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
