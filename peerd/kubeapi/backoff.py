"""How long to wait before asking a troubled API server again."""

from random import Random

FIRST = 0.25
LONGEST = 30.0


class Backoff:
    """Waits of a bound that doubles from 0.25 s to 30 s until `reset`, half of it by chance.

    Chance, so that a restarted API server is not asked by everybody at once; half, so that it is never asked
    again without any pause.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure; *at_least* is what the server asked for (`Retry-After`)."""
        bound = min(LONGEST, FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        return max(at_least, bound * self._random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """The server answered as it should."""
        self.failures = 0
