"""What one peer may take."""

import pytest

from peerd.limits import PEER_BYTES, PEER_RESOURCE_BYTES, PEER_RESOURCES, hits
from peerd.model.types import FEDERATED_SERVICE, SEGMENT
from peerd.peering.quotas import Ledger, RateLimit


def test_a_resource_too_large_is_refused_and_counted() -> None:
    before = hits(PEER_RESOURCE_BYTES)
    ledger = Ledger()
    assert "over quota" in ledger.refusal(FEDERATED_SERVICE, "a", PEER_RESOURCE_BYTES.value + 1)
    assert ledger.refusal(FEDERATED_SERVICE, "a", PEER_RESOURCE_BYTES.value) == ""
    assert hits(PEER_RESOURCE_BYTES) == before + 1


def test_one_resource_too_many_is_refused_and_an_update_of_a_held_one_is_not() -> None:
    ledger = Ledger()
    for number in range(PEER_RESOURCES.value):
        assert ledger.refusal(FEDERATED_SERVICE, f"n{number}", 1) == ""
    assert "more than 20000 resources" in ledger.refusal(FEDERATED_SERVICE, "one more", 1)
    assert ledger.refusal(FEDERATED_SERVICE, "n0", 100) == ""
    assert ledger.refusal(SEGMENT, "one more", 1) == "", "the number is of each type"
    ledger.remove(FEDERATED_SERVICE, "n1")
    assert ledger.refusal(FEDERATED_SERVICE, "one more", 1) == ""


def test_bytes_are_counted_over_all_and_given_back() -> None:
    ledger = Ledger()
    size = PEER_RESOURCE_BYTES.value
    fit = PEER_BYTES.value // size
    for number in range(fit):
        assert ledger.refusal(FEDERATED_SERVICE, f"n{number}", size) == ""
    assert "bytes in all" in ledger.refusal(FEDERATED_SERVICE, "one more", 1)
    assert ledger.refusal(FEDERATED_SERVICE, "n0", size) == "", "an update of the same size"
    ledger.remove(FEDERATED_SERVICE, "n0")
    assert ledger.bytes == (fit - 1) * size
    assert ledger.refusal(FEDERATED_SERVICE, "one more", 1) == ""


def test_removing_what_is_not_there_changes_nothing() -> None:
    ledger = Ledger()
    ledger.remove(FEDERATED_SERVICE, "a")
    assert (ledger.bytes, len(ledger)) == (0, 0)


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
