"""UUIDs made once: of a cluster without an API server (decision D18), and of each replica (D16)."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from peerd.state.disk import DISK
from peerd.state.errors import StateError


def lineage(directory: Path, make: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """The lineage kept in *directory*, made at the first call; two creators agree on one.

    Raises:
        StateError: it can be neither read nor written, or holds no UUID.
    """
    return _kept(directory / "lineage", make)


def replica(directory: Path, make: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """What tells a replica with this state directory from others of its cluster (decision D16).

    Raises:
        StateError: as `lineage`.
    """
    return _kept(directory / "replica", make)


def _kept(path: Path, make: Callable[[], uuid.UUID]) -> str:
    try:
        if not path.exists():
            _create(path, make())
        text = path.read_text("ascii", "replace").strip()
    except OSError as error:
        raise StateError(
            path, f"cannot be used: {error.strerror}", "make it readable and writable"
        ) from error
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise StateError(
            path,
            f"holds {text[:40]!r}, which is not a UUID",
            "restore it from a backup; deleting it makes peers take this for another cluster",
        ) from error


def _create(path: Path, value: uuid.UUID) -> None:
    # A hard link appears whole or not at all, and never replaces what another creator made first.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{value.hex}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, f"{value}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    DISK.sync_names(path.parent)
