"""Global ServiceEntries: whose label counts, what they share, and what they are told (ADR 14)."""

from typing import Any

from tests.support.clusters import Cluster, namespace, pod, put, service, system

SCOPE = {"solo.io/service-scope": "global"}


def entry(labels: dict[str, str] | None = None, **spec: Any) -> Any:
    tree = {
        "metadata": {"name": "legacy", "namespace": "shop", "labels": SCOPE if labels is None else labels},
        "spec": {
            "hosts": ["b.example.org", "a.example.org"],
            "resolution": "STATIC",
            "ports": [
                {"number": 80, "name": "http", "protocol": "HTTP"},
                {"number": 53, "name": "dns", "protocol": "UDP"},
            ],
            "workloadSelector": {"labels": {"app": "legacy"}},
            **spec,
        },
    }
    return put("ServiceEntry", tree)


def test_its_summary_is_as_a_services() -> None:
    cluster = Cluster("west", [system("west"), entry(), pod("l", "legacy", "10.1.0.1")])
    found = cluster.exports["shop/legacy"]
    assert (found.global_host, found.local_host) == (
        "legacy.shop.mesh.internal",
        "legacy.shop.svc.cluster.local",
    )
    assert [port.number for port in found.ports] == [80]
    assert [capacity.healthy for capacity in found.capacity] == [1]
    assert found.identities == ("spiffe://cluster.local/ns/shop/sa/legacy",)
    assert not found.takeover


def test_a_namespaces_label_is_for_its_services() -> None:
    cluster = Cluster("west", [system("west"), namespace("shop", SCOPE), entry({})])
    assert cluster.exports == {}


def test_a_service_of_the_same_name_comes_first() -> None:
    cluster = Cluster("west", [system("west"), entry(), service("legacy", SCOPE, ports=(8443,))])
    assert [port.number for port in cluster.exports["shop/legacy"].ports] == [8443]


def test_without_endpoints_of_its_own_it_is_told_and_not_exported() -> None:
    cluster = Cluster("west", [system("west"), entry(resolution="NONE")])
    assert cluster.exports == {}
    assert "NONE has no endpoints to share" in cluster.told("ServiceEntry/shop/legacy")


def test_endpoints_outside_the_mesh_are_told_on_it() -> None:
    cluster = Cluster("west", [system("west"), entry(), pod("l", "legacy", "10.1.0.1", ambient=False)])
    (message,) = cluster.told("ServiceEntry/shop/legacy")
    assert "1 of its endpoints are outside ambient" in message
    assert cluster.exports["shop/legacy"].capacity == ()


def test_an_unknown_word_is_told() -> None:
    cluster = Cluster("west", [system("west"), entry({"solo.io/service-scope": "globl"})])
    (message,) = cluster.told("ServiceEntry/shop/legacy")
    assert "unknown scope 'globl'" in message
    assert cluster.exports == {}
