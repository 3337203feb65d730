"""How far a peer is trusted by the age of its last heartbeat (D21)."""

import pytest

from peerd.model.federation import Freshness
from peerd.peering.staleness import freshness

HOUR = 3600


@pytest.mark.parametrize(
    ("age", "expire_after", "expected"),
    [
        (0, 24 * HOUR, Freshness.FRESH),
        (44.9, 24 * HOUR, Freshness.FRESH),
        (45, 24 * HOUR, Freshness.STALE),
        (24 * HOUR - 1, 24 * HOUR, Freshness.STALE),
        (24 * HOUR, 24 * HOUR, Freshness.EXPIRED),
        (10_000 * HOUR, 0, Freshness.STALE),
        (-1, 24 * HOUR, Freshness.STALE),
        (-10_000 * HOUR, 60, Freshness.STALE),
    ],
)
def test_age_decides(age: float, expire_after: int, expected: Freshness) -> None:
    now = 2e9
    assert freshness(now - age, now, expire_after) is expected


def test_a_peer_never_heard_is_stale_not_expired() -> None:
    assert freshness(0.0, 2e9, 60) is Freshness.STALE
