"""The model of ztunnel's choice does what is known of ztunnel (wire-contract §3.2 to §3.4)."""

from fractions import Fraction
from typing import Any

import pytest

from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, NetworkAddress, Port
from peerd.model.service import (
    HealthPolicy,
    LoadBalancing,
    Mode,
    Scope,
    Service,
    Visibility,
    WeightedWaypoint,
)
from peerd.model.workload import (
    ApplicationTunnel,
    ApplicationTunnelProtocol,
    NetworkMode,
    ServicePorts,
    TunnelProtocol,
    Workload,
    WorkloadStatus,
)
from tests.support.ztunnel_choice import DOUBLE_HBONE, HBONE, TCP, Client, RefusedError, Ztunnel

VIP = b"\xf0\x40\x00\x01"
WAY = NetworkAddress("west", b"\xc6\x33\x64\x14")
SAN = "spiffe://cluster.local/ns/shop/sa/reviews"
HOST = "reviews.shop.mesh.internal"
KEY = f"shop/{HOST}"
EAST = Client("east", cluster="east", node="n1", locality=Locality("eu", "eu-1", "a"))
GATEWAY = Workload(
    "NetworkGateway/west", "gw", "istio-system", (WAY.address,), "west", service_account="eastwest"
)


def service(**fields: Any) -> Service:
    given = {
        "addresses": (NetworkAddress("east", VIP),),
        "ports": (Port(80, 8080),),
        "subject_alt_names": (SAN,),
        "canonical": True,
        **fields,
    }
    host = given.pop("hostname", HOST)
    return Service("reviews", given.pop("namespace", "shop"), host, **given)


def near(uid: str = "pod", **fields: Any) -> Workload:
    number = sum(map(ord, uid)) % 250
    given = {
        "addresses": (bytes((10, 0, 0, number)),),
        "network": "east",
        "tunnel_protocol": TunnelProtocol.HBONE,
        "service_account": "reviews",
        "services": (ServicePorts(KEY, (Port(80, 8080),)),),
        **fields,
    }
    return Workload(uid, uid, given.pop("namespace", "shop"), **given)


def far(uid: str = "autogen.west", **fields: Any) -> Workload:
    given = {"addresses": (), "network": "west", "network_gateway": GatewayAddress(WAY, 15008), **fields}
    return near(uid, **given)


def shares(*records: Workload | Service, client: Client = EAST, port: int = 80) -> dict[str, Fraction]:
    return {target.workload.uid: target.share for target in Ztunnel(records).request(client, HOST, port)}


def refusal(*records: Workload | Service, client: Client = EAST, port: int = 80) -> str:
    with pytest.raises(RefusedError) as caught:
        Ztunnel(records).request(client, HOST, port)
    return str(caught.value)


# --- look-ups ---


def test_a_name_resolves_to_addresses_of_the_callers_network_only() -> None:
    elsewhere = service(addresses=(NetworkAddress("west", VIP),))
    assert refusal(elsewhere, near()) == "the name does not resolve"


def test_the_own_namespace_wins_then_canonical() -> None:
    own = service(namespace="client", canonical=False, ports=(Port(80, 1),))
    other = service(canonical=True)
    asked = Ztunnel([own, other])
    assert asked.named(EAST, HOST) is own
    assert asked.behind(Client("east", "elsewhere"), VIP) is other


def test_a_service_of_its_namespace_only_is_invisible_to_others() -> None:
    hidden = service(visibility=Visibility.NAMESPACE)
    assert Ztunnel([hidden]).named(EAST, HOST) is None
    assert Ztunnel([hidden]).named(Client("east", "shop"), HOST) is hidden


def test_exact_addresses_come_before_blocks_and_long_blocks_before_short() -> None:
    exact = service()
    wide = service(hostname="wide", addresses=(NetworkAddress("east", b"\xf0\0\0\0", 8),))
    narrow = service(hostname="narrow", addresses=(NetworkAddress("east", b"\xf0\x40\0\0", 16),))
    assert Ztunnel([wide, narrow, exact]).behind(EAST, VIP) is exact
    assert Ztunnel([wide, narrow]).behind(EAST, VIP) is narrow
    assert Ztunnel([wide, narrow]).behind(EAST, b"\xf0\x01\0\0") is wide


def test_a_wildcard_name_answers_after_exact_ones() -> None:
    wild = service(hostname="*.shop.mesh.internal")
    assert Ztunnel([wild]).named(EAST, HOST) is wild
    exact = service()
    assert Ztunnel([wild, exact]).named(EAST, HOST) is exact


def test_a_headless_name_of_the_cluster_resolves_to_its_endpoints() -> None:
    name = "db.shop.svc.cluster.local"
    headless = service(hostname=name, addresses=())
    member = near("db", services=(ServicePorts(f"shop/{name}", (Port(80, 8080),)),))
    assert Ztunnel([headless, member]).resolve(EAST, name) == member.addresses
    assert Ztunnel([service(addresses=()), near()]).resolve(EAST, HOST) == ()


def test_host_network_workloads_are_not_found_by_address_and_pods_come_first() -> None:
    shared = (b"\x0a\0\0\x09",)
    host = near("east//Pod/shop/host", addresses=shared, network_mode=NetworkMode.HOST_NETWORK)
    entry = near("east/WorkloadEntry/x", addresses=shared)
    pod = near("east//Pod/shop/p", addresses=shared)
    assert Ztunnel([host]).at("east", shared[0]) is None
    assert Ztunnel([host, entry, pod]).at("east", shared[0]) is pod
    assert Ztunnel([pod]).at("west", shared[0]) is None


# --- load balancing ---


def test_shares_follow_capacity_where_nothing_ranks() -> None:
    assert shares(service(), near(), far(capacity=3), GATEWAY) == {
        "autogen.west": Fraction(3, 4),
        "pod": Fraction(1, 4),
    }


def test_unhealthy_endpoints_count_only_where_all_are_allowed() -> None:
    sick = near(status=WorkloadStatus.UNHEALTHY)
    assert refusal(service(), sick) == "no healthy endpoint"
    balancing = LoadBalancing(health_policy=HealthPolicy.ALLOW_ALL)
    assert set(shares(service(load_balancing=balancing), sick)) == {"pod"}


def test_strict_takes_only_who_matches_everything() -> None:
    balancing = LoadBalancing((Scope.NODE,), Mode.STRICT)
    assert set(shares(service(load_balancing=balancing), near("a", node="n1"), near("b", node="n2"))) == {"a"}
    assert refusal(service(load_balancing=balancing), near("b", node="n2")) == "no healthy endpoint"


def test_failover_ranks_by_leading_matches() -> None:
    balancing = LoadBalancing((Scope.REGION, Scope.ZONE), Mode.FAILOVER)
    same_zone = near("zone", locality=Locality("eu", "eu-1"))
    same_region = near("region", locality=Locality("eu", "eu-2"))
    zone_alone = near("alone", locality=Locality("us", "eu-1"))
    ranked = service(load_balancing=balancing)
    assert set(shares(ranked, zone_alone, same_region, same_zone)) == {"zone"}
    assert set(shares(ranked, zone_alone, same_region)) == {"region"}
    assert set(shares(ranked, zone_alone)) == {"alone"}


def test_network_first_outranks_all_and_a_mismatch_lets_the_rest_rank() -> None:
    balancing = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE), Mode.FAILOVER)
    ranked = service(load_balancing=balancing)
    here = near("here", locality=Locality("us", "us-1"))
    near_region = far("region", locality=Locality("eu", "eu-2"))
    elsewhere = far("elsewhere", locality=Locality("us", "us-1"))
    assert set(shares(ranked, here, near_region, elsewhere, GATEWAY)) == {"here"}
    assert set(shares(ranked, near_region, elsewhere, GATEWAY)) == {"region"}


def test_a_port_that_the_endpoint_lacks_is_still_sent_to_it_where_the_service_has_a_target() -> None:
    """Why a port that not everybody serves must have no target on the Service."""
    both = (Port(80, 8080), Port(90, 9090))
    assert set(shares(service(ports=both), near(), port=90)) == {"pod"}
    assert refusal(service(ports=(Port(80, 8080), Port(90, 0))), near(), port=90) == "no healthy endpoint"
    assert refusal(service(), near(), port=91) == "no healthy endpoint"


def test_the_endpoints_own_mapping_of_a_port_wins() -> None:
    member = near(services=(ServicePorts(KEY, (Port(80, 9999),)),))
    (target,) = Ztunnel([service(), member]).request(EAST, HOST, 80)
    assert target.port == 9999


def test_no_address_is_usable_through_another_networks_gateway_only() -> None:
    assert refusal(service(), near(addresses=())) == "no healthy endpoint"
    assert refusal(service(), far(network_gateway=None)) == "no healthy endpoint"


# --- where it goes ---


def test_the_same_network_is_reached_by_hbone_or_plain() -> None:
    (target,) = Ztunnel([service(), near()]).request(EAST, HOST, 80)
    assert (target.path, target.port, target.identities, target.problem) == (HBONE, 8080, (SAN,), "")
    (target,) = Ztunnel([service(), near(tunnel_protocol=TunnelProtocol.NONE)]).request(EAST, HOST, 80)
    assert (target.path, target.identities) == (TCP, ())


def test_another_network_is_double_hbone_with_both_identities() -> None:
    (target,) = Ztunnel([service(), far(), GATEWAY]).request(EAST, HOST, 80)
    assert (target.path, target.authority, target.problem) == (DOUBLE_HBONE, f"{HOST}:80", "")
    assert target.outer == ("spiffe://cluster.local/ns/istio-system/sa/eastwest",)
    assert target.identities == (SAN,)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ((service(), far()), "network gateway not found"),
        (
            (service(), far(addresses=(b"\x0a\0\0\1",), network_gateway=None)),
            "no valid destination: another network, and no gateway",
        ),
        (
            (service(subject_alt_names=()), far(), GATEWAY),
            "the service lists no identity: the inner tunnel is refused",
        ),
    ],
)
def test_each_precondition_of_double_hbone_is_needed(
    records: tuple[Workload | Service, ...], problem: str
) -> None:
    (target,) = Ztunnel(records).request(EAST, HOST, 80)
    assert target.problem == problem


def test_a_gateway_by_host_name_is_found_in_its_namespace() -> None:
    named = GatewayAddress(NamespacedHostname("istio-system", "gw.example.org"), 15008)
    gateway = Workload("gw", "gw", "istio-system", hostname="gw.example.org", network="west")
    (target,) = Ztunnel([service(), far(network_gateway=named), gateway]).request(EAST, HOST, 80)
    assert (target.outer, target.problem) == (("spiffe://cluster.local/ns/istio-system/sa/default",), "")


# --- waypoints ---

WP_HOST = "wp.shop.svc.cluster.local"
WP = GatewayAddress(NamespacedHostname("shop", WP_HOST), 15008)


def waypoint(uid: str = "wp", **fields: Any) -> tuple[Service, Workload]:
    host = fields.pop("hostname", WP_HOST)
    listed = fields.pop("ports", (Port(15008, 15008),))
    member = near(uid, service_account=uid, services=(ServicePorts(f"shop/{host}", listed),), **fields)
    return service(hostname=host, addresses=(), ports=listed, subject_alt_names=()), member


def test_a_services_waypoint_answers_before_any_endpoint() -> None:
    (target,) = Ztunnel([service(waypoint=WP), near(), *waypoint()]).request(EAST, HOST, 80)
    assert (target.workload.uid, target.waypoint, target.path) == ("wp", True, HBONE)
    assert target.identities == ("spiffe://cluster.local/ns/shop/sa/wp",)


def test_a_waypoint_without_endpoints_is_never_bypassed() -> None:
    assert refusal(service(waypoint=WP), near()) == "no healthy waypoint"


def test_a_waypoint_service_without_15008_needs_an_application_tunnel() -> None:
    plain = waypoint(ports=(Port(80, 80),))
    assert refusal(service(waypoint=WP), near(), *plain) == "no healthy waypoint"
    tunnel = ApplicationTunnel(ApplicationTunnelProtocol.PROXY)
    tunnelled = waypoint(ports=(Port(80, 80),), application_tunnel=tunnel)
    assert set(shares(service(waypoint=WP), near(), *tunnelled)) == {"wp"}


def test_weighted_waypoints_share_by_weight() -> None:
    canary_host = "canary.shop.svc.cluster.local"
    canary = GatewayAddress(NamespacedHostname("shop", canary_host), 15008)
    split = (WeightedWaypoint(WP, 90), WeightedWaypoint(canary, 10))
    records = (*waypoint(), *waypoint("canary", hostname=canary_host))
    assert shares(service(waypoint=WP, weighted_waypoints=split), *records) == {
        "wp": Fraction(9, 10),
        "canary": Fraction(1, 10),
    }


def test_a_workloads_waypoint_counts_only_for_requests_to_the_workload() -> None:
    bound = near(waypoint=WP)
    asked = Ztunnel([service(), bound, *waypoint()])
    (target,) = asked.request(EAST, HOST, 80)
    assert (target.workload.uid, target.waypoint) == ("pod", False)
    (target,) = asked.request(EAST, "10.0.0." + str(bound.addresses[0][3]), 80)
    assert (target.workload.uid, target.waypoint) == ("wp", True)


def test_an_unknown_address_is_passed_through() -> None:
    with pytest.raises(RefusedError, match="passed through"):
        Ztunnel([]).request(EAST, "192.0.2.1", 80)
