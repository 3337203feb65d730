"""What peers are told, and when: D20's moments on the loop's timers."""

import msgspec
import pytest

from peerd.app.exports import Exports
from peerd.model.address import Locality
from peerd.model.federation import Capacity, FederatedService
from tests.support.timers import Timers

NAME = "shop/reviews"


def service(healthy, **fields):
    made = FederatedService(
        "reviews",
        "shop",
        "reviews.shop.mesh.internal",
        "reviews.shop.svc.cluster.local",
        capacity=(Capacity("net", Locality("r", "z", ""), healthy),) if healthy else (),
    )
    return msgspec.structs.replace(made, **fields)


class Exporter:
    """Exports under virtual time. `said`: (seconds since the start, capacity or None) as announced."""

    def __init__(self, patch):
        self.timers = Timers(patch)
        self.start = self.timers.now
        self.said = []
        self.calls = 0
        self.exports = Exports(self._announce, self.timers)

    def put(self, healthy, name=NAME, **fields):
        self.exports.put([(name, None if healthy is None else service(healthy, **fields))])

    def _announce(self, announcements):
        self.calls += 1
        for _, said in announcements:
            total = None if said is None else sum(each.healthy for each in said.capacity)
            self.said.append((self.timers.now - self.start, total))


@pytest.fixture
async def exporter(monkeypatch):
    return Exporter(monkeypatch)


async def test_a_first_definition_goes_at_once_and_arms_no_timer(exporter):
    exporter.put(8)
    assert exporter.said == [(0, 8)]
    assert exporter.timers.armed == []


@pytest.mark.parametrize(
    ("before", "after"), [(8, 6), (8, 0), (0, 3)], ids=["a quarter lost", "to none", "from none"]
)
async def test_what_callers_must_know_goes_at_once(exporter, before, after):
    exporter.put(before)
    exporter.put(after)
    assert exporter.said == [(0, before), (0, after)]


async def test_a_small_change_waits_five_seconds_of_rest(exporter):
    exporter.put(8)
    exporter.timers.advance(100)
    exporter.put(9)
    exporter.timers.advance(4.999)
    assert exporter.said == [(0, 8)]
    exporter.timers.advance(0.001)
    assert exporter.said == [(0, 8), (105, 9)]
    assert exporter.timers.armed == []


async def test_a_change_that_never_rests_is_told_after_thirty_seconds(exporter):
    """Scaling up one by one every 3 s: half a minute, not never."""
    exporter.put(8)
    for healthy in range(9, 20):
        exporter.put(healthy)
        exporter.timers.advance(3)
    assert exporter.said[1] == (30, 18)


async def test_a_replacement_that_ends_where_it_began_says_nothing(exporter):
    exporter.put(8)
    exporter.put(9)
    exporter.timers.advance(2)
    exporter.put(8)
    exporter.timers.advance(60)
    assert exporter.said == [(0, 8)]


async def test_a_removal_goes_at_once_and_takes_what_waited_with_it(exporter):
    exporter.put(8)
    exporter.put(9)
    exporter.put(None)
    exporter.timers.advance(60)
    assert exporter.said == [(0, 8), (0, None)]


async def test_two_services_are_told_each_in_its_own_time(exporter):
    """One timer serves both: the later put does not push the earlier one back."""
    exporter.put(8)
    exporter.put(80, "shop/ratings")
    exporter.put(9)
    exporter.timers.advance(2)
    exporter.put(81, "shop/ratings")
    exporter.timers.advance(10)
    assert exporter.said[2:] == [(5, 9), (7, 81)]


async def test_nothing_to_tell_calls_nobody(exporter):
    """An empty commit to the peer port would wake every stream for nothing."""
    exporter.exports.put([])
    exporter.put(8)
    exporter.put(8)
    assert exporter.calls == 1


async def test_after_the_close_nothing_is_announced(exporter):
    """Neither what waited, nor what a last revision still exports while the process drains."""
    exporter.put(8)
    exporter.put(9)
    exporter.exports.close()
    exporter.put(0)
    exporter.put(80, "shop/ratings")
    exporter.timers.advance(60)
    assert exporter.said == [(0, 8)]
    assert exporter.timers.armed == []
