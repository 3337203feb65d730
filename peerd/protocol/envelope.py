"""Discovery messages: bytes to records and back (wire-contract §2.5)."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.limits import NAMES_PER_STREAM, NODE_METADATA_BYTES, REFUSAL_TEXT, hit
from peerd.model.record import Record
from peerd.model.steps import whole
from peerd.model.wire import map_entry
from peerd.protocol.errors import LimitExceededError, MalformedMessageError

_TYPE_URL, _NONCE = 0x12, 0x32  # tags of the fields 2 and 6
_MANY = 2_000  # entries whose copying would hold others up
_SLICE = 500  # resources decoded in one go: about a millisecond
_SHORT = 128  # what is shorter has lengths of one byte


class Node(Record, frozen=True):
    """Who a client says it is. `metadata` holds JSON values."""

    id: str = ""
    cluster: str = ""
    metadata: dict[str, Any] = {}

    def text(self, key: str) -> str:
        """A metadata value that is a string, else the empty string."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""


class DeltaRequest(Record, frozen=True):
    """A DeltaDiscoveryRequest.

    `versions` are the entries of `initial_resource_versions` as on the wire; where they are many each is made
    when it is taken out, so that a hundred thousand can be taken in slices. `error` is the text of
    `error_detail`, None where it is absent: its presence alone makes a NACK (wire-contract §1.4). A very long
    one is cut off.
    """

    type_url: str
    nonce: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Sequence[bytes] = ()
    error: str | None = None
    node: Node | None = None


class ReceivedResource(Record, frozen=True):
    """One resource of a response; `payload` is the content of its Any."""

    name: str
    version: str
    type_url: str
    payload: bytes
    aliases: tuple[str, ...] = ()


class DeltaResponse(Record, frozen=True):
    """A DeltaDiscoveryResponse."""

    type_url: str
    nonce: str
    resources: tuple[ReceivedResource, ...] = ()
    removed: tuple[str, ...] = ()
    system_version: str = ""


def parse_delta_request(message: bytes) -> DeltaRequest:
    """Decode a request.

    Raises:
        MalformedMessageError: the bytes are not a DeltaDiscoveryRequest.
        LimitExceededError: more names or more about the client than a stream may have.
    """
    try:
        request = discovery.DeltaDiscoveryRequest.FromString(message)
    except DecodeError as error:
        raise MalformedMessageError(f"not a DeltaDiscoveryRequest: {error}") from None
    names = max(len(request.resource_names_subscribe), len(request.resource_names_unsubscribe))
    if names > NAMES_PER_STREAM.value:
        hit(NAMES_PER_STREAM)
        raise LimitExceededError(
            f"{names} names in one request, the limit is {NAMES_PER_STREAM.value};"
            " subscribe to the wildcard instead"
        )
    versions = request.initial_resource_versions
    return DeltaRequest(
        request.type_url,
        request.response_nonce,
        tuple(request.resource_names_subscribe),
        tuple(request.resource_names_unsubscribe),
        versions if len(versions) > _MANY else tuple(versions),
        _refusal(request.error_detail.message) if request.HasField("error_detail") else None,
        _node(request.node) if request.HasField("node") else None,
    )


def parse_ack(message: bytes) -> tuple[bytes, str] | None:
    """Type URL, as bytes, and nonce of a plain ACK; None for any other message.

    Most of what a server receives: two short fields in the order every encoder writes them, read without
    building a message.
    """
    size = len(message)
    if size < 4 or message[0] != _TYPE_URL:
        return None
    end = 2 + message[1]
    if end + 2 > size or message[end] != _NONCE or message[end + 1] != size - end - 2 or size > _SHORT:
        return None
    try:
        return message[2:end], message[end + 2 :].decode()
    except UnicodeDecodeError:
        return None


def delta_request(
    type_url: str,
    *,
    nonce: str = "",
    subscribe: Iterable[str] = (),
    unsubscribe: Iterable[str] = (),
    versions: Mapping[str, str] | None = None,
    error: str | None = None,
    node: Node | None = None,
) -> bytes:
    """Encode a request; the counterpart of `parse_delta_request`."""
    request = discovery.DeltaDiscoveryRequest(
        type_url=type_url,
        response_nonce=nonce,
        resource_names_subscribe=subscribe,
        resource_names_unsubscribe=unsubscribe,
        initial_resource_versions=[map_entry(k, v) for k, v in (versions or {}).items()],
    )
    if error is not None:
        request.error_detail.SetInParent()
        request.error_detail.message = error
    if node is not None:
        request.node.id = node.id
        request.node.cluster = node.cluster
        request.node.metadata.update(node.metadata)
    return request.SerializeToString()


def parse_delta_response(message: bytes) -> DeltaResponse:
    """Decode a response.

    Raises:
        MalformedMessageError: the bytes are not a DeltaDiscoveryResponse.
    """
    return whole(delta_response_steps(message))


def delta_response_steps(message: bytes) -> Generator[None, None, DeltaResponse]:
    """`parse_delta_response` in slices of a millisecond: one message may have thousands of resources."""
    try:
        response = discovery.DeltaDiscoveryResponse.FromString(message)
    except DecodeError as error:
        raise MalformedMessageError(f"not a DeltaDiscoveryResponse: {error}") from None
    resources: list[ReceivedResource] = []
    for start in range(0, len(response.resources), _SLICE):
        if start:
            yield
        resources += [
            ReceivedResource(r.name, r.version, r.resource.type_url, r.resource.value, tuple(r.aliases))
            for r in response.resources[start : start + _SLICE]
        ]
    return DeltaResponse(
        response.type_url,
        response.nonce,
        tuple(resources),
        tuple(response.removed_resources),
        response.system_version_info,
    )


def _refusal(text: str) -> str:
    if len(text) <= REFUSAL_TEXT.value:
        return text
    hit(REFUSAL_TEXT)
    return text[: REFUSAL_TEXT.value]


def _node(node: discovery.Node) -> Node:
    size = node.metadata.ByteSize()
    if size > NODE_METADATA_BYTES.value:
        hit(NODE_METADATA_BYTES)
        raise LimitExceededError(
            f"the node's metadata have {size} bytes, the limit is {NODE_METADATA_BYTES.value};"
            " take settings ISTIO_META_… from the client"
        )
    return Node(node.id, node.cluster, MessageToDict(node.metadata))
