"""Names that can be called through a gateway, and who answers, as Envoy's clusters and endpoints.

A cluster is called as its authority, `<host>:<port>`: the one CONNECT route picks it by that header, so that
a new service is a cluster and its endpoints, and no route.
"""

import ipaddress

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from peerd.api.envoy import gateway_pb2 as pb
from peerd.encode.frame import any_header, frame, version_of
from peerd.limits import GATEWAY_TUNNELS
from peerd.model.address import Locality
from peerd.model.gateway_config import GatewayCluster, GatewayEndpoint, GatewayEndpoints
from peerd.model.resource import Resource
from peerd.model.types import CLUSTER, ENDPOINT

ADS = pb.ConfigSource(ads=pb.AggregatedConfigSource(), resource_api_version=pb.V3)

_TUNNELS = UInt32Value(value=GATEWAY_TUNNELS.value)
# What all clusters have alike, serialised once: joining messages merges them.
_COMMON = pb.Cluster(
    type=pb.Cluster.EDS,
    eds_cluster_config=pb.Cluster.EdsClusterConfig(eds_config=ADS),
    # A Pod of this cluster answers within milliseconds; a retry should come before the caller gives up.
    connect_timeout=Duration(seconds=2),
    lb_policy=pb.Cluster.ROUND_ROBIN,
    circuit_breakers=pb.CircuitBreakers(
        thresholds=[
            pb.Thresholds(
                max_connections=_TUNNELS,
                # Past the bound callers are told so at once, they do not queue.
                max_pending_requests=UInt32Value(value=1_024),
                max_requests=_TUNNELS,
                max_retries=UInt32Value(value=1_000),
            )
        ]
    ),
    # Three refused connections in a row: out for 10 s, longer each time, never more than half of them.
    outlier_detection=pb.OutlierDetection(
        consecutive_5xx=UInt32Value(value=3),
        interval=Duration(seconds=5),
        base_ejection_time=Duration(seconds=10),
        max_ejection_percent=UInt32Value(value=50),
    ),
    # A node that vanished says nothing: found after 30 s and three probes of 5 s.
    upstream_connection_options=pb.UpstreamConnectionOptions(
        tcp_keepalive=pb.TcpKeepalive(
            keepalive_time=UInt32Value(value=30),
            keepalive_interval=UInt32Value(value=5),
            keepalive_probes=UInt32Value(value=3),
        )
    ),
).SerializeToString(deterministic=True)

_STATISTICS = str.maketrans(".:", "__")

_CLUSTER_TYPE = any_header(CLUSTER)
_ENDPOINT_TYPE = any_header(ENDPOINT)


def encode_cluster(cluster: GatewayCluster) -> Resource:
    """The resource named as the authority."""
    own = pb.Cluster(
        name=cluster.authority,
        # Envoy takes what is before the first dot for the cluster; no host name has an underscore.
        alt_stat_name=cluster.authority.translate(_STATISTICS),
        eds_cluster_config=pb.Cluster.EdsClusterConfig(service_name=cluster.endpoints),
    )
    payload = _COMMON + own.SerializeToString(deterministic=True)
    version = version_of(payload)
    return Resource(cluster.authority, version, frame(cluster.authority, version, _CLUSTER_TYPE, payload))


def encode_endpoints(endpoints: GatewayEndpoints) -> Resource:
    """The resource named as the endpoints are, also where nobody answers: Envoy waits for it."""
    merged: dict[tuple[int, Locality], list[GatewayEndpoint]] = {}
    for place in endpoints.places:
        merged.setdefault((place.priority, place.locality), []).extend(place.endpoints)
    message = pb.ClusterLoadAssignment(
        cluster_name=endpoints.name,
        endpoints=[_place(*key, sorted(found)) for key, found in sorted(merged.items())],
    )
    payload = message.SerializeToString(deterministic=True)
    version = version_of(payload + _unseen(endpoints))
    return Resource(endpoints.name, version, frame(endpoints.name, version, _ENDPOINT_TYPE, payload))


def _unseen(endpoints: GatewayEndpoints) -> bytes:
    """What ranks endpoints otherwise though these bytes are the same: a new version has them looked at."""
    parts = [f"{scope:d}".encode() for scope in endpoints.prefers]
    for place in endpoints.places:
        if place.node:
            parts += [place.node.encode(), *(endpoint.address for endpoint in place.endpoints)]
    return b"\n".join(parts)


def _place(priority: int, locality: Locality, endpoints: list[GatewayEndpoint]) -> pb.LocalityLbEndpoints:
    return pb.LocalityLbEndpoints(
        locality=pb.Locality(region=locality.region, zone=locality.zone, sub_zone=locality.subzone),
        lb_endpoints=[_endpoint(endpoint) for endpoint in endpoints],
        priority=priority,
    )


def _endpoint(endpoint: GatewayEndpoint) -> pb.LbEndpoint:
    address = pb.SocketAddress(address=str(ipaddress.ip_address(endpoint.address)), port_value=endpoint.port)
    weight = UInt32Value(value=endpoint.weight) if endpoint.weight != 1 else None
    return pb.LbEndpoint(
        endpoint=pb.Endpoint(address=pb.Address(socket_address=address)), load_balancing_weight=weight
    )
