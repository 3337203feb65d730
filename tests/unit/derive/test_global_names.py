"""Merging what clusters say of one name: who wins, what is told, what does not depend on order."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from peerd.derive.global_names import Contribution, global_distribution, is_distribution, merge, target_port
from peerd.derive.services import SERVICE, ServiceInfo
from peerd.model.address import Port
from peerd.model.federation import FederatedPort, FederationScope
from peerd.model.kube.meta import ObjectKey
from peerd.model.service import LoadBalancing, Mode, Scope, Service

OWN = Contribution(
    key="shop/a.shop.mesh.internal",
    host="a.shop.mesh.internal",
    name="a",
    namespace="shop",
    cluster="east",
    peer="",
    ports=(FederatedPort(80),),
    distribution="PreferNetwork",
    scope=FederationScope.GLOBAL,
    takeover=False,
    identities=(),
    created="2026-03-01T00:00:00Z",
)


def peer(cluster: str, **fields: Any) -> Contribution:
    said = {"cluster": cluster, "peer": f"istio-system/{cluster}", "identities": (f"id-{cluster}",)}
    return msgspec.structs.replace(OWN, **{**said, **fields})


def test_agreement_tells_nothing_and_joins_identities() -> None:
    found = merge([OWN, peer("west"), peer("north", identities=("id-west", "b"))])
    assert found.identities == ("b", "id-west")
    assert found.diagnostics == ()
    assert found.key == "shop/a.shop.mesh.internal"


def test_the_oldest_wins_then_the_cluster_name_whatever_the_order() -> None:
    old = peer("west", created="2026-01-01T00:00:00Z", ports=(FederatedPort(1),))
    same_age = peer("north", created="2026-01-01T00:00:00Z", ports=(FederatedPort(2),))
    ageless = peer("a-cluster", created="", ports=(FederatedPort(3),))
    merged = [merge(order) for order in permutations([OWN, old, same_age, ageless])]
    assert all(found == merged[0] for found in merged)
    assert merged[0].ports == (FederatedPort(2),)


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("ports", (FederatedPort(80), FederatedPort(90)), "spec.ports"),
        ("distribution", "Any", "spec.trafficDistribution"),
        ("scope", FederationScope.SEGMENT, "metadata.labels[solo.io/service-scope]"),
    ],
)
def test_a_conflict_is_told_on_our_own_service_only(field: str, value: object, place: str) -> None:
    other = peer("west", **{field: value, "created": "2026-01-01T00:00:00Z"})
    (told,) = merge([OWN, other]).diagnostics
    assert (told.object, told.field) == ("Service/shop/a", place)
    assert told.message.startswith("Conflict: for a.shop.mesh.internal cluster west, the oldest, says")
    assert merge([other, peer("north")]).diagnostics == ()


def test_port_names_and_order_are_no_conflict() -> None:
    ports = (FederatedPort(80, "http"), FederatedPort(90, "x"))
    reverse = (FederatedPort(90), FederatedPort(80))
    own = msgspec.structs.replace(OWN, ports=ports)
    assert merge([own, peer("west", ports=reverse)]).diagnostics == ()


def test_a_conflict_among_thousands_names_a_few() -> None:
    others = [peer(f"c{number:04}", distribution="Any") for number in range(2000)]
    (told,) = merge([msgspec.structs.replace(OWN, created="2026-01-01T00:00:00Z"), *others]).diagnostics
    assert told.message.count("cluster c") == 5


def test_words_of_distribution_count_whatever_their_case() -> None:
    region = LoadBalancing((Scope.REGION,), Mode.FAILOVER)
    assert global_distribution("preferREGION", None) == region
    assert global_distribution("any", region) is None
    assert global_distribution("", region) == global_distribution("nonsense", region) == region
    assert is_distribution("PREFERclose")
    assert not is_distribution("closest")


def test_a_port_leads_where_the_local_service_says_then_where_the_exporter_says() -> None:
    local = ServiceInfo(
        Service("a", "shop", "a.shop.svc.cluster.local", ports=(Port(80, 8080), Port(81, 0))),
        SERVICE,
        ObjectKey("shop", "a"),
        "",
    )
    told = FederatedPort(80, target=9090)
    assert target_port(told, local) == 8080
    assert target_port(FederatedPort(81, target=9090), local) == 0
    assert target_port(FederatedPort(82, target=9090), local) == 9090
    assert target_port(told, None) == 9090
    assert target_port(FederatedPort(80), None) == 80
