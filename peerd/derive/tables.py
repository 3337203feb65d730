"""What all collections of the engine share: records, who looks at them, and what changed for outside.

How they are put together and run is in engine.py; its docstring says what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from peerd.derive.engine import Engine
    from peerd.derive.graph import Index, Memo

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
K2 = TypeVar("K2", bound=Hashable)
V2 = TypeVar("V2")


class FlowError(ValueError):
    """The graph is built wrongly: a collection looks at one that was made after it."""


class _Edge:
    """Who looks at which keys of `table`, among the keys of one dependent.

    A key's watchers are an insertion-ordered set, or the one watcher itself: most keys have one, and a
    dictionary for each would be a third of all memory.
    """

    __slots__ = ("everyone", "table", "watchers")

    def __init__(self, table: Collection[Any, Any]) -> None:
        self.table = table
        self.everyone = table.common
        self.watchers: dict[Any, Any] = {}

    def add(self, key: Any, watcher: Any) -> None:
        found = self.watchers.setdefault(key, watcher)
        if type(found) is dict:
            found[watcher] = None
        elif found is not watcher and found != watcher:
            self.watchers[key] = {found: None, watcher: None}

    def forget(self, key: Any, watcher: Any) -> None:
        found = self.watchers[key]
        if type(found) is dict:
            del found[watcher]
            if found:
                return
        del self.watchers[key]
        self.table.unwatched(key)


# What one key looked at: edge, key, edge, key, ... (flat, since there may be 50,000 of them).
_Lookups = tuple[Any, ...]


class Collection(Generic[K, V]):
    """A keyed table of records. Read `values` between commits only; transformations use `Context`.

    `common` is for a table of a record or two that nearly every key of its dependents looks at: who did is
    not kept, and a change re-runs them all. Set it before anybody looks.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.rank = engine.enroll(self)
        self.common = False
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
            if edge.everyone:
                dependent.redo()
                continue
            watchers = edge.watchers.get(key)
            if type(watchers) is dict:
                dependent.dirty.update(watchers)
            elif watchers is not None:
                dependent.dirty[watchers] = None
        for listener in self._listeners:
            listener(key, old, record)

    def watched(self, key: K) -> bool:
        """Whether anybody looks at *key*."""
        return any(key in edge.watchers for edge in self._edges.values())

    def redo(self) -> None:
        """Mark every key dirty."""
        raise NotImplementedError

    def unwatched(self, key: K) -> None:
        """Hook: the last watcher of an edge let go of *key*."""

    def run(self, key: Any) -> None:
        """Bring one dirty key up to date."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Hook: the batch has been run; forget what nobody needs."""


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
        if not edge.everyone:
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


class Tracked(Collection[K, V]):
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
            edge.add(looked_at, key)
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
