"""What our HTTP/2 ends answer to a far end that breaks the rules of streams; raw h2 is the far end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived, StreamReset
from hyperframe.frame import DataFrame

from peerd.transport.address import split_address
from peerd.transport.base import StatusCode, Stream, StreamClosed
from peerd.transport.http2 import Http2Channel, Http2Server

ECHO = "/t.T/Echo"
LATE = DataFrame(1, b"\0\0\0\0\4late").serialize()
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "x"),
    ("content-type", "application/grpc"),
]


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


class Raw:
    """A far end of frames, made by hand where h2 would not make them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=client))
        self.h2.initiate_connection()
        self.flush()

    def flush(self, frame: bytes = b"") -> None:
        self.writer.write(self.h2.data_to_send() + frame)

    async def until(self, kind: type[Event]) -> Event:
        """The first event of that kind."""
        while data := await asyncio.wait_for(self.reader.read(65_536), 30):
            for event in self.h2.receive_data(data):
                if isinstance(event, kind):
                    return event
            self.flush()
        raise AssertionError(f"the connection ended before {kind.__name__}")


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    made = Http2Server("127.0.0.1:0", {ECHO: echo})
    yield split_address(await made.start())
    await made.close(0)


async def test_a_client_that_sends_after_its_end_is_told_so_and_harms_nobody_else(
    server: tuple[str, int],
) -> None:
    """RST_STREAM with STREAM_CLOSED; the connection and its other streams go on."""
    raw = Raw(*await asyncio.open_connection(*server), client=True)
    raw.h2.send_headers(1, REQUEST, end_stream=True)
    raw.h2.send_headers(3, REQUEST)
    raw.flush(LATE)
    reset = await raw.until(StreamReset)
    assert isinstance(reset, StreamReset)
    assert (reset.stream_id, reset.error_code) == (1, ErrorCodes.STREAM_CLOSED)
    channel = Http2Channel(*server)
    stream = await channel.open(ECHO)
    await stream.send(b"others go on")
    assert await stream.receive() == b"others go on"
    raw.h2.reset_stream(3)
    raw.flush()
    raw.writer.close()
    await channel.close()


async def test_a_server_that_sends_after_its_end_is_told_so_and_nothing_of_it_is_read() -> None:
    told: asyncio.Future[tuple[int, int | None]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer, client=False)
        await raw.until(RequestReceived)
        raw.h2.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        raw.h2.send_headers(1, [("grpc-status", "5"), ("grpc-message", "gone")], end_stream=True)
        raw.flush(LATE)
        reset = await raw.until(StreamReset)
        assert isinstance(reset, StreamReset)
        told.set_result((reset.stream_id, reset.error_code))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    channel = Http2Channel("127.0.0.1", listener.sockets[0].getsockname()[1])
    stream = await channel.open(ECHO)
    with pytest.raises(StreamClosed, match="gone") as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.NOT_FOUND
    assert await asyncio.wait_for(told, 30) == (1, ErrorCodes.STREAM_CLOSED)
    await channel.close()
    listener.close()
    await listener.wait_closed()
