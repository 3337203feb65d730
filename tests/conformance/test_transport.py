"""The transport contract (peerd/transport/base.py), held against every implementation.

To add an implementation, add a `Kit` to KITS: how to listen, how to connect, and a small message limit.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

import pytest

from peerd.transport.base import Channel, Handler, Server, StatusCode, Stream, StreamClosed
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions, GrpcServer
from peerd.transport.http2 import Http2Channel, Http2Server
from peerd.transport.http2_connection import Http2Options
from peerd.transport.memory import MemoryNetwork, MemoryServer
from tests.simulation.network import Fabric, Host, SimChannel

METHOD = "/peerd.test.Service/Method"
LIMIT = 64 * 1024  # what servers here receive at most
BIG = 1024 * 1024  # what clients here receive at most, and more than a window holds
SOON = 30.0  # a bound for what should happen at once; nothing waits this long unless it fails


@dataclass(frozen=True)
class Kit:
    """One transport: a server and the channel that goes to it, both plaintext."""

    name: str
    server: Callable[[Mapping[str, Handler]], Server]
    channel: Callable[[str], Channel]
    nobody: str  # an address nobody listens on


def _grpc() -> Kit:
    return Kit(
        "grpc.aio",
        lambda handlers: GrpcServer("127.0.0.1:0", handlers, options=GrpcOptions(max_message=LIMIT)),
        lambda address: GrpcChannel(address, options=GrpcOptions(max_message=4 * BIG)),
        "127.0.0.1:1",
    )


def _http2() -> Kit:
    def channel(address: str) -> Channel:
        host, _, port = address.rpartition(":")
        return Http2Channel(host, int(port), options=Http2Options(max_message=4 * BIG))

    return Kit(
        "http2",
        lambda handlers: Http2Server("127.0.0.1:0", handlers, options=Http2Options(max_message=LIMIT)),
        channel,
        "127.0.0.1:1",
    )


def _memory() -> Kit:
    network = MemoryNetwork()
    return Kit(
        "memory",
        lambda handlers: MemoryServer(network, "server:1", handlers, max_message=LIMIT),
        network.channel,
        "nobody:1",
    )


def _simulated() -> Kit:
    fabric = Fabric(Random(1), latency=(0.0, 0.002))
    client, server = Host(fabric, "client"), Host(fabric, "server")
    return Kit(
        "simulated",
        lambda handlers: server.listen("server:1", handlers, None, LIMIT),
        lambda address: SimChannel(client, address),
        "nobody:1",
    )


KITS = {"grpc.aio": _grpc, "http2": _http2, "memory": _memory, "simulated": _simulated}


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]()


@asynccontextmanager
async def running(kit: Kit, handler: Handler) -> AsyncIterator[tuple[Channel, Server]]:
    """A server with one handler and a channel to it; both gone at the end, with every task they made."""
    before = asyncio.all_tasks()
    server = kit.server({METHOD: handler})
    channel = kit.channel(await server.start())
    try:
        yield channel, server
    finally:
        await channel.close()
        await server.close(0)
    for _ in range(100):
        left = [task for task in asyncio.all_tasks() - before if "poll" not in repr(task).lower()]
        if not left:
            break
        await asyncio.sleep(0.01)
    assert not left, f"tasks are left behind: {left}"


async def within(awaitable: Awaitable[object]) -> object:
    """The result, or a failure rather than a hang."""
    return await asyncio.wait_for(awaitable, SOON)


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def status(stream: Stream) -> StreamClosed:
    """How the stream ends, past what still arrives."""
    try:
        while await stream.receive() is not None:
            pass
    except StreamClosed as closed:
        return closed
    return StreamClosed(StatusCode.OK)


async def test_rule_1_messages_arrive_whole_and_in_order(kit: Kit) -> None:
    """Empty ones and large ones included."""
    messages = [b"", b"a", bytes(range(256)) * 200, b"", b"z" * (LIMIT - 100)]
    async with running(kit, echo) as (channel, _):
        stream = await channel.open(METHOD)
        for message in messages:
            await within(stream.send(message))
            assert await within(stream.receive()) == message


async def test_rule_1_many_messages_keep_their_order(kit: Kit) -> None:
    async with running(kit, echo) as (channel, _):
        stream = await channel.open(METHOD)

        async def write() -> None:
            for number in range(500):
                await stream.send(b"%d" % number)
            await stream.half_close()

        writing = asyncio.create_task(write())
        received = []
        while (message := await within(stream.receive())) is not None:
            received.append(int(message))
        await writing
        assert received == list(range(500))


async def test_rule_2_a_half_close_is_none_and_the_other_way_stays_open(kit: Kit) -> None:
    async def handler(stream: Stream) -> None:
        assert await stream.receive() == b"last"
        assert await stream.receive() is None
        assert await stream.receive() is None, "and stays so"
        await stream.send(b"after")

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"last")
        await stream.half_close()
        assert await within(stream.receive()) == b"after"
        assert await within(stream.receive()) is None
        assert await within(stream.receive()) is None


@pytest.mark.parametrize(
    "code",
    [StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE, StatusCode.PERMISSION_DENIED, StatusCode.ABORTED],
)
async def test_rule_2_the_far_end_s_status_arrives_after_what_it_sent(kit: Kit, code: StatusCode) -> None:
    """With its text, whatever is in it."""
    text = "limit: 5 % of streams\nnächste Zeile"

    async def handler(stream: Stream) -> None:
        await stream.send(b"before")
        raise StreamClosed(code, text)

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        assert await within(stream.receive()) == b"before"
        closed = await within(status(stream))
        assert (closed.code, closed.message) == (code, text)
        again = await within(status(stream))
        assert again.code == code, "and stays so"


async def test_rule_2_a_handler_learns_that_its_client_cancelled(kit: Kit) -> None:
    """By StreamClosed from `receive`, so that it can tell it from being stopped itself."""
    seen: asyncio.Future[StreamClosed] = asyncio.get_running_loop().create_future()
    reading = asyncio.Event()

    async def handler(stream: Stream) -> None:
        await stream.receive()
        reading.set()
        try:
            await stream.receive()
        except StreamClosed as closed:
            seen.set_result(closed)
            raise

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        await within(reading.wait())
        await stream.cancel()
        closed = await within(seen)
        assert closed.code in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}


async def test_rule_2_a_cancelled_stream_says_so_to_who_cancelled_it(kit: Kit) -> None:
    async with running(kit, echo) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        assert await within(stream.receive()) == b"x"
        await stream.cancel()
        await stream.cancel()
        assert (await within(status(stream))).code is StatusCode.CANCELLED


async def test_a_handler_that_returns_ends_the_stream_with_ok(kit: Kit) -> None:
    async def handler(stream: Stream) -> None:
        await stream.receive()

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        assert await within(stream.receive()) is None


async def test_a_handler_that_fails_ends_its_stream_with_internal_and_no_other(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: Stream) -> None:
        if await stream.receive() == b"fail":
            raise RuntimeError("secret detail")
        await stream.send(b"fine")

    async with running(kit, handler) as (channel, _):
        bad, good = await channel.open(METHOD), await channel.open(METHOD)
        await bad.send(b"fail")
        closed = await within(status(bad))
        assert closed.code is StatusCode.INTERNAL
        assert "secret" not in closed.message, "what went wrong here is not the far end's business"
        await good.send(b"go on")
        assert await within(good.receive()) == b"fine"
    assert "secret detail" in caplog.text


async def test_an_unknown_method_is_unimplemented(kit: Kit) -> None:
    async with running(kit, echo) as (channel, _):
        stream = await channel.open("/peerd.test.Service/Other")
        assert (await within(status(stream))).code is StatusCode.UNIMPLEMENTED


async def test_nobody_listening_is_unavailable(kit: Kit) -> None:
    channel = kit.channel(kit.nobody)
    try:
        with pytest.raises(StreamClosed) as caught:
            await within(channel.open(METHOD))
        assert caught.value.code is StatusCode.UNAVAILABLE
    finally:
        await channel.close()


async def test_an_address_that_is_taken_is_an_os_error(kit: Kit) -> None:
    """Never two servers on one port, each with half of the connections."""
    first = kit.server({METHOD: echo})
    address = await first.start()
    taken: Server = first
    if kit.name == "grpc.aio":
        taken = GrpcServer(address, {METHOD: echo})
    elif kit.name == "http2":
        taken = Http2Server(address, {METHOD: echo})
    else:
        taken = kit.server({METHOD: echo})
    with pytest.raises(OSError, match=r"."):
        await taken.start()
    await first.close(0)


async def test_rule_3_a_far_end_that_does_not_read_makes_send_wait(kit: Kit) -> None:
    """And wakes it by reading. What is sent meanwhile is not kept here."""
    sent = 0

    async def handler(stream: Stream) -> None:
        nonlocal sent
        await stream.receive()
        for _ in range(100):
            await stream.send(b"x" * BIG)
            sent += 1

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"go")
        before = -1
        while before != sent:  # until it no longer moves
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 20, "flow control lets a few windows through, not everything"
        for _ in range(100):
            assert await within(stream.receive()) == b"x" * BIG
        assert await within(stream.receive()) is None


async def test_rule_3_a_waiting_send_is_told_when_the_stream_ends(kit: Kit) -> None:
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def handler(stream: Stream) -> None:
        await stream.receive()
        try:
            while True:
                await stream.send(b"x" * BIG)
        except StreamClosed as closed:
            ended.set_result(closed.code)
            raise

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"go")
        await asyncio.sleep(0.1)
        await stream.cancel()
        assert await within(ended) in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}


async def test_rule_3_sending_on_an_ended_stream_raises(kit: Kit) -> None:
    async def handler(stream: Stream) -> None:
        raise StreamClosed(StatusCode.ABORTED, "no")

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        assert (await within(status(stream))).code is StatusCode.ABORTED
        with pytest.raises(StreamClosed):
            await within(stream.send(b"late"))


async def test_rule_4_one_task_receives_while_another_sends(kit: Kit) -> None:
    """Neither waits for the other, on either end."""

    async def handler(stream: Stream) -> None:
        async def push() -> None:
            for number in range(50):
                await stream.send(b"%d" % number)

        pushing = asyncio.create_task(push())
        count = 0
        while await stream.receive() is not None:
            count += 1
        await pushing
        await stream.send(b"%d received" % count)

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)

        async def write() -> None:
            for _ in range(50):
                await stream.send(b"x")
            await stream.half_close()

        writing = asyncio.create_task(write())
        received = []
        while (message := await within(stream.receive())) is not None:
            received.append(message)
        await writing
        assert received == [*(b"%d" % number for number in range(50)), b"50 received"]


async def test_rule_4_a_task_that_is_cancelled_while_it_receives_is_cancelled(kit: Kit) -> None:
    """Not told that the stream ended, or it would never stop."""
    async with running(kit, echo) as (channel, _):
        stream = await channel.open(METHOD)
        receiving = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.05)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await stream.cancel()


async def test_a_handler_may_end_its_stream_while_another_of_its_tasks_receives(kit: Kit) -> None:
    """How a service ends a stream whose client is silent: cancel the task that reads, raise the status."""

    async def handler(stream: Stream) -> None:
        await stream.receive()
        reading = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        raise StreamClosed(StatusCode.ABORTED, "overdue")

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        closed = await within(status(stream))
        assert (closed.code, closed.message) == (StatusCode.ABORTED, "overdue")


async def test_a_handler_may_turn_its_own_cancellation_into_a_status(kit: Kit) -> None:
    async def handler(stream: Stream) -> None:
        await stream.receive()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.05, task.cancel)
        try:
            await stream.receive()
        except asyncio.CancelledError:
            task.uncancel()
            raise StreamClosed(StatusCode.ABORTED, "overdue") from None

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        closed = await within(status(stream))
        assert (closed.code, closed.message) == (StatusCode.ABORTED, "overdue")


async def test_rule_5_metadata_arrives_in_lower_case_without_what_is_not_ours(kit: Kit) -> None:
    seen: dict[str, str] = {}

    async def handler(stream: Stream) -> None:
        seen.update(stream.metadata)
        await stream.send(f"{stream.method} {bool(stream.remote)}".encode())

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD, {"authorization": "Bearer a.b-c", "clusterid": "Kubernetes"})
        assert await within(stream.receive()) == f"{METHOD} True".encode()
        assert stream.metadata["clusterid"] == "Kubernetes"
        assert stream.method == METHOD
    assert seen["authorization"] == "Bearer a.b-c"
    assert seen["clusterid"] == "Kubernetes"
    assert not [key for key in seen if key.startswith(":") or key.endswith("-bin") or key != key.lower()]


async def test_rule_6_nobody_shows_a_certificate_on_plaintext(kit: Kit) -> None:
    seen: list[object] = []

    async def handler(stream: Stream) -> None:
        seen.append(stream.certificate)

    async with running(kit, handler) as (channel, _):
        stream = await channel.open(METHOD)
        assert await within(stream.receive()) is None
        assert stream.certificate is None
    assert seen == [None]


async def test_rule_7_a_message_past_the_limit_ends_the_stream_with_resource_exhausted(kit: Kit) -> None:
    """That stream, and no other."""
    async with running(kit, echo) as (channel, _):
        other = await channel.open(METHOD)
        stream = await channel.open(METHOD)
        with suppress(StreamClosed):  # here already, where both ends are one process
            await within(stream.send(b"x" * (LIMIT + 1)))
        assert (await within(status(stream))).code is StatusCode.RESOURCE_EXHAUSTED
        await other.send(b"fine")
        assert await within(other.receive()) == b"fine"


async def test_rule_8_close_lets_handlers_end_within_its_grace(kit: Kit) -> None:
    entered, finish = asyncio.Event(), asyncio.Event()

    async def handler(stream: Stream) -> None:
        entered.set()
        await finish.wait()
        await stream.send(b"done")

    async with running(kit, handler) as (channel, server):
        stream = await channel.open(METHOD)
        await within(entered.wait())
        closing = asyncio.create_task(server.close(SOON))
        await asyncio.sleep(0.1)
        assert not closing.done()
        finish.set()
        assert await within(stream.receive()) == b"done"
        assert await within(stream.receive()) is None
        await within(closing)


async def test_rule_8_after_its_grace_close_cancels_handlers(kit: Kit) -> None:
    entered = asyncio.Event()
    ended: list[str] = []

    async def handler(stream: Stream) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async with running(kit, handler) as (channel, server):
        stream = await channel.open(METHOD)
        await within(entered.wait())
        await within(server.close(0.1))
        assert ended == ["ended"]
        closed = await within(status(stream))
        assert closed.code in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}


async def test_rule_8_a_closed_server_takes_no_new_streams(kit: Kit) -> None:
    server = kit.server({METHOD: echo})
    address = await server.start()
    await within(server.close(0))
    await within(server.close(0))
    channel = kit.channel(address)
    with pytest.raises(StreamClosed) as caught:
        await within(channel.open(METHOD))
    assert caught.value.code is StatusCode.UNAVAILABLE
    await channel.close()


async def test_a_closed_channel_ends_its_streams(kit: Kit) -> None:
    async with running(kit, echo) as (channel, _):
        stream = await channel.open(METHOD)
        await stream.send(b"x")
        assert await within(stream.receive()) == b"x"
        await channel.close()
        await channel.close()
        assert (await within(status(stream))).code in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}


async def test_streams_of_one_channel_do_not_wait_for_each_other(kit: Kit) -> None:
    """One whose far end does not read, beside one that works."""

    async def handler(stream: Stream) -> None:
        first = await stream.receive()
        while first == b"flood":
            await stream.send(b"x" * 100_000)
        await stream.send(b"pong")

    async with running(kit, handler) as (channel, _):
        flooded = await channel.open(METHOD)
        await flooded.send(b"flood")
        await asyncio.sleep(0.1)
        stream = await channel.open(METHOD)
        await stream.send(b"ping")
        assert await within(stream.receive()) == b"pong"
        await flooded.cancel()
