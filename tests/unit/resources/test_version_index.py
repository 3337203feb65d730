"""What a client that resumes lacks: the index of versions, made in slices when somebody resumes."""

from collections.abc import Iterable

import pytest

from peerd.model.steps import whole
from peerd.model.types import ADDRESS
from peerd.model.wire import field, map_entry
from peerd.resources.collection import Collection
from peerd.resources.store import ResourceStore
from peerd.resources.version_index import Difference, MalformedVersionsError
from tests.support.delta import drop, put, resource, ztunnel_store

SIZE = 3_500
NOTHING = Difference((), (), (), whole=False)


def publish(store: ResourceStore, *changes: object) -> None:
    store.commit(changes)  # type: ignore[arg-type]
    store.close_window()


def compare(collection: Collection, held: Iterable[bytes]) -> Difference:
    return whole(collection.compare(held))


def entries(collection: Collection) -> list[bytes]:
    """Of a client that holds everything."""
    return [map_entry(name, collection.get(name).version) for name in collection.names()]  # type: ignore[union-attr]


def exact(collection: Collection) -> None:
    """What is published, offered as it is, differs in nothing; and nothing else is known."""
    assert compare(collection, entries(collection)) == NOTHING
    assert sorted(compare(collection, ()).lacking) == sorted(collection.names())


@pytest.fixture
def store() -> ResourceStore:
    store = ztunnel_store()
    publish(store, *(put(f"n{number}", b"1") for number in range(SIZE)))
    return store


def test_a_client_that_holds_everything_lacks_nothing() -> None:
    store = ztunnel_store()
    publish(store, put("a", b"1"), put("b", b"2"))
    held = [map_entry(name, resource(name, body).version) for name, body in (("b", b"2"), ("a", b"1"))]
    assert compare(store.collection(ADDRESS), held) == NOTHING


def test_a_resume_names_what_is_missing_what_differs_and_what_is_gone() -> None:
    store = ztunnel_store()
    publish(store, put("same", b"1"), put("other", b"2"), put("missing", b"3"), put("empty", b"4"))
    held = (
        map_entry("same", resource("same", b"1").version),
        map_entry("other", "feed"),
        map_entry("gone", "feed"),
        map_entry("empty", ""),  # as ztunnel up to 1.30 says of everything
    )
    difference = compare(store.collection(ADDRESS), held)
    assert difference == Difference(("missing",), ("other", "empty"), ("gone",), whole=False)


def test_a_map_entry_encoded_another_way_is_understood() -> None:
    """Value before key, or a field left out, is the same map to protobuf."""
    store = ztunnel_store()
    publish(store, put("a", b"1"), put("b", b"2"))
    version = resource("a", b"1").version
    held = (field(2, version.encode()) + field(1, b"a"), field(1, b"b"))
    assert compare(store.collection(ADDRESS), held) == Difference((), ("b",), (), whole=False)


@pytest.mark.parametrize(
    "entry", [b"\x0a\x05ab", b"\x0a", b"\x08\x01", b"\x0a\x01\xff", b"\x0a" + b"\xff" * 11]
)
def test_versions_that_are_no_map_entries_are_refused(entry: bytes) -> None:
    with pytest.raises(MalformedVersionsError):
        compare(ztunnel_store().collection(ADDRESS), (entry,))


def test_whoever_holds_nothing_of_much_as_it_is_gets_everything(store: ResourceStore) -> None:
    """Empty versions, as older ztunnels send: one first answer serves them all. A single true one is kept."""
    collection = store.collection(ADDRESS)
    empty = [map_entry(name, "") for name in collection.names()]
    difference = compare(collection, [*empty, map_entry("gone", "")])
    assert (difference.whole, difference.removals) == (True, ("gone",))
    assert set(difference.differing) == set(collection.names())
    assert not compare(collection, [*empty[1:], entries(collection)[0]]).whole


def test_what_is_published_while_it_is_made_is_in_it(store: ResourceStore) -> None:
    """Names that were entered already and names that were not: changed, gone and new."""
    collection = store.collection(ADDRESS)
    steps = collection.compare(())
    next(steps)
    publish(store, put("n0", b"2"), drop("n1"), put("new", b"1"), put("n3400", b"2"), drop("n3401"))
    next(steps)
    publish(store, put("n1", b"3"), drop("new"))
    whole(steps)
    assert collection.indexed
    exact(collection)


def test_a_large_window_in_the_middle_begins_it_anew(store: ResourceStore) -> None:
    """For those who ask later; who asked before goes on with what there was."""
    collection = store.collection(ADDRESS)
    held = entries(collection)
    steps = collection.compare(held)
    next(steps)
    publish(store, *(put(f"n{number}", b"2") for number in range(2_000)))
    assert not collection.indexed
    assert set(whole(steps).differing) <= {f"n{number}" for number in range(2_000)}
    assert not collection.indexed
    exact(collection)


def test_two_streams_make_one_index_together(store: ResourceStore) -> None:
    collection = store.collection(ADDRESS)
    first, second = collection.compare(()), collection.compare(())
    assert [next(first), next(second), next(first)] == [None] * 3
    assert sorted(whole(second).lacking) == sorted(whole(first).lacking) == sorted(collection.names())


def test_it_is_kept_while_somebody_asks_and_then_freed(store: ResourceStore) -> None:
    collection = store.collection(ADDRESS)
    exact(collection)
    store.forget_frames()
    assert collection.indexed, "asked since the last time"
    store.forget_frames()
    assert not collection.indexed
    exact(collection)


def test_places_of_what_went_are_taken_by_what_comes(store: ResourceStore) -> None:
    """An index that is asked for ever does not grow with what has been."""
    collection = store.collection(ADDRESS)
    exact(collection)
    for turn in range(50):
        publish(store, *(put(f"n{number}", b"%d" % turn) for number in range(0, 200, 2)))
        publish(store, *(drop(f"x{turn - 1}"), put(f"x{turn}")))
    exact(collection)
    assert collection._index is not None
    assert len(collection._index._names) <= SIZE + 200
