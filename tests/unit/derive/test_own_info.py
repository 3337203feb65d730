"""What this cluster says of itself: names, and where its own gateways take HBONE."""

import pytest

from peerd.model.federation import DataPlaneAddress, PeerInfo
from peerd.model.mesh import Settings
from tests.support.derived import derive, diagnostics

WORLD = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {namespace: istio-gateways, name: eastwest, annotations: {%s}}
    spec: {gatewayClassName: istio-eastwest, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
    status: {addresses: [{type: IPAddress, value: 192.0.2.1}, {type: Hostname, value: ew.example.org}]}
    ---
    apiVersion: v1
    kind: Service
    metadata:
      namespace: istio-gateways
      name: eastwest
      labels: {gateway.networking.k8s.io/gateway-name: eastwest}
    spec:
      clusterIP: 10.96.0.9
      ports: [{port: 15012, nodePort: 31012}, {port: 15008, nodePort: 31008}]
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: b}
    status: {addresses: [{type: InternalIP, address: 172.18.0.2}, {type: ExternalIP, address: 203.0.113.2}]}
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: a}
    status: {addresses: [{type: Hostname, address: a}, {type: InternalIP, address: 172.18.0.1}]}
"""


def info(notes: str) -> PeerInfo:
    found = derive(WORLD % notes, settings=Settings(cluster_id="east", trust_domain="td")).info
    assert isinstance(found, PeerInfo)
    return found


def test_the_load_balancers_addresses_with_the_hbone_port() -> None:
    """Cluster, network, spelt-out trust domain, and every typed status address of our own gateway."""
    assert info("") == PeerInfo(
        cluster="east",
        network="net1",
        trust_domain="td",
        lineage="",
        addresses=(
            DataPlaneAddress("IPAddress", "192.0.2.1", 15008),
            DataPlaneAddress("Hostname", "ew.example.org", 15008),
        ),
        gateway_service_account="eastwest",
        gateway_namespace="istio-gateways",
    )


def test_node_ports_where_the_gateway_says_so() -> None:
    """External addresses before internal ones, sorted, with the node port behind 15008."""
    assert info("peering.solo.io/data-plane-service-type: nodeport").addresses == (
        DataPlaneAddress("IPAddress", "172.18.0.1", 31008),
        DataPlaneAddress("IPAddress", "203.0.113.2", 31008),
    )


def test_without_a_gateway_there_are_no_addresses() -> None:
    """A cluster that only pulls has nothing to enter by."""
    found = derive("").info
    assert found == PeerInfo("Kubernetes", "", "cluster.local", "")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("", None),
        ("topology.istio.io/network: net1", None),
        ("topology.istio.io/network: net-1", "is 'net-1', but this cluster's network is 'net1'"),
    ],
    ids=["no label", "equal", "unlike"],
)
def test_the_network_of_our_own_gateway_is_that_of_the_system_namespace(label: str, told: str | None) -> None:
    """An unlike label is told on the Gateway; none is none."""
    world = WORLD.replace("name: eastwest, annotations: {%s}", f"name: eastwest, labels: {{{label}}}", 1)
    seen = derive(world, settings=Settings(cluster_id="east"))
    found = [each for each in diagnostics(seen) if each.object == "Gateway/istio-gateways/eastwest"]
    assert [each.field for each in found] == (["metadata.labels[topology.istio.io/network]"] if told else [])
    assert told is None or told in found[0].message
