"""What is recorded of takeovers, and what a record does once the Service is gone (decision D23)."""

import pytest

from peerd.model.changes import TakeoverChange
from peerd.model.federation import Freshness, Takeover
from peerd.model.service import LoadBalancing, Mode, Scope
from tests.support.clusters import Cluster, gone, namespace, pod, remote_gateway, service, system

NAME = "shop/reviews"
LOCAL = "shop/reviews.shop.svc.cluster.local"
TAKEOVER = {"solo.io/service-takeover": "true"}


def west(labels: dict[str, str] | None = None) -> Cluster:
    own = service("reviews", {"solo.io/service-scope": "global"} if labels is None else labels)
    return Cluster("west", [system("west"), own, pod("r", "reviews", "10.1.0.1")])


def east(*objects: object) -> Cluster:
    gateway = remote_gateway("west", "west", "198.51.100.20")
    return Cluster("east", [system("east"), gateway, *objects])  # type: ignore[list-item]


def test_nothing_is_recorded_while_no_peer_has_the_name() -> None:
    cluster = east(service("reviews", TAKEOVER))
    assert cluster.takeovers == {}
    cluster.pull("west", west())
    assert cluster.takeovers == {NAME: Takeover()}
    cluster.pull("west", west({}))
    assert cluster.takeovers == {}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"solo.io/service-scope": "global-only"}, Takeover()),
        ({"istio.io/global": "true"}, Takeover(by_rule=True)),
        ({"solo.io/service-scope": "global"}, None),
    ],
)
def test_each_way_to_ask_is_recorded_as_what_it_is(labels: dict[str, str], found: Takeover | None) -> None:
    cluster = east(service("reviews", labels))
    cluster.pull("west", west())
    assert cluster.takeovers.get(NAME) == found


def test_a_namespace_that_asks_needs_no_record_and_its_label_ends_it() -> None:
    cluster = east(namespace("shop", TAKEOVER), service("reviews"))
    cluster.pull("west", west())
    assert cluster.takeovers == {}
    cluster.apply([gone("Service", "shop", "reviews")])
    assert len(cluster.workloads_of(LOCAL)) == 1
    cluster.apply([namespace("shop")])
    assert LOCAL not in cluster.addresses


def test_a_record_from_before_a_restart_is_enough() -> None:
    cluster = east()
    cluster.apply([TakeoverChange(NAME, Takeover())])
    cluster.pull("west", west())
    assert len(cluster.workloads_of(LOCAL)) == 1
    assert cluster.service(LOCAL).load_balancing == LoadBalancing((Scope.NETWORK,), Mode.FAILOVER)
    assert cluster.takeovers == {NAME: Takeover()}


def test_what_a_rule_asked_for_keeps_istiods_distribution() -> None:
    cluster = east()
    cluster.apply([TakeoverChange(NAME, Takeover(by_rule=True))])
    cluster.pull("west", west())
    assert cluster.service(LOCAL).load_balancing is None


def test_its_address_is_never_the_one_the_service_had() -> None:
    cluster = east(service("reviews", TAKEOVER))
    cluster.pull("west", west())
    before = {found.address for found in cluster.service(LOCAL).addresses}
    cluster.apply([gone("Service", "shop", "reviews")])
    after = {found.address for found in cluster.service(LOCAL).addresses}
    assert after
    assert not before & after


@pytest.mark.parametrize("end", ["expired", "unlinked", "opted out"])
def test_it_ends_with_the_peer_or_where_the_namespace_opts_out(end: str) -> None:
    cluster = east(service("reviews", TAKEOVER))
    cluster.pull("west", west())
    cluster.apply([gone("Service", "shop", "reviews")])
    if end == "expired":
        cluster.pull("west", west(), Freshness.EXPIRED)
    elif end == "unlinked":
        cluster.apply([gone("Gateway", "istio-system", "west")])
    else:
        cluster.apply([namespace("shop", {"solo.io/service-scope": "cluster"})])
    assert LOCAL not in cluster.addresses
    assert cluster.takeovers == {}
