"""Full jitter under a doubling bound."""

import random

from peerd.peering.backoff import Backoff


class Longest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_the_bound_doubles_from_1_second_to_60_and_stays() -> None:
    backoff = Backoff(Longest())
    assert [backoff.next() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_healthy_stream_brings_it_back() -> None:
    backoff = Backoff(Longest())
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 1


def test_waits_are_spread_over_the_whole_range() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next()
    waits = [backoff.next() for _ in range(1000)]
    assert min(waits) < 3
    assert max(waits) > 57
    assert 27 < sum(waits) / len(waits) < 33
