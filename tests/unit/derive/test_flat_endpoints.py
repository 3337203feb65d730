"""Endpoints on one network: what is told of ours, and what is taken in of a peer's (decisions D23, D31)."""

import msgspec
import pytest

from peerd.model.changes import ImportedWorkloadChange, ObjectChange
from peerd.model.federation import Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import Workload, WorkloadStatus
from tests.support.clusters import Cluster, gone, pod, put, remote_gateway, service, system

SCOPE = {"solo.io/service-scope": "global"}
NAME = "shop/reviews.shop.mesh.internal"
PEER = ObjectKey("istio-system", "west")


def west(*objects: object) -> Cluster:
    return Cluster("west", [system("flat"), service("reviews", SCOPE), *objects])  # type: ignore[list-item]


def east(*objects: object) -> Cluster:
    gateway = remote_gateway("west", "flat", "198.51.100.20", labels={"topology.kubernetes.io/region": "eu"})
    return Cluster("east", [system("flat"), gateway, *objects])  # type: ignore[list-item]


def told(source: Cluster) -> Workload:
    (found,) = source.flat_exports.values()
    return found


def test_only_endpoints_of_global_services_are_told_and_nothing_but_their_global_names() -> None:
    source = west(pod("r", "reviews", "10.1.0.1"), service("other"), pod("o", "other", "10.1.0.2"))
    assert list(source.flat_exports) == ["west//Pod/shop/r"]
    assert [entry.service for entry in told(source).services] == [NAME]
    assert source.flat_exports == source.segment_flat_exports


def test_a_pod_outside_ambient_is_not_told_and_an_unready_one_is_told_as_such() -> None:
    source = west(pod("r", "reviews", "10.1.0.1", ambient=False))
    assert source.flat_exports == {}
    source.apply([pod("r", "reviews", "10.1.0.1", ready=False)])
    assert told(source).status is WorkloadStatus.UNHEALTHY


def test_policies_and_gateways_of_the_exporter_are_its_own_affair() -> None:
    gateway = remote_gateway("own", "flat", "198.51.100.9")
    found = told(west(gateway, pod("r", "reviews", "10.1.0.1")))
    assert (found.network_gateway, found.waypoint, found.authorization_policies) == (None, None, ())


def test_what_a_third_cluster_says_of_the_name_changes_nothing_of_what_is_told() -> None:
    """The ports of a global name are those of the oldest Service of all: ours are ours."""
    third = Cluster(
        "third", [system("elsewhere"), service("reviews", SCOPE, ports=(80,), created="2020-01-01T00:00:00Z")]
    )
    gateway = remote_gateway("third", "elsewhere", "198.51.100.30")
    source = Cluster(
        "west",
        [
            system("flat"),
            gateway,
            service("reviews", SCOPE, ports=(80, 9000)),
            pod("r", "reviews", "10.1.0.1"),
        ],
    )
    before = told(source)
    assert [port.service_port for port in before.services[0].ports] == [80, 9000]
    source.pull("third", third)
    assert told(source) == before


def test_the_label_off_takes_them_back() -> None:
    source = west(pod("r", "reviews", "10.1.0.1"))
    source.apply([service("reviews")])
    assert source.flat_exports == {}


def test_an_endpoint_joins_under_a_name_of_its_own_and_on_no_node_of_ours() -> None:
    home, source = east(), west(pod("r", "reviews", "10.1.0.1", node="n1"))
    home.pull("west", source)
    (found,) = home.workloads_of(NAME)
    assert found.uid.startswith("autogenflat.west.shop.r.")
    assert len(found.uid.rpartition(".")[2]) == 12
    assert (found.name, found.node, found.cluster_id, found.network) == (found.uid, "", "west", "flat")
    assert found.locality is not None
    assert found.locality.region == "eu"  # the Gateway's label fills what the peer does not say


@pytest.mark.parametrize(
    "lie",
    [
        {"trust_domain": "other.local"},
        {"cluster_id": "east"},
        {"namespace": "istio-system"},
    ],
)
def test_what_a_peer_may_not_speak_for_is_not_taken_in(lie: dict[str, str]) -> None:
    home, source = east(), west(pod("r", "reviews", "10.1.0.1"))
    home.pull("west", source)
    found = msgspec.structs.replace(told(source), **lie)
    home.apply([ImportedWorkloadChange(PEER, found.uid, found)])
    assert home.workloads_of(NAME) == []


def test_an_endpoint_of_a_service_that_is_not_taken_in_is_nobodys() -> None:
    home, source = east(), west(pod("r", "reviews", "10.1.0.1"))
    limited = {"peering.peerd.io/import-namespaces": "other"}
    home.apply([remote_gateway("west", "flat", "198.51.100.20", annotations=limited)])
    home.pull("west", source)
    assert [uid for uid in home.addresses if uid.startswith("autogenflat")] == []


@pytest.mark.parametrize(
    ("ours", "away"),
    [
        (
            put(
                "Node",
                {
                    "metadata": {"name": "n1"},
                    "status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]},
                },
            ),
            gone("Node", "", "n1"),
        ),
        (pod("host", "agent", "10.1.0.1"), gone("Pod", "shop", "host")),
    ],
)
def test_an_address_of_our_own_is_nobody_elses(ours: ObjectChange, away: ObjectChange) -> None:
    home, source = east(), west(pod("r", "reviews", "10.1.0.1"))
    home.pull("west", source)
    assert len(home.workloads_of(NAME)) == 1
    home.apply([ours])
    assert home.workloads_of(NAME) == []
    (message,) = [text for text in home.told("Gateway/istio-system/west") if "like 10.1.0.1" in text]
    assert "are this cluster's" in message
    home.apply([away])
    assert len(home.workloads_of(NAME)) == 1


def test_expiry_withdraws_them() -> None:
    home, source = east(), west(pod("r", "reviews", "10.1.0.1"))
    home.pull("west", source, Freshness.STALE)
    assert len(home.workloads_of(NAME)) == 1
    home.pull("west", source, Freshness.EXPIRED)
    assert home.workloads_of(NAME) == []
