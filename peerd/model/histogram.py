"""Counts of what took how long."""

from bisect import bisect_left
from itertools import accumulate

from peerd.model.record import Record


class HistogramView(Record, frozen=True):
    """How many took at most each bound, in seconds; all of them, and their sum."""

    buckets: tuple[tuple[float, int], ...] = ()
    count: int = 0
    sum: float = 0.0


class Histogram:
    """Observations in buckets with upper *bounds*, ascending."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def view(self) -> HistogramView:
        """What was observed so far."""
        totals = list(accumulate(self._counts))
        return HistogramView(tuple(zip(self._bounds, totals, strict=False)), totals[-1], self._sum)
