"""WorkloadEntries and inline endpoints, and the policies all of them list."""

import pytest

from peerd.derive.workload_entries import split_locality
from peerd.model.address import Locality, Port
from peerd.model.mesh import Settings
from peerd.model.workload import TunnelProtocol, Workload
from tests.support.derived import derive, workload

SERVICES = """
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: s}
    spec:
      clusterIP: 10.96.0.1
      selector: {app: vm}
      ports: [{name: web, port: 80, targetPort: 8080}, {name: named, port: 81, targetPort: target}]
    ---
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {namespace: shop, name: e}
    spec:
      hosts: [h.example.org]
      resolution: STATIC
      workloadSelector: {labels: {app: vm}}
      ports: [{name: web, number: 80, targetPort: 8000}, {name: raw, number: 90}]
"""
ENTRY = """
    ---
    apiVersion: networking.istio.io/v1
    kind: WorkloadEntry
    metadata: {namespace: shop, name: vm, labels: {%s}, annotations: {%s}}
    spec: {%s}
"""
S, E = "shop/s.shop.svc.cluster.local", "shop/h.example.org"


def entry(labels: str = "app: vm", notes: str = "", spec: str = "address: 192.0.2.1") -> Workload:
    return workload(derive(SERVICES + ENTRY % (labels, notes, spec)), "vm")


def ports(found: Workload) -> dict[str, tuple[Port, ...]]:
    return {each.service: each.ports for each in found.services}


def test_the_port_map_is_by_port_name_or_by_named_target() -> None:
    """A Service's named target must be in the map; a ServiceEntry's port keeps its target without it."""
    assert ports(entry()) == {S: (Port(80, 8080),), E: (Port(80, 8000), Port(90, 90))}
    mapped = entry(spec="address: 192.0.2.1, ports: {web: 1, target: 2, named: 3, raw: 4}")
    assert ports(mapped) == {S: (Port(80, 1), Port(81, 2)), E: (Port(80, 1), Port(90, 4))}


def test_labels_of_spec_count_and_those_of_metadata_win() -> None:
    """Both places select and name."""
    assert ports(entry("", spec="address: 192.0.2.1, labels: {app: vm}")).keys() == {S, E}
    assert ports(entry("app: other", spec="address: 192.0.2.1, labels: {app: vm}")) == {}


@pytest.mark.parametrize(
    ("labels", "notes", "name"),
    [
        ("app: vm", "", "vm"),
        ("service.istio.io/workload-name: labelled", "", "labelled"),
        ("service.istio.io/workload-name: labelled", "istio.io/autoRegistrationGroup: group", "group"),
    ],
)
def test_the_workload_name_is_the_group_the_label_or_the_object(labels: str, notes: str, name: str) -> None:
    """In this order; the canonical name follows where no label gives one."""
    assert entry(labels, notes).workload_name == name


@pytest.mark.parametrize(
    ("labels", "notes", "protocol", "native"),
    [
        ("", "", TunnelProtocol.NONE, False),
        ("", "ambient.istio.io/redirection: enabled", TunnelProtocol.HBONE, False),
        ("networking.istio.io/tunnel: 'http'", "", TunnelProtocol.HBONE, True),
        ("networking.istio.io/tunnel: 'h2,http'", "", TunnelProtocol.HBONE, True),
        ("networking.istio.io/tunnel: 'https'", "", TunnelProtocol.NONE, False),
    ],
)
def test_hbone_is_by_capture_or_by_the_tunnel_label(
    labels: str, notes: str, protocol: TunnelProtocol, native: bool
) -> None:
    """The label lists protocols; whoever speaks it himself has a native tunnel."""
    found = entry(labels, notes)
    assert (found.tunnel_protocol, found.native_tunnel) == (protocol, native)


@pytest.mark.parametrize(
    ("text", "locality"),
    [
        ("", None),
        ("r", Locality("r")),
        ("r/z", Locality("r", "z")),
        ("r/z/s/more", Locality("r", "z", "s")),
        ("//", None),
    ],
)
def test_a_locality_is_split_at_slashes(text: str, locality: Locality | None) -> None:
    """Three parts at most; nothing in them is no locality."""
    assert split_locality(text) == locality


def test_a_pod_takes_a_service_entrys_port_by_its_own_port_name() -> None:
    """The container port named like the entry's port, else the entry's target, else its number."""
    pod = """
    ---
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p, labels: {app: vm}}
    spec: {containers: [{name: c, ports: [{name: web, containerPort: 9000}]}]}
    status: {phase: Running, podIP: 10.0.0.1}
    """
    found = workload(derive(SERVICES + pod), "p")
    assert ports(found) == {S: (Port(80, 8080),), E: (Port(80, 9000), Port(90, 90))}


def test_endpoints_bind_their_own_waypoint_and_list_their_entrys_policies() -> None:
    """Labels of the endpoint bind, labels of the ServiceEntry select policies (wire-contract §4.3)."""
    text = """
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {namespace: shop, name: wp, labels: {istio.io/waypoint-for: all}}
    status: {addresses: [{type: IPAddress, value: 10.0.1.1}]}
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {namespace: shop, name: own}
    spec: {selector: {matchLabels: {app: entry}}}
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {namespace: shop, name: other}
    spec: {selector: {matchLabels: {app: endpoint}}}
    ---
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {namespace: shop, name: e, labels: {app: entry}}
    spec:
      hosts: [h.example.org]
      resolution: STATIC
      endpoints:
      - {address: 192.0.2.1, labels: {app: endpoint, istio.io/use-waypoint: wp}}
      - {address: 192.0.2.2}
    """
    seen = derive(text)
    found = [
        seen.parts["addresses"][f"Kubernetes/networking.istio.io/ServiceEntry/shop/e/192.0.2.{i}"]
        for i in (1, 2)
    ]
    assert [record.waypoint is not None for record in found] == [True, False]
    assert [record.authorization_policies for record in found] == [("shop/own",), ("shop/own",)]


def test_policies_are_those_of_the_namespace_and_the_root_sorted_then_mtls() -> None:
    """Other namespaces, partial matches and other revisions are not listed."""
    policies = "".join(
        f"""
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {{namespace: {space}, name: {name}, labels: {{{labels}}}}}
    spec: {{selector: {{matchLabels: {{{selector}}}}}}}
    """
        for space, name, labels, selector in (
            ("shop", "z", "", "app: vm"),
            ("shop", "a", "", "app: vm, tier: x"),
            ("istio-system", "m", "", "tier: x"),
            ("other", "b", "", "app: vm"),
            ("shop", "c", "", "app: vm, tier: y"),
            ("shop", "d", "istio.io/rev: canary", "app: vm"),
        )
    )
    strict = """
    ---
    apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {namespace: istio-system, name: default}
    spec: {mtls: {mode: STRICT}}
    """
    objects = SERVICES + ENTRY % ("app: vm, tier: x", "", "address: 192.0.2.1") + policies + strict
    seen = derive(objects, settings=Settings(revision="stable"))
    assert workload(seen, "vm").authorization_policies == (
        "istio-system/m",
        "shop/a",
        "shop/z",
        "istio-system/istio_converted_static_strict",
    )


@pytest.mark.parametrize(
    ("space", "selector", "listed"),
    [
        ("shop", "selector: {matchLabels: {}}", True),
        ("istio-system", "selector: {matchLabels: {}}", True),
        ("other", "selector: {matchLabels: {}}", False),
        ("shop", "selector: {}", False),
        ("shop", "action: DENY", False),
    ],
)
def test_an_empty_selector_selects_everything_and_an_absent_one_nothing(
    space: str, selector: str, listed: bool
) -> None:
    """Istio's selector is there with no labels to ask for, or has no matchLabels at all (§4.7)."""
    policy = f"""
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {{namespace: {space}, name: p}}
    spec: {{{selector}}}
    """
    seen = derive(SERVICES + ENTRY % ("", "", "address: 192.0.2.1") + policy)
    assert workload(seen, "vm").authorization_policies == ((f"{space}/p",) if listed else ())


def test_of_two_endpoints_with_one_address_the_last_one_counts() -> None:
    """They have one uid, and istiod keeps the last (wire-contract §4.3)."""
    text = """
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {namespace: shop, name: twins}
    spec:
      hosts: [h.example.org]
      resolution: STATIC
      ports: [{name: web, number: 80}]
      endpoints:
      - {address: 192.0.2.1, weight: 1, ports: {web: 8001}}
      - {address: 192.0.2.1, weight: 2, ports: {web: 8002}}
    """
    found = workload(derive(text), "twins")
    assert found.capacity == 2
    assert ports(found) == {E: (Port(80, 8002),)}


def test_a_workload_without_labels_lists_no_policy_that_asks_for_some() -> None:
    """Unlike istiod, which lists every policy with a selector there (wire-contract §4.7)."""
    policy = """
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {namespace: shop, name: p}
    spec: {selector: {matchLabels: {app: vm}}}
    """
    seen = derive(SERVICES + ENTRY % ("", "", "address: 192.0.2.1") + policy)
    assert workload(seen, "vm").authorization_policies == ()
