"""Sharing gives back equals, and forgets."""

from peerd.model.address import Locality
from peerd.model.sharing import shared


def test_equal_values_become_one() -> None:
    first, second = Locality("eu", "eu-1"), Locality("eu", "eu-1")
    assert first is not second
    assert shared(first) is shared(second)


def test_what_differs_stays_apart() -> None:
    assert shared(Locality("eu", "eu-2")) != shared(Locality("eu", "eu-3"))


def test_a_flood_of_values_is_forgotten() -> None:
    first = Locality("flood", "first")
    shared(first)
    for number in range(1 << 14):
        shared(number)
    again = Locality("flood", "first")
    assert shared(again) is again
