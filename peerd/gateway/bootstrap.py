"""Envoy's bootstrap: who it is, where peerd is, and the ports that do not wait for peerd (docs/gateway.md).

Everything that is about services comes over xDS. Envoy takes no traffic, and says it is not ready, until
listeners and clusters have arrived.
"""

import json
from typing import Any

from peerd.encode.envoy_listeners import IDENTITY_FILE, IDENTITY_SECRET, PEERS_CLUSTER
from peerd.gateway.files import ROOTS_FILE, ROOTS_SECRET
from peerd.gateway.settings import HEALTH_PORT, STATS_PORT, GatewaySettings
from peerd.limits import GATEWAY_CONNECTIONS, GATEWAY_RESETS
from peerd.model.gateway_config import ANY_IPV4, ANY_IPV6, BIND_ADDRESS, GATEWAY_NAME, PLACE, READY_PATH
from peerd.transport.address import split_address

ADMIN_SOCKET = "admin.sock"
STATS_PATH = "/stats/prometheus"

_TYPES = "type.googleapis.com/envoy."
_USELESS = [
    *({"contains": each} for each in (".circuit_breakers.", ".lb_", ".upstream_flow_")),
    {"safe_regex": {"regex": r".*\.ejections_[^a].*"}},  # how many are left out at present stays
]
_HTTP_MANAGER = f"{_TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ADS = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}


def bootstrap(settings: GatewaySettings) -> str:
    """The bootstrap as JSON; paths in it are relative to Envoy's working directory."""
    locality = settings.locality
    tree = {
        "admin": {"address": {"pipe": {"path": f"./{ADMIN_SOCKET}", "mode": 0o600}}},
        "node": {
            "id": f"router~{settings.ip.partition(',')[0]}~{settings.pod}.{settings.namespace}"
            f"~{settings.namespace}.svc.cluster.local",
            "cluster": f"{settings.name}.{settings.namespace}",
            "locality": {"region": locality.region, "zone": locality.zone, "sub_zone": locality.subzone},
            "metadata": {
                "NAME": settings.pod,
                "NAMESPACE": settings.namespace,
                "SERVICE_ACCOUNT": settings.identity.service_account,
                "INSTANCE_IPS": settings.ip,
                "CLUSTER_ID": settings.cluster_id,
                GATEWAY_NAME: settings.name,
                BIND_ADDRESS: settings.own_bind,
                PLACE: "/".join((locality.region, locality.zone, locality.subzone)).rstrip("/"),
            },
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "peerd-xds"}}],
            },
            "cds_config": _ADS,
            "lds_config": _ADS,
        },
        "static_resources": {
            "clusters": [_xds_cluster(settings), _peers_cluster(settings), _admin_cluster()],
            "listeners": [_health_listener(settings), _stats_listener(settings)],
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "limits",
                    "static_layer": {
                        "overload.premature_reset_total_stream_count": GATEWAY_RESETS.value,
                        "overload.premature_reset_min_stream_lifetime_seconds": 1,
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": GATEWAY_CONNECTIONS.value,
                    },
                }
            ]
        },
        # Thousands of clusters, of which a few are used: statistics of the others are not made, those that
        # say nothing of a tunnel are never made, and all are gathered when they are asked for, not every 5 s:
        # with 20,000 clusters that would hold up the configuration for half a second.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "stats_flush_on_admin": True,
        "stats_config": {"stats_matcher": {"exclusion_list": {"patterns": _USELESS}}},
    }
    return json.dumps(tree, indent=1) + "\n"


def _xds_cluster(settings: GatewaySettings) -> dict[str, Any]:
    """peerd, whose certificate must name the control plane."""
    source = {"resource_api_version": "V3"}
    tls = {
        "@type": f"{_TYPES}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificate_sds_secret_configs": [
                {
                    "name": IDENTITY_SECRET,
                    "sds_config": {"path_config_source": {"path": f"./{IDENTITY_FILE}"}, **source},
                }
            ],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": str(settings.control_plane)}}
                    ]
                },
                "validation_context_sds_secret_config": {
                    "name": ROOTS_SECRET,
                    "sds_config": {"path_config_source": {"path": f"./{ROOTS_FILE}"}, **source},
                },
            },
        },
    }
    keepalive = {"interval": "30s", "timeout": "10s"}
    return {
        **_dns_cluster("peerd-xds", settings.xds),
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": keepalive}},
            }
        },
    }


def _peers_cluster(settings: GatewaySettings) -> dict[str, Any]:
    return _dns_cluster(PEERS_CLUSTER, settings.peers)


def _dns_cluster(name: str, target: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(target)}}]}],
        },
    }


def _admin_cluster() -> dict[str, Any]:
    address = {"pipe": {"path": f"./{ADMIN_SOCKET}"}}
    return {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "admin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _health_listener(settings: GatewaySettings) -> dict[str, Any]:
    """Ready from the first whole configuration on, until it drains."""
    check = {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": f"{_TYPES}extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": READY_PATH}}],
        },
    }
    return _http_listener("health", settings.health or settings.listening(HEALTH_PORT), [], check)


def _stats_listener(settings: GatewaySettings) -> dict[str, Any]:
    route = {
        "match": {
            "path": STATS_PATH,
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "route": {"cluster": "admin"},
    }
    return _http_listener("stats", settings.stats or settings.listening(STATS_PORT), [route])


def _http_listener(
    name: str, address: str, routes: list[dict[str, Any]], *filters: dict[str, Any]
) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_TYPES}extensions.filters.http.router.v3.Router"},
    }
    nothing = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
    manager = {
        "@type": _HTTP_MANAGER,
        "codec_type": "HTTP1",
        "stat_prefix": name,
        "request_headers_timeout": "5s",
        "stream_idle_timeout": "30s",
        "common_http_protocol_options": {"idle_timeout": "30s"},
        "http_filters": [*filters, router],
        "route_config": {
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [*routes, nothing]}],
        },
    }
    return {
        "name": name,
        "address": _address(address),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
        # Who is on call must see a gateway that is full.
        "ignore_global_conn_limit": True,
    }


def _address(text: str) -> dict[str, Any]:
    host, port = split_address(text)
    found: dict[str, Any] = {"address": host or ANY_IPV4, "port_value": port}
    return {"socket_address": found | ({"ipv4_compat": True} if host == ANY_IPV6 else {})}
