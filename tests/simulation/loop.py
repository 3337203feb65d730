"""An event loop in virtual time: nothing waits, nothing is concurrent, the same seed runs the same steps.

When no callback is ready, time jumps to the next timer. What would run in a thread runs at once and its
result arrives a moment later. Callbacks belong to the *process* that made them (a context variable), so that
a process can be paused as by SIGSTOP, or killed, without its code knowing.
"""

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Coroutine
from typing import Any

_DISK_SECONDS = 0.001  # what an inlined thread's work seems to take
_STEP_SECONDS = 0.000_02  # what one callback seems to cost, so that slices end and nothing waits 0 s for ever
_MOST_STEPS_AT_ONCE = 200_000  # callbacks with always another one ready, past which somebody spins

EPOCH = 1_780_000_000.0  # the wall clock at virtual time 0


class DeadlockError(Exception):
    """Everything waits and no timer is left."""


class LivelockError(Exception):
    """Callbacks call each other and nobody ever waits."""


class Process:
    """What may be paused or killed as one: all tasks, callbacks and timers that it made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.dead = False
        self.rests: list[tuple[float, float]] = []  # from when to when it was paused
        self.deferred: list[asyncio.Handle] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """Whose code is running."""
    return _PROCESS.get()


def context_of(process: Process | None) -> contextvars.Context:
    """A context in which everything belongs to *process*."""
    context = contextvars.Context()
    context.run(_PROCESS.set, process)
    return context


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task whose hash is its number: sets of tasks iterate alike in every run."""

    def __init__(self, number: int, coro: Any, **kwargs: Any) -> None:
        self._number = number
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Listener:
    """A listener that nobody can reach: the HTTP port's."""

    class _Socket:
        @staticmethod
        def getsockname() -> tuple[str, int]:
            return ("127.0.0.1", 1)

        @staticmethod
        def fileno() -> int:
            return -1

    def __init__(self) -> None:
        self.sockets = (self._Socket(),)

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop; use it with `run`."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._numbers = 0
        self._at_once = 0
        self.steps = 0
        self._spent = 0.0
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def remove_reader(self, _fd: Any) -> bool:
        """Nobody reads a file here (`_Listener`)."""
        return False

    # -- processes ---------------------------------------------------------------------------------------

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *coro* as a part of *process*."""
        return self.create_task(coro, context=context_of(process))

    def pause(self, process: Process) -> None:
        """Run nothing of it until `resume`."""
        if not process.paused:
            process.rests.append((self._now, float("inf")))
        process.paused = True

    def resume(self, process: Process) -> None:
        """Go on, with everything that came due meanwhile."""
        if process.paused:
            process.rests[-1] = process.rests[-1][0], self._now
        process.paused = False
        deferred, process.deferred = process.deferred, []
        self._ready.extend(deferred)  # type: ignore[attr-defined]

    async def kill(self, process: Process) -> None:
        """End it: no task, no timer of it runs any more. Call it from outside the process."""
        self.resume(process)
        while tasks := [task for task in process.tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        process.dead = True
        process.tasks.clear()

    # -- what a loop is made of --------------------------------------------------------------------------

    def _make_task(
        self, _loop: asyncio.AbstractEventLoop, coro: Any, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        self._numbers += 1
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        task = _Task(self._numbers, coro, loop=self, name=f"task-{self._numbers}", context=context)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None), context=context_of(None))
        return task

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        self._spent = _DISK_SECONDS
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 (a thread's failure is its future's)
            self.call_later(self._spent, _settle, future.set_exception, future, error)
        else:
            self.call_later(self._spent, _settle, future.set_result, future, result)
        return future

    def spend(self, seconds: float) -> None:
        """What an inlined thread does seems to take so much longer."""
        self._spent += seconds

    async def create_server(self, *_args: Any, **_kwargs: Any) -> Any:
        return _Listener()

    def _write_to_self(self) -> None:
        """`call_soon_threadsafe`: there are no threads, so nothing has to be woken."""

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise DeadlockError("everything waits, and no timer is armed")
            self._at_once = 0
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is not None and process.dead:
                continue
            if process is not None and process.paused:
                process.deferred.append(handle)
                continue
            self.steps += 1
            self._now += _STEP_SECONDS
            self._at_once += 1
            if self._at_once > _MOST_STEPS_AT_ONCE:
                self._at_once = 0
                ready.appendleft(handle)  # so that tasks can still be cancelled
                raise LivelockError(f"{_MOST_STEPS_AT_ONCE} callbacks and always another one: {handle}")
            handle._run()


def _settle(give: Callable[[Any], None], future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        give(value)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """The result of *main*, in virtual time from 0 on."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class SimClock:
    """`peerd.model.clock.Clock` of one cluster; its wall clock may be wrong by *skew* seconds."""

    def __init__(self, loop: VirtualLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self.skew = skew

    def time(self) -> float:
        return EPOCH + self._loop.time() + self.skew

    def monotonic(self) -> float:
        return self._loop.time()
