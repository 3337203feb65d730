"""How fast may be written: a bucket for all, one for each object, waits between retries, and the loop."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

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

    def is_full(self, now: float) -> bool:
        """Whether nothing was taken lately: a new one would be the same."""
        return self._filled(now) >= self._burst

    def take(self, now: float) -> None:
        """Take one; call it when `wait` says 0."""
        self._level = self._filled(now) - 1.0
        self._at = now

    def _filled(self, now: float) -> float:
        # Half a token in a million is the rounding of sums of floats, not a write too early.
        return min(self._burst, self._level + (now - self._at) * self._rate) + 1e-6


class Lately(Generic[_Key]):
    """Buckets of what is written no more: whoever begins anew goes on with what was left."""

    def __init__(self) -> None:
        self._buckets: dict[_Key, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def keep(self, key: _Key, bucket: Bucket, now: float) -> None:
        """Keep it until it is full; monotonic seconds."""
        # Two are looked at for one that comes, oldest first: what stays is what was written lately.
        for old in [old for old, each in islice(self._buckets.items(), 2) if each.is_full(now)]:
            del self._buckets[old]
        self._buckets[key] = bucket

    def take(self, key: _Key) -> Bucket | None:
        """What is left of *key*, None where that is everything."""
        return self._buckets.pop(key, None)


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
