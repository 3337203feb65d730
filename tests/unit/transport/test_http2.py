"""Our HTTP/2 transport: the seam's rules at its edges, and against grpcio as the foreign side."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from peerd.limits import PEER_MESSAGE_BYTES, hits
from peerd.transport.base import StatusCode, Stream, StreamClosed
from peerd.transport.http2 import Http2Channel, Http2Server, join_address, split_address
from peerd.transport.http2_connection import Http2Options
from peerd.transport.tls import FixedTls
from tests.support.mesh_certs import Authority

ECHO, FAIL, HOLD, GREET = "/t.T/Echo", "/t.T/Fail", "/t.T/Hold", "/t.T/Greet"


class Service:
    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.let_go = asyncio.Event()
        self.ended: list[str] = []

    async def echo(self, stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)

    async def fail(self, _stream: Stream) -> None:
        raise StreamClosed(StatusCode.FAILED_PRECONDITION, "100 % wrong: ünïcode\n")

    async def greet(self, stream: Stream) -> None:
        await stream.send(f"{stream.metadata.get('x-name')}".encode())

    async def hold(self, stream: Stream) -> None:
        self.held.set()
        try:
            await self.let_go.wait()
            await stream.send(b"late")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[tuple[str, int]]:
    made = Http2Server(
        "127.0.0.1:0",
        {ECHO: service.echo, FAIL: service.fail, HOLD: service.hold, GREET: service.greet},
        options=Http2Options(max_message=1 << 20, stream_window=1 << 16, connection_window=1 << 20),
    )
    address = await made.start()
    yield split_address(address)
    service.let_go.set()
    await made.close(0)


@pytest.fixture
async def channel(server: tuple[str, int]) -> AsyncIterator[Http2Channel]:
    made = Http2Channel(*server)
    yield made
    await made.close()


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 1 << 20])
async def test_messages_larger_than_every_window_arrive_whole(channel: Http2Channel, size: int) -> None:
    stream = await channel.open(ECHO)
    message = bytes(index % 251 for index in range(size))
    await stream.send(message)
    assert await stream.receive() == message


async def test_a_message_over_the_limit_ends_the_stream_before_it_is_read(channel: Http2Channel) -> None:
    before = hits(PEER_MESSAGE_BYTES)
    stream = await channel.open(ECHO)
    sending = asyncio.ensure_future(stream.send(b"x" * ((1 << 20) + 1)))
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    await asyncio.gather(sending, return_exceptions=True)
    assert closed.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert "a message of 1048577 bytes is over the limit of 1048576" in closed.value.message
    assert hits(PEER_MESSAGE_BYTES) == before + 1
    assert Http2Options().max_message == PEER_MESSAGE_BYTES.value
    other = await channel.open(ECHO)
    await other.send(b"the connection goes on")
    assert await other.receive() == b"the connection goes on"


async def test_a_status_and_its_message_arrive_as_they_were_given(channel: Http2Channel) -> None:
    stream = await channel.open(FAIL)
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert (closed.value.code, closed.value.message) == (
        StatusCode.FAILED_PRECONDITION,
        "100 % wrong: ünïcode\n",
    )
    with pytest.raises(StreamClosed) as again:
        await stream.send(b"too late")
    assert again.value.code is StatusCode.FAILED_PRECONDITION


async def test_a_far_end_that_does_not_read_makes_the_sender_wait(
    channel: Http2Channel, service: Service
) -> None:
    stream = await channel.open(HOLD)
    await stream.send(b"x" * 60_000)
    second = asyncio.ensure_future(stream.send(b"x" * 60_000))
    await service.held.wait()
    other = await channel.open(ECHO)
    await other.send(b"others pass")
    assert await other.receive() == b"others pass"
    assert not second.done()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_cancelled_receive_loses_nothing(channel: Http2Channel) -> None:
    stream = await channel.open(ECHO)
    waiting = asyncio.ensure_future(stream.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await stream.send(b"kept")
    assert await stream.receive() == b"kept"


async def test_the_stream_ends_where_its_connection_is_lost(
    channel: Http2Channel, service: Service, server: tuple[str, int]
) -> None:
    stream = await channel.open(HOLD)
    await service.held.wait()
    assert channel._connection is not None
    channel._connection.abort()
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.UNAVAILABLE
    again = await channel.open(ECHO)
    await again.send(b"a new connection")
    assert await again.receive() == b"a new connection"


async def test_a_graceful_close_lets_handlers_finish_and_refuses_new_streams(service: Service) -> None:
    """Rule 8: GOAWAY, then the open stream's answer still arrives."""
    server = Http2Server("127.0.0.1:0", {HOLD: service.hold})
    channel = Http2Channel(*split_address(await server.start()))
    stream = await channel.open(HOLD)
    await service.held.wait()
    closing = asyncio.ensure_future(server.close(5.0))
    assert channel._connection is not None
    while not channel._connection.going_away:  # noqa: ASYNC110 (a frame off the wire sets it)
        await asyncio.sleep(0)
    service.let_go.set()
    assert await stream.receive() == b"late"
    assert await stream.receive() is None
    await closing
    with pytest.raises(StreamClosed) as closed:
        await channel.open(HOLD)
    assert closed.value.code is StatusCode.UNAVAILABLE
    await channel.close()


async def test_handlers_that_do_not_end_within_the_grace_are_cancelled(service: Service) -> None:
    server = Http2Server("127.0.0.1:0", {HOLD: service.hold})
    channel = Http2Channel(*split_address(await server.start()))
    stream = await channel.open(HOLD)
    await service.held.wait()
    await server.close(0.05)
    assert service.ended == ["CancelledError"]
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.UNAVAILABLE
    await channel.close()


async def test_rubbish_on_the_port_harms_nobody_else(server: tuple[str, int], channel: Http2Channel) -> None:
    stream = await channel.open(ECHO)
    for rubbish in (
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 40,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff",
    ):
        reader, writer = await asyncio.open_connection(*server)
        writer.write(rubbish)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    await stream.send(b"still here")
    assert await stream.receive() == b"still here"


async def test_a_silent_far_end_is_noticed_by_ping() -> None:
    """A black hole: it accepts and never says anything."""
    accepted = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        while await reader.read(4096):
            pass
        writer.close()

    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    channel = Http2Channel("127.0.0.1", port, options=Http2Options(keepalive=0.5, keepalive_timeout=0.05))
    stream = await channel.open(ECHO)
    with pytest.raises(StreamClosed) as closed:
        await asyncio.wait_for(stream.receive(), 30)
    assert "silent" in closed.value.message
    await channel.close()
    hole.close()
    for writer in accepted:
        writer.close()


async def test_no_task_is_left_behind(service: Service) -> None:
    before = asyncio.all_tasks()
    server = Http2Server("127.0.0.1:0", {ECHO: service.echo, HOLD: service.hold})
    channel = Http2Channel(*split_address(await server.start()))
    for _ in range(5):
        stream = await channel.open(ECHO)
        await stream.send(b"x")
        await stream.receive()
        await stream.cancel()
    await channel.open(HOLD)
    await service.held.wait()
    await channel.close()
    await server.close(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_rotated_certificate_serves_the_next_connection(service: Service) -> None:
    root = Authority("root")
    old, new = Authority("old", root), Authority("new", root)

    class Source:
        material = old.leaf()

        def current(self):
            return self.material

    source = Source()
    server = Http2Server("127.0.0.1:0", {ECHO: service.echo}, tls=source)
    target = split_address(await server.start())
    first = Http2Channel(*target, tls=FixedTls(old.leaf()))
    stream = await first.open(ECHO)
    source.material = new.leaf()
    second = Http2Channel(*target, tls=FixedTls(old.leaf()))
    fresh = await second.open(ECHO)
    assert stream.certificate is not None
    assert fresh.certificate is not None
    assert stream.certificate.issuer_key_sha256 == old.key_sha256
    assert fresh.certificate.issuer_key_sha256 == new.key_sha256
    await stream.send(b"the old connection goes on")
    assert await stream.receive() == b"the old connection goes on"
    await first.close()
    await second.close()
    await server.close(0)


# -- grpcio as the foreign side -----------------------------------------------------------------------------


async def test_a_grpcio_client_speaks_with_our_server(server: tuple[str, int]) -> None:
    async with grpc.aio.insecure_channel(join_address(*server)) as foreign:
        call = foreign.stream_stream(ECHO)(metadata=(("x-name", "grpcio"),))
        for message in (b"one", b"x" * 300_000):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK

        call = foreign.stream_stream(FAIL)()
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await call.details() == "100 % wrong: ünïcode\n"

        call = foreign.unary_unary(GREET)
        assert await call(b"", metadata=(("x-name", "grpcio"),)) == b"grpcio"

        call = foreign.stream_stream("/t.T/Unknown")()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_our_client_speaks_with_a_grpcio_server() -> None:
    async def echo(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message

    async def fail(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "ünd %")
        yield b""

    foreign = grpc.aio.server()
    foreign.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "t.T",
                {
                    "Echo": grpc.stream_stream_rpc_method_handler(echo),
                    "Fail": grpc.stream_stream_rpc_method_handler(fail),
                },
            )
        ]
    )
    port = foreign.add_insecure_port("127.0.0.1:0")
    await foreign.start()
    channel = Http2Channel("127.0.0.1", port)
    stream = await channel.open(ECHO)
    for message in (b"", b"one", b"x" * 3_000_000):
        await stream.send(message)
        assert await stream.receive() == message
    await stream.half_close()
    assert await stream.receive() is None
    refused = await channel.open(FAIL)
    with pytest.raises(StreamClosed) as closed:
        await refused.receive()
    assert (closed.value.code, closed.value.message) == (StatusCode.PERMISSION_DENIED, "ünd %")
    await channel.close()
    await foreign.stop(0)


@pytest.mark.parametrize(
    ("text", "parts"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), (":15012", ("", 15012))]
)
def test_addresses_are_split_and_joined(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["localhost", "1.2.3.4:", "a:b", ""])
def test_an_address_without_a_port_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)
