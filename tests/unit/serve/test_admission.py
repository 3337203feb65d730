"""Who may start, and how many bytes of first answers are under way."""

import asyncio

import pytest

from peerd.limits import FIRST_ANSWER_BYTES, FIRST_ANSWERS_WAITING, NEW_STREAMS_PER_S, STREAMS, hits
from peerd.serve.admission import Admission, AdmissionLimits, FirstAnswers
from peerd.transport.base import StatusCode, StreamClosed
from tests.support.delta import FakeClock


async def refused(admission: Admission) -> StreamClosed:
    with pytest.raises(StreamClosed) as caught:
        await admission.enter()
    return caught.value


async def test_streams_a_second_are_bounded_with_a_second_s_worth_at_once() -> None:
    clock = FakeClock()
    admission = Admission(AdmissionLimits(streams_per_second=1000, streams=10_000), clock)
    before = hits(NEW_STREAMS_PER_S)
    for _ in range(1000):
        await admission.enter()
    waiting = [asyncio.ensure_future(admission.enter()) for _ in range(1000)]
    await asyncio.sleep(0)
    closed = await refused(admission)
    assert closed.code is StatusCode.RESOURCE_EXHAUSTED
    assert "1000 new streams a second" in closed.message
    assert hits(NEW_STREAMS_PER_S) == before + 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    clock.now += 2
    await admission.enter()


async def test_open_streams_are_bounded_and_places_are_given_back() -> None:
    admission = Admission(AdmissionLimits(streams=1), FakeClock())
    before = hits(STREAMS)
    await admission.enter()
    assert (await refused(admission)).code is StatusCode.RESOURCE_EXHAUSTED
    assert hits(STREAMS) == before + 1
    admission.leave()
    await admission.enter()


async def test_memory_in_use_refuses_new_streams() -> None:
    used = 99
    admission = Admission(AdmissionLimits(memory=100), FakeClock(), resident=lambda: used)
    await admission.enter()
    used = 101
    closed = await refused(admission)
    assert closed.code is StatusCode.RESOURCE_EXHAUSTED
    assert "101 bytes of memory" in closed.message


async def test_not_ready_and_draining_are_unavailable_with_the_reason() -> None:
    reason = "the sources have not been read yet"
    admission = Admission(AdmissionLimits(), FakeClock(), ready=lambda: reason)
    closed = await refused(admission)
    assert (closed.code, closed.message) == (StatusCode.UNAVAILABLE, f"not ready: {reason}")
    reason = ""
    await admission.enter()
    admission.drain()
    closed = await refused(admission)
    assert closed.code is StatusCode.UNAVAILABLE
    assert closed.message.startswith("draining")


async def test_first_answers_wait_in_turn_for_bytes() -> None:
    answers = FirstAnswers(AdmissionLimits(first_answer_bytes=100))
    before = hits(FIRST_ANSWER_BYTES)
    await answers.take(60)
    order: list[int] = []

    async def take(size: int) -> None:
        await answers.take(size)
        order.append(size)

    tasks = [asyncio.ensure_future(take(size)) for size in (50, 10, 40)]
    await asyncio.sleep(0)
    assert order == [], "ten would fit, but it is not its turn"
    answers.give(60)
    await asyncio.gather(*tasks)
    assert order == [50, 10, 40]
    assert hits(FIRST_ANSWER_BYTES) == before + 3
    assert answers.used == 100


async def test_one_answer_larger_than_the_bound_may_go_alone() -> None:
    answers = FirstAnswers(AdmissionLimits(first_answer_bytes=10))
    await answers.take(1000)
    assert answers.used == 1000


async def test_past_the_places_in_the_queue_a_stream_is_told_to_come_later() -> None:
    answers = FirstAnswers(AdmissionLimits(first_answer_bytes=10, first_answers_waiting=1))
    await answers.take(10)
    waiting = asyncio.ensure_future(answers.take(10))
    await asyncio.sleep(0)
    before = hits(FIRST_ANSWERS_WAITING)
    with pytest.raises(StreamClosed) as caught:
        await answers.take(10)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert hits(FIRST_ANSWERS_WAITING) == before + 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_stream_that_ends_while_it_waits_leaves_no_bytes_behind() -> None:
    answers = FirstAnswers(AdmissionLimits(first_answer_bytes=10))
    await answers.take(10)
    early, late = (asyncio.ensure_future(answers.take(10)) for _ in range(2))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.gather(early, return_exceptions=True)
    answers.give(10)
    late.cancel()  # in the very moment in which its turn has come
    await asyncio.gather(late, return_exceptions=True)
    assert answers.used == 0
