"""What a real gateway outlives: its control plane, its own certificate, its roots, its directory."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from peerd.cli.demo.hbone import Caller, Receiver, tunnel_through
from peerd.cli.demo.pipes import HboneError, SocketPipe
from peerd.encode.envoy_listeners import IDENTITY_FILE
from peerd.gateway.files import write_secrets
from peerd.model.types import CLUSTER, ENDPOINT
from peerd.transport.tls import TlsMaterial
from tests.support.envoys import StaticEnvoy, identity_of, make_ca, material, settings
from tests.support.gateways import GATEWAY_IDENTITY, GatewayCluster, GatewayReplica
from tests.support.peerds import PATIENCE
from tests.support.ports import address_block

HOST = "reviews.shop.mesh.internal"
NAME = f"{HOST}:80"
REVIEWS = "spiffe://cluster.local/ns/shop/sa/reviews"
FRONT = "spiffe://cluster.local/ns/web/sa/front"


@pytest.fixture
async def west(tmp_path, certificates) -> AsyncIterator[GatewayCluster]:
    """A cluster that exports reviews, with one gateway."""
    cluster = GatewayCluster("west", tmp_path / "west", certificates, address_block())
    try:
        cluster.own_gateway(1)
        await cluster.deploy("reviews", 10)
        for number in range(5):
            cluster.service(f"other-{number}", 20, first=20 * number + 1)
        await cluster.start()
        await cluster.replica(1)
        yield cluster
    finally:
        await cluster.close()


@asynccontextmanager
async def calling(cluster: GatewayCluster) -> AsyncIterator[Caller]:
    """A caller with one connection to the first replica."""
    caller = Caller(cluster.replicas[0].hbone, cluster.front, GATEWAY_IDENTITY, "east-net")
    try:
        yield caller
    finally:
        await caller.close()


async def answered(cluster: GatewayCluster) -> bytes:
    """The answer over a new connection."""
    async with calling(cluster) as caller:
        return await caller.request(NAME, (REVIEWS,), b"hello")


async def until_answered(cluster: GatewayCluster, wanted: bytes) -> None:
    """Wait until that is the answer."""
    last: object = None
    try:
        async with asyncio.timeout(PATIENCE):
            while last != wanted:
                try:
                    last = await answered(cluster)
                except (HboneError, OSError) as error:
                    last = error
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{last!r} is not {wanted!r}") from None


async def until_connected(cluster: GatewayCluster) -> None:
    """The gateway is back at its peerd, and has ACKed."""
    assert cluster.peerd is not None
    async with asyncio.timeout(3 * PATIENCE):  # Envoy waits up to 30 s between attempts
        while True:
            rows = {row.type_url: row for each in cluster.peerd.registry for row in each.views()}
            if ENDPOINT in rows and all(row.sent and row.sent == row.acked for row in rows.values()):
                return
            await asyncio.sleep(0.05)


async def test_peerd_may_go_and_come_back(west):
    """Connections that are open and new ones are served meanwhile; on return only what changed is sent."""
    first = f"west {west.block}.10 hello".encode()
    async with calling(west) as held:
        assert await held.request(NAME, (REVIEWS,), b"hello") == first
        await west.stop()
        for _ in range(3):
            assert await held.request(NAME, (REVIEWS,), b"hello") == first
            assert await answered(west) == first
        assert west.replicas[0].status() == 200
        await west.deploy("ratings", 20)
        await west.start()
        await until_connected(west)
        assert await held.request(NAME, (REVIEWS,), b"hello") == first
    # Of one service, where seven are served.
    assert west.peerd is not None
    sent = {url: west.peerd.registry.pushed_bytes[url] for url in (CLUSTER, ENDPOINT)}
    held_by_store = {
        url: sum(
            len(found.frame)
            for name in west.peerd.store.collection(url).names()
            if (found := west.peerd.store.collection(url).get(name)) is not None
        )
        for url in sent
    }
    for url, size in sent.items():
        assert 0 < size < held_by_store[url] / 2, url
    await west.deploy("reviews", 11)
    await until_answered(west, f"west {west.block}.11 hello".encode())


async def test_a_replica_that_lost_its_directory_begins_anew(west):
    """Another key and certificate, the same configuration."""
    replica: GatewayReplica = west.replicas[0]
    before = (replica.directory / IDENTITY_FILE).read_text()
    await replica.close()
    shutil.rmtree(replica.directory)
    await replica.start()
    assert await answered(west) == f"west {west.block}.10 hello".encode()
    assert (replica.directory / IDENTITY_FILE).read_text() != before


def serial(certificate: bytes | str) -> int:
    """The serial number of a PEM chain's leaf."""
    text = certificate.encode() if isinstance(certificate, str) else certificate
    return x509.load_pem_x509_certificates(text)[0].serial_number


async def shown(gateway: StaticEnvoy, own: TlsMaterial) -> int:
    """The serial number of the certificate that the gateway shows; raises where it does not admit *own*."""
    pipe = SocketPipe(*await asyncio.open_connection(*gateway.hbone))
    http = await tunnel_through(pipe, own, (GATEWAY_IDENTITY,), "the gateway")
    try:
        await (await http.connect(NAME, {})).close()
        leaf = http._pipe._tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(leaf).serial_number
    finally:
        await http.close()


@asynccontextmanager
async def static(directory: Path) -> AsyncIterator[StaticEnvoy]:
    """A gateway without a peerd, and its Pod."""
    block = address_block()
    gateway = StaticEnvoy(directory, {NAME: [f"{block}.10"]})
    pod = Receiver((f"{block}.10", 15008), material(gateway.ca, REVIEWS), (NAME,), lambda request: request)
    await pod.start()
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
        await pod.stop()


async def test_certificates_are_renewed_under_traffic_and_no_request_fails(tmp_path):
    """Each renewal is shown to whoever connects next; open connections and new ones go on throughout."""
    async with static(tmp_path) as gateway:
        own = material(gateway.ca, FRONT)
        given = settings(tmp_path, block=gateway.block)
        held = Caller(gateway.hbone, own, GATEWAY_IDENTITY, "east-net")
        done, ended = 0, asyncio.Event()

        async def ask() -> None:
            nonlocal done
            while not ended.is_set():
                fresh = Caller(gateway.hbone, own, GATEWAY_IDENTITY, "east-net")
                try:
                    for caller in (held, fresh):
                        assert await caller.request(NAME, (REVIEWS,), b"hello") == b"hello"
                finally:
                    await fresh.close()
                done += 1

        asking = asyncio.ensure_future(ask())
        try:
            for _ in range(5):
                identity, before = identity_of(gateway.ca, given), done
                assert write_secrets(given, identity)
                async with asyncio.timeout(PATIENCE):
                    while await shown(gateway, own) != serial(identity.chain) or done < before + 2:
                        assert not asking.done()
                        await asyncio.sleep(0.02)
        finally:
            ended.set()
            await asking
            await held.close()


async def test_a_root_that_was_taken_away_admits_nobody_any_more(tmp_path):
    """From the next handshake on: sessions are not resumed (D42). Who came before stays until it goes."""
    async with static(tmp_path) as gateway:
        old = gateway.ca
        before = material(old, FRONT)
        held = Caller(gateway.hbone, before, GATEWAY_IDENTITY, "east-net")
        assert await held.request(NAME, (REVIEWS,), b"hello") == b"hello"
        new = make_ca(tmp_path)
        given = settings(tmp_path, block=gateway.block)
        assert write_secrets(given, identity_of(new, given))
        after = material(new, FRONT)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await shown(gateway, after)
                    break
                except (HboneError, OSError):
                    await asyncio.sleep(0.02)
        # It believes us, but we no longer it: so look at its certificate with the new root.
        stranger = TlsMaterial(before.certificate_chain, before.private_key, after.roots)
        with pytest.raises((HboneError, OSError)):
            await shown(gateway, stranger)
        await gateway.until_logged("unable_to_get_local_issuer_certificate")
        assert await held.request(NAME, (REVIEWS,), b"hello") == b"hello"
        await held.close()
