"""A map from names to bytes that is kept in a journal: puts and deletions appended, compacted as it grows."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from peerd.state.errors import StateError
from peerd.state.journal import Journal

_COMPACT_AT = 256 * 1024
"""A journal smaller than this is never compacted: rewriting it would cost more than reading it."""


class Table(Mapping[str, bytes]):
    """A durable map. Changes are seen at once and are on disk after `flush`.

    A flush that fails loses nothing: what it would have written is still there and goes with the next one.

    Raises:
        StateError: the journal cannot be opened or is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._values: dict[str, bytes] = {}
        self._pending: dict[str, bytes | None] = {}
        self._compact_at = _COMPACT_AT
        self._live = 0  # about as many bytes as a compacted journal would have
        try:
            for record in self._journal.take():
                name, value = msgspec.msgpack.decode(record, type=tuple[str, bytes | None])
                self._set(name, value)
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
        if self._values.get(name) != value:
            self._set(name, value)
            self._pending[name] = value

    def delete(self, name: str) -> None:
        """Forget *name*; on disk after the next `flush`."""
        if name in self._values:
            self._set(name, None)
            self._pending[name] = None

    def flush(self, *, sync: bool = True) -> None:
        """Write what changed since the last flush.

        Raises:
            StateError: nothing was written; the changes stay pending.
        """
        if not self._pending:
            return
        self._journal.append([msgspec.msgpack.encode(change) for change in self._pending.items()], sync=sync)
        self._pending.clear()
        if self._journal.size > max(self._compact_at, 2 * self._live):
            self._compact()

    def _compact(self) -> None:
        try:
            self._journal.rewrite(msgspec.msgpack.encode(item) for item in self._values.items())
            self._compact_at = _COMPACT_AT
        except StateError:
            # Everything is on disk already; a compaction that fails, on a full disk, is tried again later.
            self._compact_at = 2 * self._journal.size

    def close(self) -> None:
        """Close the file; pending changes are lost unless flushed."""
        self._journal.close()

    def __getitem__(self, name: str) -> bytes:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _set(self, name: str, value: bytes | None) -> None:
        before = self._values.pop(name, None)
        if before is not None:
            self._live -= _cost(name, before)
        if value is not None:
            self._values[name] = value
            self._live += _cost(name, value)


def _cost(name: str, value: bytes) -> int:
    return len(name) + len(value) + 24
