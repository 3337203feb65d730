"""Changes become one revision a batch: derived in slices, invisible until whole, followed up at once (D3)."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import pytest

from peerd.app.pipeline import Pipeline
from peerd.derive.commit import Commit
from peerd.limits import SLICE_MS
from peerd.model.changes import AllocationChange, Change, ObjectChange
from peerd.model.federation import Allocation
from peerd.model.kube.core import Namespace
from peerd.model.kube.meta import ObjectKey, ObjectMeta
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.workload import Workload
from tests.support.delta import ztunnel_store

SLICE = SLICE_MS.value / 1000


class TickingClock:
    """Each look at it is *tick* seconds later than the one before: work takes time, and no time passes."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


class World:
    """Derivation that takes *steps* looks at the clock for a batch, and makes a workload of each change."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.batches: list[tuple[str, ...]] = []
        self.slices = 0
        self.begun = asyncio.Event()
        self._left = 0
        self._hosts: tuple[str, ...] = ()

    def apply(self, changes: Iterable[Change]) -> None:
        self._hosts = tuple(change.host for change in changes if isinstance(change, AllocationChange))
        self.batches.append(self._hosts)
        self._left = self.steps

    def work(self, should_yield: Callable[[], bool]) -> bool:
        self.slices += 1
        self.begun.set()
        while self._left:
            self._left -= 1
            if should_yield():
                return False
        return True

    def commit(self) -> Commit:
        assert not self._left, "committed before the batch was derived"
        uids = [f"east//Pod/shop/{host}" for host in self._hosts]
        return Commit(
            len(self.batches),
            addresses=tuple((uid, Workload(uid, uid.rpartition("/")[2], "shop")) for uid in uids),
            policies=tuple((f"shop/{host}", None) for host in self._hosts),
        )


class Sink:
    """A real store, and what was done to it."""

    def __init__(self) -> None:
        self.store = ztunnel_store()
        self.calls: list[str] = []
        self.staged: list[ResourceChange] = []

    def stage(self, changes: Iterable[ResourceChange]) -> None:
        changes = list(changes)
        self.calls.append("stage")
        self.staged += changes
        self.store.stage(changes)

    def commit(self) -> int:
        self.calls.append("commit")
        return self.store.commit()

    def visible(self) -> set[str]:
        """The names that streams see, once the merge window closed."""
        self.store.close_window()
        return {change.name for change in self.staged if self.store.collection(ADDRESS).get(change.name)}


async def nothing(_commit: Commit) -> Sequence[Change]:
    return ()


def change(host: str) -> Change:
    return AllocationChange(host, Allocation(b"", b""))


@contextlib.asynccontextmanager
async def running(pipeline: Pipeline):
    task = asyncio.ensure_future(pipeline.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_batch_of_all_that_waits_becomes_one_revision():
    """Order is kept, and policies are staged before the addresses that name them."""
    world, sink = World(), Sink()
    pipeline = Pipeline(world, sink, TickingClock(), nothing)
    pipeline.submit([change("a"), change("b")])
    pipeline.submit([change("c")])
    async with running(pipeline):
        await pipeline.quiet()
    assert world.batches == [("a", "b", "c")]
    assert pipeline.revisions == 1
    types = [each.type_url for each in sink.staged]
    assert types == [AUTHORIZATION] * 3 + [ADDRESS] * 3
    assert sink.calls.count("commit") == 1


async def test_who_waits_for_derivation_waits_for_the_batch_that_takes_what_is_queued():
    """Not for the one that is being derived, nor for later ones; at once where nothing waits."""
    world, sink = World(steps=8), Sink()
    pipeline = Pipeline(world, sink, TickingClock(SLICE), nothing)
    await pipeline.derived()
    pipeline.submit([change("a")])
    async with running(pipeline):
        await world.begun.wait()
        await pipeline.derived()
        assert pipeline.revisions == 0, "what is being derived is nobody's to wait for"
        pipeline.submit([change("b")])
        waiting = asyncio.ensure_future(pipeline.derived())
        await asyncio.sleep(0)
        pipeline.submit([change("c")])
        await waiting
        assert world.batches == [("a",), ("b", "c")]
        assert pipeline.revisions == 2


async def test_derivation_gives_the_loop_a_turn_after_each_slice():
    """A batch of 40 looks at the clock, of which a slice has four, lets others run in between."""
    world, sink = World(steps=40), Sink()
    pipeline = Pipeline(world, sink, TickingClock(SLICE / 4), nothing)
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(world.slices)
            await asyncio.sleep(0)

    pipeline.submit([change("a")])
    other = asyncio.ensure_future(others())
    async with running(pipeline):
        await pipeline.quiet()
    other.cancel()
    assert world.slices >= 8
    assert set(range(1, world.slices)) <= set(turns)


async def test_nothing_is_visible_before_the_whole_batch_is():
    """Encoding yields too, and a merge window that closes meanwhile publishes none of it."""
    world, sink = World(), Sink()
    pipeline = Pipeline(world, sink, TickingClock(SLICE), nothing)
    hosts = [f"h{number}" for number in range(10)]
    seen: list[set[str]] = []

    async def look() -> None:
        while "commit" not in sink.calls:
            seen.append(sink.visible())
            await asyncio.sleep(0)

    pipeline.submit(map(change, hosts))
    looking = asyncio.ensure_future(look())
    async with running(pipeline):
        await pipeline.quiet()
    await looking
    assert sink.calls.count("stage") > len(hosts)
    assert len(seen) > len(hosts)
    assert set().union(*seen) == set()
    assert len(sink.visible()) == len(hosts)


async def test_what_is_submitted_during_a_batch_is_the_next_one():
    """Both while it is derived and while its commit is followed up."""
    world, sink = World(steps=3), Sink()

    async def follow(_commit: Commit) -> Sequence[Change]:
        if pipeline.revisions == 2:
            pipeline.submit([change("c")])
        return ()

    pipeline = Pipeline(world, sink, TickingClock(SLICE), follow)
    pipeline.submit([change("a")])
    async with running(pipeline):
        await world.begun.wait()
        pipeline.submit([change("b")])
        await pipeline.quiet()
    assert world.batches == [("a",), ("b",), ("c",)]


async def test_of_an_object_that_changes_faster_than_it_is_derived_the_last_state_waits():
    """Memory is bounded by the objects there are, not by how long a batch takes."""
    world, batches = World(), []
    world.apply = lambda changes: batches.append(list(changes))  # type: ignore[method-assign]
    pipeline = Pipeline(world, Sink(), TickingClock(SLICE), nothing)
    for number in range(1000):
        metadata = ObjectMeta(generation=number)
        pipeline.submit([ObjectChange("Namespace", ObjectKey("", f"n{number % 2}"), Namespace(metadata))])
        pipeline.submit([change("a")])
    async with running(pipeline):
        await pipeline.quiet()
    ((*waited,),) = batches
    generations = [each.object.metadata.generation for each in waited if isinstance(each, ObjectChange)]
    assert generations == [998, 999]
    assert len(waited) == 2 + 1000


async def test_a_follow_up_begins_the_next_batch():
    """What derivation must hear at once comes before what others submitted meanwhile."""
    world, sink = World(), Sink()

    async def follow(_commit: Commit) -> Sequence[Change]:
        if pipeline.revisions > 1:
            return ()
        pipeline.submit([change("later")])
        return [change("address")]

    pipeline = Pipeline(world, sink, TickingClock(), follow)
    pipeline.submit([change("a")])
    async with running(pipeline):
        await pipeline.quiet()
    assert world.batches == [("a",), ("address", "later")]


async def test_quiet_waits_for_what_follows_and_never_returns_in_the_middle():
    """Neither between slices, nor while an allocation is written, nor before its follow-up is stored."""
    world, sink = World(steps=5), Sink()
    writing, written = asyncio.Event(), asyncio.Event()

    async def follow(_commit: Commit) -> Sequence[Change]:
        if pipeline.revisions > 1:
            return ()
        writing.set()
        await written.wait()
        return [change("address")]

    pipeline = Pipeline(world, sink, TickingClock(SLICE), follow)
    pipeline.submit([change("a")])
    waiting = asyncio.ensure_future(pipeline.quiet())
    async with running(pipeline):
        await writing.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        written.set()
        await waiting
    assert world.batches == [("a",), ("address",)]
    assert sink.calls[-1] == "commit"
    assert pipeline.revisions == 2


async def test_a_pipeline_that_has_nothing_to_do_is_quiet():
    """Before anything was submitted there is nothing to wait for."""
    await Pipeline(World(), Sink(), TickingClock(), nothing).quiet()


async def test_an_empty_submission_is_a_batch():
    """So that whatever hangs on a commit, such as a write that is tried again, gets its turn."""
    pipeline = Pipeline(world := World(), Sink(), TickingClock(), nothing)
    pipeline.submit(())
    async with running(pipeline):
        await pipeline.quiet()
    assert world.batches == [()]


@pytest.mark.parametrize("where", ["work", "commit"])
async def test_an_error_of_derivation_ends_the_run(monkeypatch, where):
    """It is a bug: fatal, not silent. Nothing of the batch is stored, and it never counts as quiet."""

    def fail(*_args: object) -> None:
        raise ZeroDivisionError("a rule divided")

    world, sink = World(), Sink()
    monkeypatch.setattr(world, where, fail)
    pipeline = Pipeline(world, sink, TickingClock(), nothing)
    pipeline.submit([change("a")])
    waiting = asyncio.ensure_future(pipeline.quiet())
    async with running(pipeline) as task:
        with pytest.raises(ZeroDivisionError):
            await task
    assert sink.calls == []
    assert not waiting.done()
    waiting.cancel()


async def test_an_error_of_what_follows_a_commit_ends_the_run():
    """A reader of commits that fails would miss changes for ever."""

    async def fail(_commit: Commit) -> Sequence[Change]:
        raise KeyError("unknown peer")

    pipeline = Pipeline(World(), Sink(), TickingClock(), fail)
    pipeline.submit([change("a")])
    async with running(pipeline) as task:
        with pytest.raises(KeyError):
            await task
