"""Long steps that fall together are spread over turns of the loop; everything else is as without it."""

import asyncio
from types import SimpleNamespace

import pytest

from peerd.transport.grpcaio import GrpcServerStream
from peerd.transport.pace import Pace, paced


class Work:
    """Coroutines that wait for `ready` and then work for some seconds of a clock of their own."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.turn = 0
        self.done: list[int] = []  # the turns in which each was done
        self.ready = asyncio.get_running_loop().create_future()
        self._seconds = seconds

    def clock(self) -> float:
        return self.now

    async def work(self) -> bytes:
        await asyncio.shield(self.ready)
        self.now += self._seconds
        self.done.append(self.turn)
        return b"done"

    async def turns(self) -> None:
        """Others' work: counts turns of the loop."""
        while True:
            await asyncio.sleep(0)
            self.turn += 1

    async def all_at_once(self, count: int) -> list[int]:
        """How many were done in each turn that did some."""
        pace = Pace(self.clock)
        tasks = [asyncio.ensure_future(paced(pace, self.work())) for _ in range(count)]
        counting = asyncio.ensure_future(self.turns())
        await asyncio.sleep(0)
        self.ready.set_result(None)
        assert await asyncio.gather(*tasks) == [b"done"] * count
        counting.cancel()
        return [self.done.count(turn) for turn in sorted(set(self.done))]


async def test_long_steps_have_a_turn_each() -> None:
    """Others have theirs after each."""
    assert await Work(0.003).all_at_once(5) == [1, 1, 1, 1, 1]


async def test_middling_steps_share_a_turn_until_it_is_used_up() -> None:
    assert await Work(0.0006).all_at_once(5) == [2, 2, 1]


async def test_short_steps_are_not_held_up() -> None:
    """Acknowledgements of a thousand streams."""
    assert await Work(0.00001).all_at_once(1000) == [1000]


async def test_who_is_cancelled_while_waiting_for_a_turn_does_not_work() -> None:
    work = Work(0.003)
    pace = Pace(work.clock)
    first, second, third = (asyncio.ensure_future(paced(pace, work.work())) for _ in range(3))
    await asyncio.sleep(0)
    work.ready.set_result(None)
    while not work.done:  # noqa: ASYNC110 (turns of the loop are what is waited for)
        await asyncio.sleep(0)
    second.cancel()
    assert await asyncio.gather(first, third) == [b"done"] * 2
    with pytest.raises(asyncio.CancelledError):
        await second
    assert len(work.done) == 2


async def test_a_cancellation_is_for_what_is_awaited_to_handle() -> None:
    """As the transport does, which makes it a status."""
    ready = asyncio.get_running_loop().create_future()

    async def careful() -> str:
        try:
            await ready
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "ended"
        return "never"

    task = asyncio.ensure_future(paced(Pace(), careful()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "ended"


async def test_errors_and_results_that_are_there_at_once_come_through() -> None:
    async def at_once() -> int:
        return 7

    async def failing() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await paced(Pace(), at_once()) == 7
    with pytest.raises(KeyError):
        await paced(Pace(), failing())


async def test_messages_that_wait_for_many_streams_are_taken_in_turns() -> None:
    """What grpc does on going on with a read is such a step."""
    work = Work(0.003)
    pace = Pace(work.clock)
    streams = [GrpcServerStream(SimpleNamespace(read=work.work), "/m", 100, pace) for _ in range(3)]
    tasks = [asyncio.ensure_future(stream.receive()) for stream in streams]
    counting = asyncio.ensure_future(work.turns())
    await asyncio.sleep(0)
    work.ready.set_result(None)
    assert await asyncio.gather(*tasks) == [b"done"] * 3
    counting.cancel()
    assert len(set(work.done)) == 3
