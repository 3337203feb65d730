"""An event loop's timers under a test's hand: `call_later` fires when the test lets time pass."""

import asyncio
from collections.abc import Callable

import pytest


class _Handle:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """A clock, and the timers of the running loop for as long as *patch* lasts."""

    def __init__(self, patch: pytest.MonkeyPatch, now: float = 1_000.0) -> None:
        self.now = now
        self._handles: list[_Handle] = []
        patch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def time(self) -> float:
        return 1_700_000_000 + self.now

    def monotonic(self) -> float:
        return self.now

    @property
    def armed(self) -> list[float]:
        """When the timers are due, in seconds from now."""
        return sorted(each.when - self.now for each in self._handles if not each.cancelled)

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; timers run in order, each at its moment."""
        end = self.now + seconds
        while due := [each for each in self._handles if not each.cancelled and each.when <= end]:
            first = min(due, key=lambda each: each.when)
            self._handles.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end

    def _call_later(self, delay: float, callback: Callable[..., object], *args: object) -> _Handle:
        handle = _Handle(self.now + delay, lambda: callback(*args))
        self._handles.append(handle)
        return handle
