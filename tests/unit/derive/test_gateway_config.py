"""What gateways are configured with follows from what is exported, and nothing else can be called."""

from typing import Any

import pytest

from peerd.derive.gateway_config import exposed_port, listeners, preference
from peerd.derive.gateway_endpoints import Member, places, ranked
from peerd.model.address import Locality
from peerd.model.gateway_config import (
    GatewayEndpoint,
    GatewayEndpoints,
    GatewayListener,
    GatewayPlace,
    ListenerKind,
    Standpoint,
)
from peerd.model.service import Scope
from tests.support.clusters import (
    Cluster,
    gone,
    namespace,
    node,
    pod,
    put,
    remote_gateway,
    service,
    system,
)

GLOBAL = {"solo.io/service-scope": "global"}
EDS = "shop/reviews:80"


def gateway(
    *,
    labels: dict[str, str] | None = None,
    addresses: tuple[str, ...] = (),
    port: int = 15008,
    name: str = "ew",
) -> Any:
    """A Gateway of our class."""
    tree = {
        "metadata": {"name": name, "namespace": "istio-system", "labels": labels or {}},
        "spec": {
            "gatewayClassName": "istio-eastwest",
            "addresses": [{"type": "IPAddress", "value": each} for each in addresses],
            "listeners": [{"name": "mesh", "port": port, "protocol": "HBONE"}],
        },
    }
    return put("Gateway", tree)


def endpoints(cluster: Cluster, name: str = EDS) -> dict[str, list[tuple[int, int]]]:
    """Last byte of the address and weight of each endpoint, by zone."""
    return {
        place.locality.zone: [(each.address[-1], each.weight) for each in place.endpoints]
        for place in cluster.gateway_endpoints[name].places
    }


def west(*changes: Any) -> Cluster:
    """A cluster with one exported service."""
    return Cluster("west", [system("west"), service("reviews", GLOBAL), *changes])


def test_both_names_of_a_service_lead_to_its_pods():
    """The global and the local host, though this cluster takes nothing over (D25)."""
    cluster = west(pod("a", "reviews", "10.0.0.1"), pod("b", "reviews", "10.0.0.2"))
    names = {name: each.endpoints for name, each in cluster.gateway_clusters.items()}
    assert names == {"reviews.shop.mesh.internal:80": EDS, "reviews.shop.svc.cluster.local:80": EDS}
    assert endpoints(cluster) == {"": [(1, 1), (2, 1)]}


def test_a_port_of_ours_has_endpoints_whatever_peers_say_of_the_name():
    """One that is older decides the name's ports here; others know ours by our own word."""
    older = Cluster(
        "third", [system("elsewhere"), service("reviews", GLOBAL, created="2020-01-01T00:00:00Z")]
    )
    cluster = Cluster(
        "west",
        [
            system("west"),
            remote_gateway("third", "elsewhere", "198.51.100.30"),
            service("reviews", GLOBAL, ports=(80, 9000)),
            pod("a", "reviews", "10.0.0.1"),
        ],
    )
    before = dict(cluster.gateway_endpoints)
    assert endpoints(cluster, "shop/reviews:9000") == {"": [(1, 1)]}
    cluster.pull("third", older)
    assert [each.service_port for each in cluster.service("shop/reviews.shop.mesh.internal").ports] == [80]
    assert cluster.gateway_endpoints == before


def test_what_is_not_exported_has_no_name():
    """A service without scope, and one of the system namespace (D23)."""
    cluster = Cluster(
        "west", [system("west"), service("ratings"), service("x", GLOBAL, namespace="istio-system")]
    )
    assert cluster.gateway_clusters == {}
    assert cluster.gateway_endpoints == {}


def test_a_name_goes_with_its_label():
    """Withdrawn at once."""
    cluster = west(pod("a", "reviews", "10.0.0.1"))
    cluster.apply([service("reviews")])
    assert (cluster.gateway_clusters, cluster.gateway_endpoints) == ({}, {})


@pytest.mark.parametrize(
    "other",
    [
        pod("b", "reviews", "10.0.0.2", ready=False),
        pod("b", "reviews", "10.0.0.2", ambient=False),
        pod("b", "ratings", "10.0.0.2"),
    ],
    ids=["unready", "outside ambient", "another service's"],
)
def test_who_cannot_answer_is_no_endpoint(other):
    """As capacity counts (D27)."""
    assert endpoints(west(pod("a", "reviews", "10.0.0.1"), other)) == {"": [(1, 1)]}


def test_a_service_without_pods_has_empty_endpoints():
    """The name is known, and nobody answers: 503, not an unknown name."""
    cluster = west()
    assert EDS in cluster.gateway_endpoints
    assert endpoints(cluster) == {}


def test_endpoints_are_told_by_place_and_capacity():
    """Nodes say where, WorkloadEntries how much."""
    cluster = west(
        node("n1", "us", "us-1"),
        node("n2", "us", "us-2"),
        pod("a", "reviews", "10.0.0.1", node="n1"),
        pod("b", "reviews", "10.0.0.2", node="n2"),
    )
    assert endpoints(cluster) == {"us-1": [(1, 1)], "us-2": [(2, 1)]}


def test_each_port_has_endpoints_of_its_own():
    """A Pod without the named target of a port does not serve it."""
    cluster = Cluster("west", [system("west"), service("reviews", GLOBAL, ports=(80, 81))])
    assert set(cluster.gateway_endpoints) == {"shop/reviews:80", "shop/reviews:81"}


def waypoint(*numbers: int, name: str = "wp", address: str = "") -> list[Any]:
    """A waypoint with Pods, reached by host name or by *address*."""
    where = (
        {"type": "IPAddress", "value": address}
        if address
        else {"type": "Hostname", "value": f"{name}.shop.svc.cluster.local"}
    )
    labels = {"gateway.networking.k8s.io/gateway-name": name, "app": name}
    return [
        put(
            "Gateway",
            {
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                },
                "status": {"addresses": [where]},
            },
        ),
        service(
            name,
            {"gateway.istio.io/managed": "istio.io-mesh-controller"},
            ports=(15008,),
            clusterIP=address or f"10.96.9.{len(name)}",
        ),
        *(
            put(
                "Pod",
                {
                    "metadata": {
                        "name": f"{name}-{number}",
                        "namespace": "shop",
                        "labels": labels,
                        "annotations": {"ambient.istio.io/redirection": "enabled"},
                    },
                    "spec": {"serviceAccountName": name},
                    "status": {
                        "phase": "Running",
                        "podIP": f"10.0.1.{number}",
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                },
            )
            for number in numbers
        ),
    ]


USES = {**GLOBAL, "istio.io/use-waypoint": "wp"}


@pytest.mark.parametrize("address", ["", "10.96.9.1"], ids=["by name", "by address"])
def test_a_service_with_a_waypoint_is_reached_through_it_alone(address):
    """The waypoint's Pods take the place of the service's (D30)."""
    cluster = Cluster(
        "west",
        [
            system("west"),
            namespace("shop"),
            *waypoint(7, 8, address=address),
            service("reviews", USES),
            pod("a", "reviews", "10.0.0.1"),
        ],
    )
    assert endpoints(cluster) == {"": [(7, 1), (8, 1)]}


def test_a_waypoint_without_pods_is_not_passed_by():
    """Its policies would be, too."""
    cluster = Cluster(
        "west",
        [
            system("west"),
            namespace("shop"),
            *waypoint(7),
            service("reviews", USES),
            pod("a", "reviews", "10.0.0.1"),
        ],
    )
    cluster.apply([gone("Pod", "shop", "wp-7")])
    assert endpoints(cluster) == {}


def test_a_canary_waypoint_gets_its_share_whatever_its_size():
    """80 to 20 over two Pods and one."""
    annotations = {"istio.io/use-waypoint-canary-weight": "20"}
    labels = {**USES, "istio.io/use-waypoint-canary": "new"}
    cluster = Cluster(
        "west",
        [
            system("west"),
            namespace("shop"),
            *waypoint(1, 2),
            *waypoint(9, name="new"),
            service("reviews", labels, annotations=annotations),
        ],
    )
    found = dict(endpoints(cluster)[""])
    assert found[1] == found[2]
    assert (found[1] + found[2]) == 4 * found[9]


def test_listeners_follow_the_gateway():
    """HBONE on its port, 15012 by the label alone, one for each address that a replica may bind."""
    cluster = Cluster(
        "west", [gateway(labels={"istio.io/expose-istiod": "15012"}, addresses=("192.0.2.1",), port=15443)]
    )
    found = {(each.kind, each.bind, each.port) for each in cluster.gateway_listeners.values()}
    assert found == {
        (kind, bind, port)
        for kind, port in ((ListenerKind.HBONE, 15443), (ListenerKind.PEERS, 15012))
        for bind in ("0.0.0.0", "::", "192.0.2.1")
    }
    cluster.apply([gateway()])
    assert {each.kind for each in cluster.gateway_listeners.values()} == {ListenerKind.HBONE}
    cluster.apply([gone("Gateway", "istio-system", "ew")])
    assert cluster.gateway_listeners == {}


def test_two_gateways_do_not_mix():
    """Each replica's group holds its own Gateway's listeners."""
    cluster = Cluster("west", [gateway(name="a"), gateway(name="b", port=15999)])
    groups = {each.group: each.port for each in cluster.gateway_listeners.values() if each.bind == "0.0.0.0"}
    assert groups == {"gateway/istio-system/a/0.0.0.0": 15008, "gateway/istio-system/b/0.0.0.0": 15999}


@pytest.mark.parametrize("value", ["", "yes", "0", "65536", "-1", "１５", "15012.0"])
def test_a_label_that_is_no_port_is_told(value):
    """And exposes nothing."""
    change = gateway(labels={"istio.io/expose-istiod": value})
    assert exposed_port(change.object) is None
    cluster = Cluster("west", [change])
    assert {each.kind for each in cluster.gateway_listeners.values()} == {ListenerKind.HBONE}
    (told,) = cluster.told("Gateway/istio-system/ew")
    assert told == f"{value!r} is no port, so peers cannot connect through this gateway"


def test_one_port_for_both_is_told():
    """Envoy would take only one of them."""
    cluster = Cluster("west", [gateway(labels={"istio.io/expose-istiod": "15008"})])
    (told,) = cluster.told("Gateway/istio-system/ew")
    assert told == "port 15008 is that of the HBONE listener, too"


def test_other_classes_are_not_ours():
    """istio-remote describes somebody else's gateway, OSS's class is istiod's."""
    for name in ("istio-remote", "istio-east-west", "istio-waypoint"):
        tree = {
            "metadata": {"name": "ew", "namespace": "istio-system"},
            "spec": {"gatewayClassName": name, "listeners": [{"port": 15008, "protocol": "HBONE"}]},
        }
        assert Cluster("west", [put("Gateway", tree)]).gateway_listeners == {}


def test_names_of_listeners_hold_what_they_are():
    """They are Envoy's, and unique."""
    found = listeners(gateway().object)
    assert set(found) == {each.name for each in found.values()}
    assert GatewayListener("a/b", ListenerKind.HBONE, "0.0.0.0", 1).name == "gateway/a/b/0.0.0.0/hbone"


def test_an_address_counts_once_with_its_larger_weight():
    """Two Services of one waypoint may have the same Pods."""
    found = places(
        [Member(b"\x0a\0\0\1", weight=2), Member(b"\x0a\0\0\1", weight=5), Member(b"\x0a\0\0\2", weight=5)]
    )
    assert found[0].endpoints == (
        GatewayEndpoint(b"\x0a\0\0\1", 15008, 1),
        GatewayEndpoint(b"\x0a\0\0\2", 15008, 1),
    )


def test_weights_stay_in_proportion_within_what_envoy_takes():
    """A WorkloadEntry may weigh four billion."""
    found = places([Member(b"\x0a\0\0\1", weight=4_000_000_000), Member(b"\x0a\0\0\2", weight=3)])
    assert [each.weight for each in found[0].endpoints] == [65_535, 1]
    assert found[0].locality == Locality()


@pytest.mark.parametrize(
    ("word", "prefers"),
    [
        ("PreferClose", (Scope.REGION, Scope.ZONE)),
        ("prefersamezone", (Scope.REGION, Scope.ZONE)),
        ("PreferSameNode", (Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE)),
        ("PreferRegion", (Scope.REGION,)),
        ("PreferNetwork", ()),
        ("Any", ()),
        ("", ()),
    ],
)
def test_the_services_own_word_says_what_is_near(word, prefers):
    """Network and cluster are the gateway's own in any case (D26)."""
    assert preference(word) == prefers
    changes = (service("reviews", GLOBAL, trafficDistribution=word), pod("a", "reviews", "10.0.0.1"))
    cluster = Cluster("west", [system("west"), *changes])
    assert cluster.gateway_endpoints[EDS].prefers == prefers


def test_nodes_are_told_apart_only_where_that_is_asked_for():
    """Otherwise each of a thousand Pods would be a place of its own."""
    members = [Member(bytes((10, 0, 0, n)), node=f"node-{n}") for n in range(4)]
    assert len(places(members, (Scope.REGION, Scope.ZONE))) == 1
    assert [each.node for each in places(members, (Scope.NODE,))] == ["node-0", "node-1", "node-2", "node-3"]


@pytest.mark.parametrize(
    ("prefers", "here", "priorities"),
    [
        ((Scope.REGION, Scope.ZONE), Standpoint(Locality("r1", "a")), [0, 0, 1, 2]),
        ((Scope.REGION, Scope.ZONE), Standpoint(Locality("r1", "x")), [0, 0, 0, 1]),
        ((Scope.REGION, Scope.ZONE), Standpoint(Locality("r9", "a")), [0, 0, 0, 0]),
        ((Scope.REGION,), Standpoint(Locality("r2", "z")), [1, 1, 1, 0]),
        (
            (Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE),
            Standpoint(Locality("r1", "a"), "n2"),
            [1, 0, 2, 3],
        ),
        ((), Standpoint(Locality("r1", "a")), [0, 0, 0, 0]),
    ],
)
def test_places_are_ranked_by_the_leading_preferences_that_they_share(prefers, here, priorities):
    """As ztunnel does; a zone of that name in another region is another zone. Envoy wants no gaps."""
    where = (("r1", "a", "n1"), ("r1", "a", "n2"), ("r1", "b", "n3"), ("r2", "a", "n4"))
    given = GatewayEndpoints(
        EDS, tuple(GatewayPlace(Locality(region, zone), (), node) for region, zone, node in where), prefers
    )
    found = ranked(given, here)
    assert [each.priority for each in found.places] == priorities


def test_a_waypoints_pods_are_not_ranked_by_the_word_of_the_service_behind():
    """Who stands before the service has Pods of its own, elsewhere."""
    cluster = Cluster(
        "west",
        [
            system("west"),
            service("reviews", USES, trafficDistribution="PreferClose"),
            pod("a", "reviews", "10.0.0.1"),
            *waypoint(7, 8),
        ],
    )
    assert endpoints(cluster) == {"": [(7, 1), (8, 1)]}
    assert cluster.gateway_endpoints[EDS].prefers == ()


def test_an_alias_is_the_oldest_services_of_ours():
    """As everywhere: callers expect that one's certificate behind the name. The next one follows."""
    template = {"domain": "mesh.acme", "aliases": [{"pattern": "{labels['public']}.acme.example"}]}
    acme = put("Segment", {"metadata": {"name": "acme", "namespace": "istio-system"}, "spec": template})
    wants = GLOBAL | {"public": "www"}
    cluster = Cluster(
        "west",
        [
            system("west", {"admin.solo.io/segment": "acme"}),
            acme,
            service("aaa", wants, created="2026-02-02T00:00:00Z"),
            service("zzz", wants, created="2026-01-01T00:00:00Z"),
        ],
    )
    assert cluster.gateway_clusters["www.acme.example:80"].endpoints == "shop/zzz:80"
    cluster.apply([service("zzz", GLOBAL, created="2026-01-01T00:00:00Z")])
    assert cluster.gateway_clusters["www.acme.example:80"].endpoints == "shop/aaa:80"
    cluster.apply([gone("Service", "shop", "aaa")])
    assert "www.acme.example:80" not in cluster.gateway_clusters
