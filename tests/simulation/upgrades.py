"""Control planes of other versions: what they answer has fields that nobody knows yet, or lacks types."""

from peerd.api.envoy import discovery_pb2 as xds
from peerd.api.peering.v1 import peering_pb2 as peering
from peerd.model.types import ADDRESS, DELTA_METHOD, PEER_INFO, SEGMENT
from peerd.model.wire import varint

_OF_TOMORROW = varint(99 << 3 | 2) + varint(11) + b"of tomorrow"  # field 99


class Newer:
    """A tamperer (streams.py): adds unknown fields to responses, and to the content of every resource, and
    names a capability of which nobody here has heard."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, method: str, message: bytes) -> bytes:
        """The message as it will arrive."""
        if method != DELTA_METHOD:
            return message + _OF_TOMORROW
        response = xds.DeltaDiscoveryResponse.FromString(message)
        for resource in response.resources:
            if response.type_url == PEER_INFO and resource.name == "self":
                resource.resource.value += peering.PeerInfo(capabilities=["tomorrow"]).SerializeToString()
            resource.resource.value += _OF_TOMORROW
        return bytes(response.SerializeToString()) + _OF_TOMORROW

    def arrived(self, message: bytes) -> None:  # noqa: ARG002 (all of it is the truth)
        """Somebody has got it."""
        self.answers += 1


class Older:
    """A tamperer: of the first version, which knows neither Segments nor the Workloads of flat networks."""

    def __call__(self, method: str, message: bytes) -> bytes:
        """The message as it will arrive: nothing of such a type, nor that this was all (specification §2)."""
        if method == DELTA_METHOD:
            response = xds.DeltaDiscoveryResponse.FromString(message)
            if response.type_url in {SEGMENT, ADDRESS}:
                del response.resources[:], response.removed_resources[:]
                return bytes(response.SerializeToString())
        return message

    def arrived(self, message: bytes) -> None:
        """Nobody counts them."""
