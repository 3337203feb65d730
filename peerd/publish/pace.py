"""How fast may be written: a bucket for all, one for each object, waits between retries, and the loop."""

import asyncio
import random
from collections.abc import Awaitable, Callable

RETRY_FIRST = 1.0
RETRY_LONGEST = 60.0


class Bucket:
    """Holds up to *burst* tokens and gains *rate* of them a second. Monotonic seconds."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until a token is there, 0 where one is."""
        return max(0.0, (1.0 - self._filled(now)) / self._rate)

    def take(self, now: float) -> None:
        """Take one; call it when `wait` says 0."""
        self._level = self._filled(now) - 1.0
        self._at = now

    def _filled(self, now: float) -> float:
        # Half a token in a million is the rounding of sums of floats, not a write too early.
        return min(self._burst, self._level + (now - self._at) * self._rate) + 1e-6


def retry_wait(failures: int, source: random.Random) -> float:
    """Seconds before the next attempt: from half of to a whole bound that doubles from 1 s to 60 s."""
    bound = min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** min(failures, 10))
    return source.uniform(bound / 2, bound)


async def keep_working(work: Callable[[], Awaitable[float | None]], wake: asyncio.Event) -> None:
    """Call *work*, and again when *wake* is set or the seconds it returned (None: any) are over, for ever."""
    while True:
        wake.clear()
        wait = await work()
        try:
            async with asyncio.timeout(wait):
                await wake.wait()
        except TimeoutError:
            pass
