"""What both ends of a peer stream put on the wire beside resources (api/peering/v1/README.md)."""

from collections.abc import Mapping
from enum import Enum

from google.protobuf.message import DecodeError

from peerd.api.envoy import discovery_pb2 as xds
from peerd.api.peering.v1 import peering_pb2 as pb
from peerd.limits import PEER_METADATA_CHARACTERS, hit
from peerd.model.record import Record
from peerd.protocol.envelope import Node

HEARTBEAT_METHOD = "/peerd.peering.v1.PeeringService/Heartbeat"
SYNC_TYPE = "type.googleapis.com/peerd.peering.v1.Sync"

# Names of resources never begin with `@`.
RESERVED = "@"
"""Names that begin so are the protocol's; one that we do not know is a later version's (specification §2)."""
SYNC_NAME = "@sync"
DIGEST_NAME = "@digest"

VERSIONS = ("1",)

_VERSIONS_KEY = "peering-versions"
_CLUSTER_KEY = "peering-cluster"
_INSTANCE_KEY = "peering-instance"
_SEGMENT_KEY = "peering-segment"
_NETWORK_KEY = "peering-network"
_SOFTWARE_KEY = "peering-software"


class PeerProtocolError(Exception):
    """The far end broke the protocol; the message says which rule, in words for both owners."""


class Hello(Record, frozen=True):
    """Who opens a stream: its request metadata.

    `instance` is one replica, the same over its restarts if it can be (a Pod's name), so that its newest
    stream displaces what it left behind. `segment` empty is the default segment. Who names a
    `network` is given the workloads of a cluster on the same one.
    """

    cluster: str
    instance: str
    segment: str = ""
    network: str = ""
    software: str = ""
    versions: tuple[str, ...] = VERSIONS

    def metadata(self) -> dict[str, str]:
        """The request metadata of the data stream and of the heartbeat stream."""
        pairs = {
            _VERSIONS_KEY: ",".join(self.versions),
            _CLUSTER_KEY: self.cluster,
            _INSTANCE_KEY: self.instance,
            _SEGMENT_KEY: self.segment,
            _NETWORK_KEY: self.network,
            _SOFTWARE_KEY: self.software,
        }
        return {key: value for key, value in pairs.items() if value}


def node_of(hello: Hello, node: Node) -> Node:
    """The *node* that a dialler named, with what status pages want beside its id."""
    namespace = node.id.rpartition("~")[0].rpartition(".")[2]
    metadata = {"CLUSTER_ID": hello.cluster, "NAMESPACE": namespace, "ISTIO_VERSION": hello.software}
    return Node(node.id, hello.cluster, metadata)


class SyncState(Enum):
    """What `@sync` says."""

    COMPLETE = pb.Sync.COMPLETE
    VERSIONS_WANTED = pb.Sync.VERSIONS_WANTED


class Sync(Record, frozen=True):
    """The content of `@sync`."""

    state: SyncState
    digest: str = ""


def parse_hello(metadata: Mapping[str, str]) -> Hello:
    """The Hello in request metadata.

    Raises:
        PeerProtocolError: cluster, instance or versions are missing or too long.
    """
    for key in (_VERSIONS_KEY, _CLUSTER_KEY, _INSTANCE_KEY):
        if not metadata.get(key):
            raise PeerProtocolError(f"request metadata {key} is missing")
    for key in (_CLUSTER_KEY, _INSTANCE_KEY, _SEGMENT_KEY, _NETWORK_KEY, _SOFTWARE_KEY, _VERSIONS_KEY):
        if len(metadata.get(key, "")) > PEER_METADATA_CHARACTERS.value:
            hit(PEER_METADATA_CHARACTERS)
            raise PeerProtocolError(
                f"request metadata {key} is longer than {PEER_METADATA_CHARACTERS.value} characters"
            )
    return Hello(
        cluster=metadata[_CLUSTER_KEY],
        instance=metadata[_INSTANCE_KEY],
        segment=metadata.get(_SEGMENT_KEY, ""),
        network=metadata.get(_NETWORK_KEY, ""),
        software=metadata.get(_SOFTWARE_KEY, ""),
        versions=tuple(part.strip() for part in metadata[_VERSIONS_KEY].split(",")),
    )


def incompatible(hello: Hello) -> str:
    """Why the two ends cannot talk, in words for both owners, or the empty string."""
    if set(hello.versions) & set(VERSIONS):
        return ""
    theirs, ours = ", ".join(hello.versions), ", ".join(VERSIONS)
    return (
        f"peering protocol: cluster {hello.cluster} speaks version {theirs}, this cluster {ours}, and none is"
        " common; upgrade the one with the lower versions"
    )


def encode_sync(sync: Sync) -> bytes:
    """The frame of the resource `@sync`."""
    payload = pb.Sync(state=sync.state.value, digest=sync.digest)
    resource = xds.Resource(name=SYNC_NAME)
    resource.resource.type_url = SYNC_TYPE
    resource.resource.value = payload.SerializeToString(deterministic=True)
    return xds.DeltaDiscoveryResponse(resources=[resource]).SerializeToString(deterministic=True)


def decode_sync(payload: bytes) -> Sync:
    """The content of `@sync`.

    Raises:
        PeerProtocolError: not a Sync, or a state this version does not know.
    """
    message = pb.Sync()
    try:
        message.ParseFromString(payload)
        state = SyncState(message.state)
    except (DecodeError, ValueError) as error:
        raise PeerProtocolError(f"the resource {SYNC_NAME} cannot be read: {error}") from None
    return Sync(state, message.digest)


def offer(lineage: str, held_digest: str) -> dict[str, str]:
    """The `initial_resource_versions` that offers to resume."""
    return {DIGEST_NAME: f"{lineage}/{held_digest}"}


def parse_offer(value: str) -> tuple[str, str]:
    """Lineage and digest of an offer; a malformed one matches nothing."""
    lineage, _, held = value.rpartition("/")
    return lineage, held


def encode_heartbeat(sequence: int) -> bytes:
    """One Heartbeat."""
    return pb.Heartbeat(sequence=sequence).SerializeToString()


def decode_heartbeat(message: bytes) -> int:
    """The sequence number of a Heartbeat.

    Raises:
        PeerProtocolError: the bytes are none.
    """
    beat = pb.Heartbeat()
    try:
        beat.ParseFromString(message)
    except DecodeError as error:
        raise PeerProtocolError(f"not a Heartbeat: {error}") from None
    return beat.sequence
