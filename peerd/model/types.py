"""Type URLs and method paths, as they stand on the wire (docs/protocol.md)."""

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"

# Between peers (api/peering/v1).
FEDERATED_SERVICE = "type.googleapis.com/peerd.peering.v1.FederatedService"
SEGMENT = "type.googleapis.com/peerd.peering.v1.Segment"
PEER_INFO = "type.googleapis.com/peerd.peering.v1.PeerInfo"

# To our own east-west gateways, which are Envoys. Secrets only by file (decision D37).
_ENVOY = "type.googleapis.com/envoy.config."
LISTENER = f"{_ENVOY}listener.v3.Listener"
ROUTE = f"{_ENVOY}route.v3.RouteConfiguration"
CLUSTER = f"{_ENVOY}cluster.v3.Cluster"
ENDPOINT = f"{_ENVOY}endpoint.v3.ClusterLoadAssignment"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type)

# istioctl's debug types carry no type.googleapis.com prefix.
DEBUG = "istio.io/debug"
DEBUG_SYNCZ = "istio.io/debug/syncz"
DEBUG_CONFIG_DUMP = "istio.io/debug/config_dump"

DELTA_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
STATE_OF_THE_WORLD_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
CREATE_CERTIFICATE_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

# What syncz prints for a peer's subscriptions (decision D19).
SHORT_NAMES = {
    ADDRESS: "WDS",
    AUTHORIZATION: "WADS",
    FEDERATED_SERVICE: "FSDS",
    SEGMENT: "SGDS",
    PEER_INFO: "PIDS",
    CLUSTER: "CDS",
    ENDPOINT: "EDS",
    LISTENER: "LDS",
    ROUTE: "RDS",
}
