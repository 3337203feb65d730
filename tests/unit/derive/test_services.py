"""Services: addresses, families, ports, load balancing, selectors."""

import pytest

from peerd.model.address import NetworkAddress, Port
from peerd.model.service import HealthPolicy, IPFamilies, LoadBalancing, Mode, Scope
from tests.support.derived import derive, service, workload

SERVICE = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: s}
    spec: {%s}
"""


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ("[IPv4]", IPFamilies.IPV4_ONLY),
        ("[IPv6]", IPFamilies.IPV6_ONLY),
        ("[IPv6, IPv4]", IPFamilies.DUAL),
    ],
)
def test_families_are_those_of_the_spec(families: str, expected: IPFamilies) -> None:
    """One is that one, two are dual."""
    found = service(
        derive(SERVICE % f"clusterIP: 10.96.0.1, ipFamilies: {families}"), "shop/s.shop.svc.cluster.local"
    )
    assert found.ip_families is expected


def test_dual_stack_addresses_keep_their_order_on_the_clusters_network() -> None:
    """Every cluster IP, in order, on the network of the system namespace; `None` is no address."""
    found = service(derive(SERVICE % "clusterIPs: ['fd00::1', 10.96.0.1]"), "shop/s.shop.svc.cluster.local")
    assert found.addresses == (
        NetworkAddress("net1", bytes.fromhex("fd000000000000000000000000000001")),
        NetworkAddress("net1", b"\x0a\x60\x00\x01"),
    )
    headless = service(derive(SERVICE % "clusterIP: None"), "shop/s.shop.svc.cluster.local")
    assert headless.addresses == ()


def test_external_names_are_not_served() -> None:
    """ztunnel's DNS leaves them to the cluster's."""
    assert derive(SERVICE % "type: ExternalName, externalName: a.example.org").parts["addresses"] == {}


def test_local_traffic_and_unready_addresses_go_together() -> None:
    """internalTrafficPolicy Local is strict by node, and publishNotReadyAddresses adds its health policy."""
    spec = "clusterIP: 10.96.0.1, internalTrafficPolicy: Local, publishNotReadyAddresses: true"
    found = service(derive(SERVICE % spec), "shop/s.shop.svc.cluster.local")
    assert found.load_balancing == LoadBalancing((Scope.NODE,), Mode.STRICT, HealthPolicy.ALLOW_ALL)


def test_two_ports_of_one_number_share_the_names_of_the_last() -> None:
    """53/TCP and 53/UDP: istiod keeps names by number, so a named target of the last counts for both."""
    seen = derive(
        SERVICE % "clusterIP: 10.96.0.1, selector: {app: dns}, ports: ["
        "{name: tcp, port: 53, targetPort: dns-tcp}, {name: udp, port: 53, protocol: UDP, targetPort: dns}]"
        + """
    ---
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p, labels: {app: dns}}
    spec: {containers: [{name: c, ports: [{name: dns, containerPort: 1053}]}]}
    status: {phase: Running, podIP: 10.0.0.1}
    """
    )
    assert workload(seen, "p").services[0].ports == (Port(53, 1053), Port(53, 1053))


def test_a_selector_finds_pods_of_its_namespace_that_have_all_its_labels() -> None:
    """Other namespaces, missing labels and empty selectors find nothing."""
    pods = "".join(
        f"""
    ---
    apiVersion: v1
    kind: Pod
    metadata: {{namespace: {space}, name: {name}, labels: {labels}}}
    status: {{phase: Running, podIP: 10.0.0.1}}
    """
        for space, name, labels in (
            ("shop", "both", "{app: a, tier: x, more: y}"),
            ("shop", "half", "{app: a}"),
            ("other", "far", "{app: a, tier: x}"),
        )
    )
    seen = derive(SERVICE % "clusterIP: 10.96.0.1, selector: {app: a, tier: x}" + pods)
    assert [len(workload(seen, name).services) for name in ("both", "half", "far")] == [1, 0, 0]
    empty = derive(SERVICE % "clusterIP: 10.96.0.1" + pods)
    assert [len(workload(empty, name).services) for name in ("both", "half", "far")] == [0, 0, 0]
