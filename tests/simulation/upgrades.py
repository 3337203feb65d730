"""A control plane of a later version: what it answers has fields that nobody here knows yet."""

from peerd.api.envoy import discovery_pb2 as xds
from peerd.model.types import DELTA_METHOD
from peerd.model.wire import varint

_OF_TOMORROW = varint(99 << 3 | 2) + varint(11) + b"of tomorrow"  # field 99


class Newer:
    """A tamperer (streams.py): adds unknown fields to responses, and to the content of every resource."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, method: str, message: bytes) -> bytes:
        """The message as it will arrive."""
        if method != DELTA_METHOD:
            return message + _OF_TOMORROW
        response = xds.DeltaDiscoveryResponse.FromString(message)
        for resource in response.resources:
            resource.resource.value += _OF_TOMORROW
        return bytes(response.SerializeToString()) + _OF_TOMORROW

    def arrived(self, message: bytes) -> None:  # noqa: ARG002 (all of it is the truth)
        """Somebody has got it."""
        self.answers += 1
