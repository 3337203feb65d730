"""The cluster's segment: its domain, its templates, and what is wrong with them (decision D25)."""

from typing import Any

import pytest

from tests.support.clusters import Cluster, gone, pod, put, service, system

MEMBER = {"admin.solo.io/segment": "acme"}
SCOPE = {"solo.io/service-scope": "segment"}


def segment(*patterns: str, domain: str = "mesh.acme") -> Any:
    aliases = [{"pattern": pattern} for pattern in patterns]
    meta = {"name": "acme", "namespace": "istio-system"}
    return put("Segment", {"metadata": meta, "spec": {"domain": domain, "aliases": aliases}})


def hosts(cluster: Cluster) -> set[str]:
    """The names in the summary of reviews."""
    found = cluster.exports["shop/reviews"]
    return {found.global_host, *found.aliases}


def test_the_domain_is_the_segments_and_mesh_internal_without() -> None:
    cluster = Cluster("east", [system("east", MEMBER), segment(), service("reviews", SCOPE)])
    assert hosts(cluster) == {"reviews.shop.mesh.acme"}
    assert cluster.info is not None
    assert (cluster.info.segment, cluster.info.segment_domain) == ("acme", "mesh.acme")
    cluster.apply([system("east")])
    assert hosts(cluster) == {"reviews.shop.mesh.internal"}


def test_a_segment_that_is_not_there_is_told_on_the_namespace() -> None:
    cluster = Cluster("east", [system("east", MEMBER)])
    assert cluster.told("Namespace/istio-system") == ["Segment acme does not exist"]
    cluster.apply([segment(domain="")])
    assert cluster.told("Namespace/istio-system") == [
        "Segment acme has no domain to use: spec.domain is empty"
    ]
    cluster.apply([segment()])
    assert cluster.told("Namespace/istio-system") == []


@pytest.mark.parametrize(
    ("domain", "wrong"),
    [
        ("Mesh.Acme", "'Mesh.Acme' is no domain name"),
        ("mesh.acme.", "'mesh.acme.' is no domain name"),
        ("*.acme", "'*.acme' is no domain name"),
        ("svc.cluster.local", "'svc.cluster.local' lies in the cluster's own domain cluster.local"),
        ("cluster.local", "'cluster.local' lies in the cluster's own domain cluster.local"),
    ],
)
def test_a_domain_that_peers_would_refuse_or_that_is_the_clusters_own_is_told_and_not_used(
    domain: str, wrong: str
) -> None:
    """With the cluster's own domain a global name would be a local one, taken over unasked."""
    cluster = Cluster("east", [system("east", MEMBER), segment(domain=domain), service("reviews", SCOPE)])
    assert hosts(cluster) == {"reviews.shop.mesh.internal"}
    assert cluster.told("Segment/istio-system/acme") == [wrong]
    assert cluster.told("Namespace/istio-system") == [
        f"Segment acme has no domain to use: spec.domain {wrong}"
    ]
    cluster.apply([segment()])
    assert cluster.told("Segment/istio-system/acme") == []


def test_templates_are_followed_live_and_have_endpoints_and_addresses() -> None:
    cluster = Cluster("east", [system("east", MEMBER), segment(), service("reviews", SCOPE)])
    cluster.apply([pod("r", "reviews", "10.1.0.1"), segment("{service}.acme.example")])
    assert hosts(cluster) == {"reviews.shop.mesh.acme", "reviews.acme.example"}
    assert [found.name for found in cluster.workloads_of("shop/reviews.acme.example")] == ["r"]
    assert cluster.service("shop/reviews.acme.example").addresses
    cluster.apply([segment("{service}.acme.test")])
    assert hosts(cluster) == {"reviews.shop.mesh.acme", "reviews.acme.test"}
    assert "shop/reviews.acme.example" not in cluster.addresses
    cluster.apply([gone("Segment", "istio-system", "acme")])
    assert hosts(cluster) == {"reviews.shop.mesh.internal"}


def test_templates_of_a_segment_that_is_not_ours_make_nothing() -> None:
    cluster = Cluster("east", [system("east"), segment("{service}.acme.example"), service("reviews", SCOPE)])
    assert hosts(cluster) == {"reviews.shop.mesh.internal"}


def test_a_bad_template_is_told_and_the_others_hold() -> None:
    patterns = ("{service}.{oops}", "{service}.acme.example")
    cluster = Cluster("east", [system("east", MEMBER), segment(*patterns), service("reviews", SCOPE)])
    (message,) = cluster.told("Segment/istio-system/acme")
    assert "'{service}.{oops}' has a place that is none of" in message
    assert hosts(cluster) == {"reviews.shop.mesh.acme", "reviews.acme.example"}


def test_the_loser_of_an_alias_has_it_not_and_is_told() -> None:
    cluster = Cluster("east", [system("east", MEMBER), segment("www.acme.example")])
    cluster.apply(
        [
            service("new", SCOPE, created="2026-03-01T00:00:00Z"),
            service("old", SCOPE, created="2026-02-01T00:00:00Z"),
            pod("n", "new", "10.1.0.1"),
            pod("o", "old", "10.1.0.2"),
        ]
    )
    assert [found.name for found in cluster.workloads_of("shop/www.acme.example")] == ["o"]
    assert cluster.told("Service/shop/new") == ["alias www.acme.example belongs to shop/old, which is older"]
    cluster.apply([gone("Service", "shop", "old")])
    assert [found.name for found in cluster.workloads_of("shop/www.acme.example")] == ["n"]
    assert cluster.told("Service/shop/new") == []
