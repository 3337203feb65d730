"""What is taken in of a peer, and what is refused, one reason at a time (decision D23)."""

from typing import Any

import msgspec
import pytest

from peerd.derive.imports import Import, admit
from peerd.model.address import Locality
from peerd.model.federation import (
    FederatedService,
    FederationScope,
    Freshness,
    PeerInfo,
    PeerView,
    Segment,
)
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey
from tests.support.clusters import remote_gateway

KEY = ObjectKey("istio-system", "west")
INFO = PeerInfo("west", "west", "west.local", "lineage")
VIEW = PeerView(KEY, INFO, Freshness.FRESH)
SERVICE = FederatedService(
    "reviews",
    "shop",
    "reviews.shop.mesh.internal",
    "reviews.shop.svc.cluster.local",
    identities=("spiffe://west.local/ns/shop/sa/reviews",),
)


def gateway(annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None) -> Gateway:
    found = remote_gateway("west", "west", "198.51.100.20", annotations=annotations, labels=labels).object
    assert isinstance(found, Gateway)
    return found


def taken(
    view: PeerView = VIEW, *, by: Gateway | None = None, segment: str = "", **fields: Any
) -> Import | None:
    service = msgspec.structs.replace(SERVICE, **fields)
    return admit(
        by or gateway(),
        view,
        service,
        segment=Segment(segment, f"mesh.{segment}" if segment else "mesh.internal"),
        system_namespace="istio-system",
        own_network="east",
    )


def test_a_sound_service_is_taken_in_with_the_gateways_word() -> None:
    labels = {"topology.kubernetes.io/region": "eu"}
    found = taken(by=gateway({"peering.peerd.io/allow-takeover": "true"}, labels))
    assert found == Import(
        peer="istio-system/west",
        key="shop/reviews.shop.mesh.internal",
        cluster="west",
        network="west",
        trust_domain="west.local",
        stale=False,
        may_take_over=True,
        flat=False,
        same_names=True,
        locality=Locality("eu"),
        service=SERVICE,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"namespace": "istio-system", "global_host": "reviews.istio-system.mesh.internal"},
        {"global_host": "reviews.shop.mesh.other"},
        {"global_host": "other.shop.mesh.internal"},
        {"global_host": "reviews.shop.svc.cluster.local"},
        {"local_host": "reviews.other.svc.cluster.local"},
        {"local_host": "kubernetes.default.svc.cluster.local"},
        {"identities": ("spiffe://cluster.local/ns/shop/sa/reviews",)},
        {"identities": (*SERVICE.identities, "spiffe://west.local/reviews")},
        {"scope": FederationScope.SEGMENT},
    ],
    ids=str,
)
def test_each_name_or_identity_that_is_not_the_peers_is_refused(fields: dict[str, Any]) -> None:
    segment = "acme" if "scope" in fields else ""
    assert taken(segment=segment, **fields) is None


def test_segment_services_are_taken_in_within_the_segment() -> None:
    view = PeerView(KEY, msgspec.structs.replace(INFO, segment="acme"), Freshness.FRESH)
    assert taken(view, segment="acme", scope=FederationScope.SEGMENT) is not None
    assert taken(view, segment="corp", scope=FederationScope.SEGMENT) is None
    assert taken(view, segment="corp") is not None


def test_names_of_another_segments_domain_are_known_as_such() -> None:
    """What is called so in a tenant's own domain is the tenant's."""
    told = msgspec.structs.replace(INFO, segment="acme", segment_domain="mesh.acme")
    view = PeerView(KEY, told, Freshness.FRESH)
    for segment, same in (("acme", True), ("corp", False), ("", False)):
        found = taken(view, segment=segment, global_host="reviews.shop.mesh.acme")
        assert found is not None
        assert found.same_names is same


def test_only_listed_namespaces_are_taken_in() -> None:
    assert taken(by=gateway({"peering.peerd.io/import-namespaces": "bank,shop"})) is not None
    assert taken(by=gateway({"peering.peerd.io/import-namespaces": "bank"})) is None


def test_unknown_and_expired_peers_bring_nothing_and_stale_ones_are_marked() -> None:
    assert taken(PeerView(KEY, None, Freshness.FRESH)) is None
    assert taken(PeerView(KEY, INFO, Freshness.EXPIRED)) is None
    found = taken(PeerView(KEY, INFO, Freshness.STALE))
    assert found is not None
    assert found.stale
