"""Between derivation and the one writer of addresses: recorded before it is told, retried, freed (D28)."""

import asyncio

import pytest
from structlog.testing import capture_logs

from peerd.app.allocator import Allocator
from peerd.model.federation import Allocation, Takeover
from peerd.publish.allocations import Allocations
from peerd.publish.takeovers import RecordedTakeovers
from peerd.state.errors import StateError
from peerd.state.table import Table
from tests.support.timers import Timers


def pool_of_two(host, pool, taken):
    """Two addresses, given in order."""
    for last in (1, 2):
        if bytes((240, 64, 0, last)) not in taken:
            return Allocation(bytes((240, 64, 0, last)), b"")
    return None


def told(changes):
    return {change.host: change.allocation and change.allocation.ipv4[3] for change in changes}


class Cluster:
    """A state directory over several starts, and the timers of the loop."""

    def __init__(self, path, patch):
        self.path = path
        self.timers = Timers(patch)
        self.again = 0
        self.table = None

    def start(self):
        if self.table is not None:
            self.close()
        self.table = Table(self.path)
        self.takeovers = Table(self.path.with_name("takeovers"))
        return Allocator(
            Allocations(self.table, pool_of_two, self.timers), RecordedTakeovers(self.takeovers), self._again
        )

    def close(self):
        self.table.close()
        self.takeovers.close()

    def fails(self, *_allocations):
        raise StateError(self.path, "no space left on device", "free some space")

    def on_disk(self):
        """The hosts that a process starting now would find."""
        table = Table(self.path)
        hosts = [change.host for change in Allocations(table, pool_of_two, self.timers).restore()]
        table.close()
        return hosts

    def _again(self):
        self.again += 1


@pytest.fixture
async def cluster(tmp_path, monkeypatch):
    cluster = Cluster(tmp_path / "allocations", monkeypatch)
    yield cluster
    cluster.close()


async def test_settle_tells_an_address_only_once_it_is_on_disk(cluster):
    """A crash right after `settle` returned loses nothing that derivation heard."""
    allocator = cluster.start()
    allocator.want([("a", "global")])
    assert cluster.on_disk() == []
    assert told(await allocator.settle()) == {"a": 1}
    assert cluster.on_disk() == ["a"]


async def test_where_nothing_is_wanted_nothing_is_written(cluster, monkeypatch):
    """A commit without hosts costs no thread and no disk."""
    allocator = cluster.start()
    monkeypatch.setattr(Allocations, "record", lambda _self: pytest.fail("written without need"))
    allocator.want([])
    assert await allocator.settle() == []


async def test_what_was_recorded_is_restored_for_the_first_derivation(cluster):
    """And wanting it again says nothing new."""
    allocator = cluster.start()
    allocator.want([("a", "global")])
    await allocator.settle()
    allocator = cluster.start()
    assert told(allocator.restore()) == {"a": 1}
    allocator.want([("a", "global")])
    assert await allocator.settle() == []


async def test_a_disk_that_refuses_is_logged_and_tried_again(cluster, monkeypatch):
    """It is said once, nothing is told meanwhile, nothing is lost, and every failure arms the next try."""
    allocator = cluster.start()

    def full(self, *, sync=True):
        raise StateError(self.path, "no space left on device", "free some space")

    allocator.want([("a", "global")])
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Table, "flush", full)
        for tries in (1, 2):
            assert await allocator.settle() == []
            assert [entry["event"] for entry in logs] == ["allocations_not_recorded"]
            cluster.timers.advance(5)
            assert cluster.again == tries
    assert "no space left on device" in logs[0]["reason"]
    with capture_logs() as logs:
        assert told(await allocator.settle()) == {"a": 1}
    assert [entry["event"] for entry in logs] == ["allocations_recorded_again"]
    assert cluster.timers.armed == []


async def test_a_host_without_an_address_is_a_diagnostic_and_tried_again(cluster):
    """Until the rest of a freed one is over."""
    allocator = cluster.start()
    allocator.want([("a", "global"), ("b", "global"), ("c", "global")])
    assert told(await allocator.settle()) == {"a": 1, "b": 2}
    assert [each.object for each in allocator.diagnostics] == ["Host/c"]
    allocator.want([("a", None)])
    assert told(await allocator.settle()) == {"a": None}
    cluster.timers.advance(3_600)
    assert cluster.again >= 1
    assert told(await allocator.settle()) == {"c": 1}
    assert allocator.diagnostics == ()
    assert cluster.timers.armed == []


async def test_retain_frees_what_nobody_wants(cluster):
    """Of a service that vanished while peerd was down; what is wanted keeps its address."""
    allocator = cluster.start()
    allocator.want([("kept", "global"), ("vanished", "global")])
    await allocator.settle()
    allocator = cluster.start()
    allocator.restore()
    allocator.want([("kept", "global")])
    assert await allocator.settle() == []
    allocator.retain_wanted()
    assert told(await allocator.settle()) == {"vanished": None}
    assert cluster.on_disk() == ["kept"]


async def test_retain_while_a_write_is_under_way_is_done_by_the_next_settle(cluster, monkeypatch):
    """The writer's thread has the records to itself, and the request is not forgotten over it."""
    allocator = cluster.start()
    allocator.want([("vanished", "global")])
    await allocator.settle()
    allocator = cluster.start()
    allocator.restore()
    writing, go_on = slow_disk(monkeypatch)
    allocator.want([("new", "global")])
    settling = asyncio.ensure_future(allocator.settle())
    await writing.wait()
    allocator.retain_wanted()
    go_on.set()
    assert told(await settling) == {"new": 2}
    assert told(await allocator.settle()) == {"vanished": None}


def slow_disk(monkeypatch):
    """An event that says that somebody writes, and one that lets it."""
    record, loop = Allocations.record, asyncio.get_running_loop()
    writing, go_on = asyncio.Event(), asyncio.Event()

    def slow(self):
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return record(self)

    monkeypatch.setattr(Allocations, "record", slow)
    return writing, go_on


async def test_a_slow_disk_holds_others_up_for_a_moment_only(cluster, monkeypatch):
    """What is wanted meanwhile waits for the writer, and each address is told once it is on disk."""
    allocator = cluster.start()
    writing, go_on = slow_disk(monkeypatch)
    allocator.want([("a", "global")])
    settling = asyncio.ensure_future(allocator.settle())
    await writing.wait()
    cluster.timers.advance(0.2)
    assert await settling == []
    allocator.want([("b", "global")])
    allocator.remember([("shop/b", Takeover())])
    assert await allocator.settle() == []
    assert allocator.diagnostics == ()
    assert cluster.again == 0
    go_on.set()
    assert await allocator.recorded()
    assert cluster.again == 1
    assert told(await allocator.settle()) == {"a": 1}
    assert cluster.on_disk() == ["a"]
    assert cluster.again == 2, "for what was wanted meanwhile"
    host, takeover = await allocator.settle()
    assert (host.host, takeover.service) == ("b", "shop/b")
    assert cluster.on_disk() == ["a", "b"]
    assert await allocator.settle() == []
    assert not await allocator.recorded(), "nothing is left to wait for"


async def test_a_new_state_directory_must_take_what_is_wanted(cluster, monkeypatch):
    """Else names that others know would seem to be gone; of one that holds something, what is new waits."""
    for new in (True, False):
        allocator = cluster.start()
        allocator.want([("a" if new else "b", "global")])
        with monkeypatch.context() as patch:
            patch.setattr(Allocations, "record", cluster.fails)
            await allocator.settle()
            waiting = asyncio.ensure_future(allocator.recorded())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert waiting.done() is not new
        assert len(await allocator.settle()) == 1
        await waiting


async def test_once_all_have_spoken_a_new_state_directory_is_as_any(cluster, monkeypatch):
    allocator = cluster.start()
    allocator.retain_wanted()
    allocator.want([("a", "global")])
    monkeypatch.setattr(Allocations, "record", cluster.fails)
    await allocator.settle()
    await allocator.recorded()


async def test_closing_waits_for_what_is_being_written(cluster, monkeypatch):
    """Its file is about to be closed, and what it fails with is no longer of interest."""
    allocator = cluster.start()
    monkeypatch.setattr(Allocations, "record", cluster.fails)
    allocator.want([("a", "global")])
    writing, go_on = slow_disk(monkeypatch)
    settling = asyncio.ensure_future(allocator.settle())
    await writing.wait()
    settling.cancel()
    closing = asyncio.ensure_future(allocator.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing
    assert cluster.timers.armed == []


async def test_a_closed_allocator_tries_nothing_again(cluster):
    """Its timer would fire into a process that has stopped."""
    allocator = cluster.start()
    allocator.want([("a", "global"), ("b", "global"), ("c", "global")])
    await allocator.settle()
    assert cluster.timers.armed
    await allocator.close()
    assert cluster.timers.armed == []


async def test_takeovers_are_on_disk_before_they_are_told_and_restored(cluster):
    allocator = cluster.start()
    allocator.remember([("shop/a", Takeover()), ("shop/b", Takeover(by_rule=True))])
    assert [change.service for change in await allocator.settle()] == ["shop/a", "shop/b"]
    allocator = cluster.start()
    assert [(found.service, found.takeover) for found in allocator.restore()] == [
        ("shop/a", Takeover()),
        ("shop/b", Takeover(by_rule=True)),
    ]


async def test_a_takeover_nobody_wants_after_a_restart_is_forgotten_when_all_have_spoken(cluster):
    allocator = cluster.start()
    allocator.remember([("shop/a", Takeover()), ("shop/b", Takeover())])
    await allocator.settle()
    allocator = cluster.start()
    allocator.remember([("shop/b", Takeover())])
    assert await allocator.settle() == []
    allocator.retain_wanted()
    assert [(found.service, found.takeover) for found in await allocator.settle()] == [("shop/a", None)]
    assert [found.service for found in cluster.start().restore()] == ["shop/b"]


async def test_what_was_told_of_addresses_is_not_lost_where_takeovers_cannot_be_written(cluster, monkeypatch):
    allocator = cluster.start()
    allocator.want([("a", "global")])
    allocator.remember([("shop/a", Takeover())])

    def fails():
        raise StateError(cluster.path, "no space left", "make some")

    monkeypatch.setattr(cluster.takeovers, "flush", fails)
    assert await allocator.settle() == []
    monkeypatch.undo()
    told_now = await allocator.settle()
    assert [getattr(found, "host", None) or found.service for found in told_now] == ["a", "shop/a"]
