"""Exponential backoff with full jitter."""

import random

FIRST = 1.0
LONGEST = 60.0


class Backoff:
    """Waits drawn evenly from 0 to a bound that doubles from 1 s to 60 s until `reset`."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        bound = min(LONGEST, FIRST * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return self._random.uniform(0, bound)

    def reset(self) -> None:
        """A healthy stream was had."""
        self._failures = 0
