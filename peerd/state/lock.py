"""One process per state directory."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from peerd.state.errors import StateError


class StateLock:
    """Holds `<state directory>/lock` until closed; the kernel lets go of it when the process dies.

    Raises:
        StateError: another process holds it, named by its process id, or the file cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(self._path, f"cannot be made: {error.strerror}", "make it writable") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StateError(
                directory,
                f"is in use by another peerd (process {holder})",
                "stop it, or give this one a --state-dir of its own",
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise StateError(
                self._path, f"cannot be locked: {error.strerror}", "use a file system with locks"
            ) from error
        with contextlib.suppress(OSError):  # only for the message above; a full disk is no reason to stop
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Let go; the file stays, since deleting it would race with the next holder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "StateLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
