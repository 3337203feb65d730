"""The simulated network fails as it is told to, and no other way."""

import asyncio
from random import Random

import pytest

from peerd.transport.base import StatusCode, Stream, StreamClosed
from tests.simulation.loop import run
from tests.simulation.network import Fabric, Host
from tests.simulation.streams import SimStream

METHOD = "/x/Echo"


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def opened() -> tuple[Fabric, SimStream]:
    """An echo server on `b`, and a stream to it from `a`; 1 s each way."""
    fabric = Fabric(Random(1), latency=(1.0, 1.0))
    server = Host(fabric, "b").listen("b:1", {METHOD: echo}, None)
    await server.start()
    return fabric, await Host(fabric, "a").connect("b", 1).open(METHOD)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 2)


def test_a_message_takes_its_time():
    async def main() -> float:
        _, stream = await opened()
        start = now()
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        return round(now() - start, 1)

    assert run(main()) == 2.0


def test_what_is_cut_off_arrives_once_it_is_mended_as_tcp_has_it():
    async def main() -> None:
        fabric, stream = await opened()
        link = fabric.link("b", "a")  # one way: the question passes, the answer does not
        link.cut = True
        await stream.send(b"x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await stream.receive()
        link.mend()
        assert await stream.receive() == b"x"

    run(main())


def test_nobody_connects_across_a_cut():
    async def main() -> None:
        fabric, _ = await opened()
        fabric.link("b", "a").cut = True
        with pytest.raises(StreamClosed) as caught:
            await Host(fabric, "a").connect("b", 1).open(METHOD)
        assert caught.value.code is StatusCode.UNAVAILABLE

    run(main())


def test_a_half_open_connection_is_lost_at_one_end_only():
    async def main() -> None:
        fabric, stream = await opened()
        (connection,) = fabric.between("a", "b")
        connection.vanish("b")
        await stream.send(b"into the void")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await stream.receive()

    run(main())


def test_a_dropped_connection_is_noticed_by_both_ends():
    async def main() -> None:
        fabric, stream = await opened()
        (connection,) = fabric.between("a", "b")
        connection.drop()
        with pytest.raises(StreamClosed) as caught:
            await stream.receive()
        assert caught.value.code is StatusCode.UNAVAILABLE
        await asyncio.sleep(5)
        assert not fabric.connections

    run(main())


def test_a_throttled_link_takes_as_long_as_the_bytes_need():
    async def main() -> float:
        fabric, stream = await opened()
        fabric.link("a", "b").bytes_per_second = 10.0
        start = now()
        await stream.send(b"x" * 100)
        await stream.receive()
        return round(now() - start)

    assert run(main()) == 12
