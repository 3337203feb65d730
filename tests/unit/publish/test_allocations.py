"""Addresses are recorded before use, stay with their host, and rest for an hour once freed (D28)."""

import pytest

from peerd.model.federation import Allocation
from peerd.publish.allocations import Allocations
from peerd.publish.pools import REST_SECONDS
from peerd.state.errors import StateError
from peerd.state.table import Table
from tests.support.stepping import SteppedTime


def first_free(host, pool, taken):
    """A pool of three addresses, given in order."""
    for last in range(3):
        if bytes((240, 64, 0, last)) not in taken:
            return Allocation(bytes((240, 64, 0, last)), b"")
    return None


def told(changes):
    return {change.host: change.allocation and change.allocation.ipv4[3] for change in changes}


class Disk:
    """The table of one state directory over several starts."""

    def __init__(self, path):
        self.path = path
        self.clock = SteppedTime()
        self.table = None

    def start(self, choose=first_free):
        if self.table is not None:
            self.table.close()
        self.table = Table(self.path)
        return Allocations(self.table, choose, self.clock)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "allocations")
    yield disk
    disk.table.close()


def test_an_allocation_survives_a_restart(disk):
    """The same host, the same address, told at the start."""
    allocations = disk.start()
    allocations.want([("b.example", "v4"), ("a.example", "v4")])
    assert told(allocations.record()) == {"a.example": 0, "b.example": 1}
    assert told(disk.start().restore()) == {"a.example": 0, "b.example": 1}


def test_what_derivation_wants_again_is_not_told_again(disk):
    """It has it already."""
    disk.start().want([])
    allocations = disk.start()
    allocations.want([("a", "v4")])
    allocations.record()
    allocations.want([("a", "v4")])
    assert allocations.record() == []


def test_nothing_is_told_before_it_is_on_disk(disk, monkeypatch):
    """A full disk holds the host back; the next call tells it."""
    allocations = disk.start()
    allocations.want([("a", "v4")])

    def full(self, *, sync=True):
        raise StateError(self.path, "full", "free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "flush", full)
        with pytest.raises(StateError):
            allocations.record()
    assert told(allocations.record()) == {"a": 0}
    assert told(disk.start().restore()) == {"a": 0}


def test_a_freed_address_rests_for_an_hour_also_over_a_restart(disk):
    """Nobody else gets it before clients have forgotten it."""
    allocations = disk.start()
    allocations.want([("a", "v4")])
    allocations.record()
    allocations.want([("a", None)])
    assert told(allocations.record()) == {"a": None}
    allocations = disk.start()
    assert allocations.restore() == []
    allocations.want([("b", "v4")])
    assert told(allocations.record()) == {"b": 1}
    disk.clock._now = REST_SECONDS
    allocations.want([("c", "v4")])
    assert told(allocations.record()) == {"c": 0}


def test_a_host_that_returns_within_the_rest_gets_its_address_back(disk):
    """A service deleted and made again keeps its name's address."""
    allocations = disk.start()
    allocations.want([("a", "v4"), ("b", "v4")])
    allocations.record()
    allocations.want([("a", None)])
    allocations.record()
    allocations.want([("a", "v4")])
    assert told(allocations.record()) == {"a": 0}


def test_a_wall_clock_that_went_back_restarts_the_rest(disk):
    """A rest must end some day, and never early."""
    disk.clock._now = 10 * REST_SECONDS
    allocations = disk.start()
    allocations.want([("a", "v4")])
    allocations.record()
    allocations.want([("a", None)])
    allocations.record()
    disk.clock._now = 0.0
    allocations.record()
    disk.clock._now = REST_SECONDS - 1
    allocations.want([("b", "v4")])
    assert told(allocations.record()) == {"b": 1}
    disk.clock._now = REST_SECONDS
    allocations.want([("c", "v4")])
    assert told(allocations.record()) == {"c": 0}


def test_an_exhausted_pool_is_a_diagnostic_until_an_address_is_free(disk):
    """The host waits and is named; the others have theirs."""
    allocations = disk.start()
    allocations.want([(host, "v4") for host in "abcd"])
    assert told(allocations.record()) == {"a": 0, "b": 1, "c": 2}
    (problem,) = allocations.diagnostics
    assert str(problem).startswith("Host/d: address: pool v4 has no free address; make fewer")
    allocations.want([("b", None)])
    allocations.record()
    disk.clock._now = REST_SECONDS
    assert told(allocations.record()) == {"d": 1}
    assert allocations.diagnostics == ()


def test_retain_frees_what_nobody_wanted_after_a_restart(disk):
    """A service that went away while peerd was down."""
    allocations = disk.start()
    allocations.want([("a", "v4"), ("b", "v4")])
    allocations.record()
    allocations = disk.start()
    allocations.retain({"b"})
    assert told(allocations.record()) == {"a": None}
