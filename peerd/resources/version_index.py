"""What a client that resumes is compared with: the map entries of everything that is published."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import compress, islice

from peerd.model.record import Record
from peerd.model.resource import Resource
from peerd.model.wire import map_entry, read_map_entry

_SLICE = 1_000  # entries between two chances for others: at most a millisecond
_UNHELD = bytes((1, 0)) + bytes(254)  # turns marks of what is held into marks of what is not


class MalformedVersionsError(ValueError):
    """An entry of `initial_resource_versions` is not a map entry."""


class Difference(Record, frozen=True):
    """What a client that resumes does not have as it is published.

    `lacking` it does not hold at all, `differing` in another version, `removals` are not published. `whole`
    says that it holds nothing as it is, and that there is much: everybody's first answer is what it needs.
    """

    lacking: tuple[str, ...]
    differing: tuple[str, ...]
    removals: tuple[str, ...]
    whole: bool


class VersionIndex:
    """`initial_resource_versions` of a client that holds everything, entry by entry (decision D4).

    Each entry has a place, so that what one client holds is a byte for each, and finding what it lacks costs
    next to nothing where that is little. `names` are to be entered, as *get* has them, by `making`; what is
    published meanwhile and afterwards goes to `publish`. One that is told nothing any more still serves
    comparisons that began before: what they miss is in the change log.
    """

    def __init__(self, names: Iterable[str], get: Callable[[str], Resource | None]) -> None:
        self._get = get
        self._coming: Iterator[str] = iter(tuple(names))
        self._places: dict[bytes, int] = {}
        self._names: list[str | None] = []
        self._free: list[int] = []
        self.complete = False

    def making(self) -> Generator[None, None, None]:
        """Enter the names, in slices; several may do so at once."""
        while not self.complete:
            names = tuple(islice(self._coming, _SLICE))
            self.complete = len(names) < _SLICE
            for name in names:
                self._enter(name, self._get(name))
            if not self.complete:
                yield

    def publish(self, name: str, old: Resource | None, new: Resource | None) -> None:
        """A window that closed put, changed or removed *name*."""
        if old is not None:
            place = self._places.pop(map_entry(name, old.version), None)
            if place is not None:
                self._names[place] = None
                self._free.append(place)
        self._enter(name, new)

    def compare(self, versions: Iterable[bytes]) -> Generator[None, None, Difference]:
        """What a client that holds *versions*, map entries, lacks; in slices, after `making`.

        Raises:
            MalformedVersionsError: bytes that are not a map entry.
        """
        held = bytearray(len(self._names))
        differing: dict[str, None] = {}
        removals: dict[str, None] = {}
        remaining = iter(versions)
        while entries := tuple(islice(remaining, _SLICE)):
            held.extend(bytes(len(self._names) - len(held)))
            unknown = []
            for entry, place in zip(entries, map(self._places.get, entries), strict=True):
                if place is None:
                    unknown.append(entry)
                else:
                    held[place] = 1
            self._judge(unknown, held, differing, removals)
            yield
        lacking: list[str] = []
        unheld = compress(self._names, held.translate(_UNHELD))
        while names := tuple(islice(unheld, _SLICE)):
            # What the client named, in other words or before it came, is not lacked.
            lacking += [n for n in names if n is not None and n not in differing and n not in removals]
            yield
        whole = len(self._places) > _SLICE and held.find(1) < 0
        return Difference(tuple(lacking), tuple(differing), tuple(removals), whole)

    def _judge(
        self, entries: Iterable[bytes], held: bytearray, differing: dict[str, None], removals: dict[str, None]
    ) -> None:
        """Look at entries that are not of something published."""
        for entry in entries:
            try:
                name, version = read_map_entry(entry)
            except ValueError as error:
                raise MalformedVersionsError(f"initial_resource_versions: {error}") from None
            resource = self._get(name)
            if resource is None:
                removals[name] = None
            elif version != resource.version:
                differing[name] = None
            elif (place := self._places.get(map_entry(name, version))) is not None:
                held[place] = 1  # the same entry, encoded another way

    def _enter(self, name: str, resource: Resource | None) -> None:
        if resource is None:
            return
        entry = map_entry(name, resource.version)
        if entry in self._places:
            return
        if self._free:
            place = self._free.pop()
            self._names[place] = name
        else:
            place = len(self._names)
            self._names.append(name)
        self._places[entry] = place
