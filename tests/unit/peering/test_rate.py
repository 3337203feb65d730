"""How fast one peer may change what it exports."""

import pytest

from peerd.peering.rate import RateLimit


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_what_is_taken_too_fast_is_slowed_to_the_rate(batch: int) -> None:
    limit = RateLimit(0.0, rate=100.0)
    now = taken = 0.0
    while taken < 10_000:
        wait = limit.take(batch, now)
        taken += batch
        now += wait
    # A full bucket, then the rate.
    assert now == pytest.approx((10_000 - 100) / 100, rel=0.02)


def test_a_slow_peer_is_never_made_to_wait() -> None:
    limit = RateLimit(0.0, rate=100.0)
    assert all(limit.take(1, second / 50) == 0 for second in range(1000))
