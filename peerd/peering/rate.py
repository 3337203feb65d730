"""How fast one peer may change what it exports (limits.py). How much it may be: holdings.py."""

from peerd.limits import PEER_CHANGES, hit


class RateLimit:
    """A bucket of `PEER_CHANGES`: what is taken too fast is waited for. Monotonic seconds."""

    def __init__(self, now: float, rate: float = float(PEER_CHANGES.value)) -> None:
        self._rate = rate
        self._level = rate
        self._at = now

    def take(self, changes: int, now: float) -> float:
        """Take *changes*; returns how long to wait before taking the next ones."""
        self._level = min(self._rate, self._level + (now - self._at) * self._rate) - changes
        self._at = now
        if self._level >= 0:
            return 0.0
        hit(PEER_CHANGES)
        return -self._level / self._rate
