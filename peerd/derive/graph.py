"""The kinds of collection: inputs, derived ones, indexes, unions, filters, memos, aggregates.

How they are put together and run is in engine.py; its docstring says what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

from peerd.derive.tables import K2, V2, Collection, Context, FlowError, K, Tracked, V

if TYPE_CHECKING:
    from peerd.derive.engine import Engine


class Total(NamedTuple):
    """The value of an aggregate's group: how many contributions it has, and their sum."""

    records: int
    amount: int


_NOTHING = Total(0, 0)


class Input(Collection[K, V]):
    """Records from outside, changed only through `Engine.submit`."""


class Derived(Tracked[K, V2], Generic[K, V, V2]):
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

    def redo(self) -> None:
        """Derive everything again."""
        self.dirty.update(dict.fromkeys(self._source.values))

    def run(self, key: K) -> None:
        """Re-derive the record of *key*."""
        record = self._source.values.get(key)
        if record is None:
            self._drop(key)
            self.set(key, None)
        else:
            self.set(key, self._guarded(key, self._function, record, None))


class DerivedMany(Tracked[K2, V2], Generic[K, V, K2, V2]):
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
        # One record and one giver, the usual case, are kept as they are: containers would cost more.
        self._given: dict[K, Mapping[K2, V2] | tuple[K2, V2]] = {}
        self._givers: dict[K2, Any] = {}
        for table in (source, *joined):
            table.follow(cast("Collection[K, Any]", self))

    def givers(self, key: K2) -> tuple[K, ...]:
        """The source keys that give *key*, the winner first."""
        givers = self._givers.get(key)
        if givers is None:
            return ()
        return tuple(givers) if type(givers) is list else (givers,)

    def redo(self) -> None:
        """Derive everything again."""
        self.dirty.update(dict.fromkeys(self._source.values))

    def run(self, key: Any) -> None:
        """Re-derive all records that come of the source's record *key*."""
        record = self._source.values.get(key)
        given: Mapping[K2, V2] = {}
        if record is None:
            self._drop(key)
        else:
            given = self._guarded(key, self._function, record, {})
        before = self._given.pop(key, ())
        if given:
            self._given[key] = given if len(given) > 1 else next(iter(given.items()))
        for out in before[:1] if isinstance(before, tuple) else before:
            if out not in given:
                self._take_back(out, key)
                self._settle(out)
        for out in given:
            self._give(out, key)
            self._settle(out)

    def _give(self, out: K2, key: K) -> None:
        givers = self._givers.setdefault(out, key)
        if type(givers) is not list:
            if givers == key:
                return
            givers = self._givers[out] = [givers]
        if key not in givers:
            givers.append(key)
            givers.sort()

    def _take_back(self, out: K2, key: K) -> None:
        givers = self._givers[out]
        if type(givers) is list:
            givers.remove(key)
            if givers:
                return
        del self._givers[out]

    def _settle(self, out: K2) -> None:
        if out not in self._givers:
            self.set(out, None)
            return
        givers = self._givers[out]
        given = self._given[givers[0] if type(givers) is list else givers]
        self.set(out, given[1] if isinstance(given, tuple) else given[out])


class Index(Collection[K2, tuple[V, ...]], Generic[K2, V]):
    """Records grouped under keys that a function gives; each group a tuple in key order.

    Where there are several sources, no two may have the same key in one group.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        sources: Sequence[Collection[Any, V]],
        keys: Callable[[Any, V], Iterable[K2]],
    ) -> None:
        super().__init__(engine, name)
        # The one member of a group is kept as a pair: a dictionary for each would cost more.
        self._groups: dict[K2, dict[Any, V] | tuple[Any, V]] = {}
        # A member that changes keeps its place: only groups that have won one are sorted again.
        self._unsorted: set[K2] = set()
        self._keys = keys
        for source in sources:
            source.listen(self._changed)

    def _changed(self, key: Any, old: V | None, new: V | None) -> None:
        groups = () if new is None else tuple(self._keys(key, new))
        if old is not None:
            for group in self._keys(key, old):
                if group in groups:
                    continue  # replaced below, in its place
                members = self._groups.get(group)
                if isinstance(members, tuple):
                    if members[0] == key:
                        del self._groups[group]
                        self.dirty[group] = None
                elif members is not None and members.pop(key, None) is not None:
                    self.dirty[group] = None
        if new is not None:
            for group in groups:
                members = self._groups.get(group)
                if members is None or (isinstance(members, tuple) and members[0] == key):
                    self._groups[group] = (key, new)
                elif isinstance(members, tuple):
                    self._groups[group] = {members[0]: members[1], key: new}
                    self._unsorted.add(group)
                else:
                    if key not in members:
                        self._unsorted.add(group)
                    members[key] = new
                self.dirty[group] = None

    def run(self, key: Any) -> None:
        """Make the tuple of one group anew."""
        members = self._groups.get(key)
        if isinstance(members, tuple):
            self.set(key, members[1:])
        elif members:
            if key in self._unsorted:
                self._unsorted.discard(key)
                members = self._groups[key] = {member: members[member] for member in sorted(members)}
            self.set(key, tuple(members.values()))
        else:
            self._groups.pop(key, None)
            self._unsorted.discard(key)
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


class Filter(Collection[K, V]):
    """The records of several collections, no two with one key, that a pure function keeps.

    A record that is not kept, before and after a change, costs that one call and no dependency.
    """

    def __init__(
        self, engine: Engine, name: str, sources: Sequence[Collection[K, V]], keeps: Callable[[V], bool]
    ) -> None:
        super().__init__(engine, name)
        self._sources = tuple(sources)
        self._keeps = keeps
        for source in self._sources:
            source.listen(self._changed)

    def _changed(self, key: K, _old: V | None, new: V | None) -> None:
        if key in self.values or (new is not None and self._keeps(new)):
            self.dirty[key] = None

    def run(self, key: K) -> None:
        """Take the record that is kept, if any."""
        for source in self._sources:
            record = source.values.get(key)
            if record is not None and self._keeps(record):
                self.set(key, record)
                return
        self.set(key, None)


class Memo(Tracked[K, V]):
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

    def redo(self) -> None:
        """Compute every answer again that somebody depends on."""
        for edge in self._edges.values():
            self.dirty.update(dict.fromkeys(edge.watchers))

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
        self._totals: dict[K2, Total] = {}  # of groups that are dirty
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
        total = self._totals.get(group) or self.values.get(group, _NOTHING)
        self._totals[group] = Total(total.records + count, total.amount + amount)
        self.dirty[group] = None

    def run(self, key: Any) -> None:
        """Publish the sum of one group; a group without contributions has no record."""
        total = self._totals.pop(key)
        self.set(key, total if total.records else None)
