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
records for each record); `index` (records grouped under keys of their own); `union`; `filter`; `memo` (looked
up by any argument, computed when first asked, forgotten when nobody asks any more); `aggregate` (sums: one
change costs O(1), however many records contribute). A record that comes out equal to the one before goes no
further.

Order never matters: dirty keys are kept in insertion order, so that equal histories give equal runs, and
results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from peerd.derive.graph import (
    Aggregate,
    Derived,
    DerivedMany,
    Filter,
    Index,
    Input,
    Memo,
    Total,
    Union,
)
from peerd.derive.tables import K2, V2, Collection, Context, FlowError, K, Output, V

__all__ = [
    "Aggregate",
    "Collection",
    "Context",
    "Derived",
    "DerivedMany",
    "Engine",
    "Filter",
    "FlowError",
    "Index",
    "Input",
    "Memo",
    "Output",
    "Total",
    "Union",
]

_FREED_AT_ONCE = 1000

_Put = tuple[Input[Any, Any], Any, Any]


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
        self,
        name: str,
        source: Collection[K, V] | Sequence[Collection[Any, V]],
        keys: Callable[[K, V], Iterable[K2]],
    ) -> Index[K2, V]:
        """The records of *source* grouped: `keys(key, record)` names the groups, each at most once.

        Several sources may not have the same key in one group.
        """
        return Index(self, name, (source,) if isinstance(source, Collection) else source, keys)

    def union(self, name: str, *sources: Collection[K, V]) -> Union[K, V]:
        """All records of *sources*; of two with the same key, the earlier source's."""
        return Union(self, name, sources)

    def filter(
        self, name: str, sources: Sequence[Collection[K, V]], keeps: Callable[[V], bool]
    ) -> Filter[K, V]:
        """Those records of *sources*, no two with one key, for which the pure function *keeps* holds."""
        return Filter(self, name, sources, keeps)

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
