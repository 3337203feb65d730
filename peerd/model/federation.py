"""What clusters tell each other, and what a cluster knows of its peers."""

from enum import StrEnum

from peerd.model.address import AppProtocol, GatewayAddress, Locality
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record


class FederationScope(StrEnum):
    """`global`: every peer sees the service; `segment`: only clusters of the same segment (decision D25)."""

    GLOBAL = "global"
    SEGMENT = "segment"


class FederatedPort(Record, frozen=True):
    """A port as callers name it.

    `target` is where the exporter's endpoints listen, 0 where each maps it itself. Requests do not need it
    (the exporter's own ztunnel looks it up); Services without a local definition show it, as istiod's do.
    """

    number: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: AppProtocol = AppProtocol.UNKNOWN
    target: int = 0


class Capacity(Record, frozen=True, order=True):
    """Healthy endpoints of a service that share network and locality (decision D27)."""

    network: str
    locality: Locality
    healthy: int


class FederatedService(Record, frozen=True):
    """The summary of one global service that a cluster exports; its name is `<namespace>/<name>`.

    `global_host` and `local_host` are both always named, the importer decides which it uses (D23, D25).
    `identities` are SPIFFE URIs of all endpoints, ready or not, and of waypoints, sorted. `created` is
    RFC 3339; the oldest wins conflicts. `takeover` says the exporter routes its local name globally too.
    `distribution` is the user's word (`PreferClose`, ...) or empty. A replaced Pod changes nothing here.
    """

    name: str
    namespace: str
    global_host: str
    local_host: str
    scope: FederationScope = FederationScope.GLOBAL
    takeover: bool = False
    aliases: tuple[str, ...] = ()
    ports: tuple[FederatedPort, ...] = ()
    identities: tuple[str, ...] = ()
    capacity: tuple[Capacity, ...] = ()
    distribution: str = ""
    waypoint: str = ""
    created: str = ""

    @property
    def resource_name(self) -> str:
        """`<namespace>/<name>`, the name between peers."""
        return f"{self.namespace}/{self.name}"


class FederatedName(Record, frozen=True):
    """Who serves a global name, for people to see.

    `service` is `<namespace>/<name>`, `own` whether our cluster exports it. `clusters` are the first of
    `others` further clusters that do, by name; `outside` are the workloads (Deployments and the like) of
    ours whose Pods no other cluster can reach, because they are outside the mesh.
    """

    service: str
    host: str
    own: bool
    clusters: tuple[str, ...]
    others: int
    outside: tuple[str, ...] = ()


class DataPlaneAddress(Record, frozen=True):
    """An address on which a cluster's own east-west gateway takes HBONE. `type` is IPAddress or Hostname."""

    type: str
    value: str
    port: int


class PeerInfo(Record, frozen=True):
    """What a cluster says of itself to its peers (decisions D15, D17)."""

    cluster: str
    network: str
    trust_domain: str
    lineage: str
    segment: str = ""
    segment_domain: str = "mesh.internal"
    addresses: tuple[DataPlaneAddress, ...] = ()
    gateway_service_account: str = ""
    gateway_namespace: str = ""
    capabilities: tuple[str, ...] = ()
    version: str = ""


class Segment(Record, frozen=True):
    """A group of clusters that share names (decision D25). A cluster without one is in `default`."""

    name: str
    domain: str


class RemotePeer(Record, frozen=True):
    """An istio-remote Gateway as the dialer needs it (decisions D14, D15).

    `cluster` empty means it is learnt. `addresses` are IPs or host names to dial on `port`. `namespace` and
    `service_account` name the peer's control plane, `trust_domain` its identity's domain. `issuer` pins the
    SHA-256 (hex) of the public key of the CA that issues the peer's leaf; empty accepts any. `expire_after`
    is in seconds since the last heartbeat, 0 = never. `self_peer` marks a Gateway that describes this very
    cluster: accepted and not dialled.
    """

    key: ObjectKey
    cluster: str
    network: str
    addresses: tuple[str, ...]
    port: int
    trust_domain: str
    namespace: str
    service_account: str
    issuer: str = ""
    expire_after: int = 86_400
    created: str = ""
    self_peer: bool = False


class Freshness(StrEnum):
    """How far a peer's word is trusted (decision D21): stale counts one tenth, expired is withdrawn."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


class PeerView(Record, frozen=True):
    """What derivation knows of a peer, beside its services."""

    peer: ObjectKey
    info: PeerInfo | None
    freshness: Freshness


class Allocation(Record, frozen=True):
    """Addresses of our own for one host name (decision D28); 4 and 16 bytes, either may be empty."""

    ipv4: bytes
    ipv6: bytes


class Takeover(Record, frozen=True):
    """What outlives the Service that asked for its local name to be taken over (decision D23).

    `by_rule`: a mesh rule asked (`istio.io/global=true`), not a label of `solo.io/` (decision D26).
    """

    by_rule: bool = False


class NetworkGateway(Record, frozen=True):
    """A gateway of another network: where its HBONE port is and who answers there.

    `trust_domain` is as on the wire, empty for `cluster.local`; `value` is the address as it was written.
    """

    network: str
    address: GatewayAddress
    namespace: str
    service_account: str
    trust_domain: str
    gateway: ObjectKey
    value: str = ""
