"""What each gateway is told of endpoints: ranked from where it runs, where a service prefers near ones.

A replica says where it runs itself (`peerd gateway --locality`), or its Pod's node tells.
"""

from collections.abc import Iterable
from weakref import WeakValueDictionary

from peerd.derive import labels
from peerd.derive.gateway_endpoints import ranked
from peerd.derive.nodes import node_locality
from peerd.model.address import Locality
from peerd.model.changes import Change, ObjectChange
from peerd.model.gateway_config import PLACE, GatewayEndpoints, Standpoint
from peerd.model.kube.core import Node as KubeNode
from peerd.model.kube.core import Pod
from peerd.model.kube.meta import ObjectKey
from peerd.model.resource import Resource
from peerd.protocol.envelope import Node
from peerd.protocol.rules import View


class GatewayPlaces:
    """Where gateways' Pods run; `apply` takes the same changes as derivation."""

    def __init__(self) -> None:
        self._pods: dict[ObjectKey, str] = {}  # to their nodes
        self._nodes: dict[str, Locality] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes; all but those of gateways' Pods and of Nodes are passed over."""
        for change in changes:
            if not isinstance(change, ObjectChange):
                continue
            found = change.object
            if change.kind == "Pod":
                if isinstance(found, Pod) and labels.GATEWAY_NAME in found.metadata.labels:
                    self._pods[change.key] = found.spec.node_name
                else:
                    self._pods.pop(change.key, None)
            elif change.kind == "Node":
                place = node_locality(found) if isinstance(found, KubeNode) else None
                if place is None:
                    self._nodes.pop(change.key.name, None)
                else:
                    self._nodes[change.key.name] = place

    def of(self, node: Node) -> Standpoint:
        """Where the replica that *node* speaks of runs."""
        name = self._pods.get(ObjectKey(node.text("NAMESPACE"), node.text("NAME")), "")
        told = node.text(PLACE)
        if told:
            return Standpoint(Locality(*(*told.split("/"), "", "")[:3]), name)
        return Standpoint(self._nodes.get(name, Locality()), name)


class GatewayViews:
    """Endpoints as they look from each place.

    Only of services that prefer something; made when a gateway there asks, and kept until they change.
    """

    def __init__(self, places: GatewayPlaces) -> None:
        self._places = places
        self._endpoints: dict[str, GatewayEndpoints] = {}
        # Streams hold theirs: a place that no gateway is at any more is forgotten.
        self._views: WeakValueDictionary[Standpoint, _View] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._views)

    def put(self, name: str, endpoints: GatewayEndpoints | None) -> None:
        """Note what is behind *name* now, None where nothing is."""
        if endpoints is not None and endpoints.prefers:
            self._endpoints[name] = endpoints
        else:
            self._endpoints.pop(name, None)

    def view(self, node: Node) -> View | None:
        """How endpoints look to a replica; None where nobody knows where it runs."""
        here = self._places.of(node)
        if here == Standpoint():
            return None
        found = self._views.get(here)
        if found is None:
            found = self._views[here] = _View(here, self._endpoints)
        return found


class _View:
    """From one place. Replicas that run there share what is made for them."""

    def __init__(self, here: Standpoint, endpoints: dict[str, GatewayEndpoints]) -> None:
        self._here = here
        self._endpoints = endpoints
        self._made: dict[str, tuple[GatewayEndpoints, Resource]] = {}

    def __call__(self, resource: Resource) -> Resource:
        found = self._endpoints.get(resource.name)
        if found is None:
            self._made.pop(resource.name, None)
            return resource
        made = self._made.get(resource.name)
        if made is None or made[0] is not found:
            from peerd.encode.envoy import encode_endpoints  # only where there are gateways

            made = self._made[resource.name] = (found, encode_endpoints(ranked(found, self._here)))
        return made[1]
