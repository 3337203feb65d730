"""Derived collections with tracked dependencies: what changed is re-derived, and nothing else (decision D3).

A program is a graph of collections (keyed tables of frozen records), built once, in the order of the flow: a
collection may look only at collections made before it. Records enter through inputs; every other collection
computes its records by pure functions of what it looks at, and the engine remembers who looked at what.

    engine = Engine()
    pods: Input[str, Pod] = engine.input("pods")
    nodes: Input[str, Node] = engine.input("nodes")
    workloads = engine.derive("workloads", pods, lambda ctx, key, pod: locate(pod, ctx.get(nodes, pod.node)))
    out = engine.output(workloads)

    engine.submit([(pods, "shop/a", pod), (nodes, "n1", node)])  # queued: one batch
    while not engine.work(should_yield):                         # runs in slices, in topological order
        ...                                                      # nothing is visible yet
    engine.commit()                                              # one revision
    out.take()                                                   # (key, record or None) of what changed

The kinds of collection: `input`; `derive` (at most one record for each record); `derive_many` (any number of
records for each record); `index` (records grouped under keys of their own); `union`; `memo` (looked up by any
argument, computed when first asked, forgotten when nobody asks any more); `aggregate` (sums: one change costs
O(1), however many records contribute). A record that comes out equal to the one before goes no further.

Order never matters: dirty keys are kept in insertion order, so that equal histories give equal runs, and
results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Generic, NamedTuple, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
K2 = TypeVar("K2", bound=Hashable)
V2 = TypeVar("V2")


class FlowError(ValueError):
    """The graph is built wrongly: a collection looks at one that was made after it."""


class Total(NamedTuple):
    """The value of an aggregate's group: how many contributions it has, and their sum."""

    records: int
    amount: int


class _Edge:
    """Who looks at which keys of `table`, among the keys of one dependent. Insertion-ordered sets."""

    __slots__ = ("table", "watchers")

    def __init__(self, table: Collection[Any, Any]) -> None:
        self.table = table
        self.watchers: dict[Any, dict[Any, None]] = {}

    def forget(self, key: Any, watcher: Any) -> None:
        watchers = self.watchers[key]
        del watchers[watcher]
        if not watchers:
            del self.watchers[key]
            self.table.unwatched(key)


# What one key looked at: edge, key, edge, key, ... (flat, since there may be 50,000 of them).
_Lookups = tuple[Any, ...]


class Collection(Generic[K, V]):
    """A keyed table of records. Read `values` between commits only; transformations use `Context`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.rank = engine.enroll(self)
        self.values: dict[K, V] = {}
        self.dirty: dict[Any, None] = {}
        self._edges: dict[Collection[Any, Any], _Edge] = {}
        self._same_key: list[Collection[K, Any]] = []
        self._listeners: list[Callable[[K, V | None, V | None], None]] = []

    def edge(self, dependent: Collection[Any, Any]) -> _Edge:
        """The edge over which *dependent* looks at this collection.

        Raises:
            FlowError: *dependent* was made before this collection, so the flow would run in a circle.
        """
        edge = self._edges.get(dependent)
        if edge is None:
            if self.rank >= dependent.rank:
                raise FlowError(f"{dependent.name} cannot look at {self.name}, which was made after it")
            edge = self._edges[dependent] = _Edge(self)
        return edge

    def follow(self, dependent: Collection[K, Any]) -> None:
        """Mark the same key of *dependent* dirty whenever a record changes."""
        if self.rank >= dependent.rank:
            raise FlowError(f"{dependent.name} cannot follow {self.name}, which was made after it")
        self._same_key.append(dependent)

    def listen(self, listener: Callable[[K, V | None, V | None], None]) -> None:
        """Call `listener(key, old, new)` at every change."""
        self._listeners.append(listener)

    def set(self, key: K, record: V | None) -> None:
        """Put a record, or with None remove it, and mark dirty whoever looked at the key."""
        values = self.values
        old = values.get(key)
        if old is record or old == record:
            return
        if record is None:
            del values[key]
        else:
            values[key] = record
        for dependent in self._same_key:
            dependent.dirty[key] = None
        for dependent, edge in self._edges.items():
            watchers = edge.watchers.get(key)
            if watchers:
                dependent.dirty.update(watchers)
        for listener in self._listeners:
            listener(key, old, record)

    def watched(self, key: K) -> bool:
        """Whether anybody looks at *key*."""
        return any(key in edge.watchers for edge in self._edges.values())

    def unwatched(self, key: K) -> None:
        """Hook: the last watcher of an edge let go of *key*."""

    def run(self, key: Any) -> None:
        """Bring one dirty key up to date."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Hook: the batch has been run; forget what nobody needs."""


class Input(Collection[K, V]):
    """Records from outside, changed only through `Engine.submit`."""


class Context:
    """What a transformation looks at the world through; every look-up becomes a dependency."""

    __slots__ = ("_key", "_lookups", "_owner")

    def __init__(self, owner: Collection[Any, Any]) -> None:
        self._owner = owner
        self._lookups: list[Any] = []
        self._key: Any = None

    def get(self, table: Collection[K, V], key: K) -> V | None:
        """The record of *key* in *table*, or None; of an index, the tuple of records of its group."""
        edge = table._edges.get(self._owner) or table.edge(self._owner)  # noqa: SLF001 - the hot path
        self._lookups += (edge, key)
        return table.values.get(key)

    def find(self, index: Index[K2, V2], key: K2) -> tuple[V2, ...]:
        """The records of an index's group in the order of their keys, empty where there is none."""
        return self.get(index, key) or ()

    def ask(self, memo: Memo[K, V], argument: K) -> V:
        """The memo's value for *argument*, computed now where nobody has asked before."""
        edge = memo._edges.get(self._owner) or memo.edge(self._owner)  # noqa: SLF001 - the hot path
        self._lookups += (edge, argument)
        try:
            return memo.values[argument]
        except KeyError:
            return memo.compute(argument)

    def same(self, table: Collection[K, V]) -> V | None:
        """The record of a joined table under the key being derived; needs no dependency of its own."""
        return table.values.get(self._key)


class _Tracked(Collection[K, V]):
    """A collection whose keys are computed by a function that looks at other collections."""

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(engine, name)
        self._lookups: dict[Any, _Lookups] = {}
        self._context = Context(self)

    def _call(self, key: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function(context, *arguments)` and remember what it looked at as the lookups of *key*.

        Also where it raises: then it is called again as soon as something it looked at changes.
        """
        context = self._context
        context._key, context._lookups = key, []  # noqa: SLF001 - a context belongs to its collection
        self.engine.runs += 1
        try:
            return function(context, *arguments)
        finally:
            self._remember(key, tuple(context._lookups))  # noqa: SLF001

    def _guarded(self, key: Any, function: Callable[..., Any], record: Any, nothing: Any) -> Any:
        """As `_call`, but an exception becomes a fault of this key alone, which then gives *nothing*."""
        faults = self.engine.faults
        try:
            result = self._call(key, function, key, record)
        except FlowError:
            raise
        except Exception as problem:  # noqa: BLE001 - one object must not stop the world
            faults[self.name, key] = problem
            return nothing
        if faults:
            faults.pop((self.name, key), None)
        return result

    def _drop(self, key: Any) -> None:
        """The source has no record of *key* any more."""
        self._forget(key)
        self.engine.faults.pop((self.name, key), None)

    def _remember(self, key: Any, lookups: _Lookups) -> None:
        before = self._lookups.get(key, ())
        if before == lookups:
            return
        for edge, looked_at in zip(lookups[::2], lookups[1::2], strict=True):
            edge.watchers.setdefault(looked_at, {})[key] = None
        if lookups:
            self._lookups[key] = lookups
        else:
            self._lookups.pop(key, None)
        if before:
            kept = set(zip(lookups[::2], lookups[1::2], strict=True))
            for edge, looked_at in dict.fromkeys(zip(before[::2], before[1::2], strict=True)):
                if (edge, looked_at) not in kept:
                    edge.forget(looked_at, key)

    def _forget(self, key: Any) -> None:
        self._remember(key, ())


class Derived(_Tracked[K, V2], Generic[K, V, V2]):
    """At most one record, under the same key, for each record of the source."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        source: Collection[K, V],
        function: Callable[[Context, K, V], V2 | None],
        joined: Sequence[Collection[K, Any]],
    ) -> None:
        super().__init__(engine, name)
        self._source = source
        self._function = function
        for table in (source, *joined):
            table.follow(self)

    def run(self, key: K) -> None:
        """Re-derive the record of *key*."""
        record = self._source.values.get(key)
        if record is None:
            self._drop(key)
            self.set(key, None)
        else:
            self.set(key, self._guarded(key, self._function, record, None))


class DerivedMany(_Tracked[K2, V2], Generic[K, V, K2, V2]):
    """Any number of records for each record of the source.

    Where two source records give the same key, the one with the smaller source key wins; the other's record
    appears when the first lets go.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        source: Collection[K, V],
        function: Callable[[Context, K, V], Mapping[K2, V2]],
        joined: Sequence[Collection[K, Any]],
    ) -> None:
        super().__init__(engine, name)
        self._source = source
        self._function = function
        self._given: dict[K, Mapping[K2, V2]] = {}
        self._givers: dict[K2, list[K]] = {}
        for table in (source, *joined):
            table.follow(cast("Collection[K, Any]", self))

    def givers(self, key: K2) -> tuple[K, ...]:
        """The source keys that give *key*, the winner first."""
        return tuple(self._givers.get(key, ()))

    def run(self, key: Any) -> None:
        """Re-derive all records that come of the source's record *key*."""
        record = self._source.values.get(key)
        given: Mapping[K2, V2] = {}
        if record is None:
            self._drop(key)
        else:
            given = self._guarded(key, self._function, record, {})
        before = self._given.get(key, {})
        if given:
            self._given[key] = given
        else:
            self._given.pop(key, None)
        for out in before:
            if out not in given:
                givers = self._givers[out]
                givers.remove(key)
                if not givers:
                    del self._givers[out]
                self._settle(out)
        for out in given:
            givers = self._givers.setdefault(out, [])
            if key not in givers:
                givers.append(key)
                givers.sort(key=_order)
            self._settle(out)

    def _settle(self, out: K2) -> None:
        givers = self._givers.get(out)
        self.set(out, self._given[givers[0]][out] if givers else None)


class Index(Collection[K2, tuple[V, ...]], Generic[K2, V]):
    """The records of a collection grouped under keys that a function gives; each a tuple in key order."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        source: Collection[Any, V],
        keys: Callable[[Any, V], Iterable[K2]],
    ) -> None:
        super().__init__(engine, name)
        self._groups: dict[K2, dict[Any, V]] = {}
        self._keys = keys
        source.listen(self._changed)

    def _changed(self, key: Any, old: V | None, new: V | None) -> None:
        if old is not None:
            for group in self._keys(key, old):
                members = self._groups.get(group)
                if members is not None and members.pop(key, None) is not None:
                    self.dirty[group] = None
        if new is not None:
            for group in self._keys(key, new):
                self._groups.setdefault(group, {})[key] = new
                self.dirty[group] = None

    def run(self, key: Any) -> None:
        """Make the tuple of one group anew."""
        members = self._groups.get(key)
        if members:
            self.set(key, tuple(members[member] for member in sorted(members, key=_order)))
        else:
            self._groups.pop(key, None)
            self.set(key, None)


class Union(Collection[K, V]):
    """The records of several collections; where two have the same key, the first collection's."""

    def __init__(self, engine: Engine, name: str, sources: Sequence[Collection[K, V]]) -> None:
        super().__init__(engine, name)
        self._sources = tuple(sources)
        for source in self._sources:
            source.follow(self)

    def run(self, key: K) -> None:
        """Take the first record there is."""
        for source in self._sources:
            record = source.values.get(key)
            if record is not None:
                self.set(key, record)
                return
        self.set(key, None)


class Memo(_Tracked[K, V]):
    """A function with a memory: asked through `Context.ask`, kept as long as anybody depends on the answer.

    Answers are never None. What many records ask alike (all Pods of a ReplicaSet) is computed once, and they
    share one dependency instead of each having many.
    """

    def __init__(self, engine: Engine, name: str, function: Callable[[Context, K], V]) -> None:
        super().__init__(engine, name)
        self._function = function
        self._unwatched: dict[K, None] = {}

    def compute(self, argument: K) -> V:
        """Compute an argument nobody has asked for yet."""
        value = self._evaluate(argument)
        self.values[argument] = value
        return value

    def _evaluate(self, argument: K) -> V:
        # A memo may ask a memo made before it, never itself, so its one context is free here.
        return cast("V", self._call(argument, self._function, argument))

    def unwatched(self, key: K) -> None:
        """Look at *key* again when the batch has been run."""
        self._unwatched[key] = None

    def run(self, key: K) -> None:
        """Compute a dirty answer again, or forget it where nobody wants it any more."""
        if not self.watched(key):
            self._forget(key)
            self.values.pop(key, None)
            return
        try:
            value = self._evaluate(key)
        except FlowError:
            raise
        except Exception:  # noqa: BLE001 - whoever asks gets it again, as a fault of its own
            self.set(key, None)
        else:
            self.set(key, value)

    def sweep(self) -> None:
        """Forget the answers nobody depends on."""
        for key in self._unwatched:
            if not self.watched(key):
                self._forget(key)
                self.values.pop(key, None)
        self._unwatched.clear()


class Aggregate(Collection[K2, Total], Generic[K2]):
    """Sums over the records of some collections: a change touches only the groups it contributes to."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        sources: Sequence[Collection[Any, Any]],
        contributions: Callable[[Any, Any], Iterable[tuple[K2, int]]],
    ) -> None:
        super().__init__(engine, name)
        self._contributions = contributions
        self._totals: dict[K2, Total] = {}
        for source in sources:
            source.listen(self._changed)

    def _changed(self, key: Any, old: Any, new: Any) -> None:
        if old is not None:
            for group, amount in self._contributions(key, old):
                self._add(group, -1, -amount)
        if new is not None:
            for group, amount in self._contributions(key, new):
                self._add(group, 1, amount)

    def _add(self, group: K2, count: int, amount: int) -> None:
        total = self._totals.get(group, Total(0, 0))
        self._totals[group] = Total(total.records + count, total.amount + amount)
        self.dirty[group] = None

    def run(self, key: Any) -> None:
        """Publish the sum of one group; a group without contributions has no record."""
        total = self._totals[key]
        if total.records:
            self.set(key, total)
        else:
            del self._totals[key]
            self.set(key, None)


class Output(Generic[K, V]):
    """What changed in a collection since the last `take`: pairs of key and record, or None where it went.

    Pairs are made, and the records they replace let go of, in the slices of `work`: after a batch of 50,000
    changes neither `take` nor what follows it holds anybody up.
    """

    def __init__(self, source: Collection[K, V]) -> None:
        self._engine = source.engine
        self._changes: dict[K, tuple[K, V | None]] = {}
        self._before: dict[K, V | None] = {}
        source.listen(self._changed)

    def _changed(self, key: K, old: V | None, new: V | None) -> None:
        before = self._before.setdefault(key, old)
        if before == new:
            # It went and came back within the batch.
            del self._before[key]
            self._changes.pop(key, None)
        else:
            self._changes[key] = (key, new)

    def take(self) -> ValuesView[tuple[K, V | None]]:
        """The changes so far, forgotten here. Call it after a commit, never inside a batch."""
        changes, self._changes = self._changes, {}
        if self._before:
            self._engine.let_go(self._before)
            self._before = {}
        return changes.values()


def _order(key: Any) -> Any:
    """Sort keys; the keys of one collection are of one shape."""
    return key


_FREED_AT_ONCE = 1000

_Put = tuple["Input[Any, Any]", Any, Any]


class Engine:
    """The graph, and its scheduler.

    `runs` counts how often a transformation or memo was called, `revision` how many batches were committed.
    `faults` holds, by collection and key, what transformations raised: such a key has no record, everything
    else goes on, and it is tried again when something it looked at changes.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.revision = 0
        self.faults: dict[tuple[str, Any], Exception] = {}
        self._collections: list[Collection[Any, Any]] = []
        self._queue: list[Iterator[_Put]] = []
        self._batch: list[Iterator[_Put]] | None = None
        self._rank = 0
        self._todo: Iterator[Any] | None = None
        self._garbage: list[dict[Any, Any]] = []

    def enroll(self, collection: Collection[Any, Any]) -> int:
        """The rank of a new collection: its place in the order of the flow."""
        self._collections.append(collection)
        return len(self._collections)

    # -- building the graph ------------------------------------------------------------------------------

    def input(self, name: str) -> Input[Any, Any]:
        """A collection that is filled through `submit`."""
        return Input(self, name)

    def derive(
        self,
        name: str,
        source: Collection[K, V],
        function: Callable[[Context, K, V], V2 | None],
        *,
        joined: Sequence[Collection[K, Any]] = (),
    ) -> Derived[K, V, V2]:
        """A collection with at most one record for each of *source*: `function(context, key, record)`.

        *joined* are collections with the same keys: the function reads them with `context.same(table)`, and
        runs again when their record changes, without a dependency stored for each key.
        """
        return Derived(self, name, source, function, joined)

    def derive_many(
        self,
        name: str,
        source: Collection[K, V],
        function: Callable[[Context, K, V], Mapping[K2, V2]],
        *,
        joined: Sequence[Collection[K, Any]] = (),
    ) -> DerivedMany[K, V, K2, V2]:
        """A collection with any number of records, under keys of their own, for each record of *source*."""
        return DerivedMany(self, name, source, function, joined)

    def index(
        self, name: str, source: Collection[K, V], keys: Callable[[K, V], Iterable[K2]]
    ) -> Index[K2, V]:
        """The records of *source* grouped: `keys(key, record)` names the groups, each at most once."""
        return Index(self, name, source, keys)

    def union(self, name: str, *sources: Collection[K, V]) -> Union[K, V]:
        """All records of *sources*; of two with the same key, the earlier source's."""
        return Union(self, name, sources)

    def memo(self, name: str, function: Callable[[Context, K], V]) -> Memo[K, V]:
        """A demand-driven collection: `context.ask(memo, argument)` gives `function(context, argument)`."""
        return Memo(self, name, function)

    def aggregate(
        self,
        name: str,
        sources: Sequence[Collection[Any, Any]],
        contributions: Callable[[Any, Any], Iterable[tuple[K2, int]]],
    ) -> Aggregate[K2]:
        """Sums: `contributions(key, record)` gives pairs of group and amount.

        It is called with the old and the new record of each change, so it must be a pure function of them.
        """
        return Aggregate(self, name, sources, contributions)

    def output(self, source: Collection[K, V]) -> Output[K, V]:
        """A recorder of what changes in *source* from now on."""
        return Output(source)

    # -- running it --------------------------------------------------------------------------------------

    def submit(self, puts: Iterable[tuple[Input[Any, Any], Any, Any]]) -> None:
        """Queue changes of inputs: (input, key, record or None). May be called at any time.

        *puts* is consumed lazily, in slices, inside `work`. All that is queued when a batch begins belongs to
        that batch; what comes later waits for the next.
        """
        self._queue.append(iter(puts))

    def let_go(self, records: dict[Any, Any]) -> None:
        """Free *records* in the slices of the next batch: at once, 50,000 of them take ten milliseconds."""
        if len(records) > _FREED_AT_ONCE:
            self._garbage.append(records)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and no batch is open."""
        return self._batch is None and not self._queue

    def work(self, should_yield: Callable[[], bool] = lambda: False) -> bool:
        """Run the batch until it is done (True), or until *should_yield* says so (False); call it again then.

        *should_yield* is asked after each single step, which takes microseconds.
        """
        if self._batch is None:
            self._batch, self._queue, self._rank = self._queue, [], 0
        while self._garbage:
            records = self._garbage[-1]
            while records:
                records.popitem()
                if should_yield():
                    return False
            self._garbage.pop()
        while self._batch:
            for table, key, record in self._batch[0]:
                table.set(key, record)
                if should_yield():
                    return False
            self._batch.pop(0)
        while self._rank < len(self._collections):
            collection = self._collections[self._rank]
            if self._todo is None:
                # Only collections of a lower rank, which are done, could make more keys dirty.
                self._todo, collection.dirty = iter(collection.dirty), {}
            for key in self._todo:
                collection.run(key)
                if should_yield():
                    return False
            self._todo = None
            self._rank += 1
        return True

    def commit(self) -> int:
        """Close the batch: its changes are final, and `Output.take` may be called. Returns the revision.

        Raises:
            RuntimeError: the batch has not been run to its end.
        """
        if self._batch is None or self._batch or self._rank < len(self._collections):
            raise RuntimeError("commit() before work() said it was done")
        # Backwards, so that what only a forgotten answer depended on is forgotten with it.
        for collection in reversed(self._collections):
            collection.sweep()
        self._batch = None
        self.revision += 1
        return self.revision
