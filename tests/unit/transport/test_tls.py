"""TLS contexts that follow their source, over real handshakes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from peerd.ca.bundle import CaBundle
from peerd.ca.describe import key_sha256
from peerd.ca.leaf import Issuer
from peerd.transport.base import PeerCertificate
from peerd.transport.tls import (
    FixedTls,
    TlsError,
    TlsMaterial,
    client_context,
    peer_certificate,
    server_context,
)
from tests.support.identities import cluster_bundle, material, new_root
from tests.support.mesh_certs import PEERD


@dataclass
class Listener:
    """A TLS server whose material a test exchanges; it tells every client that it let in."""

    material: TlsMaterial
    refused: list[str] = field(default_factory=list)
    seen: list[PeerCertificate] = field(default_factory=list)
    port: int = 0

    def current(self) -> TlsMaterial:
        return self.material

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(peer_certificate(writer.get_extra_info("ssl_object"), self.material))
        writer.write(b"welcome\n")
        while line := await reader.readline():
            writer.write(line)
        writer.close()


@pytest.fixture(scope="module")
def root() -> Issuer:
    return new_root()


@pytest.fixture(scope="module")
def east(root: Issuer) -> CaBundle:
    return cluster_bundle(root, "east")


@pytest.fixture(scope="module")
def west(root: Issuer) -> CaBundle:
    return cluster_bundle(root, "west")


@pytest.fixture
async def listener(east: CaBundle) -> AsyncIterator[Listener]:
    listener = Listener(material(east))
    context = server_context(listener, listener.refused.append)
    server = await asyncio.start_server(listener.greet, "127.0.0.1", 0, ssl=context)
    listener.port = server.sockets[0].getsockname()[1]
    yield listener
    server.close()
    await server.wait_closed()


async def _dial(listener: Listener, shown: TlsMaterial, name: str = "") -> tuple[PeerCertificate, bytes]:
    """What the server proved, and its greeting: empty where it refused us after its own handshake."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=client_context(shown), server_hostname=name
    )
    proved = peer_certificate(writer.get_extra_info("ssl_object"), shown)
    greeting = await _line(reader)
    writer.close()
    return proved, greeting


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty where the server hung up, however it did."""
    try:
        return await reader.readline()
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.mark.parametrize("name", ["", "peerd.istio-system.svc"])
async def test_both_ends_prove_identity_and_issuer(
    listener: Listener, east: CaBundle, west: CaBundle, name: str
) -> None:
    """URI SANs, the hash of the issuing CA's key, the end of life; with a server name or without."""
    proved, greeting = await _dial(listener, material(west), name)

    assert greeting == b"welcome\n"
    assert (proved.uris, proved.issuer_key_sha256) == ((PEERD,), key_sha256(east.certificate))
    assert (listener.seen[0].uris, listener.seen[0].issuer_key_sha256) == (
        (PEERD,),
        key_sha256(west.certificate),
    )
    assert listener.refused == []


async def test_a_client_without_a_certificate_is_refused(listener: Listener, east: CaBundle) -> None:
    """The port demands one; the reason is told."""
    context = ssl.create_default_context(cadata=east.roots_text)
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=context, server_hostname=""
    )
    assert await _line(reader) == b""
    writer.close()

    assert listener.seen == []
    assert listener.refused == ["TLS handshake failed: PEER_DID_NOT_RETURN_A_CERTIFICATE"]


async def test_tls_1_2_is_refused(listener: Listener, west: CaBundle) -> None:
    """TLS 1.3 on both ends (wire-contract §6 item 1)."""
    context = client_context(material(west))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", listener.port, ssl=context, server_hostname="")

    assert listener.refused == ["TLS handshake failed: UNSUPPORTED_PROTOCOL"]


async def test_a_rotation_changes_the_next_handshake_and_no_open_connection(
    listener: Listener, east: CaBundle, west: CaBundle
) -> None:
    """New leaf, new root, old root gone: each counts at once, and the first connection lives through all."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=client_context(material(west)), server_hostname=""
    )
    assert await reader.readline() == b"welcome\n"
    other = new_root()
    new = cluster_bundle(other, "east")
    both = east.roots_pem + new.roots_pem

    listener.material = material(new, roots=both)
    proved, greeting = await _dial(listener, material(west, roots=both))
    assert (proved.issuer_key_sha256, greeting) == (key_sha256(new.certificate), b"welcome\n")

    listener.material = replace(listener.material, roots=new.roots_pem)
    _, greeting = await _dial(listener, material(west, roots=both))
    assert greeting == b""
    (reason,) = listener.refused
    assert reason == "the far end's certificate is refused: unable to get local issuer certificate"

    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    writer.close()


async def test_a_session_is_not_resumed_past_a_removed_root(listener: Listener, west: CaBundle) -> None:
    """Without tickets: a resumed session would not be verified again."""
    context = client_context(material(west))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=context, server_hostname=""
    )
    assert await reader.readline() == b"welcome\n"
    session = writer.get_extra_info("ssl_object").session
    writer.close()

    assert session is None or not session.has_ticket


@pytest.mark.parametrize("broken", ["roots", "certificate_chain", "private_key"])
async def test_faulty_material_leaves_the_last_good_one(
    listener: Listener, west: CaBundle, broken: str
) -> None:
    """A source that went wrong is told; handshakes go on with what was good."""
    good = listener.material
    listener.material = replace(good, **{broken: getattr(good, broken)[:-80]})

    _, greeting = await _dial(listener, material(west))

    listener.material = good
    assert "the last good certificate stays" in listener.refused[0]
    assert greeting == b"welcome\n"


@pytest.mark.parametrize("broken", ["roots", "certificate_chain", "private_key"])
def test_at_the_start_material_must_be_good(east: CaBundle, broken: str) -> None:
    """On both ends, as TlsError with the reason."""
    good = material(east)
    bad = replace(good, **{broken: getattr(good, broken)[:-80]})

    with pytest.raises(TlsError, match="cannot be loaded"):
        server_context(FixedTls(bad), print)
    with pytest.raises(TlsError, match="cannot be loaded"):
        client_context(bad)


def test_a_key_is_never_printed(east: CaBundle) -> None:
    """Records end up in logs."""
    assert "PRIVATE" not in repr(material(east))
    assert "private_key" not in repr(material(east))
