"""Virtual time keeps its promises: order, inlined threads, pauses, kills, and an alarm instead of a hang."""

import asyncio

import pytest

from tests.simulation.loop import DeadlockError, LivelockError, Process, SimClock, VirtualLoop, run


def loop() -> VirtualLoop:
    found = asyncio.get_running_loop()
    assert isinstance(found, VirtualLoop)
    return found


def test_a_day_passes_at_once_and_timers_fire_in_order():
    async def main() -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        async def after(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append((round(loop().time()), name))

        await asyncio.gather(after(86_400, "day"), after(1, "second"), after(60, "minute"))
        return seen

    assert run(main()) == [(1, "second"), (60, "minute"), (86_400, "day")]


def test_everybody_waiting_is_a_deadlock_not_a_hang():
    async def main() -> None:
        await loop().create_future()

    with pytest.raises(DeadlockError):
        run(main())


def test_spinning_is_an_alarm(monkeypatch):
    monkeypatch.setattr("tests.simulation.loop._MOST_STEPS_AT_ONCE", 1000)

    async def main() -> None:
        while True:  # noqa: ASYNC110 (it is meant to spin)
            await asyncio.sleep(0)

    with pytest.raises(LivelockError):
        run(main())


def test_a_thread_s_work_is_done_inline_and_its_result_comes_later():
    async def main() -> tuple[int, float]:
        return await asyncio.to_thread(lambda: 42), loop().time()

    result, at = run(main())
    assert result == 42
    assert at > 0


def test_a_thread_s_failure_arrives_where_it_is_awaited():
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    run(main())


def test_a_paused_process_does_nothing_and_catches_up():
    async def main() -> list[float]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                ticks.append(round(loop().time(), 2))

        process = Process("p")
        loop().spawn(process, tick())
        await asyncio.sleep(2.5)
        loop().pause(process)
        await asyncio.sleep(10)
        assert ticks == [1, 2]
        loop().resume(process)
        await asyncio.sleep(1.2)
        await loop().kill(process)
        return ticks

    assert run(main()) == [1, 2, 12.5, 13.5]


def test_nothing_of_a_killed_process_runs_any_more():
    """Its tasks are cancelled, also those that its tasks made; its timers are dropped."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def child() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                seen.append("child ended")

        async def parent() -> None:
            asyncio.get_running_loop().call_later(5, seen.append, "timer")
            task = asyncio.ensure_future(child())
            await asyncio.sleep(100)
            await task

        process = Process("p")
        loop().spawn(process, parent())
        await asyncio.sleep(1)
        await loop().kill(process)
        await asyncio.sleep(200)
        return seen

    assert run(main()) == ["child ended"]


def test_a_set_of_tasks_iterates_in_the_order_they_were_made():
    """By address it would not, and no seed would replay."""

    async def main() -> list[str]:
        tasks = {asyncio.ensure_future(asyncio.sleep(1)) for _ in range(50)}
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    names = run(main())
    assert len(set(names)) == 50
    assert run(main()) == names


def test_wall_clocks_may_disagree_while_monotonic_time_does_not():
    async def main() -> tuple[float, float]:
        here, there = SimClock(loop()), SimClock(loop(), skew=-30)
        return here.time() - there.time(), here.monotonic() - there.monotonic()

    assert run(main()) == (30, 0)
