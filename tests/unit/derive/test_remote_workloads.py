"""Remote endpoints as pure arithmetic: shares, stale counts, names that stay."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.derive.imports import Import
from peerd.derive.remote_workloads import counted, ports_of, remote_workloads, split
from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, NetworkAddress, Port
from peerd.model.federation import Capacity, FederatedPort, FederatedService, NetworkGateway
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import ServicePorts
from tests.support.ztunnel_rules import violations

SERVICES = (ServicePorts("shop/reviews.shop.mesh.internal", (Port(80, 8080),)),)


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_shares_add_up_and_differ_by_one_at_most(capacity: int, ways: int) -> None:
    shares = split(capacity, ways)
    assert len(shares) == ways
    assert min(shares) >= 1
    assert sum(shares) == max(capacity, ways)
    assert list(shares) == sorted(shares, reverse=True)
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("healthy", "stale", "fresh", "counts"),
    [
        (30, False, True, 30),
        (30, True, False, 30),
        (30, True, True, 3),
        (39, True, True, 3),
        (9, True, True, 1),
        (0, True, True, 0),
    ],
)
def test_only_stale_capacity_beside_fresh_counts_a_tenth(
    healthy: int, stale: bool, fresh: bool, counts: int
) -> None:
    assert counted(healthy, stale=stale, fresh_elsewhere=fresh) == counts


def way(place: NetworkAddress | NamespacedHostname, port: int = 15008) -> NetworkGateway:
    return NetworkGateway(
        network="west",
        address=GatewayAddress(place, port),
        namespace="istio-system",
        service_account="eastwest",
        trust_domain="",
        gateway=ObjectKey("istio-system", "west"),
        value="",
    )


FIRST = way(NetworkAddress("west", b"\xc6\x33\x64\x14"))
SECOND = way(NamespacedHostname("istio-system", "gw.example.org"))


def imported(*capacity: Capacity, trust_domain: str = "cluster.local") -> Import:
    summary = FederatedService(
        "reviews",
        "shop",
        "reviews.shop.mesh.internal",
        "reviews.shop.svc.cluster.local",
        ports=(FederatedPort(80), FederatedPort(443)),
        capacity=capacity,
    )
    return Import(
        peer="istio-system/west",
        key="shop/reviews.shop.mesh.internal",
        cluster="west",
        network="west",
        trust_domain=trust_domain,
        stale=False,
        may_take_over=False,
        flat=False,
        same_names=True,
        locality=Locality("eu", "", ""),
        service=summary,
    )


def test_gateways_by_ip_and_by_host_are_ways_in_alike() -> None:
    found = remote_workloads(
        imported(Capacity("west", Locality("us"), 3)),
        [FIRST, SECOND],
        SERVICES,
        own_network="east",
        fresh_elsewhere=False,
    )
    assert sorted((w.capacity, type(w.network_gateway.destination).__name__) for w in found.values()) == [  # type: ignore[union-attr]
        (1, "NamespacedHostname"),
        (2, "NetworkAddress"),
    ]
    assert all(violations(workload) == [] for workload in found.values())


def test_two_gateways_at_one_address_are_one_way() -> None:
    again = msgspec.structs.replace(FIRST, gateway=ObjectKey("istio-system", "again"))
    found = remote_workloads(
        imported(Capacity("west", Locality(), 3)),
        [FIRST, again],
        SERVICES,
        own_network="east",
        fresh_elsewhere=False,
    )
    assert [workload.capacity for workload in found.values()] == [3]


def test_uids_follow_from_place_and_gateway_and_never_from_capacity_or_order() -> None:
    """A changed count must replace the Workload, not add one."""
    places = (Capacity("west", Locality("us", "a"), 1), Capacity("west", Locality("us", "b"), 2))
    more = (Capacity("west", Locality("us", "b"), 9), Capacity("west", Locality("us", "a"), 9))
    before = remote_workloads(
        imported(*places), [FIRST, SECOND], SERVICES, own_network="east", fresh_elsewhere=False
    )
    after = remote_workloads(
        imported(*more), [SECOND, FIRST], SERVICES, own_network="east", fresh_elsewhere=False
    )
    assert before.keys() == after.keys()
    assert len(before) == 4
    # Pinned: a new version of peerd must not rename what old ones named.
    assert "autogen.west.shop.reviews.2d4cc035" in remote_workloads(
        imported(Capacity("west", Locality("us", "us-1"), 2)),
        [FIRST],
        SERVICES,
        own_network="east",
        fresh_elsewhere=False,
    )


def test_capacity_in_a_network_without_gateway_or_without_a_name_gives_nothing() -> None:
    found = imported(Capacity("west", Locality(), 3), Capacity("north", Locality(), 3))
    assert len(remote_workloads(found, [FIRST], SERVICES, own_network="east", fresh_elsewhere=False)) == 1
    assert remote_workloads(found, [], SERVICES, own_network="east", fresh_elsewhere=False) == {}
    assert remote_workloads(found, [FIRST], (), own_network="east", fresh_elsewhere=False) == {}


def test_another_trust_domain_is_told_and_cluster_local_is_left_out() -> None:
    place = Capacity("west", Locality(), 1)
    (own,) = remote_workloads(
        imported(place), [FIRST], SERVICES, own_network="east", fresh_elsewhere=False
    ).values()
    (other,) = remote_workloads(
        imported(place, trust_domain="west.local"),
        [FIRST],
        SERVICES,
        own_network="east",
        fresh_elsewhere=False,
    ).values()
    assert (own.trust_domain, other.trust_domain) == ("", "west.local")


def test_ports_are_those_both_have_and_a_named_target_becomes_the_number() -> None:
    """A remote workload with target 0 would never be chosen (wire-contract §3.3)."""
    ports = (Port(80, 8080), Port(443, 0), Port(9000, 9000))
    assert ports_of(imported(), ports) == (Port(80, 8080), Port(443, 443))
