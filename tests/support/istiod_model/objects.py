"""The objects of one cluster, as they are looked up."""

from typing import TypeVar

from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, NetworkAddress, parse_ip
from peerd.model.kube.core import Namespace, Node, Service
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import Annotations, KubeObject

T = TypeVar("T", bound=KubeObject)


class Held:
    """All objects; `network` is that of the system namespace."""

    def __init__(self, objects: tuple[KubeObject, ...], system: str) -> None:
        self._objects = objects
        self.namespaces = {found.metadata.name: found for found in self.all(Namespace)}
        self.nodes = {found.metadata.name: found for found in self.all(Node)}
        self.gateways = {str(found.key): found for found in self.all(Gateway)}
        own = self.namespaces.get(system)
        self.network = "" if own is None else own.metadata.labels.get("topology.istio.io/network", "")

    def all(self, kind: type[T]) -> list[T]:
        """Those of one kind."""
        return [found for found in self._objects if isinstance(found, kind)]


def annotations(found: KubeObject) -> Annotations:
    """The known annotations, which of Services are kept apart."""
    return found.metadata.known if isinstance(found, Service) else found.metadata.annotations


def gateway_address(namespace: str, network: str, value: str, port: int) -> GatewayAddress:
    """A gateway by its IP in a network, or by its host name as seen from a namespace."""
    ip = parse_ip(value)
    if ip is None:
        return GatewayAddress(NamespacedHostname(namespace, value), port)
    return GatewayAddress(NetworkAddress(network, ip), port)


def locality_of(node: Node | None) -> Locality | None:
    """By the labels of a Node."""
    labels = {} if node is None else node.metadata.labels
    found = Locality(
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
        labels.get("topology.istio.io/subzone", ""),
    )
    return None if found == Locality() else found
