"""Waits grow, are spread, and heed what the server asks for."""

from random import Random

from peerd.kubeapi.backoff import FIRST, LONGEST, Backoff


def test_waits_double_up_to_a_bound_and_never_vanish() -> None:
    """Between half of the bound and the bound."""
    backoff = Backoff(Random(1))
    bounds = [min(LONGEST, FIRST * 2**number) for number in range(12)]
    for bound in bounds:
        assert bound / 2 <= backoff.next() <= bound
    assert backoff.failures == 12
    backoff.reset()
    assert backoff.next() <= FIRST


def test_a_server_that_asks_for_patience_gets_it() -> None:
    """But not less than is due anyway."""
    backoff = Backoff(Random(1))
    assert backoff.next(7.0) == 7.0
    assert backoff.next(0.0) > 0
