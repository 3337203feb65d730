"""A server that stops at any moment after a client came leaves no socket open."""

import asyncio
import gc
import socket

import pytest
import uvloop

from peerd.transport.address import split_address
from peerd.transport.base import Stream
from peerd.transport.http2 import Http2Server
from peerd.transport.listening import stop_listening
from peerd.transport.tls import FixedTls
from tests.support.mesh_certs import Authority

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _is_over(client: socket.socket) -> bool:
    """Its end has come, after whatever it was still told."""
    client.settimeout(10)
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("turns", range(6))
def test_whoever_was_accepted_is_known_to_the_server_then(kind: str, turns: int) -> None:
    """It was accepted and its handler has begun, or it was not and is hung up on."""

    async def stop() -> tuple[int, int]:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await _turns(turns)
            await stop_listening(server)
            begun = len(writers)
            await _turns(10)
            for writer in writers:
                writer.close()
                await writer.wait_closed()
            assert _is_over(client)
        return begun, len(writers)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        begun, handled = runner.run(stop())
    gc.collect()  # an unclosed socket warns, and warnings are errors
    assert begun == handled


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("with_tls", [True, False])
def test_a_peer_server_that_stops_leaves_no_socket_of_who_just_came(
    kind: str, turns: int, with_tls: bool
) -> None:
    tls = FixedTls(Authority("east", Authority("root")).leaf()) if with_tls else None

    async def never(_stream: Stream) -> None:
        raise AssertionError("a stream came through")

    async def stop() -> None:
        server = Http2Server("127.0.0.1:0", {"/t.T/Never": never}, tls=tls)
        with socket.create_connection(split_address(await server.start())) as client:
            await _turns(turns)
            await server.close(0)
            assert _is_over(client)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(stop())
    gc.collect()
