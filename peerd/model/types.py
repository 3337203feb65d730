"""Type URLs and method paths, as they stand on the wire (docs/protocol.md)."""

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"

# Between peers (api/peering/v1).
FEDERATED_SERVICE = "type.googleapis.com/peerd.peering.v1.FederatedService"
SEGMENT = "type.googleapis.com/peerd.peering.v1.Segment"
PEER_INFO = "type.googleapis.com/peerd.peering.v1.PeerInfo"

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
}
