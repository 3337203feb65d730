"""The resource store: revisions, windows, spans, resume."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.limits import RESPONSE_BYTES, hits
from peerd.model.address import NetworkAddress
from peerd.model.horizon import BehindHorizonError
from peerd.model.resource import ResourceChange
from peerd.model.steps import whole
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.wire import map_entry
from peerd.protocol.envelope import parse_delta_response
from peerd.resources.store import ResourceStore, UnknownTypeError
from peerd.resources.version_index import Difference
from tests.support.delta import drop, policy, put, resource, ztunnel_store


def publish(store: ResourceStore, *changes: ResourceChange) -> int:
    store.commit(changes)
    store.close_window()
    return store.revision


def contents(frames: tuple) -> tuple[dict[str, bytes], set[str]]:
    """What a client has after these frames, and what it dropped."""
    held: dict[str, bytes] = {}
    removed: set[str] = set()
    for each in frames:
        response = parse_delta_response(each.message)
        held.update({r.name: r.payload for r in response.resources})
        removed.update(response.removed)
    return held, removed


def test_one_commit_is_one_revision_over_all_types() -> None:
    store = ztunnel_store()
    assert store.commit([put("w", b"1"), policy("ns/p", b"1")]) == 1
    assert store.commit([put("w", b"2")]) == 2


def test_nothing_is_visible_before_its_window_closes() -> None:
    """Streams see closed windows only, so that a cursor is never inside one (D4)."""
    store = ztunnel_store()
    store.stage([put("w", b"1")])
    store.close_window()
    assert store.collection(ADDRESS).get("w") is None
    store.commit()
    assert store.collection(ADDRESS).get("w") is None
    assert store.open
    store.close_window()
    assert store.collection(ADDRESS).get("w") == resource("w", b"1")
    assert store.revision == store.head == 1


def test_equal_bytes_commit_nothing() -> None:
    store = ztunnel_store()
    publish(store, put("w", b"1"))
    assert store.commit([put("w", b"1"), drop("absent")]) == 1
    assert not store.open


def test_a_change_taken_back_within_its_window_publishes_nothing() -> None:
    store = ztunnel_store()
    publish(store, put("w", b"1"))
    store.commit([put("w", b"2")])
    store.commit([put("w", b"1")])
    assert store.close_window() == {}
    assert store.collection(ADDRESS).changes(1) == ()


def test_staging_back_what_is_published_takes_back_what_was_staged() -> None:
    store = ztunnel_store()
    publish(store, put("w", b"1"))
    store.stage([put("w", b"2")])
    store.stage([put("w", b"1")])
    assert store.commit() == 1


def test_the_first_commit_opens_a_window_and_the_next_one_does_not() -> None:
    store = ztunnel_store()
    opened: list[int] = []
    store.when_opened(lambda: opened.append(store.head))
    store.commit([put("a")])
    store.commit([put("b")])
    store.close_window()
    store.commit([put("c")])
    assert opened == [1, 3]


def test_a_type_that_is_not_held_is_refused_and_commits_nothing() -> None:
    store = ztunnel_store()
    with pytest.raises(UnknownTypeError):
        store.commit([put("w", type_url="other")])
    assert store.head == 0
    with pytest.raises(UnknownTypeError):
        store.collection("other")


def test_streams_at_the_same_cursor_share_the_same_bytes_object() -> None:
    store = ztunnel_store()
    first = publish(store, put("a"))
    publish(store, put("b"))
    collection = store.collection(ADDRESS)
    assert collection.changes(first)[0].message is collection.changes(first)[0].message
    assert collection.snapshot()[0].message is collection.snapshot()[0].message


def test_a_span_holds_the_net_change_in_the_order_it_was_made() -> None:
    store = ztunnel_store()
    start = publish(store, put("kept", b"1"), put("goes"), put("flaps", b"1"))
    publish(store, put("kept", b"2"), drop("goes"), put("brief"), drop("flaps"))
    publish(store, drop("brief"), put("flaps", b"2"), put("new"))
    frames = store.collection(ADDRESS).changes(start)
    assert contents(frames) == ({"kept": b"2", "flaps": b"2", "new": b""}, {"goes"})
    assert (frames[0].resources, frames[0].removals) == (3, 1)


def test_a_type_without_changes_has_an_empty_span() -> None:
    store = ztunnel_store()
    start = publish(store, put("a"))
    publish(store, policy("ns/p"))
    assert store.collection(ADDRESS).changes(start) == ()


def test_removals_by_themselves_stop_at_their_cause_and_spare_what_came_back() -> None:
    """A policy removed, made again and removed anew may only go with its last removal (D8)."""
    store = ztunnel_store()
    start = publish(store, policy("ns/a"), policy("ns/b"), policy("ns/c"))
    gone = publish(store, drop("ns/a", AUTHORIZATION), drop("ns/b", AUTHORIZATION))
    publish(store, policy("ns/b"))
    again = publish(store, drop("ns/b", AUTHORIZATION), drop("ns/c", AUTHORIZATION))
    policies = store.collection(AUTHORIZATION)
    assert contents(policies.removals(start, gone))[1] == {"ns/a"}
    assert contents(policies.removals(gone, again))[1] == {"ns/b", "ns/c"}
    assert policies.removals(gone, again)[0].nonce == "test-2-4-r"
    assert policies.changes(start, removals=False) == ()


def test_a_span_from_before_the_horizon_is_refused() -> None:
    store = ztunnel_store(log_names=3)
    start = publish(store, put("a"))
    for index in range(4):
        publish(store, put(f"n{index}"))
    collection = store.collection(ADDRESS)
    assert collection.log.horizon == 2
    assert contents(collection.changes(2))[0].keys() == {"n1", "n2", "n3"}
    with pytest.raises(BehindHorizonError):
        collection.changes(start)


def test_one_window_larger_than_the_log_is_kept_whole() -> None:
    """Else every connected stream would have to reconnect after each large change."""
    store = ztunnel_store(log_names=2)
    start = publish(store, put("a"))
    publish(store, *(put(f"n{index}") for index in range(10)))
    assert len(contents(store.collection(ADDRESS).changes(start))[0]) == 10


def test_an_answer_past_the_message_limit_comes_in_several_and_is_counted() -> None:
    store = ztunnel_store(response_bytes=200)
    publish(store, *(put(f"n{index}", b"x" * 40) for index in range(9)), put("gone"))
    before = hits(RESPONSE_BYTES)
    frames = store.snapshot(ADDRESS)
    assert hits(RESPONSE_BYTES) == before + 1
    assert len(frames) > 3
    assert max(len(each.message) for each in frames) < 320
    assert contents(frames)[0].keys() == {*(f"n{index}" for index in range(9)), "gone"}
    assert sum(each.resources for each in frames) == 10
    assert len({each.nonce for each in frames}) == len(frames)
    assert {each.revision for each in frames} == {1}


def test_chunks_count_resources_and_removals_apart() -> None:
    store = ztunnel_store(response_bytes=100)
    frames = store.collection(ADDRESS).answer("x", (), [f"removed-{index}-{'x' * 30}" for index in range(5)])
    assert sum(each.removals for each in frames) == 5
    assert sum(each.resources for each in frames) == 0
    assert len(frames) > 1


def test_an_alias_that_is_an_address_is_found_by_its_text() -> None:
    """And beside one that is text already: two resources may have the same key."""
    store = ztunnel_store()
    four, block = NetworkAddress("net", bytes([1, 1, 1, 1])), NetworkAddress("net", bytes([10, 0, 0, 0]), 8)
    publish(store, put("a", aliases=(four, block)), put("b", aliases=("net/1.1.1.1",)))
    collection = store.collection(ADDRESS)
    assert collection.resolve("net/1.1.1.1") == ("a", "b")
    assert collection.resolve("net/10.0.0.0/8") == ("a",)
    assert collection.resolve("other/1.1.1.1") == collection.resolve("net/1.1.1.1/32") == ()
    publish(store, put("a", b"2", aliases=(block,)), drop("b"))
    assert collection.resolve("net/1.1.1.1") == ()
    publish(store, drop("a"))
    assert collection._aliases == {}


def test_look_ups_follow_aliases_and_groups_as_they_move() -> None:
    store = ztunnel_store()
    publish(store, put("a", b"1", aliases=("net/1.1.1.1",), groups=("node/x",)))
    collection = store.collection(ADDRESS)
    assert collection.resolve("net/1.1.1.1") == ("a",)
    assert collection.resolve("a") == ("a",)
    assert collection.members("node/x") == ("a",)
    publish(
        store,
        put("a", b"2", aliases=("net/2.2.2.2",), groups=("node/x",)),
        put("b", aliases=("net/1.1.1.1",)),
    )
    assert collection.resolve("net/1.1.1.1") == ("b",)
    assert collection.resolve("net/2.2.2.2") == ("a",)
    publish(store, drop("a"), drop("b"))
    assert collection.resolve("net/2.2.2.2") == collection.members("node/x") == ()


def test_look_ups_see_nothing_that_is_only_committed() -> None:
    store = ztunnel_store()
    store.commit([put("a", aliases=("net/1.1.1.1",), groups=("g",))])
    assert store.collection(ADDRESS).resolve("net/1.1.1.1") == ()
    assert store.collection(ADDRESS).members("g") == ()


def test_indexes_do_not_grow_with_versions_that_were_never_published() -> None:
    """A Pod whose address changes within a window leaves no alias behind."""
    store = ztunnel_store()
    for index in range(20):
        store.stage([put("a", b"%d" % index, aliases=(f"net/{index}",), groups=(f"g{index}",))])
        if index % 3 == 0:
            store.commit()
    store.commit()
    store.close_window()
    publish(store, drop("a"))
    collection = store.collection(ADDRESS)
    assert collection._aliases == collection._groups == {}


def test_the_digest_depends_on_content_alone() -> None:
    one, other = ztunnel_store(), ztunnel_store()
    publish(one, put("a", b"1"), put("b", b"2"))
    publish(other, put("b", b"9"))
    publish(other, put("b", b"2"), put("a", b"1"))
    assert one.collection(ADDRESS).digest() == other.collection(ADDRESS).digest()
    publish(other, put("a", b"3"))
    assert one.collection(ADDRESS).digest() != other.collection(ADDRESS).digest()


def test_forgotten_frames_are_made_again_equal() -> None:
    store = ztunnel_store()
    publish(store, put("a"))
    before = store.snapshot(ADDRESS)[0]
    store.forget_frames()
    assert store.snapshot(ADDRESS)[0] == before


steps = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.sampled_from([b"1", b"2", b"3"]))),
        max_size=5,
    ),
    max_size=12,
)


@given(steps, st.integers(0, 12))
def test_any_span_takes_a_client_to_the_present(windows: list, start: int) -> None:
    """Snapshot at one window plus the span from it equals the present, whatever happened in between."""
    store = ztunnel_store()
    collection = store.collection(ADDRESS)
    client: dict[str, bytes] = {}
    cursor = 0
    for index, changes in enumerate(windows):
        publish(store, *(put(n, b) if b is not None else drop(n) for n, b in changes))
        if index == min(start, len(windows) - 1):
            client = contents(collection.snapshot())[0]
            cursor = store.revision
    held, removed = contents(collection.changes(cursor))
    assert removed <= client.keys(), "a name the client never had is removed"
    for name in removed:
        del client[name]
    client.update(held)
    assert client == contents(collection.snapshot())[0]
    entries = {map_entry(n, resource(n, b).version) for n, b in client.items()}
    assert whole(collection.compare(entries)) == Difference((), (), (), whole=False)
