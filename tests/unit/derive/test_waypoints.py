"""Waypoints: what is one, who may attach, who is bound, canaries, and what their own Pods expect."""

import pytest

from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from peerd.model.workload import ApplicationTunnel, ApplicationTunnelProtocol
from tests.support.derived import derive, diagnostics, service, workload

WORLD = """
    apiVersion: gateway.networking.k8s.io/v1
    kind: GatewayClass
    metadata: {name: istio-waypoint, labels: {%(class_labels)s}}
    spec: {controllerName: istio.io/mesh-controller}
    ---
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {%(space_labels)s}, annotations: {%(space_notes)s}}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {namespace: %(home)s, name: wp, labels: {%(labels)s}, annotations: {%(notes)s}}
    spec: {gatewayClassName: istio-waypoint, listeners: [%(listeners)s]}
    status: {addresses: [%(addresses)s]}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {namespace: shop, name: wp2}
    spec: {gatewayClassName: istio-waypoint}
    status: {addresses: [{type: IPAddress, value: 10.0.1.2}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: s, labels: {%(service_labels)s}, annotations: {%(service_notes)s}}
    spec: {clusterIP: 10.96.0.1, selector: {app: x}, ports: [{port: 80}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p, labels: {%(pod_labels)s}}
    status: {phase: Running, podIP: 10.0.0.1}
"""
DEFAULTS = dict.fromkeys(
    (
        "class_labels",
        "space_labels",
        "space_notes",
        "labels",
        "notes",
        "service_labels",
        "service_notes",
        "pod_labels",
    ),
    "",
) | {
    "home": "shop",
    "listeners": "{name: mesh, port: 15008, protocol: HBONE}",
    "addresses": "{type: IPAddress, value: 10.0.1.1}",
}
BOUND = {"service_labels": "istio.io/use-waypoint: wp"}
ADDRESS = GatewayAddress(NetworkAddress("", b"\x0a\x00\x01\x01"), 15008)
CANARY = GatewayAddress(NetworkAddress("", b"\x0a\x00\x01\x02"), 15008)
KEY = "shop/s.shop.svc.cluster.local"


def world(**changes: str) -> str:
    return WORLD % (DEFAULTS | changes)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ("{type: IPAddress, value: 10.0.1.1}", ADDRESS),
        (
            "{type: IPAddress, value: 10.0.1.1}, {type: Hostname, value: w.example.org}",
            GatewayAddress(NamespacedHostname("shop", "w.example.org"), 15008),
        ),
        ("{type: IPAddress, value: nonsense}, {type: IPAddress, value: 10.0.1.1}", ADDRESS),
    ],
)
def test_a_host_name_is_preferred_then_the_first_ip(addresses: str, expected: GatewayAddress) -> None:
    """Host names are steadier than addresses; an address that is none is passed over."""
    assert service(derive(world(**BOUND, addresses=addresses)), KEY).waypoint == expected


@pytest.mark.parametrize(
    ("own", "of_class", "serves"),
    [
        ("", "", {"service"}),
        ("istio.io/waypoint-for: workload", "", {"workload"}),
        ("", "istio.io/waypoint-for: workload", {"workload"}),
        ("istio.io/waypoint-for: service", "istio.io/waypoint-for: workload", {"service"}),
        ("istio.io/waypoint-for: all", "", {"service", "workload"}),
        ("istio.io/waypoint-for: none", "", set()),
    ],
)
def test_traffic_is_the_gateways_word_then_the_classs_then_service(
    own: str, of_class: str, serves: set[str]
) -> None:
    """Services and workloads are bound only to a waypoint for them; a bound one that is not is told."""
    bound = "istio.io/use-waypoint: wp"
    seen = derive(world(labels=own, class_labels=of_class, service_labels=bound, pod_labels=bound))
    found = {"service": service(seen, KEY).waypoint, "workload": workload(seen, "p").waypoint}
    assert {kind for kind, address in found.items() if address} == serves
    assert bool(diagnostics(seen)) is ("service" not in serves)


@pytest.mark.parametrize(
    ("labels", "bound"),
    [
        ("", True),
        ("istio.io/use-waypoint: none", False),
        ("istio.io/use-waypoint: missing", False),
        ("istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: elsewhere", False),
        ("gateway.istio.io/managed: istio.io-mesh-controller", False),
        ("gateway.istio.io/managed: istio.io-eastwest-controller", False),
    ],
)
def test_a_service_inherits_its_namespaces_waypoint_unless_it_says_otherwise(
    labels: str, bound: bool
) -> None:
    """`none` opts out, a missing waypoint does not fall back, gateways' own Services have none."""
    seen = derive(world(space_labels="istio.io/use-waypoint: wp", service_labels=labels))
    assert (service(seen, KEY).waypoint is not None) is bound


@pytest.mark.parametrize(
    ("listeners", "notes", "allowed"),
    [
        ("{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}", "", True),
        ("{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: Same}}}", "", False),
        ("{port: 15008, protocol: HBONE}", "", False),
        ("", "", False),
        (
            (
                "{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: "
                "{from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [x]}]}}}}"
            ),
            "",
            True,
        ),
        (
            (
                "{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: "
                "{from: Selector, selector: {matchLabels: {team: z}}}}}"
            ),
            "",
            False,
        ),
        ("{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: Selector}}}", "", False),
        (
            "{port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: Selector, selector: {}}}}",
            "",
            True,
        ),
        # The listener that the inbound binding names counts before the one for HBONE.
        (
            (
                "{port: 15008, protocol: HBONE}, "
                "{port: 15088, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}"
            ),
            "ambient.istio.io/waypoint-inbound-binding: PROXY/15088",
            True,
        ),
        (
            (
                "{port: 15008, protocol: HBONE}, "
                "{port: 15088, protocol: istio.io/PROXY, allowedRoutes: {namespaces: {from: All}}}"
            ),
            "ambient.istio.io/waypoint-inbound-binding: PROXY",
            True,
        ),
    ],
)
def test_another_namespace_attaches_only_where_the_listener_allows_it(
    listeners: str, notes: str, allowed: bool
) -> None:
    """allowedRoutes of the bound or HBONE listener; the default is the Gateway's own namespace."""
    seen = derive(
        world(
            home="infra",
            listeners=listeners,
            notes=notes,
            space_labels="team: x",
            service_labels="istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra",
        )
    )
    assert (service(seen, KEY).waypoint is not None) is allowed


@pytest.mark.parametrize(
    ("binding", "tunnel"),
    [
        ("PROXY/15088", ApplicationTunnel(ApplicationTunnelProtocol.PROXY, 15088)),
        ("PROXY", ApplicationTunnel(ApplicationTunnelProtocol.PROXY)),
        ("NONE/80", ApplicationTunnel(ApplicationTunnelProtocol.NONE, 80)),
        ("PROXY/x", ApplicationTunnel(ApplicationTunnelProtocol.PROXY)),
        ("PROXY/1/2", None),
        ("TCP", None),
    ],
)
def test_a_waypoints_own_pods_expect_its_inbound_binding(
    binding: str, tunnel: ApplicationTunnel | None
) -> None:
    """They have a tunnel and no waypoint, though the namespace has one for workloads."""
    seen = derive(
        world(
            labels="istio.io/waypoint-for: all",
            notes=f"ambient.istio.io/waypoint-inbound-binding: {binding}",
            space_labels="istio.io/use-waypoint: wp",
            pod_labels="gateway.networking.k8s.io/gateway-name: wp",
        )
    )
    assert workload(seen, "p").application_tunnel == tunnel
    assert workload(seen, "p").waypoint is None
    assert workload(
        derive(world(labels="istio.io/waypoint-for: all", space_labels="istio.io/use-waypoint: wp")), "p"
    ).waypoint


def weights(**changes: str) -> list[tuple[GatewayAddress, int]]:
    found = service(derive(world(**changes)), KEY)
    return [(entry.destination, entry.weight) for entry in found.weighted_waypoints]


CANARY_LABELS = "istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: wp2"
WEIGHT = "istio.io/use-waypoint-canary-weight: '25'"


def test_a_canary_comes_from_where_the_primary_came_from() -> None:
    """The namespace's canary and weight count for what inherits its waypoint, and not for own bindings."""
    assert weights(service_labels=CANARY_LABELS, service_notes=WEIGHT) == [(ADDRESS, 75), (CANARY, 25)]
    assert weights(space_labels=CANARY_LABELS, space_notes=WEIGHT) == [(ADDRESS, 75), (CANARY, 25)]
    assert weights(**BOUND, space_labels=CANARY_LABELS, space_notes=WEIGHT) == []


@pytest.mark.parametrize(
    ("labels", "weight"),
    [
        (CANARY_LABELS, "'101'"),
        (CANARY_LABELS, "'-1'"),
        (CANARY_LABELS, "'1.5'"),
        ("istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: wp", "'5'"),
        ("istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: ghost", "'5'"),
    ],
)
def test_a_canary_that_leads_nowhere_leaves_the_primary_and_is_told(labels: str, weight: str) -> None:
    """Bad weights, the primary itself and missing waypoints."""
    text = world(service_labels=labels, service_notes=f"istio.io/use-waypoint-canary-weight: {weight}")
    seen = derive(text)
    assert service(seen, KEY).weighted_waypoints == ()
    assert service(seen, KEY).waypoint == ADDRESS
    assert [d.object for d in diagnostics(seen)] == ["Service/shop/s"]


@pytest.mark.parametrize(
    ("own", "inherited", "uses"),
    [
        ("istio.io/ingress-use-waypoint: 'true'", "", True),
        ("", "istio.io/ingress-use-waypoint: 'T'", True),
        ("istio.io/ingress-use-waypoint: 'false'", "istio.io/ingress-use-waypoint: 'true'", False),
        ("istio.io/ingress-use-waypoint: 'yes'", "", False),
    ],
)
def test_ingress_uses_the_waypoint_where_the_service_or_its_namespace_says_so(
    own: str, inherited: str, uses: bool
) -> None:
    """The Service's word first; only with a waypoint; what is no boolean is false."""
    bound = f"istio.io/use-waypoint: wp, {own}"
    assert (
        service(derive(world(service_labels=bound, space_labels=inherited)), KEY).ingress_use_waypoint is uses
    )
    assert not service(derive(world(service_labels=own, space_labels=inherited)), KEY).ingress_use_waypoint
