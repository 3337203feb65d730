"""A checksummed append-only file of records (decision D22).

Layout, little-endian: a first line (`_MAGIC`), then per record a header of 16 bytes and the payload. The
header is the payload's length (u32), the xxh32 of these four bytes (u32) and the xxh64 of the payload (u64):
with a checksum of its own, a damaged length is told from a record that was not written whole.

*Torn tail*: a last record that is incomplete, or fails its checksum with nothing but zeros behind it, is what
a crash leaves; it is cut off. Anything else that fails a checksum is corruption and stops the start, because
cutting there would lose records that were promised to be kept.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from peerd.state.disk import DISK, Disk
from peerd.state.errors import StateError

_MAGIC = b"peerd-journal 1\n"
_HEADER = struct.Struct("<IIQ")
_LENGTH = struct.Struct("<I")
_CHECKED = 2 * _LENGTH.size  # bytes of a header that tell whether its length is right
_CHUNK = 1 << 20  # bytes read at once by `scan`


class Journal:
    """One journal file, made with mode 0600 where missing. Not safe for two processes (see lock.py).

    After a failed write the file is cut back to its last whole record before the next one, so a full disk
    costs the records that did not fit and nothing else.

    Raises:
        StateError: the file cannot be opened, is no journal, or is corrupt.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self.disk = disk
        self.torn = 0
        """Bytes cut off at the end when the file was opened."""
        self._found: list[bytes] = []
        try:
            self._descriptor = disk.open(path)
        except OSError as error:
            raise StateError(path, f"cannot be opened: {error.strerror}", "make it writable") from error
        try:
            self._end = self._load()
        except BaseException:
            disk.close(self._descriptor)
            raise
        self._clean = self.torn == 0

    def take(self) -> list[bytes]:
        """The records found when the file was opened, handed over once."""
        found, self._found = self._found, []
        return found

    @property
    def size(self) -> int:
        """Bytes in the file that count."""
        return self._end

    def append(self, records: Iterable[bytes], *, sync: bool = True) -> None:
        """Write *records* behind the last one; with `sync` they survive a crash of the machine.

        Raises:
            StateError: they were not written; the journal holds what it held before.
        """
        data = b"".join(map(_frame, records))
        try:
            if not self._clean:
                self.disk.cut(self._descriptor, self._end)
                self._clean = True
            if not data:
                return
            head = _MAGIC if self._end == 0 else b""
            self._clean = False
            self.disk.write(self._descriptor, head + data, self._end)
            if sync:
                self.disk.sync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        self._end += len(head) + len(data)
        self._clean = True

    def scan(self, end: int) -> Iterator[tuple[int, bytes]]:
        """The records before the place *end*, from the disk, each with its place.

        Raises:
            StateError: one cannot be read, or is no longer what was written.
        """
        place, data = len(_MAGIC), b""
        start = place  # where `data` begins
        while place < end:
            record = _record(data, place - start)
            if not isinstance(record, bytes):
                if start == place and len(data) >= min(end - start, _CHUNK):
                    record = self._read(place, self._length(place))  # longer than a chunk, or damaged
                else:
                    start, data = place, self._pread(place, _CHUNK)
                    continue
            yield place, record
            place += _HEADER.size + len(record)

    def adopt(self, descriptor: int, end: int) -> None:
        """Go on with another file, which has taken the place of the old one (`Rewrite`)."""
        self.disk.close(self._descriptor)
        self._descriptor, self._end, self._clean = descriptor, end, True

    def close(self) -> None:
        """Close the file; further calls fail."""
        if self._descriptor >= 0:
            self.disk.close(self._descriptor)
            self._descriptor = -1

    def raw(self, start: int) -> bytes:
        """What the file holds from the place *start* on, as it is. Raises StateError."""
        return self._pread(start, max(0, self._end - start))

    def _pread(self, place: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, place)
        except OSError as error:
            raise StateError(self.path, f"cannot be read: {error.strerror}", "make it readable") from error

    def _read(self, place: int, length: int) -> bytes:
        """The record of *length* bytes at *place*. Raises StateError."""
        record = _record(self._pread(place, _HEADER.size + length), 0)
        if not isinstance(record, bytes) or len(record) != length:
            raise StateError(
                self.path, f"is damaged at byte {place}", "see what else writes it; a restart makes it anew"
            )
        return record

    def _length(self, place: int) -> int:
        header = self._pread(place, _HEADER.size)
        return int(_LENGTH.unpack_from(header)[0]) if len(header) == _HEADER.size else 0

    def _failed(self, error: OSError) -> StateError:
        return unwritable(self.path, error)

    def _load(self) -> int:
        """Fill `_found` and `torn`; returns where the last whole record ends."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise StateError(self.path, f"cannot be read: {error.strerror}", "make it readable") from error
        if not data.startswith(_MAGIC):
            if _MAGIC.startswith(data.rstrip(b"\0")):
                self.torn = len(data)
                return 0
            raise StateError(self.path, "is not a journal of peerd", "move it away to start without it")
        position = len(_MAGIC)
        while position < len(data):
            record = _record(data, position)
            if record is None:
                self.torn = len(data) - position
                break
            if isinstance(record, str):
                raise StateError(
                    self.path,
                    f"is corrupt at byte {position} ({record}); {len(self._found)} good records precede it",
                    "restore it from a backup, or move it away to start without what it holds",
                )
            self._found.append(record)
            position += _HEADER.size + len(record)
        return position


class Rewrite:
    """A new content for a journal, made beside it while the journal goes on taking records.

    `add` it in pieces, `sync` it, then `finish`: that carries over what was appended meanwhile and replaces
    the file atomically. A crash at any moment leaves the one or the other, whole. Every method but `abandon`
    may fail, and then the journal is as it was and the draft gone.

    Raises:
        StateError: the draft cannot be written.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._disk = journal.disk
        self._path = journal.path.with_name(f".{journal.path.name}.new")
        self._begun = journal.size or len(_MAGIC)
        self._descriptor = -1
        self._end = len(_MAGIC)
        with self._abandoning():
            self._descriptor = self._disk.open(self._path, os.O_TRUNC)
            self._disk.write(self._descriptor, _MAGIC, 0)

    def add(self, records: Iterable[bytes]) -> None:
        """Write *records* behind those before."""
        data = b"".join(map(_frame, records))
        with self._abandoning():
            self._disk.write(self._descriptor, data, self._end)
        self._end += len(data)

    def sync(self) -> None:
        """Bring what was added to the disk; may take long, and may run in another thread."""
        with self._abandoning():
            self._disk.sync(self._descriptor)

    def finish(self) -> None:
        """Take the journal's place. What is carried over is as durable as it was in the old file."""
        with self._abandoning():
            late = self._journal.raw(self._begun)
            self._disk.write(self._descriptor, late, self._end)
            self._path.replace(self._journal.path)
        descriptor, self._descriptor = self._descriptor, -1
        self._journal.adopt(descriptor, self._end + len(late))

    def abandon(self) -> None:
        """Give the draft up; without effect where it is finished or gone."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _abandoning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abandon()
            raise unwritable(self._journal.path, error) from error
        except StateError:
            self.abandon()
            raise


def unwritable(path: Path, error: OSError) -> StateError:
    """What a failed write of a journal is called."""
    return StateError(
        path, f"cannot be written: {error.strerror or error}", "free some space or make it writable"
    )


def _frame(record: bytes) -> bytes:
    length = _LENGTH.pack(len(record))
    return (
        length
        + _LENGTH.pack(xxhash.xxh32_intdigest(length))
        + xxhash.xxh64_intdigest(record).to_bytes(8, "little")
        + record
    )


def _record(data: bytes, position: int) -> bytes | str | None:
    """The record at *position*; None where a crash tore it; a reason where it is corrupt."""
    if len(data) - position < _HEADER.size:
        return None
    length, check, digest = _HEADER.unpack_from(data, position)
    if check != xxhash.xxh32_intdigest(data[position : position + _LENGTH.size]):
        return "header checksum" if data[position + _CHECKED :].strip(b"\0") else None
    start = position + _HEADER.size
    record = data[start : start + length]
    if len(record) < length:
        return None
    if digest != xxhash.xxh64_intdigest(record):
        return "record checksum" if data[start + length :].strip(b"\0") else None
    return record
