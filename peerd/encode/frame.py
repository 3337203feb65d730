"""The bytes of one resource inside a delta response, made once when the resource changes.

A response is its own scalar fields and these frames, joined: nothing is serialised per stream.
"""

from enum import IntEnum
from typing import Any

import xxhash

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.model.record import Record
from peerd.model.wire import varint

# Tags (field number << 3 | 2) of length-delimited fields.
_RESOURCES = b"\x12"  # DeltaDiscoveryResponse.resources = 2
_VERSION = b"\x0a"  # Resource.version = 1
_RESOURCE = b"\x12"  # Resource.resource = 2
_NAME = b"\x1a"  # Resource.name = 3
_TYPE_URL = b"\x0a"  # Any.type_url = 1
_VALUE = b"\x12"  # Any.value = 2


class EncodeError(ValueError):
    """A record holds a value its protobuf field cannot; the message names the resource and the reason."""


class DecodeError(ValueError):
    """Bytes are not the message they should be, or lack what a record needs."""


class DecodedFrame(Record, frozen=True):
    """What a frame carries."""

    name: str
    version: str
    type_url: str
    payload: bytes


def enum_number(value: IntEnum) -> Any:
    """*value* as generated code takes it: our enums have its numbers, its stubs want types of their own."""
    return value


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: tag, length, content."""
    return tag + varint(len(content)) + content


def any_header(type_url: str) -> bytes:
    """The `type_url` field of an Any, to be made once per type and given to `frame`."""
    return field(_TYPE_URL, type_url.encode())


def version_of(payload: bytes) -> str:
    """The content version: lower-case hex of xxh64, without leading zeros (decision D11)."""
    return f"{xxhash.xxh64_intdigest(payload):x}"


def frame(name: str, version: str, header: bytes, payload: bytes) -> bytes:
    """Field 2 of a DeltaDiscoveryResponse around *payload*, whose type is *header* (`any_header`)."""
    name_bytes = name.encode()
    version_bytes = version.encode()
    value = _VALUE + varint(len(payload))
    any_length = len(header) + len(value) + len(payload)
    start = _VERSION + varint(len(version_bytes)) + version_bytes + _RESOURCE + varint(any_length)
    end = _NAME + varint(len(name_bytes)) + name_bytes
    length = varint(len(start) + any_length + len(end))
    return b"".join((_RESOURCES, length, start, header, value, payload, end))


def decode_frame(data: bytes) -> DecodedFrame:
    """The one resource in *data*, a frame made by `frame`.

    Raises:
        DecodeError: *data* is not exactly one frame.
    """
    try:
        resources = discovery.DeltaDiscoveryResponse.FromString(data).resources
    except Exception as error:
        raise DecodeError(f"not a DeltaDiscoveryResponse: {error}") from error
    if len(resources) != 1:
        raise DecodeError(f"{len(resources)} resources in what should be the frame of one")
    resource = resources[0]
    return DecodedFrame(resource.name, resource.version, resource.resource.type_url, resource.resource.value)
