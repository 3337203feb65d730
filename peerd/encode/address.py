"""Workload and Service records to `istio.workload.Address` bytes, and back.

Bytes are deterministic and, GatewayAddress included, those istiod writes, so that versions are equal too
(decision D11): Go puts the members of a oneof after the other fields of their message, protobuf for Python
goes by number. Messages are therefore serialised in pieces around each GatewayAddress: the concatenation of
encodings is the encoding of the merged message.
"""

from functools import lru_cache

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.wrappers_pb2 import UInt32Value

from peerd.api.istio import workload_pb2 as pb
from peerd.encode.frame import (
    DecodeError,
    EncodeError,
    any_header,
    enum_number,
    field,
    frame,
    version_of,
)
from peerd.limits import GATEWAY_FIELDS
from peerd.model.address import (
    AppProtocol,
    GatewayAddress,
    Locality,
    NamespacedHostname,
    NetworkAddress,
    Port,
)
from peerd.model.resource import Resource
from peerd.model.service import (
    HealthPolicy,
    IPFamilies,
    LoadBalancing,
    Mode,
    Scope,
    Service,
    Visibility,
    WeightedWaypoint,
)
from peerd.model.sharing import shared
from peerd.model.types import ADDRESS
from peerd.model.wire import varint
from peerd.model.workload import (
    ApplicationTunnel,
    ApplicationTunnelProtocol,
    NetworkMode,
    ServicePorts,
    TunnelProtocol,
    Workload,
    WorkloadStatus,
    WorkloadType,
)

_HEADER = any_header(ADDRESS)

# Tags of length-delimited fields that are written by hand.
_ADDRESS_WORKLOAD = b"\x0a"  # Address.workload = 1
_ADDRESS_SERVICE = b"\x12"  # Address.service = 2
_WORKLOAD_WAYPOINT = b"\x42"  # Workload.waypoint = 8
_WORKLOAD_NETWORK_GATEWAY = b"\x9a\x01"  # Workload.network_gateway = 19
_SERVICE_WAYPOINT = b"\x3a"  # Service.waypoint = 7
_SERVICE_WEIGHTED_WAYPOINTS = b"\x6a"  # Service.weighted_waypoints = 13
_WEIGHTED_DESTINATION = b"\x0a"  # WeightedWaypoint.destination = 1
_WEIGHTED_WEIGHT = b"\x10"  # WeightedWaypoint.weight = 2, varint


def encode_address(record: Workload | Service, name: str = "") -> Resource:
    """The resource of *record*: name `uid` or `<namespace>/<hostname>` (wire-contract §2.2).

    *name* is that name where the caller has it: one string then serves both.
    Aliases are `<network>/<ip>[/<length>]` of each address, save those of host-network workloads, which
    ztunnel never looks up by IP (§3.2). Groups are `node/<node>` and `service/<namespace>/<hostname>`.

    Raises:
        EncodeError: a value does not fit its field (a port of more than 32 bits, a surrogate in a string).
    """
    try:
        if isinstance(record, Workload):
            return _encode_workload(record)
        return _encode_service(record, name or record.resource_name)
    except (ValueError, TypeError) as error:
        name = record.uid if isinstance(record, Workload) else record.resource_name
        raise EncodeError(f"{name!r} cannot be encoded as istio.workload.Address: {error}") from error


def address_payload(record: Workload | Service) -> bytes:
    """The bytes of `istio.workload.Address` alone."""
    if isinstance(record, Workload):
        return field(_ADDRESS_WORKLOAD, _workload_bytes(record))
    return field(_ADDRESS_SERVICE, _service_bytes(record))


def _encode_workload(record: Workload) -> Resource:
    payload = address_payload(record)
    version = version_of(payload)
    aliases: tuple[NetworkAddress, ...] = ()
    if record.network_mode is NetworkMode.STANDARD:
        aliases = tuple([NetworkAddress(record.network, address) for address in record.addresses])
    groups = [shared(f"service/{entry.service}") for entry in record.services]
    if record.node:
        groups.append(f"node/{record.node}")
    return Resource(
        record.uid, version, frame(record.uid, version, _HEADER, payload), aliases, shared(tuple(groups))
    )


def _encode_service(record: Service, name: str) -> Resource:
    payload = address_payload(record)
    version = version_of(payload)
    balancing = record.load_balancing
    # ztunnel keeps no unhealthy endpoint of a service that wants healthy ones only (wire-contract §3.2).
    all_wanted = balancing is not None and balancing.health_policy is HealthPolicy.ALLOW_ALL
    revives = f"service/{name}" if all_wanted else ""
    return Resource(name, version, frame(name, version, _HEADER, payload), record.addresses, revives=revives)


def _workload_bytes(record: Workload) -> bytes:
    """Fields 1 to 7, waypoint, 9 to 18, network_gateway, 20 to 27."""
    before_waypoint = pb.Workload(
        name=record.name,
        namespace=record.namespace,
        addresses=record.addresses,
        network=record.network,
        tunnel_protocol=enum_number(record.tunnel_protocol),
        trust_domain=record.trust_domain,
        service_account=record.service_account,
    )
    between = pb.Workload(
        node=record.node,
        canonical_name=record.canonical_name,
        canonical_revision=record.canonical_revision,
        workload_type=enum_number(record.workload_type),
        workload_name=record.workload_name,
        native_tunnel=record.native_tunnel,
        authorization_policies=record.authorization_policies,
        status=enum_number(record.status),
        cluster_id=record.cluster_id,
    )
    after_gateway = pb.Workload(
        uid=record.uid, hostname=record.hostname, network_mode=enum_number(record.network_mode)
    )
    for entry in record.services:
        ports = after_gateway.services[entry.service].ports
        for port in entry.ports:
            ports.add(
                service_port=port.service_port,
                target_port=port.target_port,
                app_protocol=enum_number(port.app_protocol),
            )
    if (tunnel := record.application_tunnel) is not None:
        after_gateway.application_tunnel.CopyFrom(
            pb.ApplicationTunnel(protocol=enum_number(tunnel.protocol), port=tunnel.port)
        )
    if (locality := record.locality) is not None:
        after_gateway.locality.CopyFrom(
            pb.Locality(region=locality.region, zone=locality.zone, subzone=locality.subzone)
        )
    if record.capacity is not None:
        after_gateway.capacity.CopyFrom(UInt32Value(value=record.capacity))
    return b"".join(
        (
            before_waypoint.SerializeToString(),
            _gateway_field(_WORKLOAD_WAYPOINT, record.waypoint),
            between.SerializeToString(),
            _gateway_field(_WORKLOAD_NETWORK_GATEWAY, record.network_gateway),
            # Only this piece holds a map, whose order is otherwise free.
            after_gateway.SerializeToString(deterministic=True),
        )
    )


def _service_bytes(record: Service) -> bytes:
    """Fields 1 to 6, waypoint, 8 to 12, weighted_waypoints, 14."""
    before_waypoint = pb.Service(
        name=record.name,
        namespace=record.namespace,
        hostname=record.hostname,
        addresses=[
            pb.NetworkAddress(network=address.network, address=address.address, length=address.length)
            for address in record.addresses
        ],
        ports=[
            pb.Port(
                service_port=port.service_port,
                target_port=port.target_port,
                app_protocol=enum_number(port.app_protocol),
            )
            for port in record.ports
        ],
        subject_alt_names=record.subject_alt_names,
    )
    between = pb.Service(
        ip_families=enum_number(record.ip_families),
        canonical=record.canonical,
        ingress_use_waypoint=record.ingress_use_waypoint,
    )
    if (balancing := record.load_balancing) is not None:
        between.load_balancing.CopyFrom(
            pb.LoadBalancing(
                routing_preference=map(enum_number, balancing.routing_preference),
                mode=enum_number(balancing.mode),
                health_policy=enum_number(balancing.health_policy),
            )
        )
    return b"".join(
        (
            before_waypoint.SerializeToString(),
            _gateway_field(_SERVICE_WAYPOINT, record.waypoint),
            between.SerializeToString(),
            *(field(_SERVICE_WEIGHTED_WAYPOINTS, _weighted(entry)) for entry in record.weighted_waypoints),
            pb.Service(visibility=enum_number(record.visibility)).SerializeToString(),
        )
    )


def _weighted(entry: WeightedWaypoint) -> bytes:
    weight = _WEIGHTED_WEIGHT + varint(entry.weight) if entry.weight else b""
    return _gateway_field(_WEIGHTED_DESTINATION, entry.destination) + weight


# A cluster has a handful of waypoints and gateways, named by thousands of workloads.
@lru_cache(maxsize=GATEWAY_FIELDS.value)
def _gateway_field(tag: bytes, gateway: GatewayAddress | None) -> bytes:
    if gateway is None:
        return b""
    match gateway.destination:
        case NamespacedHostname(namespace, hostname):
            destination = pb.GatewayAddress(
                hostname=pb.NamespacedHostname(namespace=namespace, hostname=hostname)
            )
        case NetworkAddress(network, address, length):
            destination = pb.GatewayAddress(
                address=pb.NetworkAddress(network=network, address=address, length=length)
            )
    port = pb.GatewayAddress(hbone_mtls_port=gateway.hbone_mtls_port)
    return field(tag, port.SerializeToString() + destination.SerializeToString())


def decode_address(payload: bytes) -> Workload | Service:
    """The record behind the bytes of an `istio.workload.Address`; `services` come sorted.

    Raises:
        DecodeError: the bytes are not an Address, it is neither a workload nor a service, a gateway address
            has no destination, or an enum has a value peerd never writes (all of which ztunnel rejects).
    """
    try:
        address = pb.Address.FromString(payload)
    except ProtobufDecodeError as error:
        raise DecodeError(f"not an istio.workload.Address: {error}") from error
    try:
        match address.WhichOneof("type"):
            case "workload":
                return _workload_record(address.workload)
            case "service":
                return _service_record(address.service)
    except ValueError as error:
        raise DecodeError(f"istio.workload.Address: {error}") from error
    raise DecodeError("istio.workload.Address: neither a workload nor a service")


def _workload_record(message: pb.Workload) -> Workload:
    return Workload(
        uid=message.uid,
        name=message.name,
        namespace=message.namespace,
        addresses=tuple(message.addresses),
        network=message.network,
        tunnel_protocol=TunnelProtocol(message.tunnel_protocol),
        trust_domain=message.trust_domain,
        service_account=message.service_account,
        waypoint=_gateway_record(message.waypoint) if message.HasField("waypoint") else None,
        node=message.node,
        canonical_name=message.canonical_name,
        canonical_revision=message.canonical_revision,
        workload_type=WorkloadType(message.workload_type),
        workload_name=message.workload_name,
        native_tunnel=message.native_tunnel,
        authorization_policies=tuple(message.authorization_policies),
        status=WorkloadStatus(message.status),
        cluster_id=message.cluster_id,
        network_gateway=(
            _gateway_record(message.network_gateway) if message.HasField("network_gateway") else None
        ),
        hostname=message.hostname,
        services=tuple(
            ServicePorts(name, tuple(_port_record(port) for port in entry.ports))
            for name, entry in sorted(message.services.items())
        ),
        application_tunnel=(
            ApplicationTunnel(
                ApplicationTunnelProtocol(message.application_tunnel.protocol),
                message.application_tunnel.port,
            )
            if message.HasField("application_tunnel")
            else None
        ),
        locality=(
            Locality(message.locality.region, message.locality.zone, message.locality.subzone)
            if message.HasField("locality")
            else None
        ),
        network_mode=NetworkMode(message.network_mode),
        capacity=message.capacity.value if message.HasField("capacity") else None,
    )


def _service_record(message: pb.Service) -> Service:
    balancing = message.load_balancing
    return Service(
        name=message.name,
        namespace=message.namespace,
        hostname=message.hostname,
        addresses=tuple(_network_address_record(address) for address in message.addresses),
        ports=tuple(_port_record(port) for port in message.ports),
        subject_alt_names=tuple(message.subject_alt_names),
        waypoint=_gateway_record(message.waypoint) if message.HasField("waypoint") else None,
        load_balancing=(
            LoadBalancing(
                tuple(Scope(scope) for scope in balancing.routing_preference),
                Mode(balancing.mode),
                HealthPolicy(balancing.health_policy),
            )
            if message.HasField("load_balancing")
            else None
        ),
        ip_families=IPFamilies(message.ip_families),
        canonical=message.canonical,
        ingress_use_waypoint=message.ingress_use_waypoint,
        weighted_waypoints=tuple(
            WeightedWaypoint(_gateway_record(entry.destination), entry.weight)
            for entry in message.weighted_waypoints
        ),
        visibility=Visibility(message.visibility),
    )


def _gateway_record(message: pb.GatewayAddress) -> GatewayAddress:
    match message.WhichOneof("destination"):
        case "hostname":
            name = NamespacedHostname(message.hostname.namespace, message.hostname.hostname)
            return GatewayAddress(name, message.hbone_mtls_port)
        case "address":
            return GatewayAddress(_network_address_record(message.address), message.hbone_mtls_port)
        case _:
            raise DecodeError("a gateway address without a destination")


def _network_address_record(message: pb.NetworkAddress) -> NetworkAddress:
    length = message.length if message.HasField("length") else None
    return NetworkAddress(message.network, message.address, length)


def _port_record(message: pb.Port) -> Port:
    return Port(message.service_port, message.target_port, AppProtocol(message.app_protocol))
