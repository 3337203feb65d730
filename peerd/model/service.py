"""`istio.workload.Service` as a record (wire-contract §2.1, §4.4)."""

from enum import IntEnum

from peerd.model.address import GatewayAddress, NetworkAddress, Port
from peerd.model.record import Record


class Scope(IntEnum):
    """A property that source and destination may share; 0 is rejected by ztunnel and has no name here."""

    REGION = 1
    ZONE = 2
    SUBZONE = 3
    NODE = 4
    CLUSTER = 5
    NETWORK = 6


class Mode(IntEnum):
    """How preferences rank endpoints (wire-contract §3.3)."""

    UNSPECIFIED = 0
    STRICT = 1
    FAILOVER = 2
    PASSTHROUGH = 3


class HealthPolicy(IntEnum):
    """Whether unhealthy endpoints count."""

    ONLY_HEALTHY = 0
    ALLOW_ALL = 1


class IPFamilies(IntEnum):
    """Which families the service has addresses of."""

    AUTOMATIC = 0
    IPV4_ONLY = 1
    IPV6_ONLY = 2
    DUAL = 3


class Visibility(IntEnum):
    """Whether other namespaces may look the service up."""

    PUBLIC = 0
    NAMESPACE = 1


class LoadBalancing(Record, frozen=True):
    """Ranking of endpoints."""

    routing_preference: tuple[Scope, ...] = ()
    mode: Mode = Mode.UNSPECIFIED
    health_policy: HealthPolicy = HealthPolicy.ONLY_HEALTHY


class WeightedWaypoint(Record, frozen=True):
    """One of two waypoints during a canary (wire-contract §4.5)."""

    destination: GatewayAddress
    weight: int


class Service(Record, frozen=True):
    """One host name of one namespace; its resource name is `<namespace>/<hostname>`."""

    name: str
    namespace: str
    hostname: str
    addresses: tuple[NetworkAddress, ...] = ()
    ports: tuple[Port, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    waypoint: GatewayAddress | None = None
    load_balancing: LoadBalancing | None = None
    ip_families: IPFamilies = IPFamilies.AUTOMATIC
    canonical: bool = False
    ingress_use_waypoint: bool = False
    weighted_waypoints: tuple[WeightedWaypoint, ...] = ()
    visibility: Visibility = Visibility.PUBLIC

    @property
    def resource_name(self) -> str:
        """`<namespace>/<hostname>`, the name on the wire."""
        return f"{self.namespace}/{self.hostname}"
