"""`istio.workload.Workload` as a record (wire-contract §2.1, §4.3)."""

from enum import IntEnum

from peerd.model.address import GatewayAddress, Locality, Port
from peerd.model.record import Record


class TunnelProtocol(IntEnum):
    """How ztunnel reaches the workload. 2 (legacy mTLS) is rejected by ztunnel and has no name here."""

    NONE = 0
    HBONE = 1


class NetworkMode(IntEnum):
    """Host-network workloads share their node's address and are never looked up by it."""

    STANDARD = 0
    HOST_NETWORK = 1


class WorkloadStatus(IntEnum):
    """Health as the control plane knows it."""

    HEALTHY = 0
    UNHEALTHY = 1


class WorkloadType(IntEnum):
    """istiod sends POD for everything (wire-contract §4.2)."""

    DEPLOYMENT = 0
    CRONJOB = 1
    POD = 2
    JOB = 3


class ApplicationTunnelProtocol(IntEnum):
    """What a waypoint's inbound port expects before the payload."""

    NONE = 0
    PROXY = 1


class ApplicationTunnel(Record, frozen=True):
    """A waypoint's own inbound binding (wire-contract §4.5)."""

    protocol: ApplicationTunnelProtocol
    port: int = 0


class ServicePorts(Record, frozen=True):
    """One service a workload belongs to, by resource name `<namespace>/<hostname>`, and its ports there."""

    service: str
    ports: tuple[Port, ...]


class Workload(Record, frozen=True):
    """One endpoint. `uid` is its resource name; `capacity` None means 1 and 0 is never sent."""

    uid: str
    name: str
    namespace: str
    addresses: tuple[bytes, ...] = ()
    network: str = ""
    tunnel_protocol: TunnelProtocol = TunnelProtocol.NONE
    trust_domain: str = ""
    service_account: str = ""
    waypoint: GatewayAddress | None = None
    node: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""
    workload_type: WorkloadType = WorkloadType.POD
    workload_name: str = ""
    native_tunnel: bool = False
    authorization_policies: tuple[str, ...] = ()
    status: WorkloadStatus = WorkloadStatus.HEALTHY
    cluster_id: str = ""
    network_gateway: GatewayAddress | None = None
    hostname: str = ""
    services: tuple[ServicePorts, ...] = ()
    application_tunnel: ApplicationTunnel | None = None
    locality: Locality | None = None
    network_mode: NetworkMode = NetworkMode.STANDARD
    capacity: int | None = None
