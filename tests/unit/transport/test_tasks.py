"""The first of several tasks ends all."""

import asyncio

import pytest

from peerd.transport.tasks import first_of, in_turns


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _failing(error: Exception) -> None:
    raise error


async def test_the_first_one_to_end_cancels_the_others() -> None:
    """And they are over when it returns."""
    tasks = [asyncio.ensure_future(_for_ever()), asyncio.ensure_future(asyncio.sleep(0))]
    await first_of(tasks)
    assert tasks[0].cancelled()


async def test_of_several_that_fail_at_once_the_first_in_order_counts() -> None:
    """The second's error is retrieved all the same."""
    tasks = [asyncio.ensure_future(_failing(error)) for error in (KeyError("a"), ValueError("b"))]
    with pytest.raises(KeyError, match="a"):
        await first_of(tasks)


async def test_cancelling_it_leaves_no_task_behind() -> None:
    """As a link or a stream that is stopped."""
    tasks = [asyncio.ensure_future(_for_ever()) for _ in range(2)]
    waiting = asyncio.ensure_future(first_of(tasks))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(task.cancelled() for task in tasks)


async def test_long_work_lets_others_run_at_each_of_its_yields() -> None:
    """And gives what it returns."""
    seen: list[str] = []

    def steps():
        for number in range(3):
            seen.append(f"step {number}")
            yield
        return "done"

    async def other() -> None:
        for number in range(2):
            seen.append(f"other {number}")
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    assert await in_turns(steps()) == "done"
    await beside
    assert seen == ["step 0", "other 0", "step 1", "other 1", "step 2"]


async def test_what_long_work_raises_is_raised() -> None:
    def steps():
        yield
        raise ValueError("in the second step")

    with pytest.raises(ValueError, match="in the second step"):
        await in_turns(steps())
