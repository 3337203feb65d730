"""A window that is closed in slices: invisible until its end, whole at its end, nothing lost beside it."""

from collections.abc import Generator

from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.model.resource import Resource, ResourceChange
from peerd.model.steps import whole
from peerd.model.types import ADDRESS
from peerd.model.wire import map_entry
from peerd.resources import collection as collections
from peerd.resources.store import ResourceStore
from peerd.resources.version_index import Difference


def put(name: str, value: str, alias: str = "") -> ResourceChange:
    frame = f"{name}={value}".encode()
    return ResourceChange(ADDRESS, name, Resource(name, value, frame, (alias,) if alias else ()))


def drop(name: str) -> ResourceChange:
    return ResourceChange(ADDRESS, name, None)


def finish(steps: Generator[None, None, object]) -> object:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def many(count: int, value: str) -> list[ResourceChange]:
    return [put(f"n{index}", value) for index in range(count)]


def test_nothing_is_visible_before_the_last_slice():
    """D3: no half of a batch, however long publishing takes."""
    store = ResourceStore([ADDRESS], "i")
    store.commit(many(3_000, "1"))
    steps = store.closing()
    slices = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            published = end.value[ADDRESS]
            break
        slices += 1
        assert (len(store.collection(ADDRESS)), store.revision) == (0, 0)

    assert slices >= 3
    assert len(published) == len(store.collection(ADDRESS)) == 3_000
    assert store.revision == 1


def test_what_is_committed_meanwhile_belongs_to_the_next_window():
    """Also where it takes back what is being published: the next window must say so."""
    store = ResourceStore([ADDRESS], "i")
    opened: list[int] = []
    store.when_opened(lambda: opened.append(store.head))
    store.commit([put("a", "1")])
    store.close_window()
    store.commit([put("a", "2"), *many(2_500, "1")])
    steps = store.closing()
    next(steps)
    store.commit([put("a", "1"), drop("n7")])

    finish(steps)

    assert store.collection(ADDRESS).get("a").version == "2"
    assert store.collection(ADDRESS).get("n7") is not None
    assert store.open
    assert opened == [1, 2, 3]
    changes = store.close_window()[ADDRESS]
    assert {each.name for each in changes} == {"a", "n7"}
    assert store.collection(ADDRESS).get("a").version == "1"
    assert store.collection(ADDRESS).get("n7") is None


def test_committing_what_is_being_published_again_changes_nothing():
    store = ResourceStore([ADDRESS], "i")
    store.commit(many(2_500, "1"))
    steps = store.closing()
    next(steps)
    head = store.head

    store.commit([put("n3", "1")])
    finish(steps)

    assert store.head == head
    assert not store.open


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _NAMES, st.sampled_from(["1", "2"]), st.sampled_from(["", "x", "y"])),
        st.tuples(st.just("drop"), _NAMES),
        st.tuples(st.just("close")),
        st.tuples(st.just("step")),
    ),
    max_size=40,
)


@given(_STEPS)
@settings(max_examples=400)
def test_any_interleaving_ends_as_a_dictionary_does(steps):
    """Commits at any point of closings: content, aliases and resume versions are those of the last ones."""
    size, collections._SLICE = collections._SLICE, 1  # every name is a slice, and the swap is taken
    try:
        store, model = ResourceStore([ADDRESS], "i"), {}
        closing = None
        for step in steps:
            match step:
                case ("put", name, value, alias):
                    store.commit([put(name, value + alias, alias)])
                    model[name] = (value + alias, alias)
                case ("drop", name):
                    store.commit([drop(name)])
                    model.pop(name, None)
                case ("close",) if closing is None:
                    closing = store.closing()
                case ("step",) if closing is not None:
                    closing = None if next(closing, "end") == "end" else closing
        if closing is not None:
            finish(closing)
        store.close_window()
    finally:
        collections._SLICE = size

    held = store.collection(ADDRESS)
    assert {name: held.get(name).version for name in held.names()} == {n: v for n, (v, _) in model.items()}
    for alias in ("x", "y"):
        assert held.resolve(alias) == tuple(sorted(name for name, (_, a) in model.items() if a == alias))
    entries = {map_entry(name, version) for name, (version, _) in model.items()}
    assert whole(held.compare(entries)) == Difference((), (), (), whole=False)
