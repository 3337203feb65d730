"""What a gateway is served, as Envoy reads it: checked with Envoy's own messages, and small."""

import re

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from peerd import limits
from peerd.encode.envoy import encode_cluster, encode_endpoints
from peerd.encode.envoy_listeners import AUTHORITY, PEERS_CLUSTER, encode_listener, encode_route
from peerd.encode.frame import decode_frame
from peerd.model.address import Locality
from peerd.model.gateway_config import (
    GatewayCluster,
    GatewayEndpoint,
    GatewayEndpoints,
    GatewayListener,
    GatewayPlace,
    ListenerKind,
)

NAME = "reviews.shop.mesh.internal:80"


def test_a_cluster_is_called_as_its_authority_and_finds_its_endpoints_by_service():
    """All names of a port share one endpoint resource."""
    resource = encode_cluster(GatewayCluster(NAME, "shop/reviews:80"))
    found = cluster_pb2.Cluster.FromString(decode_frame(resource.frame).payload)
    assert (resource.name, found.name, found.eds_cluster_config.service_name) == (
        NAME,
        NAME,
        "shop/reviews:80",
    )
    assert found.type == cluster_pb2.Cluster.EDS
    assert found.eds_cluster_config.eds_config.HasField("ads")
    assert found.alt_stat_name == "reviews_shop_mesh_internal_80"
    assert found.circuit_breakers.thresholds[0].max_connections.value == limits.GATEWAY_TUNNELS.value
    assert found.outlier_detection.max_ejection_percent.value == 50
    assert len(resource.frame) < 512


def test_endpoints_are_told_with_place_and_weight():
    """IPv4 and IPv6; a weight of one is not said."""
    places = (
        GatewayPlace(
            Locality("us", "us-1"),
            (
                GatewayEndpoint(b"\x0a\0\0\1", 15008, 1),
                GatewayEndpoint(b"\xfd" + b"\0" * 14 + b"\1", 15008, 3),
            ),
        ),
    )
    payload = decode_frame(encode_endpoints(GatewayEndpoints("shop/reviews:80", places)).frame).payload
    found = endpoint_pb2.ClusterLoadAssignment.FromString(payload)
    (place,) = found.endpoints
    assert (place.locality.region, place.locality.zone) == ("us", "us-1")
    sockets = [each.endpoint.address.socket_address for each in place.lb_endpoints]
    assert [(each.address, each.port_value) for each in sockets] == [("10.0.0.1", 15008), ("fd00::1", 15008)]
    assert [each.HasField("load_balancing_weight") for each in place.lb_endpoints] == [False, True]


def test_nobody_is_told_too():
    """Envoy waits for endpoints of a cluster that it was given."""
    resource = encode_endpoints(GatewayEndpoints("shop/reviews:80"))
    found = endpoint_pb2.ClusterLoadAssignment.FromString(decode_frame(resource.frame).payload)
    assert (found.cluster_name, len(found.endpoints)) == ("shop/reviews:80", 0)


def listener(kind: ListenerKind) -> listener_pb2.Listener:
    resource = encode_listener(GatewayListener("istio-system/ew", kind, "0.0.0.0", 15008))
    assert resource.groups == ("gateway/istio-system/ew/0.0.0.0",)
    return listener_pb2.Listener.FromString(decode_frame(resource.frame).payload)


@pytest.mark.parametrize(("bind", "both"), [("::", True), ("0.0.0.0", False), ("fd00::1", False)])
def test_any_address_of_ipv6_is_any_of_ipv4_too(bind, both):
    """Pods of both families are called by either."""
    resource = encode_listener(GatewayListener("istio-system/ew", ListenerKind.HBONE, bind, 15008))
    found = listener_pb2.Listener.FromString(decode_frame(resource.frame).payload)
    assert found.address.socket_address.address == bind
    assert found.address.socket_address.ipv4_compat == both


def test_the_hbone_port_wants_tls_1_3_and_a_certificate_of_files():
    """No secret is part of a message (D37)."""
    (chain,) = listener(ListenerKind.HBONE).filter_chains
    tls = tls_pb2.DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(tls)
    assert tls.require_client_certificate.value
    common = tls.common_tls_context
    assert common.tls_params.tls_minimum_protocol_version == 4
    assert list(common.alpn_protocols) == ["h2"]
    sources = [*common.tls_certificate_sds_secret_configs, common.validation_context_sds_secret_config]
    assert [each.sds_config.path_config_source.path for each in sources] == [
        "./sds/identity.yaml",
        "./sds/trust.yaml",
    ]
    assert not common.tls_certificates


def test_the_hbone_port_takes_connect_and_routes_by_the_one_route():
    """And no other filter looks at what passes (D38)."""
    (chain,) = listener(ListenerKind.HBONE).filter_chains
    manager = http_connection_manager_pb2.HttpConnectionManager()
    assert chain.filters[0].typed_config.Unpack(manager)
    assert [each.name for each in manager.http_filters] == ["envoy.filters.http.router"]
    assert [each.upgrade_type for each in manager.upgrade_configs] == ["CONNECT"]
    assert manager.rds.route_config_name == encode_route().name


def test_the_peers_port_has_no_tls_of_its_own():
    """It is passed through, to one cluster."""
    (chain,) = listener(ListenerKind.PEERS).filter_chains
    assert not chain.HasField("transport_socket")
    assert PEERS_CLUSTER.encode() in chain.filters[0].typed_config.value


def test_the_route_names_no_service():
    """So a new service changes no route."""
    found = route_pb2.RouteConfiguration.FromString(decode_frame(encode_route().frame).payload)
    (host,) = found.virtual_hosts
    assert list(host.domains) == ["*"]
    assert [each.name for each in host.routes] == ["exported", "malformed-authority", "not-connect"]
    assert host.routes[0].route.cluster_header == ":authority"


@pytest.mark.parametrize("name", [NAME, "a.b:1", "x-1.y.z.example:65535", "a.b.svc.cluster.local:80"])
def test_a_host_of_several_labels_with_its_port_is_an_authority(name):
    """As ztunnel sends it."""
    assert re.fullmatch(AUTHORITY, name)


@pytest.mark.parametrize(
    "name",
    [
        "peerd-xds",
        PEERS_CLUSTER,
        "admin",
        "admin:80",
        "10.0.0.1:15008",
        "[::1]:80",
        "Reviews.shop.mesh.internal:80",
        "reviews.shop.mesh.internal",
        "reviews.shop.mesh.internal.:80",
        "reviews.shop.mesh.internal:",
        "reviews.shop.mesh.internal:080",
        ".shop.mesh.internal:80",
        "reviews.shop.mesh.internal:80 ",
        "",
    ],
)
def test_nothing_else_is_and_least_of_all_a_cluster_of_the_gateways_own(name):
    """What a caller may name are exported services."""
    assert not re.fullmatch(AUTHORITY, name)
