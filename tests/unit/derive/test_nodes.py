"""Nodes: the locality of their Pods, and their address for node ports."""

from peerd.derive.nodes import node_address, node_locality
from peerd.model.address import Locality
from peerd.model.kube.core import Node, NodeAddress, NodeStatus
from peerd.model.kube.meta import ObjectMeta
from tests.support.derived import derive, workload

POD_AND_NODE = """
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p}
    spec: {nodeName: n}
    status: {phase: Running, podIP: 10.0.0.1}
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: n, labels: {%s}}
"""


def test_three_labels_make_the_locality_and_without_them_there_is_none() -> None:
    """Any one is enough (golden: localities); a Node that says nothing is as good as unknown."""
    zone = Node(ObjectMeta(labels={"topology.kubernetes.io/zone": "z"}))
    assert node_locality(zone) == Locality("", "z")
    assert node_locality(Node()) is None


def test_a_pod_is_where_its_node_is() -> None:
    """Through the whole of derivation."""
    labels = "topology.kubernetes.io/region: r, topology.istio.io/subzone: s"
    assert workload(derive(POD_AND_NODE % labels), "p").locality == Locality("r", "", "s")
    assert workload(derive(POD_AND_NODE % ""), "p").locality is None


def test_the_external_address_is_preferred() -> None:
    """Other clusters come from outside."""
    inside, outside = NodeAddress("InternalIP", "172.18.0.2"), NodeAddress("ExternalIP", "203.0.113.2")
    assert node_address(Node(status=NodeStatus((inside, outside)))) == "203.0.113.2"
    assert node_address(Node(status=NodeStatus((NodeAddress("Hostname", "n"), inside)))) == "172.18.0.2"
    assert node_address(Node()) is None
