"""Odd callers at a real gateway: identities that only look like one, requests that only look like CONNECT."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from h2.exceptions import ProtocolError

from peerd.ca import leaf, pem, signer
from peerd.cli.demo.hbone import tunnel_through
from peerd.cli.demo.pipes import HboneError, SocketPipe, Tunnel
from peerd.transport.tls import TlsMaterial
from tests.support.envoys import StaticEnvoy, material
from tests.support.gateways import GATEWAY_IDENTITY
from tests.support.ports import address_block

NAME = "reviews.shop.mesh.internal:80"
DEAD = "dead.shop.mesh.internal:80"
FRONT = "spiffe://cluster.local/ns/web/sa/front"
CONNECT = [(":method", "CONNECT"), (":authority", NAME)]
Head = list[tuple[str, str | bytes]]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[StaticEnvoy]:
    """One Pod behind a name, and nobody behind another."""
    block = address_block()
    found = StaticEnvoy(tmp_path, {NAME: [f"{block}.10"], DEAD: [f"{block}.11"]})
    pod = await asyncio.start_server(lambda _reader, writer: writer.close(), f"{block}.10", 15008)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
        pod.close()


def certified(gateway: StaticEnvoy, *names: x509.GeneralName) -> TlsMaterial:
    """A certificate of the mesh's CA for these names, whatever they are."""
    key = pem.new_key()
    issued = signer.issue(gateway.ca, key.public_key(), list(names), 3600, time.time())
    chain = pem.write_certificates(issued) + gateway.ca.intermediates_pem
    return TlsMaterial(chain, pem.write_key(key), gateway.ca.roots_pem)


async def answer(gateway: StaticEnvoy, shown: TlsMaterial, head: Head) -> int:
    """The status of a request; 0 where the connection is all that is answered."""
    pipe = SocketPipe(*await asyncio.open_connection(*gateway.hbone))
    try:
        http = await tunnel_through(pipe, shown, (GATEWAY_IDENTITY,), "the gateway")
    except (HboneError, OSError):
        return 0
    http._state.config.validate_outbound_headers = False
    http._state.config.normalize_outbound_headers = False
    stream = http._state.get_next_available_stream_id()
    tunnel = http._tunnels[stream] = Tunnel(http, stream, NAME, {})
    try:
        http._state.send_headers(stream, head)
        await http.flush()
        async with asyncio.timeout(20):
            return await tunnel.answered()
    except (HboneError, OSError, ProtocolError):
        return 0
    finally:
        await http.close()


def entries(gateway: StaticEnvoy) -> list[dict[str, object]]:
    """The access log; what Envoy says besides is no JSON."""
    lines = gateway.log.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://CLUSTER.LOCAL/ns/web/sa/front",
        "spiffe://cluster.local.evil/ns/web/sa/front",
        "spiffe://cluster.loca/ns/web/sa/front",
        "spiffe://cluster.local:80/ns/web/sa/front",
        "spiffe://cluster.local@evil/ns/web/sa/front",
        "spiffe://evil@cluster.local/ns/web/sa/front",
        "spiffe:///ns/web/sa/front",
        "spiffe://cluster.local",
        "SPIFFE://cluster.local/ns/web/sa/front",
        "http://cluster.local/ns/web/sa/front",
        "",
    ],
)
async def test_what_only_looks_like_our_trust_domain_is_refused(gateway, name):
    """Though our own CA signed it; a name that is no URI at all, too."""
    san = leaf.uri_san(name) if name else x509.DNSName("cluster.local")
    assert await answer(gateway, certified(gateway, san), CONNECT) == 0
    await gateway.until_logged("no_trust_bundle")
    assert await answer(gateway, certified(gateway, leaf.uri_san(FRONT)), CONNECT) == 200


async def test_several_identities_are_judged_by_the_first(gateway):
    """And the log names them all."""
    ours, other = leaf.uri_san(FRONT), leaf.uri_san("spiffe://other.example/ns/web/sa/front")
    assert await answer(gateway, certified(gateway, other, ours), CONNECT) == 0
    assert await answer(gateway, certified(gateway, ours, other), CONNECT) == 200
    await gateway.until_logged(f'"{FRONT},spiffe://other.example/ns/web/sa/front"')


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ([*CONNECT[:1], (":protocol", "websocket"), (":scheme", "https"), (":path", "/"), CONNECT[1]], 403),
        ([*CONNECT[:1], (":protocol", "connect-udp"), (":scheme", "https"), (":path", "/"), CONNECT[1]], 404),
        ([*CONNECT[:1], (":protocol", "connect-ip"), (":scheme", "https"), (":path", "/"), CONNECT[1]], 403),
        ([*CONNECT[:1], (":scheme", "https"), (":path", "/"), CONNECT[1]], 0),
        ([*CONNECT, CONNECT[1]], 0),
        ([*CONNECT[:1], ("host", NAME)], 0),
        ([(":method", "connect"), CONNECT[1]], 0),
        ([*CONNECT, ("transfer-encoding", "chunked")], 0),
        ([*CONNECT[:1], (":authority", f"user@{NAME}")], 0),
        ([*CONNECT[:1], (":authority", f"{NAME}\0")], 0),
        ([*CONNECT[:1], (":authority", f"{NAME} ")], 0),
        ([*CONNECT, ("baggage", "a\r\nx-other: b")], 0),
        ([*CONNECT, ("baggage", b"k8s=\xff\xfe\x01")], 0),
        ([*CONNECT[:1], (":authority", "a_b.shop.mesh.internal:80")], 404),
        ([*CONNECT[:1], (":authority", "reviews.shop.mesh.internal:70000")], 503),
        ([*CONNECT[:1], (":authority", "a." * 2_000 + "b:80")], 503),
        (CONNECT, 200),
    ],
)
async def test_what_is_no_plain_connect_goes_nowhere(gateway, head, status):
    """Extended CONNECT, broken HTTP/2, odd bytes: none reaches the Pod, and what the log says is JSON."""
    assert await answer(gateway, material(gateway.ca, FRONT), head) == status
    await gateway.until_logged(f'"code":{status},')
    found = entries(gateway)
    assert {entry["code"] for entry in found if "code" in entry} == {status}, found
    assert any("dst.hbone_addr" in entry for entry in found) == (status == 200)


async def test_a_caller_cannot_tell_the_gateway_how_to_behave(gateway):
    """Envoy's own headers are not taken from outside: as many tries as configured, no statistics by name."""
    told = [
        ("x-envoy-max-retries", "9"),
        ("x-envoy-retry-on", "connect-failure"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-upstream-alt-stat-name", "chosen-by-caller"),
        ("baggage", '"}\\{"src.identity":"spiffe://evil'),
    ]
    own = material(gateway.ca, FRONT)
    assert await answer(gateway, own, [(":method", "CONNECT"), (":authority", DEAD), *told]) == 503
    await gateway.until_logged('"code":503')
    (entry,) = [each for each in entries(gateway) if each.get("code") == 503]
    assert (entry["attempts"], entry["src.identity"]) == (4, FRONT)
    assert await gateway.counter("envoy_http_downstream_rq_total") > 0
    assert "chosen-by-caller" not in await gateway.statistics()
