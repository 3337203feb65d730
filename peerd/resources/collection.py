"""The published resources of one type, and what can be asked of them."""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from collections.abc import Collection as Sized
from operator import attrgetter
from typing import TypeVar

from peerd.model.address import parse_address_key
from peerd.model.digest import digest
from peerd.model.frame import Frame
from peerd.model.record import Record
from peerd.model.resource import Alias, Resource
from peerd.resources.changelog import ChangeLog, Span, Tick
from peerd.resources.frames import FrameWriter, with_aliases
from peerd.resources.version_index import Difference, VersionIndex

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SLICE = 1_000  # names between two chances for others: 2 ms


class Published(Record, frozen=True):
    """A resource that a closed window put (old None), changed, or removed (new None)."""

    name: str
    old: Resource | None
    new: Resource | None


class Prepared:
    """What publishing a window will change: names in order, and the parts that are swapped in at once."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.changed: list[str] = []
        self.removed: list[str] = []
        self.published: list[Published] = []
        self.puts: dict[str, Resource] = {}
        self.unindexed: list[Resource] = []
        self.current: dict[str, Resource] | None = None


class Collection:
    """Resources of one type as of the last closed window.

    Indexes of aliases and groups may name a resource that no longer has the alias; look-ups verify, so that
    adding is all that staging has to do.
    """

    def __init__(self, type_url: str, writer: FrameWriter, log: ChangeLog) -> None:
        self.type_url = type_url
        self.log = log
        self._writer = writer
        self._current: dict[str, Resource] = {}
        self._index: VersionIndex | None = None  # while clients resume
        self._asked = False
        # One name, the usual case, is kept as it is: a set for each would cost more than the resource.
        self._aliases: dict[Alias, set[str] | str] = {}
        self._groups: dict[str, set[str] | str] = {}
        self._frames: dict[tuple[str, int, int], tuple[Frame, ...]] = {}
        self._digest: str | None = None
        self.revision = 0

    def __len__(self) -> int:
        return len(self._current)

    def get(self, name: str) -> Resource | None:
        """The resource, or None."""
        return self._current.get(name)

    def names(self) -> Sized[str]:
        """All names, a view."""
        return self._current.keys()

    def resolve(self, key: str) -> tuple[str, ...]:
        """Canonical names that *key* (a name or an alias) stands for, sorted; none where nothing does."""
        if key in self._current:
            return (key,)
        found = self._verified(self._aliases.get(key), key, aliases=True)
        address = parse_address_key(key)
        if address is not None:
            found += self._verified(self._aliases.get(address), key, aliases=True)
        return tuple(sorted(set(found))) if len(found) > 1 else found

    def members(self, group: str) -> tuple[str, ...]:
        """Names of the resources in *group*, sorted."""
        return self._verified(self._groups.get(group), group, aliases=False)

    def index(self, resource: Resource) -> None:
        """Prepare look-ups of a resource that the next window will publish."""
        for alias in resource.aliases:
            _add(self._aliases, alias, resource.name)
        for group in resource.groups:
            _add(self._groups, group, resource.name)

    def unindex(self, dropped: Resource | None, *kept: Resource | None) -> None:
        """Undo `index` for a resource that will not be published, save what *kept* ones and ours need."""
        if dropped is None:
            return
        held = [r for r in (*kept, self._current.get(dropped.name)) if r is not None]
        _discard(self._aliases, dropped.name, set(dropped.aliases).difference(*(r.aliases for r in held)))
        _discard(self._groups, dropped.name, set(dropped.groups).difference(*(r.groups for r in held)))

    def holds(self, resource: Resource) -> bool:
        """Whether exactly these bytes are published."""
        present = self._current.get(resource.name)
        return present is not None and present.frame == resource.frame

    def prepare(self, pending: Mapping[str, Resource | None]) -> Generator[None, None, "Prepared"]:
        """Work out, in slices, what publishing *pending* will change; nothing changes yet."""
        found = Prepared()
        current = self._current
        for count, (name, new) in enumerate(pending.items(), 1):
            if count % _SLICE == 0:
                yield
            old = current.get(name)
            if old is None:
                if new is not None:
                    found.added.append(name)
            elif new is None:
                found.removed.append(name)
            elif new.frame != old.frame:
                found.changed.append(name)
            else:
                continue
            if old is not None and (new is None or (old.aliases, old.groups) != (new.aliases, new.groups)):
                found.unindexed.append(old)
            if new is not None:
                found.puts[name] = new
            if old is not None or new is not None:
                found.published.append(Published(name, old, new))
        found.changed += self._revived(found.published, pending)
        if len(found.published) > _SLICE:
            # Much changes: a copy is brought up to date beside the original, to be swapped in.
            found.current = dict(current)
            yield
            _remove(found.current, found.removed)
            found.current.update(found.puts)
            yield
        return found

    def publish(
        self, revision: int, found: "Prepared", coming: Iterable[Mapping[str, Resource | None]] = ()
    ) -> tuple[Published, ...]:
        """Make what was prepared the present; returns what changed, in order.

        *coming* is what was gathered since: it keeps its place in the look-ups.
        """
        if found.current is None:
            _remove(self._current, found.removed)
            self._current.update(found.puts)
            if self._index is not None:
                for change in found.published:
                    self._index.publish(change.name, change.old, change.new)
        else:
            self._current = found.current
            self._index = None  # made anew in slices, when somebody asks
        for old in found.unindexed:
            self.unindex(old, *(gathered.get(old.name) for gathered in coming))
        self.revision = revision
        self._frames.clear()
        if found.published:
            self._digest = None
            self.log.append(Tick(revision, tuple(found.added), tuple(found.changed), tuple(found.removed)))
        return tuple(found.published)

    def snapshot(self) -> tuple[Frame, ...]:
        """Everything, as the first answer to a client that holds nothing; shared until the next window."""
        key = ("snapshot", 0, self.revision)
        if key not in self._frames:
            self._frames[key] = self._writer.write(
                f"0-{self.revision}", self.revision, _in_order(self._current.values()), ()
            )
        return self._frames[key]

    def changes(self, since: int, *, removals: bool = True) -> tuple[Frame, ...]:
        """What changed after *since*, with removals or without; empty where nothing did. Shared.

        Raises:
            BehindHorizonError: the log no longer reaches back to *since*.
        """
        key = ("changes" if removals else "puts", since, self.revision)
        if key not in self._frames:
            span = self.log.span(since, self.revision)
            gone = span.removals if removals else ()
            self._frames[key] = (
                self._writer.write(
                    f"{since}-{self.revision}",
                    self.revision,
                    _in_order([self._current[name] for name in span.puts]),
                    gone,
                )
                if span.puts or gone
                else ()
            )
        return self._frames[key]

    def removals(self, since: int, until: int) -> tuple[Frame, ...]:
        """What was removed in (since, until] and not touched later; empty where nothing was. Shared.

        Raises:
            BehindHorizonError: the log no longer reaches back to *since*.
        """
        key = ("removals", since, until)
        if key not in self._frames:
            gone = self.gone(since, until)
            self._frames[key] = self._writer.write(f"{since}-{until}-r", until, (), gone) if gone else ()
        return self._frames[key]

    def gone(self, since: int, until: int) -> tuple[str, ...]:
        """The names that `removals` holds. Raises BehindHorizonError likewise."""
        return self.log.gone(since, until)

    def net(self, since: int) -> Span:
        """The net change after *since*. Raises BehindHorizonError likewise."""
        return self.log.span(since, self.revision)

    def answer(
        self,
        span: str,
        puts: Iterable[str],
        removals: Iterable[str],
        *,
        aliases: bool = False,
        view: Callable[[Resource], Resource] | None = None,
    ) -> tuple[Frame, ...]:
        """A response of one stream's own; `span` makes its nonce unique there. Absent names are left out.

        *view* gives what that stream is told instead of a resource.
        """
        found = [resource for name in puts if (resource := self._current.get(name)) is not None]
        if view is not None:
            found = [view(resource) for resource in found]
        frames = _in_order(found, with_aliases) if aliases else _in_order(found)
        return self._writer.write(f"{span}-{self.revision}", self.revision, frames, removals)

    def notice(self, span: str, frames: Iterable[bytes]) -> tuple[Frame, ...]:
        """A response of one stream's own with resource frames that are not kept here."""
        return self._writer.write(f"{span}-{self.revision}", self.revision, frames, ())

    @property
    def indexed(self) -> bool:
        """Whether `compare` has nothing to make first, or little."""
        return len(self._current) <= _SLICE or (self._index is not None and self._index.complete)

    def compare(self, versions: Iterable[bytes]) -> Generator[None, None, Difference]:
        """Compare what a client holds, *versions* as map entries, with what is published; in slices.

        What is published meanwhile may be in the outcome or not: it is in the change log.

        Raises:
            MalformedVersionsError: bytes that are not a map entry.
        """
        self._asked = True
        if self._index is None:
            self._index = VersionIndex(self._current, self.get)
        index = self._index
        yield from index.making()
        return (yield from index.compare(versions))

    def digest(self) -> str:
        """A digest over sorted names and versions, equal on every replica with the same content (D18)."""
        if self._digest is None:
            self._digest = digest((name, resource.version) for name, resource in self._current.items())
        return self._digest

    def forget_frames(self) -> None:
        """Free shared frames, and the index of versions where nobody asked since the last time.

        They are made again when asked for.
        """
        self._frames.clear()
        if not self._asked:
            self._index = None
        self._asked = False

    def _revived(self, changes: Iterable[Published], pending: Mapping[str, Resource | None]) -> Iterator[str]:
        """Names that do not change and are sent again, for what changed has come to revive them."""
        for change in changes:
            group = change.new.revives if change.new is not None else ""
            if group and (change.old is None or change.old.revives != group):
                yield from (name for name in self.members(group) if name not in pending)

    def _verified(self, names: set[str] | str | None, token: str, *, aliases: bool) -> tuple[str, ...]:
        if not names:
            return ()
        found = []
        for name in (names,) if isinstance(names, str) else names:
            resource = self._current.get(name)
            if resource is not None and token in (resource.alias_keys() if aliases else resource.groups):
                found.append(name)
        return tuple(sorted(found))


def _in_order(
    resources: Sized[Resource], frame: Callable[[Resource], bytes] = attrgetter("frame")
) -> list[bytes]:
    """The frames of an answer: what revives others before these."""
    first = [r for r in resources if r.revives]
    rest = [r for r in resources if not r.revives] if first else resources
    return [*map(frame, first), *map(frame, rest)]


def _add(index: dict[K, set[str] | str], token: K, name: str) -> None:
    names = index.setdefault(token, name)
    if not isinstance(names, str):
        names.add(name)
    elif names != name:
        index[token] = {names, name}


def _remove(table: dict[K, V], keys: Iterable[K]) -> None:
    for key in keys:
        del table[key]


def _discard(index: dict[K, set[str] | str], name: str, tokens: Iterable[K]) -> None:
    for token in tokens:
        names = index.get(token)
        if isinstance(names, set):
            names.discard(name)
        if not names or names == name:
            index.pop(token, None)
