"""TLS under asyncio's own class with small buffers: what it keeps, and handshakes that never end."""

import asyncio

import pytest
import uvloop

from peerd.transport.address import split_address
from peerd.transport.base import StatusCode, Stream, StreamClosed
from peerd.transport.http2 import Http2Channel, Http2Server
from peerd.transport.http2_connection import Http2Options
from peerd.transport.tls import FixedTls, client_context, server_context
from peerd.transport.tls_protocol import TlsProtocol
from tests.support.mesh_certs import Authority

ECHO = "/t.T/Echo"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def tls() -> FixedTls:
    return FixedTls(Authority("east", Authority("root")).leaf())


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def no_stream(_stream: Stream) -> None:
    raise AssertionError("a stream came through")


async def test_however_much_has_come_8_kib_are_read_at_once(tls: FixedTls) -> None:
    """What was read in one go stays allocated for each of thousands of peers."""
    context = server_context(tls, lambda _reason: None)
    made = TlsProtocol(asyncio.Protocol(), context, server_side=True, handshake_timeout=1.0)
    assert [len(made.get_buffer(hint)) for hint in (-1, 1, 1 << 16, 1 << 20)] == [8 << 10] * 4
    made.connection_lost(None)


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("size", [0, 8 << 10, (8 << 10) + 1, 3 << 20])
def test_messages_of_any_size_go_both_ways_whole(kind: str, size: int, tls: FixedTls) -> None:
    """On either event loop: far more than a read, a TLS record and an HTTP/2 window."""
    message = bytes(index % 251 for index in range(size))

    async def exchange() -> bytes | None:
        server = Http2Server("127.0.0.1:0", {ECHO: echo}, tls=tls)
        channel = Http2Channel(*split_address(await server.start()), tls=tls)
        stream = await channel.open(ECHO)
        await stream.send(message)
        answer = await stream.receive()
        await channel.close()
        await server.close(0)
        return answer

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(exchange()) == message


@pytest.mark.parametrize("kind", LOOPS)
def test_a_client_that_begins_no_handshake_is_hung_up_on(kind: str, tls: FixedTls) -> None:
    async def silent() -> bytes:
        options = Http2Options(handshake_timeout=0.05)
        server = Http2Server("127.0.0.1:0", {ECHO: no_stream}, tls=tls, options=options)
        reader, writer = await asyncio.open_connection(*split_address(await server.start()))
        end = await reader.read()
        writer.close()
        await server.close(0)
        return end

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(silent()) == b""


@pytest.mark.parametrize("kind", LOOPS)
def test_a_server_that_stops_hangs_up_on_who_is_in_a_handshake(kind: str, tls: FixedTls) -> None:
    """Nothing else knows of such a connection; left alone it outlives the server, and its event loop."""

    async def stop() -> tuple[bytes, bytes]:
        server = Http2Server("127.0.0.1:0", {ECHO: no_stream}, tls=tls)
        host, port = split_address(await server.start())
        early = await asyncio.open_connection(host, port)
        await asyncio.sleep(0.05)  # accepted by now
        late = await asyncio.open_connection(host, port)  # perhaps not yet
        await server.close(0)
        ends = []
        for reader, writer in (early, late):
            try:
                ends.append(await reader.read())
            except ConnectionResetError:
                ends.append(b"")
            writer.close()
        return ends[0], ends[1]

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(stop()) == (b"", b"")


@pytest.mark.parametrize("kind", LOOPS)
def test_a_server_that_answers_no_handshake_is_unavailable_and_hung_up_on(kind: str, tls: FixedTls) -> None:
    async def silent() -> tuple[StatusCode, bytes]:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.read())  # up to its end: the client let go
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamClosed) as closed:
            await Http2Channel("127.0.0.1", port, tls=tls, connect_timeout=1.0).open(ECHO)
        hello = await heard
        server.close()
        await server.wait_closed()
        return closed.value.code, hello[:1]

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(silent()) == (StatusCode.UNAVAILABLE, b"\x16")  # a TLS handshake record


@pytest.mark.parametrize("kind", LOOPS)
def test_a_server_that_speaks_no_tls_is_unauthenticated(kind: str, tls: FixedTls) -> None:
    async def plain() -> StatusCode:
        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamClosed, match=r"TLS with .* failed") as closed:
            await Http2Channel("127.0.0.1", port, tls=tls).open(ECHO)
        server.close()
        await server.wait_closed()
        return closed.value.code

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(plain()) == StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", LOOPS)
def test_a_client_that_cuts_the_connection_harms_nobody_else(kind: str, tls: FixedTls) -> None:
    """No close_notify, no FIN: the other client's stream goes on."""

    async def cut() -> bytes | None:
        server = Http2Server("127.0.0.1:0", {ECHO: echo}, tls=tls)
        host, port = split_address(await server.start())
        channel = Http2Channel(host, port, tls=tls)
        stream = await channel.open(ECHO)
        context = client_context(tls.current())
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        writer.transport.abort()
        await stream.send(b"still here")
        answer = await stream.receive()
        await channel.close()
        await server.close(0)
        return answer

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(cut()) == b"still here"
