"""The merge window: opened by the first change, never extended, closed in slices where it gathered much."""

import asyncio

from peerd.limits import MERGE_WINDOW_MS
from peerd.model.resource import Resource, ResourceChange
from peerd.model.types import ADDRESS
from peerd.protocol.interest import Interest
from peerd.resources.store import ResourceStore
from peerd.serve.window import MergeWindow


class Sleeper:
    """Notes how much was visible whenever it was woken."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self.seen: list[tuple[int, int]] = []
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.seen.append((self._store.revision, len(self._store.collection(ADDRESS))))
        self.woken.set()


def many(first: int, count: int) -> list[ResourceChange]:
    return [
        ResourceChange(ADDRESS, f"n{index}", Resource(f"n{index}", "1", b"frame%d" % index))
        for index in range(first, first + count)
    ]


def window() -> tuple[ResourceStore, Sleeper, MergeWindow]:
    store = ResourceStore([ADDRESS], "i")
    sleeper = Sleeper(store)
    return store, sleeper, MergeWindow(store, Interest(), lambda: [sleeper], seconds=0.0)


async def test_a_small_window_is_published_by_one_timer():
    store, sleeper, merge = window()
    store.commit(many(0, 3))
    store.commit(many(3, 2))

    await sleeper.woken.wait()

    assert sleeper.seen == [(2, 5)]
    merge.close()


async def test_a_window_closes_on_time_whatever_else_comes(monkeypatch):
    """MERGE_WINDOW_MS from its first change; others set no timer of their own."""
    store = ResourceStore([ADDRESS], "i")
    timers = []
    loop = asyncio.get_running_loop()
    real = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda wait, *rest: timers.append(wait) or real(wait, *rest))
    sleeper = Sleeper(store)
    merge = MergeWindow(store, Interest(), lambda: [sleeper])
    for number in range(5):
        store.commit(many(number, 1))
    assert timers == [MERGE_WINDOW_MS.value / 1000]
    await sleeper.woken.wait()
    assert sleeper.seen == [(5, 5)], "woken once, for all of it"
    merge.close()


async def test_a_large_window_lets_others_run_and_is_seen_whole():
    """What comes while it closes opens the next one, which is published too."""
    store, sleeper, merge = window()
    store.commit(many(0, 5_000))
    turns = 0
    for _ in range(1_000):
        if store._closing_head and store.head == 1:
            store.commit(many(10_000, 1))
        turns += bool(store._closing_head) and not sleeper.seen
        if len(sleeper.seen) == 2:
            break
        await asyncio.sleep(0)

    assert turns > 3
    assert sleeper.seen == [(1, 5_000), (2, 5_001)]
    merge.close()


async def test_what_was_committed_can_be_waited_for():
    """All of it is visible then, also what was committed while a large window was closing."""
    store, _, merge = window()
    store.commit(many(0, 5_000))
    merge.publish()
    await asyncio.sleep(0)
    store.commit(many(10_000, 5_000))

    await merge.published()

    assert len(store.collection(ADDRESS)) == 10_000
    merge.close()


async def test_a_closed_window_publishes_no_more():
    store, sleeper, merge = window()
    store.commit(many(0, 5_000))
    merge.publish()
    merge.close()

    for _ in range(20):
        await asyncio.sleep(0)

    assert sleeper.seen == []


async def test_the_age_of_a_revision_counts_from_its_first_change():
    """Whether its window is closed at once or in slices; of windows long ago nothing is known."""
    store, sleeper, merge = window()
    loop = asyncio.get_running_loop()
    began = loop.time()
    store.commit(many(0, 3))
    await sleeper.woken.wait()
    age = merge.age(store.revision)
    assert age is not None
    assert 0 < age <= loop.time() - began
    assert merge.age(store.revision + 1) is None
    sleeper.woken.clear()
    store.commit(many(0, 5_000))
    await sleeper.woken.wait()
    assert 0 < merge.age(store.revision) < age + loop.time() - began
    first = store.revision
    for number in range(300):
        store.commit(many(number + 7_000, 1))
        merge.publish()
    assert merge.age(first) is None
    assert len(merge._changes) <= 256
    merge.close()
