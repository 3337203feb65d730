"""The engine re-derives what changed and nothing else, in slices, and shows a batch only whole."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.derive.engine import Engine, FlowError, Input, Total


def run(engine: Engine, *puts: tuple[Any, Any, Any]) -> int:
    """Submit one batch, run it whole and commit; returns how many transformations ran."""
    before = engine.runs
    engine.submit(puts)
    assert engine.work()
    engine.commit()
    return engine.runs - before


def test_a_change_reruns_only_what_looked_at_it() -> None:
    """Of a thousand keys, those that looked at the changed record run again, and no other."""
    engine = Engine()
    pods, nodes = engine.input("pods"), engine.input("nodes")
    placed = engine.derive("placed", pods, lambda ctx, key, node: (key, ctx.get(nodes, node)))
    assert run(engine, *((pods, f"p{i:03}", f"n{i % 100}") for i in range(1000))) == 1000
    assert run(engine, (nodes, "n7", "zone-a")) == 10
    assert placed.values["p007"] == ("p007", "zone-a")
    assert run(engine, (pods, "p007", "n8")) == 1
    assert placed.values["p007"] == ("p007", None)
    assert run(engine, (nodes, "n7", "zone-b")) == 9, "p007 no longer looks at n7"


def test_an_equal_record_goes_no_further() -> None:
    """A transformation that gives what it gave before wakes nobody and is in no output."""
    engine = Engine()
    numbers = engine.input("numbers")
    parity = engine.derive("parity", numbers, lambda ctx, key, number: number % 2)
    words = engine.derive("words", parity, lambda ctx, key, odd: "odd" if odd else None)
    out = engine.output(words)
    assert run(engine, (numbers, "a", 1), (numbers, "b", 2)) == 4
    assert dict(out.take()) == {"a": "odd"}
    assert run(engine, (numbers, "a", 3)) == 1
    assert run(engine, (numbers, "a", 3)) == 0
    assert dict(out.take()) == {}
    run(engine, (numbers, "a", 4))
    assert dict(out.take()) == {"a": None}


def test_what_comes_and_goes_within_a_batch_is_no_change() -> None:
    """The output compares with the last commit, not with the steps between."""
    engine = Engine()
    numbers = engine.input("numbers")
    out = engine.output(engine.derive_many("by value", numbers, lambda ctx, key, n: {n: "here"}))
    run(engine, (numbers, "a", 1))
    assert dict(out.take()) == {1: "here"}
    run(engine, (numbers, "a", None), (numbers, "b", 1), (numbers, "c", 2), (numbers, "c", None))
    assert dict(out.take()) == {}, "1 moved from a to b and is as it was"


def test_of_two_that_give_one_key_the_smaller_source_key_wins() -> None:
    """The loser's record appears when the winner lets go, whatever came first."""
    engine = Engine()
    entries = engine.input("entries")
    hosts = engine.derive_many("hosts", entries, lambda ctx, key, names: dict.fromkeys(names, key))
    run(engine, (entries, "b", ("x", "y")))
    run(engine, (entries, "a", ("x",)))
    assert hosts.values == {"x": "a", "y": "b"}
    assert hosts.givers("x") == ("a", "b")
    run(engine, (entries, "a", ()))
    assert hosts.values == {"x": "b", "y": "b"}
    run(engine, (entries, "b", None))
    assert hosts.values == {}
    assert hosts.givers("x") == ()


def test_a_memo_is_computed_once_for_all_who_ask_and_forgotten_with_the_last() -> None:
    """A thousand askers share one computation and one dependency; nothing stays when they go."""
    engine = Engine()
    pods, services = engine.input("pods"), engine.input("services")
    by_label = engine.index("by label", services, lambda key, label: (label,))
    named = engine.index("named", services, lambda key, label: (key,))
    asked: list[str] = []

    def names(ctx: Any, label: str) -> str:
        asked.append(label)
        return ",".join(ctx.find(by_label, label)) + str(len(ctx.find(named, label)))

    memo = engine.memo("names", names)
    matched = engine.derive("matched", pods, lambda ctx, key, label: ctx.ask(memo, label))
    run(engine, (services, "s", "web"), *((pods, i, "web") for i in range(1000)))
    assert asked == ["web"]
    assert run(engine, (services, "t", "db")) == 0, "nobody asked for db"
    assert run(engine, (services, "u", "web")) == 1001
    assert matched.values[5] == "web,web0"
    run(engine, *((pods, i, None) for i in range(1000)))
    assert memo.values == {}
    assert run(engine, (services, "u", None)) == 0, "the memo has let go of its own dependencies"


def test_a_memo_that_went_stale_unwatched_is_computed_anew_when_asked_in_the_same_batch() -> None:
    """Its last watcher leaves and its input changes while a new watcher comes: the new one sees the new."""
    engine = Engine()
    pods, config = engine.input("pods"), engine.input("config")
    gate = engine.derive("gate", pods, lambda ctx, key, label: label or None)
    memo = engine.memo("memo", lambda ctx, label: (label, ctx.get(config, "c")))
    seen = engine.derive("seen", gate, lambda ctx, key, label: ctx.ask(memo, label))
    run(engine, (pods, "a", "x"), (config, "c", 1))
    run(engine, (pods, "a", "y"))
    assert set(memo.values) == {"y"}
    run(engine, (pods, "a", None), (pods, "b", "y"), (config, "c", 2))
    assert seen.values == {"b": ("y", 2)}


def test_a_joined_collection_wakes_the_same_key() -> None:
    """`same` needs no dependency of its own, and an added record is noticed."""
    engine = Engine()
    pods, extra = engine.input("pods"), engine.input("extra")
    both = engine.derive("both", pods, lambda ctx, key, pod: (pod, ctx.same(extra)), joined=(extra,))
    run(engine, (pods, "a", 1), (pods, "b", 2))
    assert run(engine, (extra, "a", "e")) == 1
    assert both.values == {"a": (1, "e"), "b": (2, None)}
    assert run(engine, (extra, "z", "e")) == 0, "there is no z to derive"


def test_a_union_prefers_the_earlier_source() -> None:
    """Of two records with one key the first source's is taken, and the other shows when it goes."""
    engine = Engine()
    first, second = engine.input("first"), engine.input("second")
    union = engine.union("union", first, second)
    run(engine, (second, "k", 2))
    assert union.values == {"k": 2}
    run(engine, (first, "k", 1))
    assert union.values == {"k": 1}
    run(engine, (first, "k", None))
    assert union.values == {"k": 2}


def test_one_change_to_an_aggregate_of_thousands_touches_one_group_and_one_contribution() -> None:
    """The contributions asked for in a batch are those of the changed record only (O(1), decision D3)."""
    engine = Engine()
    endpoints = engine.input("endpoints")
    calls: list[Any] = []

    def contributions(key: Any, endpoint: tuple[str, int]) -> list[tuple[str, int]]:
        calls.append(key)
        return [endpoint]

    capacity = engine.aggregate("capacity", (endpoints,), contributions)
    summary = engine.derive("summary", capacity, lambda ctx, key, total: total.amount)
    run(engine, *((endpoints, i, (f"service-{i % 2}", 1)) for i in range(5000)))
    assert capacity.values == {"service-0": Total(2500, 2500), "service-1": Total(2500, 2500)}
    calls.clear()
    assert run(engine, (endpoints, 4, ("service-0", 3))) == 1
    assert len(calls) == 2, "the old and the new contribution of the one that changed"
    assert summary.values == {"service-0": 2502, "service-1": 2500}
    run(engine, *((endpoints, i, None) for i in range(0, 5000, 2)))
    assert capacity.values == {"service-1": Total(2500, 2500)}


def test_work_stops_when_told_and_nothing_is_visible_before_the_commit() -> None:
    """A batch runs in single steps; a commit in between is refused; what comes meanwhile waits its turn."""
    engine = Engine()
    numbers = engine.input("numbers")
    out = engine.output(engine.derive("double", numbers, lambda ctx, key, n: 2 * n))
    engine.submit((numbers, i, i) for i in range(1, 4))
    slices = 0
    while not engine.work(lambda: True):
        slices += 1
        if slices == 1:
            engine.submit([(numbers, 1, 100)])
        with pytest.raises(RuntimeError, match="before work"):
            engine.commit()
    assert slices >= 6, "three inputs and three derivations, one step each"
    assert engine.commit() == 1
    assert dict(out.take()) == {1: 2, 2: 4, 3: 6}
    assert not engine.idle
    assert engine.work()
    assert engine.commit() == 2
    assert dict(out.take()) == {1: 200}
    assert engine.idle


def test_the_flow_cannot_run_in_a_circle() -> None:
    """A look-up of a collection that was made later is refused by name."""
    engine = Engine()
    numbers = engine.input("numbers")
    early = engine.derive("early", numbers, lambda ctx, key, n: ctx.get(later, key))
    later = engine.derive("later", numbers, lambda ctx, key, n: n)
    engine.submit([(numbers, 1, 1)])
    with pytest.raises(FlowError, match="early cannot look at later"):
        engine.work()
    with pytest.raises(FlowError, match="cannot follow"):
        later.follow(early)


def test_what_a_large_batch_replaced_is_freed_in_slices() -> None:
    """Of 5,000 replaced records none is freed at the take; the next batch frees them, one step each."""
    engine = Engine()
    numbers = engine.input("numbers")
    out = engine.output(numbers)
    run(engine, *((numbers, i, "old") for i in range(5000)))
    out.take()
    run(engine, *((numbers, i, "new") for i in range(5000)))
    assert len(out.take()) == 5000
    steps = 0
    while not engine.work(lambda: True):
        steps += 1
    engine.commit()
    assert steps >= 5000
    assert engine.work(lambda: True), "nothing is left to free"


def test_a_transformation_that_raises_harms_its_own_key_only_and_is_tried_again() -> None:
    """The fault names collection and key; it goes when what was looked at changes, or with the record."""
    engine = Engine()
    numbers, divisors = engine.input("numbers"), engine.input("divisors")
    memo = engine.memo("divisor", lambda ctx, key: 12 // (ctx.get(divisors, key) or 0))
    shares = engine.derive("shares", numbers, lambda ctx, key, n: n * ctx.ask(memo, key))
    many = engine.derive_many(
        "many", shares, lambda ctx, key, share: {f"{key}{i}": i for i in range(1 // share)}
    )
    run(engine, (numbers, "a", 1), (numbers, "b", 1), (divisors, "a", 12))
    assert shares.values == {"a": 1}
    assert many.values == {"a0": 0}
    assert list(engine.faults) == [("shares", "b")]
    run(engine, (divisors, "b", 6), (divisors, "a", 0))
    assert shares.values == {"b": 2}
    assert list(engine.faults) == [("shares", "a")]
    run(engine, (divisors, "a", 24))
    assert shares.values == {"a": 0, "b": 2}
    assert list(engine.faults) == [("many", "a")]
    assert many.values == {}
    run(engine, (numbers, "a", None), (numbers, "b", None))
    assert engine.faults == {}
    assert memo.values == {}
    assert not any(edge.watchers for table in engine._collections for edge in table._edges.values())


class Graph:
    """A small graph with every kind of collection, for comparing histories."""

    def __init__(self) -> None:
        self.engine = Engine()
        e = self.engine
        self.pods, self.services = e.input("pods"), e.input("services")
        by_label = e.index("by label", self.services, lambda key, s: (s,))
        memo = e.memo("memo", lambda ctx, label: len(ctx.find(by_label, label)))
        workloads = e.derive(
            "workloads", self.pods, lambda ctx, key, p: (p, ctx.ask(memo, p)), joined=(self.services,)
        )
        many = e.derive_many(
            "many", self.services, lambda ctx, key, s: {s: key, key: ctx.get(workloads, key) or key}
        )
        self.sums = e.aggregate("sums", (workloads, many), lambda key, r: [(str(r)[:2], 1)])
        union = e.union("union", workloads, many)
        final = e.derive("final", union, lambda ctx, key, r: (r, ctx.get(self.sums, str(r)[:2])))
        self.final, self.memo, self.out = final, memo, e.output(final)


KEYS = st.sampled_from("abcd")
EVENTS = st.lists(
    st.lists(st.tuples(st.booleans(), KEYS, st.one_of(st.none(), KEYS)), max_size=4), max_size=8
)


@given(EVENTS)
def test_any_history_gives_what_its_end_gives(history: list[list[tuple[bool, str, str | None]]]) -> None:
    """For every history: equal to a run from scratch; the emitted changes add up; no equal one is emitted."""
    graph = Graph()
    shown: dict[str, Any] = {}
    state: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for batch in history:
        for service, key, value in batch:
            if value is None:
                state[service].pop(key, None)
            else:
                state[service][key] = value
        run(graph.engine, *((graph.services if s else graph.pods, k, v) for s, k, v in batch))
        for key, record in graph.out.take():
            assert shown.get(key) != record
            if record is None:
                del shown[key]
            else:
                shown[key] = record
        assert shown == graph.final.values
    fresh = Graph()
    puts = [(fresh.pods, k, v) for k, v in state[0].items()]
    run(fresh.engine, *puts, *((fresh.services, k, v) for k, v in state[1].items()))
    assert fresh.final.values == graph.final.values
    assert fresh.sums.values == graph.sums.values
    run(graph.engine, *((table, k, None) for table in (graph.pods, graph.services) for k in "abcd"))
    assert graph.final.values == graph.sums.values == graph.memo.values == {}
    watching = [e.watchers for c in graph.engine._collections for e in c._edges.values()]
    assert not any(watching), "nobody watches anything in an empty world"


def test_equal_histories_emit_changes_in_equal_order() -> None:
    """The order follows the inputs, not the hashes of this process: a simulation replays bit for bit."""
    graph = Graph()
    run(graph.engine, *((graph.pods, key, key) for key in "dbca"), (graph.services, "x", "b"))
    assert [key for key, _ in graph.out.take()] == ["d", "b", "c", "a", "x"]


def test_a_change_of_a_common_table_runs_all_keys_again_and_memos_too() -> None:
    """Nobody's look at it is kept, so everybody counts as having looked."""
    engine = Engine()
    mode, names = engine.input("mode"), engine.input("names")
    mode.common = True
    asked = engine.memo("asked", lambda ctx, word: f"{word}{ctx.get(mode, '')}")
    single = engine.derive("single", names, lambda ctx, _key, name: f"{name}-{ctx.get(mode, '')}")
    many = engine.derive_many("many", names, lambda ctx, key, name: {f"{key}!": ctx.ask(asked, name)})
    engine.submit([(mode, "", "one"), (names, "a", "x"), (names, "b", "y")])
    engine.work()
    engine.commit()
    engine.submit([(mode, "", "two")])
    engine.work()
    engine.commit()
    assert single.values == {"a": "x-two", "b": "y-two"}
    assert many.values == {"a!": "xtwo", "b!": "ytwo"}


def test_a_filter_keeps_what_its_function_keeps_of_all_sources() -> None:
    engine = Engine()
    odd: Input[Any, Any] = engine.input("a")
    more: Input[Any, Any] = engine.input("b")
    kept = engine.filter("odd", (odd, more), lambda number: number % 2 == 1)
    seen = engine.derive("seen", kept, lambda _ctx, _key, number: number)
    for puts, expected in (
        ([(odd, "x", 1), (odd, "y", 2), (more, "z", 3)], {"x": 1, "z": 3}),
        ([(odd, "x", 4), (odd, "y", 5)], {"y": 5, "z": 3}),
        ([(odd, "y", None), (more, "z", 7)], {"z": 7}),
    ):
        engine.submit(puts)
        assert engine.work()
        engine.commit()
        assert seen.values == expected


def test_what_a_filter_does_not_keep_runs_nothing() -> None:
    engine = Engine()
    numbers: Input[Any, Any] = engine.input("numbers")
    engine.derive(
        "seen", engine.filter("odd", (numbers,), lambda number: number % 2 == 1), lambda _c, _k, n: n
    )
    engine.submit([(numbers, str(number), number * 2) for number in range(100)])
    assert engine.work()
    engine.commit()
    assert engine.runs == 0
