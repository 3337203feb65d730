"""Addresses: the bytes are Istio's, the versions istiod's, the names and aliases ztunnel's."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from peerd.api.istio import workload_pb2
from peerd.encode.address import _gateway_field, address_payload, decode_address, encode_address
from peerd.encode.frame import DecodeError, EncodeError, decode_frame
from peerd.limits import GATEWAY_FIELDS
from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, Port
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope, Service, WeightedWaypoint
from peerd.model.types import ADDRESS
from peerd.model.workload import NetworkMode, ServicePorts, Workload

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["addresses"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_recorded_address_has_the_bytes_and_version_istiod_gave_it(name: str) -> None:
    recorded = dict(GOLDEN[name])
    version = recorded.pop("version")
    message = json_format.ParseDict(recorded, workload_pb2.Address())

    record = decode_address(message.SerializeToString())
    resource = encode_address(record)

    assert (resource.name, resource.version) == (name, version)
    payload = decode_frame(resource.frame).payload
    assert workload_pb2.Address.FromString(payload) == message
    assert decode_address(payload) == record


def test_the_recorded_sample_holds_gateway_addresses_of_both_forms_in_every_place() -> None:
    """Otherwise the test above would not show that oneof members go last."""
    text = json.dumps(GOLDEN)
    for part in ("waypoint", "network_gateway", "weighted_waypoints", "hostname", "capacity"):
        assert f'"{part}": ' in text, part


WAYPOINT = GatewayAddress(NamespacedHostname("infra", "waypoint.infra.svc.cluster.local"), 15008)
GATEWAY = GatewayAddress(NetworkAddress("net2", b"\xc6\x33\x64\x02"), 15008)


def test_gateway_addresses_are_written_port_first_and_between_their_neighbours_fields() -> None:
    """Go writes a oneof after the other fields of its message, and fields in order of their numbers."""
    payload = address_payload(
        Workload("u", "n", "ns", waypoint=GATEWAY, network_gateway=GATEWAY, node="node")
    )
    gateway = b"\x18\xa0\x75\x12\x0c\x0a\x04net2\x12\x04\xc6\x33\x64\x02"
    body = b"".join(
        (
            b"\x0a\x01n\x12\x02ns",
            b"\x42\x11" + gateway,
            b"\x4a\x04node\x60\x02",
            b"\x9a\x01\x11" + gateway,
            b"\xa2\x01\x01u",
        )
    )
    assert payload == b"\x0a" + bytes([len(body)]) + body


def test_more_gateways_than_are_kept_are_encoded_all_the_same() -> None:
    """GATEWAY_FIELDS bounds the memory, not what can be said."""

    def payload(number: int) -> bytes:
        waypoint = GatewayAddress(NamespacedHostname("infra", f"w{number}.infra"), 15008)
        return address_payload(Workload("u", "n", "ns", waypoint=waypoint))

    first = payload(0)
    for number in range(1, GATEWAY_FIELDS.value + 2):
        assert f"w{number}.infra".encode() in payload(number)
    assert _gateway_field.cache_info().currsize == GATEWAY_FIELDS.value
    assert payload(0) == first


def test_a_weighted_waypoint_of_weight_zero_keeps_its_destination() -> None:
    record = Service(
        "s", "ns", "s.ns", weighted_waypoints=(WeightedWaypoint(WAYPOINT, 0), WeightedWaypoint(GATEWAY, 100))
    )
    assert decode_address(address_payload(record)) == record


def test_aliases_and_groups_of_a_workload_are_its_addresses_node_and_services() -> None:
    resource = encode_address(
        Workload(
            "c//Pod/ns/a",
            "a",
            "ns",
            addresses=(b"\x0a\x00\x00\x01", bytes(15) + b"\x01"),
            network="net1",
            node="node-1",
            services=(ServicePorts("ns/s.ns.svc.cluster.local", (Port(80, 8080),)),),
        )
    )
    assert resource.alias_keys() == ("net1/10.0.0.1", "net1/::1")
    assert set(resource.groups) == {"node/node-1", "service/ns/s.ns.svc.cluster.local"}


def test_a_host_network_workload_has_no_alias() -> None:
    """ztunnel never looks such a workload up by the address it shares with its node (wire-contract §3.2)."""
    record = Workload("u", "a", "ns", addresses=(b"\x0a\x00\x00\x01",), network_mode=NetworkMode.HOST_NETWORK)
    assert encode_address(record).alias_keys() == ()


def test_aliases_of_a_service_are_its_vips_with_the_length_of_blocks() -> None:
    record = Service(
        "s",
        "ns",
        "s.ns",
        addresses=(NetworkAddress("", b"\x0a\x00\x00\x01"), NetworkAddress("n", b"\x0a\x00\x00\x00", 8)),
    )
    assert encode_address(record).alias_keys() == ("/10.0.0.1", "n/10.0.0.0/8")


def test_a_service_that_wants_unhealthy_endpoints_revives_its_workloads() -> None:
    """They are the members of the group it names; an ordinary one names none (wire-contract §3.2)."""
    balancing = LoadBalancing((), Mode.UNSPECIFIED, HealthPolicy.ALLOW_ALL)
    wants = encode_address(Service("s", "ns", "s.ns", load_balancing=balancing))
    assert (
        wants.revives
        in encode_address(Workload("u", "u", "ns", services=(ServicePorts("ns/s.ns", ()),))).groups
    )
    for ordinary in (None, LoadBalancing((Scope.NETWORK,), Mode.FAILOVER)):
        assert encode_address(Service("s", "ns", "s.ns", load_balancing=ordinary)).revives == ""


def test_services_of_a_workload_are_encoded_alike_in_any_order() -> None:
    """Map order must not change the version."""
    entries = (ServicePorts("a/x", (Port(1, 2),)), ServicePorts("b/y", (Port(3, 4),)))
    forward = encode_address(Workload("u", "n", "ns", services=entries))
    backward = encode_address(Workload("u", "n", "ns", services=entries[::-1]))
    assert forward.frame == backward.frame


def test_the_frame_carries_name_version_type_and_payload() -> None:
    record = Service("s", "ns", "s.ns", load_balancing=LoadBalancing((Scope.NETWORK,), Mode.FAILOVER))
    resource = encode_address(record)
    frame = decode_frame(resource.frame)
    assert (frame.name, frame.version, frame.type_url) == ("ns/s.ns", resource.version, ADDRESS)
    assert decode_address(frame.payload) == record


def test_a_port_beyond_32_bits_is_an_error_that_names_the_resource() -> None:
    with pytest.raises(EncodeError, match=r"'ns/s\.ns' cannot be encoded"):
        encode_address(Service("s", "ns", "s.ns", ports=(Port(1 << 33),)))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff", "not an istio.workload.Address"),
        (b"", "neither a workload nor a service"),
        (b"\x0a\x02\x28\x02", "2 is not a valid TunnelProtocol"),
        (b"\x0a\x04\x42\x02\x18\x01", "without a destination"),
    ],
)
def test_what_ztunnel_would_reject_is_not_decoded(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_address(payload)
