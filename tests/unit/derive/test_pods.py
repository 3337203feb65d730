"""Pods: names of what made them, ports, health, and services that only an EndpointSlice gives."""

import pytest

from peerd.derive.pods import is_ready, named_ports, pod_facts, workload_name
from peerd.model.address import Port
from peerd.model.kube.core import Condition, Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus
from peerd.model.kube.meta import ObjectMeta, OwnerReference
from tests.support.derived import derive, workload


def owned(kind: str, name: str, generated: bool = True, **labels: str) -> Pod:
    owner = OwnerReference(kind, name, "v1", controller=True)
    found = {key.replace("_", "-"): value for key, value in labels.items()}
    return Pod(
        ObjectMeta(
            "pod-x", "ns", labels=found, generate_name="pod-" if generated else "", owner_references=(owner,)
        )
    )


@pytest.mark.parametrize(
    ("pod", "name"),
    [
        (owned("ReplicaSet", "web-6d4", pod_template_hash="6d4"), "web"),
        (owned("ReplicaSet", "web-6d4", rollouts_pod_template_hash="6d4"), "web"),
        (owned("ReplicaSet", "web-6d4", pod_template_hash="other"), "web-6d4"),
        (owned("ReplicaSet", "web"), "web"),
        (owned("ReplicaSet", "web-6d4", generated=False, pod_template_hash="6d4"), "pod-x"),
        (owned("Job", "cron-28000000"), "cron"),
        (owned("Job", "cron-1234567890"), "cron"),
        (owned("Job", "batch-1234567"), "batch-1234567"),
        (owned("Job", "batch-12345678901"), "batch-12345678901"),
        (owned("StatefulSet", "db"), "db"),
        (owned("ReplicationController", "dc-1", deploymentconfig="dc"), "dc"),
        (owned("ReplicationController", "dc-1"), "dc-1"),
        (Pod(ObjectMeta("pod-x", "ns", generate_name="pod-")), "pod-x"),
        (Pod(ObjectMeta("pod-x", "ns", labels={"service.istio.io/workload-name": "named"})), "named"),
    ],
)
def test_the_workload_name_is_that_of_what_made_the_pod(pod: Pod, name: str) -> None:
    """Only a generated Pod name leads to the controller, and some controllers to their own."""
    assert workload_name(pod) == name


def test_named_ports_are_tcp_ports_of_containers_then_of_native_sidecars() -> None:
    """UDP, nameless ports and ordinary init containers are passed over; containers come first."""
    port = ContainerPort(80, "http")
    pod = Pod(
        spec=PodSpec(
            containers=(Container((port, ContainerPort(53, "dns", "UDP"), ContainerPort(81))),),
            init_containers=(
                Container((ContainerPort(1, "init"),)),
                Container((ContainerPort(15090, "http-envoy"), ContainerPort(2, "http")), "Always"),
            ),
        )
    )
    assert named_ports(pod) == (("http", 80), ("http-envoy", 15090), ("http", 2))


def test_a_leaving_pod_is_not_ready() -> None:
    """Condition Ready decides, and a deletion time overrules it."""
    ready = PodStatus(conditions=(Condition("Ready", "True"),))
    assert is_ready(Pod(status=ready))
    assert not is_ready(Pod(status=PodStatus(conditions=(Condition("Ready", "Unknown"),))))
    assert not is_ready(Pod(status=PodStatus()))
    assert not is_ready(Pod(ObjectMeta(deletion_timestamp="2026-01-01T00:00:00Z"), status=ready))


@pytest.mark.parametrize(("phase", "counts"), [("Running", True), ("Pending", True), ("Failed", False)])
def test_a_pod_counts_while_it_has_an_ip_and_is_not_over(phase: str, counts: bool) -> None:
    """A Pending Pod with an IP is a workload already; podIP stands in for podIPs."""
    facts, problems = pod_facts(Pod(status=PodStatus(phase, pod_ip="10.0.0.1")))
    assert (facts is not None) is counts
    assert problems == ()
    assert pod_facts(Pod(status=PodStatus(phase, pod_ips=(PodIP(""),))))[1] or not counts


def test_an_empty_label_is_a_canonical_name_too() -> None:
    """Only where none of the three labels is there does the workload's name stand in (wire-contract §4.2)."""
    text = """
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p, labels: {%s}}
    status: {phase: Running, podIP: 10.0.0.1}
    """
    assert workload(derive(text % "app: ''"), "p").canonical_name == ""
    assert workload(derive(text % "tier: x"), "p").canonical_name == "p"


SLICED = """
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: manual}
    spec:
      clusterIP: 10.96.0.1
      ports: [{name: a, port: 80, targetPort: web}, {name: b, port: 81, targetPort: 8081}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: selected}
    spec: {clusterIP: 10.96.0.2, selector: {app: x}, ports: [{port: 80}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p, uid: u1, labels: {app: x}}
    spec: {containers: [{name: c, ports: [{name: web, containerPort: 9090}]}]}
    status: {phase: Running, podIP: 10.0.0.1}
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {namespace: shop, name: s1, labels: {kubernetes.io/service-name: %s}}
    addressType: %s
    endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: shop, name: p, uid: %s}}]
"""


def test_a_slice_gives_a_pod_services_that_do_not_select_it() -> None:
    """Membership by targetRef of the very Pod; named targets are looked up in its containers."""
    services = workload(derive(SLICED % ("manual", "IPv4", "u1")), "p").services
    assert [entry.service for entry in services] == [
        "shop/manual.shop.svc.cluster.local",
        "shop/selected.shop.svc.cluster.local",
    ]
    assert services[0].ports == (Port(80, 9090), Port(81, 8081))


@pytest.mark.parametrize(
    ("service", "family", "uid"),
    [
        ("manual", "IPv4", "other"),
        ("missing", "IPv4", "u1"),
        ("manual", "FQDN", "u1"),
        ("selected", "IPv4", "u1"),
    ],
)
def test_a_slice_of_another_pod_or_service_gives_nothing(service: str, family: str, uid: str) -> None:
    """A predecessor's uid, an unknown Service, an FQDN slice, and a Service that selects the Pod anyway."""
    services = workload(derive(SLICED % (service, family, uid)), "p").services
    assert [entry.service for entry in services] == ["shop/selected.shop.svc.cluster.local"]


def test_kubernetes_own_slices_of_selecting_services_are_not_read_pod_by_pod() -> None:
    """The selector says the same; only a slice that somebody else manages can add a Pod to such a Service."""
    managed = SLICED.replace(
        "kubernetes.io/service-name: %s",
        "kubernetes.io/service-name: %s, "
        "endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io",
    ).replace("app: x}}\n    spec", "app: y}}\n    spec")
    assert workload(derive(managed % ("selected", "IPv4", "u1")), "p").services == ()
    own = SLICED.replace("app: x}}\n    spec", "app: y}}\n    spec")
    services = workload(derive(own % ("selected", "IPv4", "u1")), "p").services
    assert [entry.service for entry in services] == ["shop/selected.shop.svc.cluster.local"]
