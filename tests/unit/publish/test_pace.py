"""How fast may be written, what is remembered of it, and the loop that writes."""

import asyncio
import random

from peerd.publish.pace import RETRY_LONGEST, Bucket, Lately, keep_working, retry_wait


def test_a_bucket_gives_its_burst_and_then_its_rate():
    """Three at once, then one every ten seconds; never more than the burst is saved."""
    bucket = Bucket(0.1, 3, 0.0)
    for _ in range(3):
        assert bucket.wait(0.0) == 0
        bucket.take(0.0)
    assert 9.9 < bucket.wait(0.0) <= 10
    assert bucket.wait(10.0) == 0
    assert not bucket.is_full(29.0)
    assert bucket.is_full(30.0)


def test_what_is_left_of_a_bucket_is_found_again_until_it_is_full():
    """The very same bucket; of a thousand keys only those of lately are kept."""
    lately: Lately[str] = Lately()
    used = Bucket(0.1, 5, 0.0)
    used.take(0.0)
    lately.keep("a", used, 0.0)
    assert lately.take("a") is used
    assert lately.take("a") is None
    for number in range(1000):
        each = Bucket(0.1, 5, float(number))
        each.take(float(number))
        lately.keep(str(number), each, float(number))
    assert len(lately) <= 12


def test_waits_grow_and_end_growing():
    """From half a second on to a minute, however often it failed."""
    source = random.Random(1)
    assert 0.5 <= retry_wait(0, source) <= 1
    assert RETRY_LONGEST / 2 <= retry_wait(1000, source) <= RETRY_LONGEST


async def test_work_is_done_when_it_is_due_and_when_it_is_woken():
    """After the seconds that it asked for, and before them where something woke it."""
    wake, answers, done = asyncio.Event(), [0.0, 0.0, None, None], asyncio.Event()
    calls = 0

    async def work():
        nonlocal calls
        calls += 1
        if answers[calls - 1] is None:
            done.set()
        return answers[calls - 1]

    running = asyncio.ensure_future(keep_working(work, wake))
    await asyncio.wait_for(done.wait(), 30)
    assert calls == 3
    done.clear()
    wake.set()
    await asyncio.wait_for(done.wait(), 30)
    assert calls == 4
    running.cancel()


async def test_a_wake_during_work_is_not_lost():
    """What becomes due while something is written is looked at afterwards."""
    wake, second = asyncio.Event(), asyncio.Event()
    calls = 0

    async def work():
        nonlocal calls
        calls += 1
        if calls == 1:
            wake.set()
        else:
            second.set()

    running = asyncio.ensure_future(keep_working(work, wake))
    await asyncio.wait_for(second.wait(), 30)
    running.cancel()
