"""The validator itself: sound resources pass, and each rule is broken once."""

import msgspec
import pytest

from peerd.api.istio import security_pb2, workload_pb2
from peerd.encode.address import encode_address
from peerd.encode.frame import any_header, frame, version_of
from peerd.encode.policy import encode_policy
from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, Port
from peerd.model.authorization import (
    AddressBlock,
    Authorization,
    Clause,
    Match,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
)
from peerd.model.resource import Resource
from peerd.model.service import LoadBalancing, Mode, Scope, Service, WeightedWaypoint
from peerd.model.types import ADDRESS, AUTHORIZATION, PEER_INFO
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload
from tests.support.ztunnel_rules import payload_violations, violations, world_violations

GATEWAY = GatewayAddress(NetworkAddress("net2", b"\xc6\x33\x64\x02"), 15008)
SAN = "spiffe://cluster.local/ns/ns/sa/default"

SERVICE = Service(
    "s",
    "ns",
    "s.ns.svc.cluster.local",
    addresses=(NetworkAddress("net1", b"\x0a\x60\x00\x01"),),
    ports=(Port(80, 8080),),
    subject_alt_names=(SAN,),
    canonical=True,
)
MEMBERSHIP = (ServicePorts(SERVICE.resource_name, (Port(80, 8080),)),)
POLICY = Authorization("p", "ns", PolicyScope.WORKLOAD_SELECTOR)
LOCAL = Workload(
    "c//Pod/ns/a",
    "a",
    "ns",
    addresses=(b"\x0a\x00\x00\x01",),
    network="net1",
    tunnel_protocol=TunnelProtocol.HBONE,
    services=MEMBERSHIP,
    authorization_policies=("ns/p",),
)
REMOTE = Workload(
    "remote", "remote", "ns", network="net2", network_gateway=GATEWAY, services=MEMBERSHIP, capacity=3
)
GATEWAY_WORKLOAD = Workload(
    "gateway", "gateway", "istio-system", addresses=(b"\xc6\x33\x64\x02",), network="net2"
)
WORLD = (SERVICE, LOCAL, REMOTE, GATEWAY_WORKLOAD)


def change(record: msgspec.Struct, **fields: object) -> msgspec.Struct:
    return msgspec.structs.replace(record, **fields)


def test_a_sound_world_breaks_no_rule() -> None:
    assert world_violations(WORLD, (POLICY,), network="net1") == []
    for record in WORLD:
        assert violations(encode_address(record)) == []
    assert violations(encode_policy(POLICY)) == []


BROKEN_RECORDS = [
    (change(LOCAL, name=""), "no name"),
    (change(LOCAL, addresses=(b"\x0a\x00\x01",)), "an IP of 3 bytes"),
    (change(LOCAL, addresses=()), "nobody can reach it"),
    (change(LOCAL, capacity=0), "capacity 0"),
    (change(LOCAL, services=(ServicePorts("s.ns", ()),)), "is not <namespace>/<hostname>"),
    (change(LOCAL, services=(ServicePorts("a/b/c", ()),)), "is not <namespace>/<hostname>"),
    (change(LOCAL, services=(ServicePorts("a/b", (Port(80), Port(80, 1))),)), "port 80 twice"),
    (change(LOCAL, services=(ServicePorts("a/b", (Port(80, 70_000),)),)), "target port 70000"),
    (change(LOCAL, authorization_policies=("p",)), "is not <namespace>/<name>"),
    (change(LOCAL, waypoint=change(GATEWAY, hbone_mtls_port=0)), "waypoint: hbone_mtls_port 0"),
    (
        change(LOCAL, network_gateway=GatewayAddress(NetworkAddress("n", b""), 15008)),
        "network_gateway: an IP of 0 bytes",
    ),
    (
        change(LOCAL, waypoint=GatewayAddress(NamespacedHostname("ns", ""), 15008)),
        "waypoint names no host",
    ),
    (
        Workload("c/discovery.k8s.io/EndpointSlice/ns/s/1", "s", "ns", (b"abcd",), cluster_id="c"),
        "must be HOST_NETWORK",
    ),
    (change(SERVICE, namespace=""), "must be set and hold no slash"),
    (change(SERVICE, addresses=(NetworkAddress("", b"\x01"),)), "an IP of 1 bytes"),
    (change(SERVICE, addresses=(NetworkAddress("", b"\x0a\x00\x00\x00", 33),)), "a CIDR of length 33"),
    (change(SERVICE, ports=(Port(0),)), "service port 0"),
    (change(SERVICE, subject_alt_names=(SAN, SAN)), "subject_alt_names holds one name twice"),
    (
        change(SERVICE, load_balancing=LoadBalancing((Scope.ZONE, Scope.ZONE), Mode.FAILOVER)),
        "names a scope twice",
    ),
    (
        change(SERVICE, weighted_waypoints=(WeightedWaypoint(change(GATEWAY, hbone_mtls_port=0), 1),)),
        "destination: hbone_mtls_port 0",
    ),
    (change(POLICY, namespace=""), "named '/p'"),
]


@pytest.mark.parametrize(("record", "reason"), BROKEN_RECORDS, ids=[reason for _, reason in BROKEN_RECORDS])
def test_a_record_that_breaks_a_rule_is_named_with_the_rule(record: Workload, reason: str) -> None:
    found = violations(record)
    assert len(found) == 1
    assert reason in found[0]


BROKEN_MATCHES = [
    (Match(source_ips=(AddressBlock(b"\x0a", 8),)), "source_ips: a block of 1 bytes"),
    (Match(not_destination_ips=(AddressBlock(bytes(4), 33),)), "not_destination_ips: a block of 4 bytes"),
    (Match(destination_ports=(65_536,)), "destination_ports: port 65536"),
    (Match(not_service_accounts=(ServiceAccountMatch("", "sa"),)), "namespace or account is empty"),
]


@pytest.mark.parametrize(("match", "reason"), BROKEN_MATCHES, ids=[reason for _, reason in BROKEN_MATCHES])
def test_a_match_that_breaks_a_rule_is_named_with_the_rule(match: Match, reason: str) -> None:
    found = violations(change(POLICY, rules=(Rule((Clause((match,)),)),)))
    assert len(found) == 1
    assert reason in found[0]


# What records cannot even say, as bytes.
BROKEN_PAYLOADS = [
    (ADDRESS, b"\xff", "not an Address"),
    (ADDRESS, b"\x0a\x03\x0a\x01\xff", "not an Address"),
    (ADDRESS, b"", "neither a workload nor a service"),
    (ADDRESS, workload_pb2.Address(workload={"tunnel_protocol": 2}), "LEGACY_ISTIO_MTLS"),
    (ADDRESS, workload_pb2.Address(workload={"tunnel_protocol": 9}), "tunnel_protocol: unknown value 9"),
    (ADDRESS, workload_pb2.Address(workload={"network_mode": 9}), "network_mode: unknown value 9"),
    (ADDRESS, workload_pb2.Address(workload={"status": 9}), "status: unknown value 9"),
    (ADDRESS, workload_pb2.Address(workload={"workload_type": 9}), "workload_type: unknown value 9"),
    (
        ADDRESS,
        workload_pb2.Address(workload={"application_tunnel": {"protocol": 9}}),
        "application_tunnel.pr",
    ),
    (ADDRESS, workload_pb2.Address(workload={"waypoint": {"hbone_mtls_port": 1}}), "waypoint without dest"),
    (ADDRESS, workload_pb2.Address(service={"ip_families": 9}), "ip_families: unknown value 9"),
    (ADDRESS, workload_pb2.Address(service={"load_balancing": {"mode": 9}}), "mode: unknown value 9"),
    (ADDRESS, workload_pb2.Address(service={"load_balancing": {"health_policy": 9}}), "health_policy: unkn"),
    (
        ADDRESS,
        workload_pb2.Address(service={"load_balancing": {"routing_preference": [0]}}),
        "UNSPECIFIED_SCOPE",
    ),
    (
        ADDRESS,
        workload_pb2.Address(service={"weighted_waypoints": [{"weight": 1}]}),
        "weighted_waypoints with",
    ),
    (
        ADDRESS,
        workload_pb2.Address(service={"ports": [{"app_protocol": 9}]}),
        "app_protocol: unknown value 9",
    ),
    (ADDRESS, workload_pb2.Address(service={"hostname": "a/b"}), "hold no slash"),
    (AUTHORIZATION, b"\xff", "not an Authorization"),
    (AUTHORIZATION, security_pb2.Authorization(scope=9), "scope: unknown value 9"),
    (AUTHORIZATION, security_pb2.Authorization(action=9), "action: unknown value 9"),
    (
        AUTHORIZATION,
        security_pb2.Authorization(rules=[{"clauses": [{"matches": [{"principals": [{}]}]}]}]),
        "principals: an unset string match",
    ),
    (PEER_INFO, b"", "ztunnel does not know type"),
]


@pytest.mark.parametrize(
    ("type_url", "payload", "reason"), BROKEN_PAYLOADS, ids=[reason for *_, reason in BROKEN_PAYLOADS]
)
def test_bytes_that_ztunnel_rejects_are_named_with_the_rule(
    type_url: str, payload: object, reason: str
) -> None:
    data = payload if isinstance(payload, bytes) else payload.SerializeToString()
    assert any(reason in text for text in payload_violations(type_url, data, "name"))


def test_a_workload_not_named_by_its_uid_and_a_service_not_by_its_host_are_found() -> None:
    local = workload_pb2.Address(workload={"uid": "u", "name": "n", "addresses": [b"abcd"]})
    service = workload_pb2.Address(service={"namespace": "n", "hostname": "h"})
    assert payload_violations(ADDRESS, local.SerializeToString(), "v") == [
        "v: named 'v', its uid is 'u' (§6 item 12)"
    ]
    assert payload_violations(ADDRESS, service.SerializeToString(), "v") == [
        "v: named 'v', is n/h (§6 item 12)"
    ]


def test_a_resource_is_checked_against_its_frame() -> None:
    good = encode_address(LOCAL)
    assert "the frame is named" in violations(change(good, name="other"))[0]
    assert "is not the hash" in violations(change(good, version="1"))[0]
    empty = frame("n", version_of(b""), any_header(ADDRESS), b"")
    assert violations(Resource("n", version_of(b""), empty)) == ["n: no payload (§1.4)"]
    assert "frame: " in violations(change(good, frame=b"\xff"))[0]


TWIN = change(SERVICE, name="t", hostname="t.ns.svc.cluster.local")

BROKEN_WORLDS = [
    ((*WORLD, LOCAL), "c//Pod/ns/a: sent twice"),
    ((*WORLD, change(LOCAL, uid="b", authorization_policies=("ns/q",))), "policy ns/q is unknown"),
    ((*WORLD, TWIN), "share VIP net1/10.96.0.1"),
    (
        (*WORLD, change(SERVICE, namespace="other")),
        "s.ns.svc.cluster.local: 2 canonical services",
    ),
    ((LOCAL,), "which is not sent"),
    (
        (*WORLD, change(LOCAL, uid="b", services=(ServicePorts(SERVICE.resource_name, (Port(81),)),))),
        "maps port 81",
    ),
    ((*WORLD, change(REMOTE, uid="b", network_gateway=None, addresses=(b"abcd",))), "no valid destination"),
    ((change(SERVICE, subject_alt_names=()), REMOTE, GATEWAY_WORKLOAD), "but no subject_alt_names"),
    ((change(SERVICE, subject_alt_names=("ns/sa",)), REMOTE, GATEWAY_WORKLOAD), "not of the form spiffe"),
    ((SERVICE, REMOTE), "no Workload for its network gateway"),
    ((SERVICE, REMOTE, change(GATEWAY_WORKLOAD, network="net1")), "no Workload for its network gateway"),
    (
        (
            SERVICE,
            change(REMOTE, network_gateway=GatewayAddress(NamespacedHostname("istio-system", "gw"), 1)),
            change(GATEWAY_WORKLOAD, hostname="other"),
        ),
        "no Workload for its network gateway",
    ),
]


@pytest.mark.parametrize(("records", "reason"), BROKEN_WORLDS, ids=[reason for _, reason in BROKEN_WORLDS])
def test_what_only_shows_in_the_whole_is_found(records: tuple[Workload, ...], reason: str) -> None:
    found = world_violations(records, (POLICY,), network="net1")
    assert any(reason in text for text in found)


def test_a_listed_policy_of_another_scope_is_found() -> None:
    """ztunnel applies namespace and mesh policies by itself; listing them means the selector was lost."""
    found = world_violations(WORLD, (change(POLICY, scope=PolicyScope.NAMESPACE),), network="net1")
    assert found == ["c//Pod/ns/a: lists ns/p, whose scope is NAMESPACE (item 34)"]


def test_a_gateway_reached_by_hostname_needs_a_workload_of_that_host_and_namespace() -> None:
    remote = change(REMOTE, network_gateway=GatewayAddress(NamespacedHostname("istio-system", "gw"), 15008))
    gateway = change(GATEWAY_WORKLOAD, addresses=(), hostname="gw")
    assert world_violations((SERVICE, remote, gateway), (), network="net1") == []
