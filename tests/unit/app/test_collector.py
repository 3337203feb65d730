"""The collector's settings after the first sync."""

import gc
from collections.abc import Iterator

import pytest

from peerd.app.collector import settle


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    (gc.enable if enabled else gc.disable)()


def test_what_is_there_is_frozen_and_the_collector_is_on_but_looks_less_often() -> None:
    gc.disable()
    before = gc.get_threshold()
    settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert all(now > then for now, then in zip(gc.get_threshold(), before, strict=True))


def test_cycles_are_still_collected() -> None:
    settle()
    gc.collect()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
