"""Hand-written objects are completed as an API server, or a controller, would (decision D7)."""

import pytest

from peerd.sources.manifests import parse


def one(kind, body, api_version="v1", warnings=()):
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n{body}\n"
    manifest = parse("m.yaml", text.encode(), 0.0)
    assert tuple(problem.field for problem in manifest.diagnostics) == warnings
    (value,) = manifest.objects.values()
    return value


def test_a_service_port_targets_itself_over_tcp():
    """`targetPort` and `protocol` are optional in manifests."""
    spec = one(
        "Service", "spec: {clusterIP: 10.1.0.1, ports: [{port: 80}, {port: 81, targetPort: http}]}"
    ).spec
    assert [(port.port, port.target_port, port.protocol) for port in spec.ports] == [
        (80, 80, "TCP"),
        (81, "http", "TCP"),
    ]
    assert spec.internal_traffic_policy == "Cluster"


@pytest.mark.parametrize(
    ("given", "ips", "families"),
    [
        ("clusterIP: 10.1.0.1", ("10.1.0.1",), ("IPv4",)),
        ("clusterIPs: [fd00::1, 10.1.0.1]", ("fd00::1", "10.1.0.1"), ("IPv6", "IPv4")),
        ('clusterIP: "None"', ("None",), ()),
        ("clusterIP: 10.1.0.1, ipFamilies: [IPv6]", ("10.1.0.1",), ("IPv6",)),
    ],
)
def test_cluster_addresses_and_families_follow_from_each_other(given, ips, families):
    """What is given stays; what follows from it is filled in."""
    spec = one("Service", f"spec: {{{given}}}").spec
    assert (spec.cluster_ip, spec.cluster_ips, spec.ip_families) == (ips[0], ips, families)


def test_a_service_without_an_address_is_said():
    """No API server is here to allocate one; ExternalName needs none."""
    assert one("Service", "spec: {ports: [{port: 80}]}", warnings=("spec.clusterIP",)).spec.cluster_ips == ()
    one("Service", "spec: {type: ExternalName}")


def test_a_pod_has_an_account_and_both_forms_of_its_address():
    """`podIP` and `podIPs` say the same."""
    pod = one("Pod", "status: {podIP: 10.0.0.1}")
    assert pod.spec.service_account_name == "default"
    assert [ip.ip for ip in pod.status.pod_ips] == ["10.0.0.1"]
    assert one("Pod", "status: {podIPs: [{ip: 10.0.0.2}, {ip: fd00::2}]}").status.pod_ip == "10.0.0.2"


def test_a_pod_without_an_address_is_said_unless_it_is_done():
    """Nobody will give it one."""
    one("Pod", "spec: {}", warnings=("status.podIP",))
    one("Pod", "status: {phase: Succeeded}")


def test_a_gateways_wanted_addresses_count_as_given_where_no_controller_gave_any():
    """And an address without a type is an IPAddress, the API's default."""
    api = "gateway.networking.k8s.io/v1"
    gw = one("Gateway", "spec: {addresses: [{value: 1.2.3.4}, {type: Hostname, value: gw.example}]}", api)
    assert [(a.type, a.value) for a in gw.status.addresses] == [
        ("IPAddress", "1.2.3.4"),
        ("Hostname", "gw.example"),
    ]
    gw = one("Gateway", "spec: {addresses: [{value: 1.2.3.4}]}\nstatus: {addresses: [{value: 5.6.7.8}]}", api)
    assert [(a.type, a.value) for a in gw.status.addresses] == [("IPAddress", "5.6.7.8")]
