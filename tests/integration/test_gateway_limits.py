"""Each limit that a gateway's Envoy keeps is hit, and Envoy's metric of docs/operations.md shows it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, PriorityFrame, RstStreamFrame

from peerd import limits
from peerd.cli.demo.hbone import Caller, Receiver, tunnel_through
from peerd.cli.demo.pipes import HboneError, Http2, RefusedError, SocketPipe
from peerd.encode import envoy as clusters
from peerd.encode import envoy_listeners as listeners
from peerd.gateway import bootstrap
from peerd.limits import Limit
from tests.support.envoys import StaticEnvoy, material
from tests.support.gateways import GATEWAY_IDENTITY
from tests.support.ports import address_block

HOST = "reviews.shop.mesh.internal"
NAME = f"{HOST}:80"
REVIEWS = "spiffe://cluster.local/ns/shop/sa/reviews"
FRONT = "spiffe://cluster.local/ns/web/sa/front"


def lower(monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: int) -> None:
    """Make a limit small enough to be hit in a test."""
    limit: Limit = getattr(limits, name)
    monkeypatch.setattr(module, name, limit._replace(value=value))


@asynccontextmanager
async def running(directory, pods: int = 1) -> AsyncIterator[StaticEnvoy]:
    """A gateway in front of a Pod."""
    block = address_block()
    found = StaticEnvoy(directory, {NAME: [f"{block}.{number}" for number in range(10, 10 + pods)]})
    receivers = [
        Receiver((f"{block}.{number}", 15008), material(found.ca, REVIEWS), (NAME,), lambda request: request)
        for number in range(10, 10 + pods)
    ]
    for receiver in receivers:
        await receiver.start()
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
        for receiver in receivers:
            await receiver.stop()


@asynccontextmanager
async def connected(gateway: StaticEnvoy) -> AsyncIterator[Http2]:
    """An outer connection."""
    pipe = SocketPipe(*await asyncio.open_connection(*gateway.hbone))
    http = await tunnel_through(pipe, material(gateway.ca, FRONT), (GATEWAY_IDENTITY,), "the gateway")
    try:
        yield http
    finally:
        await http.close()


async def raw(http: Http2, *frames: bytes) -> None:
    """Send frames past h2; the far end may have closed already."""
    with contextlib.suppress(OSError, HboneError):
        for frame in frames:
            await http._pipe.write(frame)


async def without_end(http: Http2, frames: bytes) -> None:
    """Send *frames* again and again; raises what ends it."""
    async with asyncio.timeout(60):
        while True:
            await http._pipe.write(frames)


async def test_ordinary_requests_hit_none(tmp_path):
    """A hundred in a row over one connection."""
    async with running(tmp_path) as gateway:
        caller = Caller(gateway.hbone, material(gateway.ca, FRONT), GATEWAY_IDENTITY, "east-net")
        for _ in range(100):
            assert await caller.request(NAME, (REVIEWS,), b"hello") == b"hello"
        await caller.close()
        for metric in ("envoy_http_downstream_rq_too_many_premature_resets", "envoy_http2_header_overflow"):
            assert await gateway.counter(metric) == 0


async def test_rapid_reset_ends_the_connection(tmp_path):
    """GATEWAY_RESETS: streams opened and reset at once."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        headers = http._state.encoder.encode([(":method", "CONNECT"), (":authority", NAME)])
        for number in range(limits.GATEWAY_RESETS.value * 3):
            opened = HeadersFrame(2 * number + 1, data=headers, flags=["END_HEADERS"])
            reset = RstStreamFrame(2 * number + 1, error_code=8)
            await raw(http, opened.serialize() + reset.serialize())
            headers = http._state.encoder.encode([(":method", "CONNECT"), (":authority", NAME)])
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        await gateway.until_counted("envoy_http_downstream_rq_too_many_premature_resets")
        async with asyncio.timeout(60):
            await http.finished()


async def test_many_headers_are_refused(tmp_path):
    """GATEWAY_HEADERS."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        with pytest.raises(HboneError):
            await http.connect(
                NAME, {f"x-{number}": "a" for number in range(limits.GATEWAY_HEADERS.value + 1)}
            )
        await gateway.until_counted("envoy_http2_header_overflow")


async def test_long_headers_are_refused(tmp_path):
    """GATEWAY_HEADER_KIB: Envoy counts it nowhere of its own, and its log says it."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        with pytest.raises(HboneError):
            await http.connect(NAME, {"x-long": "a" * (limits.GATEWAY_HEADER_KIB.value * 1024 + 1)})
        await gateway.until_logged("http2.header_list_size_too_large")


async def test_empty_frames_end_the_connection(tmp_path):
    """GATEWAY_EMPTY_FRAMES: DATA without data."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        await http.connect(NAME, {})
        await raw(http, *[DataFrame(1).serialize()] * 5)
        await gateway.until_counted("envoy_http2_inbound_empty_frames_flood")


async def test_a_priority_flood_ends_the_connection(tmp_path):
    """GATEWAY_PRIORITY_FRAMES."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        await http.connect(NAME, {})
        await raw(http, PriorityFrame(1).serialize() * (limits.GATEWAY_PRIORITY_FRAMES.value * 10))
        await gateway.until_counted("envoy_http2_inbound_priority_frames_flood")


async def test_answers_that_nobody_reads_end_the_connection(tmp_path):
    """GATEWAY_CONTROL_FRAMES: pings without end."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        ping = PingFrame(0, opaque_data=b"12345678").serialize()
        http._runner.cancel()  # nobody reads
        with pytest.raises(ConnectionError):
            await without_end(http, ping * limits.GATEWAY_CONTROL_FRAMES.value)
        await gateway.until_counted("envoy_http_downstream_cx_destroy_local")


async def test_a_tunnel_without_a_byte_ends(tmp_path, monkeypatch):
    """GATEWAY_IDLE_TUNNEL_S, here one second."""
    lower(monkeypatch, listeners, "GATEWAY_IDLE_TUNNEL_S", 1)
    async with running(tmp_path) as gateway, connected(gateway) as http:
        tunnel = await http.connect(NAME, {})
        with contextlib.suppress(HboneError):
            async with asyncio.timeout(60):
                assert await tunnel.read() == b""
        await gateway.until_counted("envoy_http_downstream_rq_idle_timeout")


async def test_a_connection_without_a_tunnel_ends(tmp_path, monkeypatch):
    """GATEWAY_IDLE_CONNECTION_S, here one second."""
    lower(monkeypatch, listeners, "GATEWAY_IDLE_CONNECTION_S", 1)
    async with running(tmp_path) as gateway, connected(gateway):
        await gateway.until_counted("envoy_http_downstream_cx_idle_timeout")


async def test_headers_that_never_end_are_not_waited_for(tmp_path, monkeypatch):
    """GATEWAY_HEAD_S, here one second: HEADERS without END_HEADERS."""
    lower(monkeypatch, listeners, "GATEWAY_HEAD_S", 1)
    async with running(tmp_path) as gateway, connected(gateway) as http:
        await http.connect(NAME, {})  # what both ends say at first is over: nothing may come in between
        headers = http._state.encoder.encode([(":method", "CONNECT"), (":authority", NAME)])
        await raw(http, HeadersFrame(3, data=headers).serialize())
        await gateway.until_counted("envoy_http_downstream_rq_header_timeout")


async def test_a_handshake_that_never_ends_is_not_waited_for(tmp_path, monkeypatch):
    """GATEWAY_HANDSHAKE_S, here one second: a connection that says nothing."""
    lower(monkeypatch, listeners, "GATEWAY_HANDSHAKE_S", 1)
    async with running(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.hbone)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await gateway.until_counted("envoy_listener_downstream_cx_transport_socket_connect_timeout")


async def third_is_refused(gateway: StaticEnvoy) -> bool:
    """Whether Envoy refuses a third connection beside two that are open, and takes a probe none the less."""
    with contextlib.suppress(HboneError, OSError):  # of the first two: those before are not yet gone
        async with connected(gateway), connected(gateway):
            try:
                async with connected(gateway):
                    return False
            except (HboneError, OSError):
                _, writer = await asyncio.open_connection(gateway.hbone[0], 15021)
                writer.close()
                await writer.wait_closed()
                return True
    return False


async def test_connections_past_the_bound_are_not_taken(tmp_path, monkeypatch):
    """GATEWAY_CONNECTIONS, here two; probes and scrapes are served none the less."""
    lower(monkeypatch, bootstrap, "GATEWAY_CONNECTIONS", 2)
    async with running(tmp_path) as gateway:
        async with asyncio.timeout(60):
            # Envoy's workers begin to count a moment after its listeners are ready.
            while not await third_is_refused(gateway):
                pass
        await gateway.until_counted("envoy_listener_downstream_global_cx_overflow")


async def test_tunnels_to_one_name_are_bounded(tmp_path, monkeypatch):
    """GATEWAY_TUNNELS, here one."""
    common = clusters.pb.Cluster.FromString(clusters._COMMON)
    for field in ("max_connections", "max_pending_requests", "max_requests"):
        getattr(common.circuit_breakers.thresholds[0], field).value = 1
    monkeypatch.setattr(clusters, "_COMMON", common.SerializeToString())
    async with running(tmp_path) as gateway, connected(gateway) as http:
        await http.connect(NAME, {})
        waiting = asyncio.ensure_future(http.connect(NAME, {}))
        await gateway.until_counted("envoy_cluster_upstream_rq_pending_active")
        with pytest.raises(RefusedError) as refused:
            await http.connect(NAME, {})
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await gateway.until_counted("envoy_cluster_upstream_rq_pending_overflow")
        assert refused.value.status == 503


async def test_tunnels_on_one_connection_are_bounded(tmp_path):
    """GATEWAY_STREAMS is announced to every caller."""
    async with running(tmp_path) as gateway, connected(gateway) as http:
        await http.connect(NAME, {})
        assert http._state.remote_settings.max_concurrent_streams == limits.GATEWAY_STREAMS.value
        assert http._state.remote_settings.initial_window_size == limits.GATEWAY_WINDOW_BYTES.value


async def test_a_far_end_that_does_not_read_stops_the_sender(tmp_path):
    """GATEWAY_BUFFER_BYTES, GATEWAY_WINDOW_BYTES: what is sent ahead is bounded, then flow control holds."""
    sent = 0
    accepted: list[asyncio.StreamWriter] = []

    block = address_block()
    gateway = StaticEnvoy(tmp_path, {NAME: [f"{block}.10"]})
    server = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), f"{block}.10", 15008)
    await gateway.start()
    try:
        async with connected(gateway) as http:
            tunnel = await http.connect(NAME, {})
            with contextlib.suppress(TimeoutError):
                while True:  # until one takes too long: then nothing moves any more
                    await asyncio.wait_for(tunnel.write(b"a" * 65_536), 3)
                    sent += 65_536
    finally:
        await gateway.stop()
        server.close()
        for writer in accepted:
            writer.close()
        await asyncio.gather(*(each.wait_closed() for each in accepted), return_exceptions=True)
    # What kernels keep of both connections comes on top.
    assert (
        1024 * 1024
        < sent
        < limits.GATEWAY_WINDOW_BYTES.value + 4 * limits.GATEWAY_BUFFER_BYTES.value + (16 << 20)
    )
