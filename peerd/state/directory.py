"""The state directory: made with mode 0700, used by one process at a time, with one lineage.

Its files: `lock` (who uses it), `lineage` (whose state it is), and one journal per kind of state.
"""

import os
from pathlib import Path

from peerd.state.errors import StateError


def prepare(path: Path) -> None:
    """Make the directory where it is missing, and check that files can be made in it.

    Raises:
        StateError: it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        raise StateError(
            path, f"cannot be used as state directory: {error.strerror}", "name one that can be written"
        ) from error
