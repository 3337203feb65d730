"""Long steps that fall together are spread over turns of the loop, so that others have theirs in between.

grpc copies a message when whoever waits for it goes on: 3 ms for the 5 MB with which a ztunnel comes back to
50,000 resources. After an interruption the messages of many are there at once, and all would go on in the
same turn: fifty held the loop for 160 ms.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SHORT = 0.0002  # seconds of a step that is not worth being counted: nearly all are
_BUDGET = 0.001  # seconds of counted steps in one turn, past which others wait for the next


class Pace:
    """What the counted steps of this turn of the loop have taken; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._spent = 0.0

    @property
    def over(self) -> bool:
        """Whether the next step has to wait for the next turn."""
        return self._spent >= _BUDGET

    def spend(self, seconds: float) -> None:
        """A step took *seconds*."""
        if seconds >= _SHORT:
            if not self._spent:
                asyncio.get_running_loop().call_soon(self._begin)
            self._spent += seconds

    def _begin(self) -> None:
        self._spent = 0.0


@coroutine
def paced(pace: Pace, awaited: Awaitable[T]) -> Generator[Any, Any, T]:
    """Await *awaited*, going on with it in a turn that has time left; a cancellation goes through at once."""
    steps = awaited.__await__()
    clock = pace.clock
    try:
        waiting_for = next(steps)
        while True:
            try:
                yield waiting_for
                while pace.over:
                    yield
            except BaseException as error:  # noqa: BLE001 (a cancellation is its own to handle)
                waiting_for = steps.throw(error)
                continue
            began = clock()
            try:
                waiting_for = next(steps)
            finally:
                pace.spend(clock() - began)
    except StopIteration as end:
        result: T = end.value
        return result
