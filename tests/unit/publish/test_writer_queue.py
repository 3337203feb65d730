"""The writer's queue: each entry once, in its order, at its time."""

import pytest

from peerd.kubeapi.resources import SERVICE_ENTRY
from peerd.publish.ref import Ref
from peerd.publish.writer_entry import Entry
from peerd.publish.writer_queue import Queue


def entry(name: str, *, order: int = 0, gone: bool = False) -> Entry:
    found = Entry(Ref(SERVICE_ENTRY, "shop", name), lambda _type: False)
    found.order, found.wanted = order, None if gone else b"{}"
    return found


def popped(queue: Queue) -> list[str]:
    """Names of all that are ready, in order."""
    found = []
    while (each := queue.pop()) is not None:
        found.append(each.ref.name)
    return found


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_writes_come_in_order_and_deletions_last_and_backwards(queue: Queue) -> None:
    """What selects before what is selected; on the way out the other way round."""
    for each in (entry("d", gone=True), entry("b", order=1), entry("c", order=1, gone=True), entry("a")):
        queue.add(each, 0.0, 0.0)
    assert popped(queue) == ["a", "b", "c", "d"]
    assert queue.pending == 0


def test_an_entry_is_in_it_once(queue: Queue) -> None:
    """Added again it has its last turn only, wherever it was before."""
    first = entry("a")
    queue.add(first, 0.0, 0.0)
    queue.add(first, 0.0, 5.0)
    assert queue.pending == 1
    assert popped(queue) == []
    assert queue.until_due(1.0) == 4.0
    assert list(queue.due(5.0)) == []
    assert popped(queue) == ["a"]


def test_what_is_removed_has_no_turn(queue: Queue) -> None:
    """Not when it was ready, and not when it waited."""
    ready, waiting = entry("a"), entry("b")
    queue.add(ready, 0.0, 0.0)
    queue.add(waiting, 0.0, 1.0)
    for each in (ready, waiting, waiting):
        queue.remove(each)
    assert queue.pending == 0
    assert list(queue.due(9.0)) == []
    assert popped(queue) == []


def test_a_look_is_no_write(queue: Queue) -> None:
    """It is given back at its time, the last look only, and does not count as pending."""
    looked = entry("a")
    queue.look_at(looked, 3.0)
    queue.look_at(looked, 5.0)
    assert queue.pending == 0
    assert list(queue.due(4.0)) == []
    assert list(queue.due(5.0)) == [looked]
    assert popped(queue) == []


def test_two_entries_of_one_object_do_not_meet(queue: Queue) -> None:
    """An object that was forgotten and wanted again at the same moment: the old entry has no turn."""
    old, new = entry("a"), entry("a")
    queue.add(old, 0.0, 1.0)
    queue.remove(old)
    queue.add(new, 0.0, 1.0)
    assert list(queue.due(1.0)) == []
    assert queue.pop() is new
    assert queue.pop() is None


def test_a_change_wakes_and_ends_idleness(queue: Queue) -> None:
    """Whoever waits for either hears of it."""
    assert queue.idle.is_set()
    queue.wake.clear()
    queue.add(entry("a"), 0.0, 0.0)
    assert queue.wake.is_set()
    assert not queue.idle.is_set()
