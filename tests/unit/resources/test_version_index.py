"""The index of versions is made in slices when somebody resumes, and gone when nobody does."""

import pytest

from peerd.model.types import ADDRESS
from peerd.model.wire import map_entry
from peerd.resources.collection import Collection
from peerd.resources.store import ResourceStore
from tests.support.delta import drop, put, ztunnel_store

SIZE = 3_500


def publish(store: ResourceStore, *changes: object) -> None:
    store.commit(changes)  # type: ignore[arg-type]
    store.close_window()


@pytest.fixture
def store() -> ResourceStore:
    store = ztunnel_store()
    publish(store, *(put(f"n{number}", b"1") for number in range(SIZE)))
    return store


def exact(collection: Collection) -> None:
    """What is published, offered as it is, differs in nothing; and nothing else is known."""
    entries = {map_entry(name, collection.get(name).version) for name in collection.names()}  # type: ignore[union-attr]
    assert collection.unknown(entries) == []
    difference = collection.difference(entries)
    assert (difference.puts, difference.removals) == ((), ())
    assert collection.difference(set()).puts == tuple(sorted(collection.names()))


def test_what_is_published_while_it_is_made_is_in_it(store: ResourceStore) -> None:
    """Names that were entered already and names that were not: changed, gone and new."""
    collection = store.collection(ADDRESS)
    steps = collection.indexing()
    next(steps)
    publish(store, put("n0", b"2"), drop("n1"), put("new", b"1"), put("n3400", b"2"), drop("n3401"))
    next(steps)
    publish(store, put("n1", b"3"), drop("new"))
    assert len(list(steps)) == 1
    assert collection.indexed
    exact(collection)


def test_a_large_window_in_the_middle_begins_it_anew(store: ResourceStore) -> None:
    collection = store.collection(ADDRESS)
    steps = collection.indexing()
    next(steps)
    publish(store, *(put(f"n{number}", b"2") for number in range(2_000)))
    assert not collection.indexed
    assert len(list(steps)) == 3
    exact(collection)


def test_two_streams_make_one_index_together(store: ResourceStore) -> None:
    collection = store.collection(ADDRESS)
    first, second = collection.indexing(), collection.indexing()
    assert [next(first), next(second), next(first)] == [None] * 3
    assert list(second) == []
    assert list(first) == []
    exact(collection)


def test_it_is_kept_while_somebody_asks_and_then_freed(store: ResourceStore) -> None:
    collection = store.collection(ADDRESS)
    exact(collection)
    store.forget_frames()
    assert collection.indexed, "asked since the last time"
    store.forget_frames()
    assert not collection.indexed
    exact(collection)
