"""The last word for each name, kept in a journal and nowhere else: for much that is read only at the start.

Nothing of it is kept in memory. Its user says what a word replaces, so that the log knows when it is mostly
history. Names lie in groups, which can be forgotten as one; `Table` is a log of one group without a name.
"""

from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from peerd.model.steps import whole
from peerd.state.disk import DISK, Disk
from peerd.state.errors import StateError
from peerd.state.journal import Journal, Rewrite

_COMPACT_AT = 256 * 1024
"""A journal smaller than this is never compacted: rewriting it would cost more than reading it."""
_SLICE = 200
"""Records between two chances for others: about a millisecond."""

# A record: group, name, value. Without a value the name is gone, without a name the whole group.
_Word = tuple[str, str | None, bytes | None]
_DECODER = msgspec.msgpack.Decoder(_Word)
_UNGROUPED = msgspec.msgpack.Decoder(tuple[str, bytes | None])


class KeyedLog:
    """A durable map that cannot be looked up, only loaded. Changes are on disk after `flush`.

    A flush that fails loses nothing: what it would have written goes with the next one. Without *groups*
    there is one, called "", and records do not name it.

    Raises:
        StateError: the journal cannot be opened or is corrupt.
    """

    def __init__(self, path: Path, *, groups: bool = True, disk: Disk = DISK) -> None:
        self._groups = groups
        self._journal = Journal(path, disk)
        self._pending: dict[tuple[str, str | None], bytes | None] = {}
        self._records = 0
        self._superseded = 0  # of the records, how many say nothing any more
        self._compact_at = _COMPACT_AT
        self._loaded: dict[str, dict[str, bytes]] = {}
        try:
            for record in self._journal.take():
                self._fold(self.decode(record))
        except msgspec.DecodeError as error:
            self._journal.close()
            raise StateError(path, f"holds a record of another kind ({error})", "move it away") from error

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._journal.path

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._journal.size

    @property
    def dirty(self) -> bool:
        """Whether there are changes that are not on disk."""
        return bool(self._pending)

    def load(self) -> dict[str, dict[str, bytes]]:
        """What was there when the log was opened, by group and name, handed over once."""
        loaded, self._loaded = self._loaded, {}
        return loaded

    def put(self, group: str, name: str, value: bytes, *, replaces: bool) -> None:
        """Set a value; *replaces* says whether the name had one."""
        self._say(group, name, value)
        self._superseded += replaces

    def delete(self, group: str, name: str) -> None:
        """Forget a name that had a value."""
        self._say(group, name, None)
        self._superseded += 2  # the value, and this very word

    def forget(self, group: str, held: int) -> None:
        """Forget a group, which had *held* names."""
        for key in [key for key in self._pending if key[0] == group]:
            del self._pending[key]
        self._pending[group, None] = None
        self._superseded += held + 1

    def flush(self, *, sync: bool = True, at_most: int | None = None) -> None:
        """Write what changed since the last flush, or of that the first *at_most* names.

        Raises:
            StateError: nothing was written; the changes stay pending.
        """
        if not self._pending:
            return
        words = [(group, name, value) for (group, name), value in islice(self._pending.items(), at_most)]
        records = words if self._groups else [word[1:] for word in words]
        self._journal.append(map(msgspec.msgpack.encode, records), sync=sync)
        self._records += len(words)
        if len(words) == len(self._pending):
            self._pending.clear()
        else:
            for group, name, _ in words:
                del self._pending[group, name]

    @property
    def mostly_history(self) -> bool:
        """Whether more than half of what is on disk says nothing any more."""
        return self._journal.size > self._compact_at and 2 * self._superseded > self._records

    def compacting(self) -> Generator[None, None, "Compaction"]:
        """Make a compacted file beside the present one, in slices; `flush` may go on meanwhile.

        Returns what is to be synced and finished. One at a time.

        Raises:
            StateError: it cannot be written. Everything is on disk already; `mostly_history` is false until
                the journal has doubled.
        """
        self._compact_at = max(_COMPACT_AT, 2 * self._journal.size)
        compaction = Compaction(self, self._journal)
        try:
            yield from compaction.steps()
        except BaseException:
            compaction.abandon()
            raise
        return compaction

    def compact(self) -> bool:
        """All of `compacting` at once; whether it came to its end, which it need not: all is on disk."""
        try:
            compaction = whole(self.compacting())
            compaction.sync()
            compaction.finish()
        except StateError:
            return False
        return True

    def compacted(self, live: int, late: int) -> None:
        """A compaction is finished: *live* records, and *late* ones since it began."""
        self._records, self._superseded = live + late, min(late, self._superseded)
        self._compact_at = _COMPACT_AT

    @property
    def records(self) -> int:
        """How many records are on disk, history included."""
        return self._records

    def decode(self, record: bytes) -> _Word:
        """Group, name and value of a record. Raises msgspec.DecodeError."""
        return _DECODER.decode(record) if self._groups else ("", *_UNGROUPED.decode(record))

    def close(self) -> None:
        """Close the file; pending changes are lost unless flushed."""
        self._journal.close()

    def _say(self, group: str, name: str, value: bytes | None) -> None:
        # The last word goes last, so that it also stands behind the end of its whole group.
        self._pending.pop((group, name), None)
        self._pending[group, name] = value

    def _fold(self, word: _Word) -> None:
        group, name, value = word
        self._records += 1
        names = self._loaded.get(group)
        if name is None:
            self._superseded += 1 + len(self._loaded.pop(group, ()))
        elif value is not None:
            names = self._loaded.setdefault(group, {})
            self._superseded += name in names
            names[name] = value
        elif names is not None and names.pop(name, None) is not None:
            self._superseded += 2
        else:
            self._superseded += 1


class Compaction:
    """What a log will be: made by `KeyedLog.compacting`, then `sync` (in any thread) and `finish`."""

    def __init__(self, log: KeyedLog, journal: Journal) -> None:
        self._log = log
        self._journal = journal
        self._draft = Rewrite(journal)
        self._end = journal.size
        self._begun = log.records
        self._live = 0

    def steps(self) -> Iterator[None]:
        """Find the last words, then write them."""
        last: dict[str, dict[str, int]] = {}
        for count, (place, record) in enumerate(self._journal.scan(self._end)):
            group, name, value = self._log.decode(record)
            if name is None:
                last.pop(group, None)
            elif value is None:
                last.get(group, {}).pop(name, None)
            else:
                last.setdefault(group, {})[name] = place
            if count % _SLICE == 0:
                yield
        kept = {place for names in last.values() for place in names.values()}
        del last
        self._live = len(kept)
        slice_: list[bytes] = []
        for count, (place, record) in enumerate(self._journal.scan(self._end)):
            if place in kept:
                slice_.append(record)
            if count % _SLICE == 0:
                self._draft.add(slice_)
                slice_ = []
                yield
        self._draft.add(slice_)

    def sync(self) -> None:
        """Bring the new file to the disk; may take long, and may run in another thread."""
        self._draft.sync()

    def finish(self) -> None:
        """Put it in the old one's place, with what was flushed meanwhile."""
        self._draft.finish()
        self._log.compacted(self._live, self._log.records - self._begun)

    def abandon(self) -> None:
        """Give it up; without effect once it is finished."""
        self._draft.abandon()
