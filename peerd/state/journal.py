"""A checksummed append-only file of records (decision D22).

Layout, little-endian: a first line (`_MAGIC`), then per record a header of 16 bytes and the payload. The
header is the payload's length (u32), the xxh32 of these four bytes (u32) and the xxh64 of the payload (u64):
with a checksum of its own, a damaged length is told from a record that was not written whole.

*Torn tail*: a last record that is incomplete, or fails its checksum with nothing behind it, or zeros up to
the end, is what a crash leaves; it is cut off. Anything else that fails a checksum is corruption and stops
the start, because cutting there would lose records that were promised to be kept.
"""

import os
import struct
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import xxhash

from peerd.state.directory import sync_directory
from peerd.state.errors import StateError

_MAGIC = b"peerd-journal 1\n"
_HEADER = struct.Struct("<IIQ")
_LENGTH = struct.Struct("<I")


class Journal:
    """One journal file, made with mode 0600 where missing. Not safe for two processes (see lock.py).

    After a failed write the file is cut back to its last whole record before the next one, so a full disk
    costs the records that did not fit and nothing else.

    Raises:
        StateError: the file cannot be opened, is no journal, or is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        """Bytes cut off at the end when the file was opened."""
        self._found: list[tuple[int, bytes]] = []
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(path, f"cannot be opened: {error.strerror}", "make it writable") from error
        try:
            self._end = self._load()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._clean = self.torn == 0

    def take(self) -> list[bytes]:
        """The records found when the file was opened, handed over once."""
        return [record for _, record in self.take_placed()]

    def take_placed(self) -> list[tuple[int, bytes]]:
        """As `take`, each with its place, as `read` takes it."""
        found, self._found = self._found, []
        return found

    def read(self, place: int, length: int) -> bytes:
        """The record of *length* bytes at *place*, from the disk.

        Raises:
            StateError: it cannot be read, or is no longer what was written.
        """
        try:
            record = _record(os.pread(self._descriptor, _HEADER.size + length, place), 0)
        except OSError as error:
            raise StateError(self.path, f"cannot be read: {error.strerror}", "make it readable") from error
        if not isinstance(record, bytes) or len(record) != length:
            raise StateError(
                self.path, f"is damaged at byte {place}", "see what else writes it; a restart makes it anew"
            )
        return record

    @property
    def size(self) -> int:
        """Bytes in the file that count."""
        return self._end

    def append(self, records: Iterable[bytes], *, sync: bool = True) -> list[int]:
        """Write *records* behind the last one; with `sync` they survive a crash of the machine.

        Returns their places.

        Raises:
            StateError: they were not written; the journal holds what it held before.
        """
        frames = [_frame(record) for record in records]
        data = b"".join(frames)
        try:
            if not self._clean:
                os.ftruncate(self._descriptor, self._end)
                self._clean = True
            if not data:
                return []
            head = _MAGIC if self._end == 0 else b""
            self._clean = False
            _write(self._descriptor, head + data, self._end)
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        start = self._end + len(head)
        self._end = start + len(data)
        self._clean = True
        return _places(start, frames)

    def rewrite(self, records: Iterable[bytes]) -> list[int]:
        """Replace the whole content, atomically and durably: compaction. Returns the records' places.

        Raises:
            StateError: it was not replaced; the journal holds what it held before.
        """
        draft = self.path.with_name(f".{self.path.name}.new")
        frames = [_frame(record) for record in records]
        data = _MAGIC + b"".join(frames)
        descriptor = -1
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            _write(descriptor, data, 0)
            os.fsync(descriptor)
            draft.replace(self.path)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise self._failed(error) from error
        os.close(self._descriptor)
        self._descriptor, self._end, self._clean = descriptor, len(data), True
        try:
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._failed(error) from error
        return _places(len(_MAGIC), frames)

    def close(self) -> None:
        """Close the file; further calls fail."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _failed(self, error: OSError) -> StateError:
        return StateError(
            self.path, f"cannot be written: {error.strerror or error}", "free some space or make it writable"
        )

    def _load(self) -> int:
        """Fill `_found` and `torn`; returns where the last whole record ends."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise StateError(self.path, f"cannot be read: {error.strerror}", "make it readable") from error
        if not data.startswith(_MAGIC):
            if _MAGIC.startswith(data) or not data.strip(b"\0"):
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
            self._found.append((position, record))
            position += _HEADER.size + len(record)
        return position


def _places(start: int, frames: Iterable[bytes]) -> list[int]:
    return list(accumulate(map(len, frames), initial=start))[:-1]


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
        return "header checksum" if data[position:].strip(b"\0") else None
    start = position + _HEADER.size
    record = data[start : start + length]
    if len(record) < length:
        return None
    if digest != xxhash.xxh64_intdigest(record):
        return None if start + length == len(data) else "record checksum"
    return record


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
