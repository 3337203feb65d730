"""What a gateway's replica is told of endpoints from where it runs, and how that is known (D26)."""

import gc
from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from peerd.app.gateway_views import GatewayPlaces, GatewayViews
from peerd.encode.envoy import encode_endpoints
from peerd.encode.frame import decode_frame
from peerd.model.address import Locality
from peerd.model.gateway_config import GatewayEndpoint, GatewayEndpoints, GatewayPlace, Standpoint
from peerd.model.resource import Resource
from peerd.model.service import Scope
from peerd.protocol.envelope import Node
from tests.support.clusters import gone, node, put

NAME = "shop/reviews:80"


def pod(name: str, on: str, *, gateway: str = "ew") -> Any:
    """A gateway's Pod."""
    labels = {"gateway.networking.k8s.io/gateway-name": gateway} if gateway else {}
    return put(
        "Pod",
        {
            "metadata": {"name": name, "namespace": "istio-system", "labels": labels},
            "spec": {"nodeName": on},
        },
    )


def replica(name: str = "ew-1", place: str = "") -> Node:
    """What Envoy says of itself."""
    return Node(metadata={"NAMESPACE": "istio-system", "NAME": name, "LOCALITY": place})


def endpoints(*, prefers: tuple[Scope, ...] = (Scope.REGION, Scope.ZONE)) -> GatewayEndpoints:
    """One in each of two zones."""
    places = tuple(
        GatewayPlace(Locality("r1", zone), (GatewayEndpoint(bytes((10, 0, 0, number)), 15008, 1),))
        for number, zone in enumerate("ab", 1)
    )
    return GatewayEndpoints(NAME, places, prefers)


def priorities(resource: Resource) -> dict[str, int]:
    """By zone, as Envoy reads it."""
    found = endpoint_pb2.ClusterLoadAssignment.FromString(decode_frame(resource.frame).payload)
    return {each.locality.zone: each.priority for each in found.endpoints}


def test_a_replica_runs_where_it_says_or_where_its_pods_node_is():
    """Its own word counts first; the node's name is its Pod's in any case."""
    places = GatewayPlaces()
    places.apply([pod("ew-1", "n1"), node("n1", "r1", "a")])
    assert places.of(replica()) == Standpoint(Locality("r1", "a"), "n1")
    assert places.of(replica(place="r2/b/s")) == Standpoint(Locality("r2", "b", "s"), "n1")
    assert places.of(replica("unknown", place="r2")) == Standpoint(Locality("r2"))
    assert places.of(replica("unknown")) == Standpoint()


def test_other_pods_are_nobodys_place_and_what_goes_is_forgotten():
    """A Pod without the label of gateways is passed over; Pod and Node may go in any order."""
    places = GatewayPlaces()
    places.apply([pod("ew-1", "n1", gateway=""), node("n1", "r1", "a")])
    assert places.of(replica()) == Standpoint()
    places.apply([pod("ew-1", "n1")])
    places.apply([gone("Node", "", "n1")])
    assert places.of(replica()) == Standpoint(node="n1")
    places.apply([gone("Pod", "istio-system", "ew-1")])
    assert places.of(replica()) == Standpoint()


def test_endpoints_of_a_service_that_prefers_something_are_ranked():
    """From each place otherwise; those of others are as they are."""
    views = GatewayViews(GatewayPlaces())
    base = encode_endpoints(endpoints())
    views.put(NAME, endpoints())
    in_a, in_b = views.view(replica(place="r1/a")), views.view(replica(place="r1/b"))
    assert in_a is not None
    assert in_b is not None
    assert priorities(base) == {"a": 0, "b": 0}
    assert priorities(in_a(base)) == {"a": 0, "b": 1}
    assert priorities(in_b(base)) == {"b": 0, "a": 1}
    assert in_a(base).name == base.name
    other = Resource("shop/other:80", "1", b"")
    assert in_a(other) is other
    views.put(NAME, None)
    assert in_a(base) is base


def test_what_is_made_for_a_place_is_made_once_and_anew_when_it_changes():
    """Replicas of one place share it."""
    views = GatewayViews(GatewayPlaces())
    base = encode_endpoints(endpoints())
    views.put(NAME, endpoints())
    one, two = views.view(replica(place="r1/a")), views.view(replica("ew-2", place="r1/a"))
    assert one is two
    assert one is not None
    assert one(base) is one(base)
    views.put(NAME, endpoints(prefers=(Scope.REGION,)))
    assert priorities(one(base)) == {"a": 0, "b": 0}


def test_who_runs_nowhere_known_sees_endpoints_as_they_are():
    """No place is near it."""
    assert GatewayViews(GatewayPlaces()).view(replica()) is None


def test_places_without_gateways_are_forgotten():
    """Gateways' Pods come and go on ever new nodes."""
    views = GatewayViews(GatewayPlaces())
    held = [views.view(replica(place=f"r1/{number}")) for number in range(20)]
    assert len(views) == 20
    del held[1:]
    gc.collect()
    assert len(views) == 1


@pytest.mark.parametrize("prefers", [(Scope.REGION,), (Scope.REGION, Scope.ZONE), ()])
def test_another_preference_is_another_version(prefers):
    """Though the bytes that all see are the same: who follows the name looks again."""
    before = encode_endpoints(endpoints(prefers=(Scope.NODE,)))
    after = encode_endpoints(endpoints(prefers=prefers))
    assert decode_frame(before.frame).payload == decode_frame(after.frame).payload
    assert before.version != after.version


def test_an_endpoint_on_another_node_is_another_version():
    """Where the service prefers the caller's own."""

    def on(*nodes: str) -> GatewayEndpoints:
        places = tuple(
            GatewayPlace(Locality(), (GatewayEndpoint(bytes((10, 0, 0, number)), 15008, 1),), node=each)
            for number, each in enumerate(nodes)
        )
        return GatewayEndpoints(NAME, places, (Scope.NODE,))

    found = {encode_endpoints(on(*nodes)).version for nodes in (("a", "b"), ("b", "a"), ("a", "c"))}
    assert len(found) == 3
