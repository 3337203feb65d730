"""What peers tell each other, to bytes and back (api/peering/v1)."""

from google.protobuf.message import DecodeError as ProtobufDecodeError

from peerd.api.peering.v1 import peering_pb2 as pb
from peerd.encode.frame import DecodeError, any_header, frame, version_of
from peerd.model.address import AppProtocol, Locality
from peerd.model.federation import (
    Capacity,
    DataPlaneAddress,
    FederatedPort,
    FederatedService,
    FederationScope,
    PeerInfo,
    Segment,
)
from peerd.model.resource import Resource
from peerd.model.sharing import shared
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO, SEGMENT

PEER_INFO_NAME = "self"

_SCOPES = {FederationScope.GLOBAL: pb.GLOBAL, FederationScope.SEGMENT: pb.SEGMENT}
_SCOPES_BACK = {wire: scope for scope, wire in _SCOPES.items()}
_APP_PROTOCOLS = frozenset(AppProtocol)


def encode_federated_service(service: FederatedService) -> Resource:
    """The resource `<namespace>/<name>`; equal records give equal bytes and so equal versions."""
    message = pb.FederatedService(
        summary=pb.Summary(
            name=service.name,
            namespace=service.namespace,
            global_host=service.global_host,
            local_host=service.local_host,
            scope=_SCOPES[service.scope],
            takeover=service.takeover,
            aliases=service.aliases,
            ports=[
                pb.Port(
                    number=p.number,
                    name=p.name,
                    protocol=p.protocol,
                    app_protocol=p.app_protocol,
                    target=p.target,
                )
                for p in service.ports
            ],
            identities=service.identities,
            distribution=service.distribution,
            waypoint=service.waypoint,
            created=service.created,
        ),
        capacity=[
            pb.Capacity(
                network=c.network,
                locality=pb.Locality(
                    region=c.locality.region, zone=c.locality.zone, subzone=c.locality.subzone
                ),
                healthy=c.healthy,
            )
            for c in service.capacity
            if c.healthy
        ],
    )
    return _resource(service.resource_name, FEDERATED_SERVICE, message.SerializeToString(deterministic=True))


def decode_federated_service(payload: bytes) -> FederatedService:
    """The record of a FederatedService; fields this version does not know are ignored.

    Raises:
        DecodeError: the bytes are no FederatedService, or a field that everything rests on is missing or
            contradictory. The message names the field.
    """
    message = pb.FederatedService()
    _parse(message, payload, "FederatedService")
    summary = message.summary
    for field in ("name", "namespace", "global_host", "local_host"):
        if not getattr(summary, field):
            raise DecodeError(f"summary.{field} is empty")
    scope = _SCOPES_BACK.get(summary.scope)
    if scope is None:
        raise DecodeError(f"summary.scope {summary.scope} is unknown, so who may see the service is unknown")
    capacity = tuple(
        Capacity(
            shared(c.network),
            shared(Locality(c.locality.region, c.locality.zone, c.locality.subzone)),
            c.healthy,
        )
        for c in message.capacity
    )
    if len({(c.network, c.locality) for c in capacity}) != len(capacity):
        raise DecodeError("capacity names the same network and locality twice")
    return FederatedService(
        name=summary.name,
        namespace=shared(summary.namespace),
        global_host=summary.global_host,
        local_host=summary.local_host,
        scope=scope,
        takeover=summary.takeover,
        aliases=tuple(summary.aliases),
        ports=shared(tuple(_port(port) for port in summary.ports)),
        identities=shared(tuple(summary.identities)),
        capacity=shared(tuple(c for c in capacity if c.healthy)),
        distribution=shared(summary.distribution),
        waypoint=summary.waypoint,
        created=shared(summary.created),
    )


def encode_peer_info(info: PeerInfo) -> Resource:
    """The resource `self` of PeerInfo."""
    message = pb.PeerInfo(
        cluster=info.cluster,
        network=info.network,
        trust_domain=info.trust_domain,
        lineage=info.lineage,
        segment=info.segment,
        segment_domain=info.segment_domain,
        addresses=[pb.DataPlaneAddress(type=a.type, value=a.value, port=a.port) for a in info.addresses],
        gateway_service_account=info.gateway_service_account,
        gateway_namespace=info.gateway_namespace,
        capabilities=info.capabilities,
        version=info.version,
    )
    return _resource(PEER_INFO_NAME, PEER_INFO, message.SerializeToString(deterministic=True))


def decode_peer_info(payload: bytes) -> PeerInfo:
    """The record of a PeerInfo.

    Raises:
        DecodeError: the bytes are no PeerInfo, or cluster, trust domain or lineage is empty.
    """
    message = pb.PeerInfo()
    _parse(message, payload, "PeerInfo")
    for field in ("cluster", "trust_domain", "lineage"):
        if not getattr(message, field):
            raise DecodeError(f"{field} is empty")
    return PeerInfo(
        cluster=message.cluster,
        network=message.network,
        trust_domain=message.trust_domain,
        lineage=message.lineage,
        segment=message.segment,
        segment_domain=message.segment_domain or "mesh.internal",
        addresses=tuple(DataPlaneAddress(a.type, a.value, a.port) for a in message.addresses),
        gateway_service_account=message.gateway_service_account,
        gateway_namespace=message.gateway_namespace,
        capabilities=tuple(message.capabilities),
        version=message.version,
    )


def encode_segment(segment: Segment) -> Resource:
    """The resource named as the segment is."""
    message = pb.Segment(name=segment.name, domain=segment.domain)
    return _resource(segment.name, SEGMENT, message.SerializeToString(deterministic=True))


def decode_segment(payload: bytes) -> Segment:
    """The record of a Segment.

    Raises:
        DecodeError: the bytes are no Segment, or a field is empty.
    """
    message = pb.Segment()
    _parse(message, payload, "Segment")
    for field in ("name", "domain"):
        if not getattr(message, field):
            raise DecodeError(f"{field} is empty")
    return Segment(message.name, message.domain)


def _port(port: pb.Port) -> FederatedPort:
    if not 0 < port.number < 65_536:
        raise DecodeError(f"summary.ports: {port.number} is no port number")
    known = port.app_protocol in _APP_PROTOCOLS
    return FederatedPort(
        number=port.number,
        name=port.name,
        protocol=port.protocol or "TCP",
        app_protocol=AppProtocol(port.app_protocol) if known else AppProtocol.UNKNOWN,
        # Nobody depends on it: what is no port counts as not said.
        target=port.target if port.target < 65_536 else 0,
    )


def _parse(message: pb.FederatedService | pb.PeerInfo | pb.Segment, payload: bytes, kind: str) -> None:
    try:
        message.ParseFromString(payload)
    except ProtobufDecodeError as error:
        raise DecodeError(f"the payload is no {kind}: {error}") from None


def _resource(name: str, type_url: str, payload: bytes) -> Resource:
    version = version_of(payload)
    return Resource(name, version, frame(name, version, any_header(type_url), payload))
