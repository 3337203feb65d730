"""A durable map from names to bytes, for the little that must be on disk before anybody hears of it."""

from pathlib import Path

from peerd.state.disk import DISK, Disk
from peerd.state.journal import unwritable
from peerd.state.keyed_log import KeyedLog


class Table:
    """A map that cannot be looked up, only loaded: whoever uses it knows what is in it.

    Changes are on disk after `flush`. One that fails loses nothing: what it would have written goes with the
    next one.

    Raises:
        StateError: the journal cannot be opened or is corrupt.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self._log = KeyedLog(path, groups=False, disk=disk)
        self._disk = disk
        # The file was made, or a compacted one took its place, and the directory may not have kept that.
        self._moved = True

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._log.path

    @property
    def dirty(self) -> bool:
        """Whether there are changes that are not on disk."""
        return self._log.dirty

    def load(self) -> dict[str, bytes]:
        """What was there when the table was opened, handed over once."""
        return self._log.load().get("", {})

    def put(self, name: str, value: bytes, *, replaces: bool) -> None:
        """Set *name*, on disk after the next `flush`; *replaces* says whether it had a value."""
        self._log.put("", name, value, replaces=replaces)

    def delete(self, name: str) -> None:
        """Forget *name*, which had a value; on disk after the next `flush`."""
        self._log.delete("", name)

    def flush(self, *, sync: bool = True) -> None:
        """Write what changed since the last flush; compact what is mostly history.

        Raises:
            StateError: nothing was written; the changes stay pending. Or, where nothing is pending any more,
                what was written may not outlive a crash of the machine before the next flush.
        """
        self._log.flush(sync=sync)
        if self._log.mostly_history:
            self._moved = self._log.compact() or self._moved
        if self._moved and self._log.size:
            try:
                self._disk.sync_names(self.path.parent)
            except OSError as error:
                raise unwritable(self.path, error) from error
            self._moved = False

    def close(self) -> None:
        """Close the file; pending changes are lost unless flushed."""
        self._log.close()
