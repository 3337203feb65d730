"""What is grpc.aio's own: settings, TLS that follows rotation, connections that grow old."""

import asyncio
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from peerd.limits import REQUEST_BYTES, TOKEN_BYTES, hits
from peerd.transport.base import StatusCode, Stream, StreamClosed
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions, GrpcServer
from peerd.transport.tls import TlsMaterial
from tests.support.mesh_certs import Authority

METHOD = "/peerd.test.Service/Method"


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


def test_idle_ztunnels_may_ping_and_may_name_all_they_hold() -> None:
    """Every 30 s (wire-contract §1.2); about 80 bytes a name (§1.4)."""
    arguments = dict(GrpcOptions().server_arguments())
    assert arguments["grpc.http2.min_ping_interval_without_data_ms"] < 30_000
    assert GrpcOptions().max_message == REQUEST_BYTES.value >= 64 * 1024 * 1024
    assert arguments["grpc.max_receive_message_length"] > REQUEST_BYTES.value, "or we could count nothing"
    assert arguments["grpc.max_send_message_length"] == -1
    assert arguments["grpc.so_reuseport"] == 0
    assert arguments["grpc.max_connection_age_ms"] == 30 * 60 * 1000
    assert arguments["grpc.max_connection_age_grace_ms"] == 10_000


def test_an_age_of_zero_is_no_age() -> None:
    assert "grpc.max_connection_age_ms" not in dict(GrpcOptions(max_age=0).server_arguments())


@pytest.mark.parametrize(("size", "counted"), [(1001, 1), (1250, 1), (1251, 0)])
async def test_a_request_over_the_limit_ends_its_stream_and_what_is_not_far_over_is_counted(
    size: int, counted: int
) -> None:
    """The reason is told with both sizes. Far over, gRPC does not even read it, and tells nobody here."""
    server = GrpcServer("127.0.0.1:0", {METHOD: echo}, options=GrpcOptions(max_message=1000))
    channel = GrpcChannel(await server.start())
    before = hits(REQUEST_BYTES)
    stream, other = await channel.open(METHOD), await channel.open(METHOD)
    await stream.send(b"x" * size)
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.RESOURCE_EXHAUSTED
    if counted:
        assert closed.value.message == f"a message of {size} bytes is over the limit of 1000"
    assert hits(REQUEST_BYTES) == before + counted
    await other.send(b"y" * 1000)
    assert await other.receive() == b"y" * 1000
    await channel.close()
    await server.close(0)


async def test_tokens_are_refused_by_their_own_limit_and_not_by_the_transport() -> None:
    """With the longest token that is looked at, and other headers (`XDS_HEADER_…`), a stream is opened."""
    server = GrpcServer("127.0.0.1:0", {METHOD: echo})
    channel = GrpcChannel(await server.start())
    headers = {"authorization": "Bearer " + "t" * TOKEN_BYTES.value, "x-more": "m" * 8_000}
    stream = await channel.open(METHOD, headers)
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    await channel.close()
    await server.close(0)


class Rotating:
    """A source whose material is replaced by the test."""

    def __init__(self, material: TlsMaterial) -> None:
        self.material = material

    def current(self) -> TlsMaterial:
        return self.material


def server_leaf(authority: Authority) -> TlsMaterial:
    """An ordinary server certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, authority.name)]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    return TlsMaterial(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        authority.pem,
    )


@pytest.fixture
def authorities() -> tuple[Authority, Authority]:
    return Authority("one"), Authority("two")


async def says(address: str, roots: bytes) -> bytes | None:
    channel = GrpcChannel(address, roots=roots, server_name="localhost")
    try:
        stream = await asyncio.wait_for(channel.open(METHOD), 30)
        await stream.send(b"hello")
        return await stream.receive()
    finally:
        await channel.close()


async def test_rotated_certificates_serve_the_next_connection_and_end_no_stream(
    authorities: tuple[Authority, Authority],
) -> None:
    one, two = authorities
    source = Rotating(server_leaf(one))
    server = GrpcServer("127.0.0.1:0", {METHOD: echo}, tls=source)
    address = await server.start()
    channel = GrpcChannel(address, roots=one.pem, server_name="localhost")
    stream = await channel.open(METHOD)
    await stream.send(b"before")
    assert await stream.receive() == b"before"

    source.material = server_leaf(two)
    assert await says(address, two.pem) == b"hello"
    with pytest.raises(StreamClosed) as caught:
        await says(address, one.pem)
    assert caught.value.code is StatusCode.UNAVAILABLE
    await stream.send(b"after")
    assert await stream.receive() == b"after"
    await channel.close()
    await server.close(0)


async def test_a_connection_past_its_age_is_ended_after_its_grace() -> None:
    options = GrpcOptions(max_age=2.0, age_grace=0.5)  # a busy machine opens a stream within them
    server = GrpcServer("127.0.0.1:0", {METHOD: echo}, options=options)
    channel = GrpcChannel(await server.start())
    stream = await channel.open(METHOD)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    with pytest.raises(StreamClosed) as caught:
        await asyncio.wait_for(stream.receive(), 30)
    assert caught.value.code is StatusCode.UNAVAILABLE
    again = await channel.open(METHOD)
    await again.send(b"y")
    assert await again.receive() == b"y", "the channel makes a new connection"
    await channel.close()
    await server.close(0)
