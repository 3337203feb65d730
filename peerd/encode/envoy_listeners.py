"""Listeners and the one route of an east-west gateway, as Envoy's messages (docs/gateway.md).

What the listener `hbone` does: terminate TLS 1.3 of callers whose trust domain the gateway's trust file
names, take HTTP/2 CONNECT and nothing else, look at the authority's form, and leave the rest to the cluster
of that name. Certificates and roots are files beside Envoy, never part of a message (decision D37).
"""

from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from peerd.api.envoy import gateway_pb2 as pb
from peerd.encode.envoy import ADS
from peerd.encode.frame import any_header, frame, version_of
from peerd.limits import (
    GATEWAY_BUFFER_BYTES,
    GATEWAY_CONTROL_FRAMES,
    GATEWAY_EMPTY_FRAMES,
    GATEWAY_HANDSHAKE_S,
    GATEWAY_HEAD_S,
    GATEWAY_HEADER_KIB,
    GATEWAY_HEADERS,
    GATEWAY_IDLE_CONNECTION_S,
    GATEWAY_IDLE_TUNNEL_S,
    GATEWAY_PRIORITY_FRAMES,
    GATEWAY_STREAMS,
    GATEWAY_WINDOW_BYTES,
    Limit,
)
from peerd.model.gateway_config import ANY_IPV6, GatewayListener, ListenerKind
from peerd.model.resource import Resource
from peerd.model.types import LISTENER, ROUTE

ROUTE_NAME = "hbone"
PEERS_CLUSTER = "peerd-peers"
"""The cluster of peerd's peer port; the gateway's own file defines it. No authority can be its name."""

IDENTITY_FILE = "sds/identity.yaml"
TRUST_FILE = "sds/trust.yaml"
"""Where a gateway keeps its certificate and whom it trusts, relative to Envoy's working directory."""

IDENTITY_SECRET = "identity"  # noqa: S105 (a name)
TRUST_SECRET = "trust"  # noqa: S105 (a name)

AUTHORITY = "[a-z0-9][a-z0-9.-]*[.][a-z][a-z0-9-]*:[1-9][0-9]*"
"""A host name of several labels in lower case, without a trailing dot, no IP, and its port."""

# Names of routes, told in the access log: what became of a request.
EXPORTED, MALFORMED, NOT_CONNECT = "exported", "malformed-authority", "not-connect"

_PREFIX = "type.googleapis.com/envoy."
_NETWORK = "extensions.filters.network"
_RETRY = "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_RETRY_PRIORITY = "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"

# In ztunnel's words, as far as it has them.
_TUNNEL_LOG: Mapping[str, str] = {
    "time": "%START_TIME%",
    "message": "connection complete",
    "direction": "eastwest",
    "src.addr": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "src.identity": "%DOWNSTREAM_PEER_URI_SAN%",
    "src.baggage": "%REQ(BAGGAGE)%",
    "dst.service": "%REQ(:AUTHORITY)%",
    "dst.hbone_addr": "%UPSTREAM_HOST%",
    "method": "%REQ(:METHOD)%",
    "bytes_sent": "%BYTES_SENT%",
    "bytes_recv": "%BYTES_RECEIVED%",
    "duration": "%DURATION%ms",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "route": "%ROUTE_NAME%",
    "reason": "%RESPONSE_CODE_DETAILS%",
}
_TLS_LOG: Mapping[str, str] = {
    "time": "%START_TIME%",
    "message": "connection refused",
    "direction": "eastwest",
    "src.addr": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "src.identity": "%DOWNSTREAM_PEER_URI_SAN%",
    "duration": "%DURATION%ms",
    "route": "tls",
    "reason": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
# Not those whose connection broke: a caller that hangs up is refused nothing.
_REFUSED = (
    "connection.transport_failure_reason != ''"
    " && (!connection.transport_failure_reason.contains('system_library')"
    " || connection.transport_failure_reason.contains('SSL_routines'))"
)
_PEERS_LOG: Mapping[str, str] = {
    "time": "%START_TIME%",
    "message": "connection complete",
    "direction": "peering",
    "src.addr": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "dst.addr": "%UPSTREAM_HOST%",
    "bytes_sent": "%BYTES_SENT%",
    "bytes_recv": "%BYTES_RECEIVED%",
    "duration": "%DURATION%ms",
    "flags": "%RESPONSE_FLAGS%",
}


def encode_listener(listener: GatewayListener) -> Resource:
    """The resource of one port of one gateway; replicas that bind alike are its group."""
    chain = _hbone_chain() if listener.kind is ListenerKind.HBONE else _peers_chain()
    address = pb.SocketAddress(
        address=listener.bind, port_value=listener.port, ipv4_compat=listener.bind == ANY_IPV6
    )
    message = pb.Listener(
        name=listener.name,
        address=pb.Address(socket_address=address),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=_number(GATEWAY_BUFFER_BYTES),
        access_log=[_log(_TLS_LOG, only=_REFUSED)],
    )
    return _resource(listener.name, LISTENER, message, groups=(listener.group,))


def encode_route() -> Resource:
    """The one route configuration: it names no service, and so it never changes."""
    exported = pb.Route(
        name=EXPORTED,
        match=pb.RouteMatch(
            connect_matcher=pb.RouteMatch.ConnectMatcher(),
            headers=[
                pb.HeaderMatcher(
                    name=":authority",
                    string_match=pb.StringMatcher(safe_regex=pb.RegexMatcher(regex=AUTHORITY)),
                )
            ],
        ),
        route=pb.RouteAction(
            cluster_header=":authority",
            timeout=Duration(),  # a tunnel lasts as long as it is used
            upgrade_configs=[
                pb.RouteAction.UpgradeConfig(
                    upgrade_type="CONNECT", connect_config=pb.RouteAction.UpgradeConfig.ConnectConfig()
                )
            ],
            # Nothing was sent yet where no connection came about: another Pod may have it.
            retry_policy=pb.RetryPolicy(
                retry_on="connect-failure",
                num_retries=UInt32Value(value=3),
                # Where a whole place is dead, the next one's turn comes at once.
                retry_priority=pb.Extension(
                    name="envoy.retry_priorities.previous_priorities",
                    typed_config=_any(_RETRY_PRIORITY, pb.PreviousPrioritiesConfig(update_frequency=1)),
                ),
                retry_host_predicate=[
                    pb.Extension(name="envoy.retry_host_predicates.previous_hosts", typed_config=_any(_RETRY))
                ],
                host_selection_retry_max_attempts=10,
                retry_back_off=pb.RetryPolicy.RetryBackOff(
                    base_interval=Duration(nanos=25_000_000), max_interval=Duration(nanos=250_000_000)
                ),
            ),
        ),
    )
    malformed = pb.Route(
        name=MALFORMED,
        match=pb.RouteMatch(connect_matcher=pb.RouteMatch.ConnectMatcher()),
        direct_response=pb.DirectResponseAction(status=404),
    )
    not_connect = pb.Route(
        name=NOT_CONNECT,
        match=pb.RouteMatch(prefix="/"),
        direct_response=pb.DirectResponseAction(status=405),
    )
    message = pb.RouteConfiguration(
        name=ROUTE_NAME,
        virtual_hosts=[
            pb.VirtualHost(name=ROUTE_NAME, domains=["*"], routes=[exported, malformed, not_connect])
        ],
    )
    return _resource(ROUTE_NAME, ROUTE, message)


def _hbone_chain() -> pb.FilterChain:
    manager = pb.HttpConnectionManager(
        codec_type=pb.HttpConnectionManager.HTTP2,
        stat_prefix="hbone",
        rds=pb.Rds(config_source=ADS, route_config_name=ROUTE_NAME),
        http_filters=[
            pb.Filter(
                name="envoy.filters.http.router",
                typed_config=_any(
                    "extensions.filters.http.router.v3.Router", pb.Router(suppress_envoy_headers=True)
                ),
            )
        ],
        http2_protocol_options=pb.Http2ProtocolOptions(
            allow_connect=True,
            max_concurrent_streams=_number(GATEWAY_STREAMS),
            initial_stream_window_size=_number(GATEWAY_WINDOW_BYTES),
            initial_connection_window_size=UInt32Value(value=4 * GATEWAY_WINDOW_BYTES.value),
            max_outbound_control_frames=_number(GATEWAY_CONTROL_FRAMES),
            max_consecutive_inbound_frames_with_empty_payload=_number(GATEWAY_EMPTY_FRAMES),
            max_inbound_priority_frames_per_stream=_number(GATEWAY_PRIORITY_FRAMES),
            # A caller that vanished behind a firewall is found, its tunnels with it.
            connection_keepalive=pb.KeepaliveSettings(
                interval=Duration(seconds=30), timeout=Duration(seconds=10)
            ),
        ),
        access_log=[_log(_TUNNEL_LOG)],
        generate_request_id=BoolValue(value=False),
        skip_xff_append=True,
        upgrade_configs=[pb.HttpConnectionManager.UpgradeConfig(upgrade_type="CONNECT")],
        stream_idle_timeout=_seconds(GATEWAY_IDLE_TUNNEL_S),
        max_request_headers_kb=_number(GATEWAY_HEADER_KIB),
        common_http_protocol_options=pb.HttpProtocolOptions(
            idle_timeout=_seconds(GATEWAY_IDLE_CONNECTION_S), max_headers_count=_number(GATEWAY_HEADERS)
        ),
        request_headers_timeout=_seconds(GATEWAY_HEAD_S),
    )
    tls = pb.DownstreamTlsContext(
        common_tls_context=pb.CommonTlsContext(
            tls_params=pb.TlsParameters(tls_minimum_protocol_version=pb.TLSv1_3),
            alpn_protocols=["h2"],
            tls_certificate_sds_secret_configs=[_secret(IDENTITY_SECRET, IDENTITY_FILE)],
            validation_context_sds_secret_config=_secret(TRUST_SECRET, TRUST_FILE),
        ),
        require_client_certificate=BoolValue(value=True),
        # A resumed session would pass over the verification that a rotation is meant to change (D42).
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    return pb.FilterChain(
        filters=[_filter("http_connection_manager.v3.HttpConnectionManager", manager)],
        transport_socket=pb.Extension(
            name="envoy.transport_sockets.tls",
            typed_config=_any("extensions.transport_sockets.tls.v3.DownstreamTlsContext", tls),
        ),
        transport_socket_connect_timeout=_seconds(GATEWAY_HANDSHAKE_S),
    )


def _peers_chain() -> pb.FilterChain:
    """TLS is passed on as it comes: peerd itself tells who calls (decision D14)."""
    proxy = pb.TcpProxy(
        stat_prefix="peers",
        cluster=PEERS_CLUSTER,
        access_log=[_log(_PEERS_LOG)],
        # Heartbeats come every 15 s (decision D17): a stream that is silent for so long is none.
        idle_timeout=Duration(seconds=300),
    )
    return pb.FilterChain(filters=[_filter("tcp_proxy.v3.TcpProxy", proxy)])


def _log(fields: Mapping[str, str], only: str = "") -> pb.AccessLog:
    """One JSON object a line on standard output: whatever a caller sends, it stays inside its field."""
    json = Struct()
    json.update(fields)
    log = pb.StdoutAccessLog(log_format=pb.SubstitutionFormatString(json_format=json, omit_empty_values=True))
    chosen = None
    if only:
        expression = _any(
            "extensions.access_loggers.filters.cel.v3.ExpressionFilter", pb.ExpressionFilter(expression=only)
        )
        chosen = pb.AccessLogFilter(
            extension_filter=pb.Extension(
                name="envoy.access_loggers.extension_filters.cel", typed_config=expression
            )
        )
    return pb.AccessLog(
        name="envoy.access_loggers.stdout",
        filter=chosen,
        typed_config=_any("extensions.access_loggers.stream.v3.StdoutAccessLog", log),
    )


def _secret(name: str, path: str) -> pb.SdsSecretConfig:
    source = pb.ConfigSource(
        path_config_source=pb.PathConfigSource(path=f"./{path}"), resource_api_version=pb.V3
    )
    return pb.SdsSecretConfig(name=name, sds_config=source)


def _filter(name: str, message: Message) -> pb.Filter:
    return pb.Filter(
        name=f"envoy.filters.network.{name.partition('.')[0]}",
        typed_config=_any(f"{_NETWORK}.{name}", message),
    )


def _any(name: str, message: Message | None = None) -> Any:
    value = b"" if message is None else message.SerializeToString(deterministic=True)
    return Any(type_url=_PREFIX + name, value=value)


def _number(limit: Limit) -> UInt32Value:
    return UInt32Value(value=limit.value)


def _seconds(limit: Limit) -> Duration:
    return Duration(seconds=limit.value)


def _resource(name: str, type_url: str, message: Message, groups: tuple[str, ...] = ()) -> Resource:
    payload = message.SerializeToString(deterministic=True)
    version = version_of(payload)
    return Resource(name, version, frame(name, version, any_header(type_url), payload), groups=groups)
