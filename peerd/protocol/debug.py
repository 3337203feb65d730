"""istioctl's debug types: what it asks, and answers as istiod gives them (wire-contract §5.6)."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.model.record import Record
from peerd.model.types import DEBUG
from peerd.protocol.errors import MalformedMessageError

_CLIENT_CONFIG = "type.googleapis.com/envoy.service.status.v3.ClientConfig"


class ConfigStatus(IntEnum):
    """`envoy.service.status.v3.ConfigStatus`."""

    UNKNOWN = 0
    SYNCED = 1
    NOT_SENT = 2
    STALE = 3
    ERROR = 4


class TypeConfig(Record, frozen=True):
    """One subscription in syncz; times are seconds since 1970, 0 = never."""

    type_url: str
    status: ConfigStatus
    last_updated: float
    error: str = ""
    error_at: float = 0.0


class ClientStatus(Record, frozen=True):
    """One client in syncz; *id* is `<pod>.<namespace>`."""

    id: str
    metadata: dict[str, Any]
    types: tuple[TypeConfig, ...]


class DebugRequest(Record, frozen=True):
    """A DiscoveryRequest for a debug type."""

    type_url: str
    names: tuple[str, ...] = ()
    error: str | None = None


def parse_debug_request(message: bytes) -> DebugRequest:
    """Decode a request.

    Raises:
        MalformedMessageError: the bytes are not a DiscoveryRequest.
    """
    try:
        request = discovery.DiscoveryRequest.FromString(message)
    except (DecodeError, ParseError) as error:
        raise MalformedMessageError(f"not a DiscoveryRequest: {error}") from None
    return DebugRequest(
        request.type_url,
        tuple(request.resource_names),
        request.error_detail.message if request.HasField("error_detail") else None,
    )


def syncz_response(type_url: str, nonce: str, identifier: str, clients: Iterable[ClientStatus]) -> bytes:
    """The answer to `istio.io/debug/syncz`; *identifier* is JSON about this control plane."""
    response = discovery.DiscoveryResponse(type_url=type_url, nonce=nonce, version_info=nonce)
    response.control_plane.identifier = identifier
    for client in clients:
        config = discovery.ClientConfig()
        config.node.id = client.id
        config.node.metadata.update(client.metadata)
        for each in client.types:
            entry = config.generic_xds_configs.add(type_url=each.type_url, config_status=int(each.status))
            if each.last_updated:
                entry.last_updated.FromNanoseconds(int(each.last_updated * 1e9))
            if each.error:
                entry.error_state.details = each.error
                entry.error_state.last_update_attempt.FromNanoseconds(int(each.error_at * 1e9))
        response.resources.append(AnyMessage(type_url=_CLIENT_CONFIG, value=config.SerializeToString()))
    return response.SerializeToString()


def body_response(type_url: str, nonce: str, identifier: str, body: bytes) -> bytes:
    """The answer to `istio.io/debug`: one Any with the body of an HTTP debug page."""
    response = discovery.DiscoveryResponse(type_url=type_url, nonce=nonce, version_info=nonce)
    response.control_plane.identifier = identifier
    response.resources.append(AnyMessage(type_url=DEBUG, value=body))
    return response.SerializeToString()
