"""A map from names to bytes that is kept in a journal: puts and deletions appended, compacted as it grows."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from peerd.state.errors import StateError
from peerd.state.journal import Journal

_COMPACT_AT = 256 * 1024
"""A journal smaller than this is never compacted: rewriting it would cost more than reading it."""


_RECORD_BYTES = 16  # a record's header
_LENGTH_BITS = 32  # a journal's records are no longer


class Table(Mapping[str, bytes]):
    """A durable map. Changes are seen at once and are on disk after `flush`.

    What is on disk is not kept in memory too, only where it is. A flush that fails loses nothing: what it
    would have written is still there and goes with the next one.

    Raises:
        StateError: the journal cannot be opened or is corrupt; also by looking up a value, when it can no
            longer be read.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        # Of names on disk: the place of their record, and its length in the lower bits.
        self._places: dict[str, int] = {}
        self._pending: dict[str, bytes | None] = {}
        self._compact_at = _COMPACT_AT
        self._live = 0  # bytes of the records that a compacted journal would have
        try:
            for place, record in self._journal.take_placed():
                name, value = msgspec.msgpack.decode(record, type=tuple[str, bytes | None])
                self._forget(name)
                if value is not None:
                    self._written(name, place, len(record))
        except msgspec.DecodeError as error:
            self._journal.close()
            raise StateError(path, f"holds a record of another kind ({error})", "move it away") from error

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._journal.path

    @property
    def torn(self) -> int:
        """Bytes that a crash had left half-written, cut off when opened."""
        return self._journal.torn

    @property
    def dirty(self) -> bool:
        """Whether there are changes that are not on disk."""
        return bool(self._pending)

    def put(self, name: str, value: bytes) -> None:
        """Set *name*; on disk after the next `flush`."""
        if not self._holds(name, value):
            self._forget(name)
            self._pending[name] = value

    def delete(self, name: str) -> None:
        """Forget *name*; on disk after the next `flush`."""
        if name in self:
            self._forget(name)
            self._pending[name] = None

    def flush(self, *, sync: bool = True) -> None:
        """Write what changed since the last flush.

        Raises:
            StateError: nothing was written; the changes stay pending.
        """
        if not self._pending:
            return
        records = [msgspec.msgpack.encode(change) for change in self._pending.items()]
        places = self._journal.append(records, sync=sync)
        for (name, value), place, record in zip(self._pending.items(), places, records, strict=True):
            if value is not None:
                self._written(name, place, len(record))
        self._pending.clear()
        if self._journal.size > max(self._compact_at, 2 * self._live):
            self._compact()

    def _compact(self) -> None:
        names = list(self._places)
        try:
            places = self._journal.rewrite(self._record(name) for name in names)
        except StateError:
            # Everything is on disk already; a compaction that fails, on a full disk, is tried again later.
            self._compact_at = 2 * self._journal.size
            return
        for name, place in zip(names, places, strict=True):
            self._places[name] = place << _LENGTH_BITS | _length(self._places[name])
        self._compact_at = _COMPACT_AT

    def close(self) -> None:
        """Close the file; pending changes are lost unless flushed."""
        self._journal.close()

    def __getitem__(self, name: str) -> bytes:
        value = self._pending.get(name)
        if value is not None:
            return value
        return msgspec.msgpack.decode(self._record(name), type=tuple[str, bytes])[1]

    def __contains__(self, name: object) -> bool:
        return name in self._places or self._pending.get(str(name)) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (name for name, value in self._pending.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _holds(self, name: str, value: bytes) -> bool:
        if name not in self._places:
            return self._pending.get(name) == value
        record = msgspec.msgpack.encode((name, value))
        try:
            return _length(self._places[name]) == len(record) and self._record(name) == record
        except StateError:
            return False  # what cannot be read is written anew

    def _record(self, name: str) -> bytes:
        place = self._places[name]
        return self._journal.read(place >> _LENGTH_BITS, _length(place))

    def _written(self, name: str, place: int, length: int) -> None:
        self._places[name] = place << _LENGTH_BITS | length
        self._live += _RECORD_BYTES + length

    def _forget(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None:
            self._live -= _RECORD_BYTES + _length(place)


def _length(place: int) -> int:
    return place & ((1 << _LENGTH_BITS) - 1)
