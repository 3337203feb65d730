"""What a gateway denies, and how its log tells the reasons apart: TLS, no CONNECT, malformed, unknown."""

import asyncio
import contextlib
import json
import ssl
import time

import pytest

from peerd.ca import authority
from peerd.ca.bundle import parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.cli.demo.hbone import Caller, tunnel_through
from peerd.cli.demo.pipes import HboneError, Http2, RefusedError, SocketPipe, TlsPipe, Tunnel
from peerd.transport.tls import TlsMaterial
from tests.support.gateways import GATEWAY_IDENTITY, GatewayCluster, GatewayReplica
from tests.support.peerds import PATIENCE
from tests.support.ports import address_block

HOST = "reviews.shop.mesh.internal"
REVIEWS = ("spiffe://cluster.local/ns/shop/sa/reviews",)


@pytest.fixture
async def west(tmp_path):
    """A cluster that exports reviews, and has ratings and a gateway."""
    certificates = tmp_path / "certs"
    certificates.mkdir()
    now = time.time()
    root = authority.make_root("test", now)
    authority.write_new(certificates, authority.root_files(root))
    for name in ("east", "west"):
        authority.write_new(certificates / name, authority.make_cluster_ca(root, name, now))
    cluster = GatewayCluster("west", tmp_path / "west", certificates, address_block())
    try:
        cluster.own_gateway(1)
        await cluster.deploy("reviews", 10)
        await cluster.deploy("ratings", 20, everywhere=False)
        await cluster.start()
        await cluster.replica(1)
        yield cluster
    finally:
        await cluster.close()


async def refused(west: GatewayCluster, authority_: str, material: TlsMaterial | None = None) -> int:
    """The status with which CONNECT is refused."""
    caller = Caller(west.replicas[0].hbone, material or west.front, GATEWAY_IDENTITY, "east-net")
    try:
        with pytest.raises(RefusedError) as found:
            await caller.request(authority_, REVIEWS, b"hello")
        return found.value.status
    finally:
        await caller.close()


async def answered(west: GatewayCluster, name: str) -> bytes:
    """What the service itself answers: the gateway is not merely dead."""
    caller = Caller(west.replicas[0].hbone, west.front, GATEWAY_IDENTITY, "east-net")
    try:
        return await caller.request(name, REVIEWS, b"hello")
    finally:
        await caller.close()


async def until_denied(replica: GatewayReplica, reason: str) -> None:
    """A caller was refused by TLS, for this reason."""
    number = 1
    async with asyncio.timeout(PATIENCE):
        while reason not in str((await replica.until_logged(number, route="tls"))[number - 1]["reason"]):
            number += 1


async def test_callers_of_another_root_or_trust_domain_are_refused_by_tls(west):
    """Each with its reason in the log, none with an answer; a caller of another cluster's CA is welcome."""
    now = time.time()
    foreign = parse_bundle(
        authority.make_cluster_ca(authority.make_root("evil", now), "evil", now), west.root, now
    )
    front = "spiffe://cluster.local/ns/web/sa/front"
    stranger = identity_certificate(foreign, front, now)
    gateway = west.replicas[0]
    for material, reason in (
        (
            TlsMaterial(stranger.certificate_chain, stranger.private_key, west.bundle().roots_pem),
            "unable_to_get_local_issuer_certificate",
        ),
        (west.material("front", namespace="web", trust_domain="other.example"), "no_trust_bundle"),
    ):
        caller = Caller(gateway.hbone, material, GATEWAY_IDENTITY, "east-net")
        with pytest.raises((HboneError, OSError)):
            await caller.request(f"{HOST}:80", REVIEWS, b"hello")
        await caller.close()
        await until_denied(gateway, reason)
    assert west.receivers[f"{west.block}.10"].served == []

    west.name = "east"
    of_east = west.material("front", namespace="web")
    west.name = "west"
    caller = Caller(gateway.hbone, of_east, GATEWAY_IDENTITY, "east-net")
    assert await caller.request(f"{HOST}:80", REVIEWS, b"hello") == f"west {west.block}.10 hello".encode()
    await caller.close()


async def test_another_trust_domain_is_admitted_where_its_roots_are_handed_over(west):
    """As peerd hands them to the gateways it runs; under these alone. The Pod has its own opinion (D29)."""
    now = time.time()
    root = authority.make_root("other", now)
    other = parse_bundle(authority.make_cluster_ca(root, "other", now), west.root, now)
    west.own_gateway(1, 2)
    theirs = authority.root_files(root)["root-cert.pem"].decode()
    admitting = await west.replica(2, **{"trust-json": json.dumps({"other.example": theirs})})
    theirs_, ours = (f"spiffe://{domain}/ns/web/sa/front" for domain in ("other.example", "cluster.local"))
    for identity in (theirs_, ours):
        own = identity_certificate(other, identity, now)
        shown = TlsMaterial(own.certificate_chain, own.private_key, west.bundle().roots_pem)
        for replica in west.replicas:
            caller = Caller(replica.hbone, shown, GATEWAY_IDENTITY, "east-net")
            with pytest.raises((HboneError, OSError)):
                await caller.request(f"{HOST}:80", REVIEWS, b"hello")
            await caller.close()
    (passed,) = await admitting.until_logged(route="exported", **{"src.identity": theirs_})
    assert passed["code"] == 200
    await until_denied(admitting, "unable_to_get_local_issuer")
    await until_denied(west.replicas[0], "unable_to_get_local_issuer")
    await until_denied(west.replicas[0], "no_trust_bundle")
    assert west.receivers[f"{west.block}.10"].served == []


async def test_plain_http_and_no_certificate_are_refused_by_tls(west):
    """Cleartext gets no answer at all; so does TLS without a client certificate."""
    gateway = west.replicas[0]
    reader, writer = await asyncio.open_connection(*gateway.hbone)
    writer.write(b"CONNECT reviews.shop.mesh.internal:80 HTTP/1.1\r\nHost: reviews\r\n\r\n")
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    found = await gateway.until_logged(route="tls")
    assert "HTTPS_PROXY_REQUEST" in str(found[0]["reason"])

    context = ssl.create_default_context(cadata=west.bundle().roots_pem.decode())
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    # In TLS 1.3 the client's handshake is over before the server has judged it.
    reader, writer = await asyncio.open_connection(*gateway.hbone, ssl=context)
    with contextlib.suppress(OSError):
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    found = await gateway.until_logged(2, route="tls")
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(found[1]["reason"])


@pytest.mark.parametrize(
    "name",
    [
        "Reviews.shop.mesh.internal:80",
        HOST,
        f"{HOST}.:80",
        f"{HOST}:",
        f"{HOST}:080",
        "{block}.10:15008",
        "[::1]:15008",
        "peerd-peers",
        "admin:80",
        "localhost:80",
    ],
)
async def test_an_authority_of_another_form_is_malformed(west, name):
    """Upper case, a missing or odd port, a trailing dot, an IP, a cluster of the gateway's own: 404."""
    assert await refused(west, name.format(block=west.block)) == 404
    await west.replicas[0].until_logged(route="malformed-authority", code=404)
    assert await answered(west, f"{HOST}:80") == f"west {west.block}.10 hello".encode()


async def test_what_is_not_exported_is_unknown(west):
    """A local service, another port, another cluster's service, nobody's name: 503, told as unknown."""
    names = (
        "ratings.shop.mesh.internal:80",
        "ratings.shop.svc.cluster.local:80",
        f"{HOST}:8080",
        f"{HOST}:15008",
        "orders.sales.mesh.internal:80",
        "reviews.shop:80",
        "kubernetes.default.svc.cluster.local:443",
    )
    for name in names:
        assert await refused(west, name) == 503, name
    found = await west.replicas[0].until_logged(
        len(names), route="exported", code=503, flags="NC", reason="cluster_not_found"
    )
    assert [entry["dst.service"] for entry in found] == list(names)
    # Both of its names lead to what is exported, whoever took the local one over (D25).
    for name in (f"{HOST}:80", "reviews.shop.svc.cluster.local:80"):
        assert await answered(west, name) == f"west {west.block}.10 hello".encode()


async def test_what_is_no_longer_exported_is_unknown_at_once(west):
    """The label goes, and with it the name."""
    await answered(west, f"{HOST}:80")
    await west.deploy("reviews", 10, everywhere=False)
    status = 200
    async with asyncio.timeout(60):
        while status == 200:
            try:
                await answered(west, f"{HOST}:80")
            except RefusedError as error:
                status = error.status
    assert status == 503
    await west.replicas[0].until_logged(route="exported", code=503, reason="cluster_not_found")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_another_method_than_connect_is_refused(west, method):
    """With 405, and never passed on."""
    pipe = SocketPipe(*await asyncio.open_connection(*west.replicas[0].hbone))
    http = await tunnel_through(pipe, west.front, (GATEWAY_IDENTITY,), "the gateway")
    try:
        assert await ask(http, method) == 405
    finally:
        await http.close()
    await west.replicas[0].until_logged(route="not-connect", code=405, method=method)
    assert west.receivers[f"{west.block}.10"].served == []


async def ask(http: Http2, method: str) -> int:
    """The status of an ordinary request."""
    stream = http._state.get_next_available_stream_id()
    tunnel = http._tunnels[stream] = Tunnel(http, stream, HOST, {})
    headers = [(":method", method), (":scheme", "https"), (":authority", f"{HOST}:80"), (":path", "/")]
    http._state.send_headers(stream, headers, end_stream=True)
    await http.flush()
    return await tunnel.answered()


async def test_an_inner_tunnel_without_a_certificate_is_refused_by_the_pod(west):
    """The gateway passes on what it cannot read; the receiving side judges who calls."""
    pipe = SocketPipe(*await asyncio.open_connection(*west.replicas[0].hbone))
    http = await tunnel_through(pipe, west.front, (GATEWAY_IDENTITY,), "the gateway")
    try:
        outer = await http.connect(f"{HOST}:80", {})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=west.bundle().roots_pem.decode())
        inner = TlsPipe(outer, context, west.front, server=False)
        await inner.handshake()
        with pytest.raises(HboneError, match="CERTIFICATE_REQUIRED"):
            await inner.read()
    finally:
        await http.close()
    receiver = west.receivers[f"{west.block}.10"]
    assert receiver.served == []
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in receiver.refused[0]


async def test_the_inner_identity_is_the_callers_business(west):
    """Somebody else behind the name is not spoken to."""
    caller = Caller(west.replicas[0].hbone, west.front, GATEWAY_IDENTITY, "east-net")
    with pytest.raises(HboneError, match=r"expected spiffe://cluster\.local/ns/shop/sa/other"):
        await caller.request(f"{HOST}:80", ("spiffe://cluster.local/ns/shop/sa/other",), b"")
    await caller.close()
    assert west.receivers[f"{west.block}.10"].served == []
