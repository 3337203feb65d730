"""A watched directory of manifests as a source of objects (decision D7).

The directory is looked at with `scandir` and `stat`, up to ten times a second: cheap for hundreds of files,
and it works on every file system. A file is read once it has rested; its objects replace those it had before.
What cannot be read keeps its last good objects.
"""

import asyncio
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from peerd.model.changes import ObjectChange
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject
from peerd.sources.base import Sink, SourceError
from peerd.sources.defaults import object_label
from peerd.sources.manifests import SUFFIXES, FileKey, Manifest, UnknownKind, Unreadable, parse

REST = 0.2
"""Seconds without a change after which a file is read, or after its disappearance believed (D7)."""
PATIENCE = 1.0
"""Seconds after its first change at which a file that never rests is read all the same (D7)."""
INTERVAL = 0.1
"""Seconds between two looks at the directory."""
_SLOWEST = 0.5
"""Seconds between two looks at a directory so large that INTERVAL would cost more than 1 % of a core."""
_OFFLOAD_BYTES = 64 * 1024
"""From this size on a file is parsed in a thread, so that streams and heartbeats go on meanwhile."""

_UNKNOWN = "unknown kinds"

Fingerprint = tuple[int, int, int, int]
"""mtime and ctime in ns, size, inode: what changes when a file or its permissions do."""


class _File:
    """What is known of one path."""

    __slots__ = ("changed", "good", "manifest", "problems", "read", "seen", "since")

    def __init__(self) -> None:
        self.seen: Fingerprint | None = None  # as last looked at; None: not there
        self.read = False  # whether it was read, or tried, at least once
        self.since = 0.0  # when `seen` last changed
        self.changed: float | None = None  # first change that was not read yet
        self.manifest = Manifest({})
        self.good = b""  # the bytes `manifest` came from, compressed
        self.problems: tuple[Diagnostic, ...] = ()


class _SystemClock:
    """The clocks of this machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class DirectorySource:
    """Objects of all `.yaml`, `.yml` and `.json` files below a directory; hidden entries are left out.

    Args:
        root: the directory.
        clock: tells how long a file has rested.
        sleep: waits between two looks.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root = root
        self._clock: Clock = clock if clock is not None else _SystemClock()
        self._sleep = sleep
        self._files: dict[str, _File] = {}
        self._owners: dict[FileKey, list[str]] = {}  # which files hold an object; the first by name counts
        self._current: dict[FileKey, KubeObject] = {}  # what the sink was told
        self._synced = False
        self._lost_root = False

    async def run(self, sink: Sink) -> None:
        """Feed *sink* until cancelled.

        Raises:
            SourceError: the directory is not there, is no directory, or cannot be listed at the start.
        """
        try:
            if not self._root.is_dir():
                raise NotADirectoryError(f"{self._root} is not a directory")
            os.scandir(self._root).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SourceError(
                f"--source dir:{self._root}: cannot be read: {reason}; name a directory of manifests"
            ) from error
        while True:
            started = self._clock.monotonic()
            await self._look(sink)
            cost = self._clock.monotonic() - started
            await self._sleep(min(max(INTERVAL, 100 * cost), _SLOWEST))

    async def _look(self, sink: Sink) -> None:
        """Scan once, read what has rested, tell the sink."""
        present = self._scan(sink)
        if present is None:
            return
        now = self._clock.monotonic()
        for path, fingerprint in present.items():
            if path not in self._files:
                self._files[path] = _File()
            self._note(self._files[path], fingerprint, now)
        for path, file in self._files.items():
            if path not in present:
                self._note(file, None, now)
        due = sorted(path for path, file in self._files.items() if self._due(file, now))
        touched: set[FileKey] = set()
        for path in due:
            touched |= await self._read(path, sink)
        if due:
            self._tell(touched, due, sink)
        if not self._synced and all(file.read for file in self._files.values()):
            self._synced = True
            sink.synced()

    def _scan(self, sink: Sink) -> dict[str, Fingerprint] | None:
        """Every manifest file with its fingerprint; None where the root itself is gone or unreadable."""
        present: dict[str, Fingerprint] = {}
        visited: set[tuple[int, int]] = set()
        folders = [str(self._root)]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        self._sort_in(entry, present, folders, visited)
            except OSError as error:
                if folder == str(self._root):
                    self._report_root(sink, error)
                    return None
                if not isinstance(error, FileNotFoundError):
                    # Unreadable is not deleted: what was below stays as it was last seen.
                    present.update(self._known_below(folder))
        if self._lost_root:
            self._lost_root = False
            sink.report(str(self._root), ())
        return present

    @staticmethod
    def _sort_in(
        entry: os.DirEntry[str],
        present: dict[str, Fingerprint],
        folders: list[str],
        visited: set[tuple[int, int]],
    ) -> None:
        if entry.name.startswith("."):
            return  # editors' swap files, `.git`, and the `..data` of mounted ConfigMaps
        try:
            if entry.name.endswith(SUFFIXES):
                status = entry.stat()
                if not entry.is_dir():
                    present[entry.path] = _fingerprint(status)
                    return
            if entry.is_dir():
                if entry.is_symlink():
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) in visited:
                        return  # a link that leads round in a circle
                    visited.add((status.st_dev, status.st_ino))
                folders.append(entry.path)
        except FileNotFoundError:
            return  # gone between listing and stat, or a dangling link

    def _known_below(self, folder: str) -> Iterator[tuple[str, Fingerprint]]:
        for path, file in self._files.items():
            if path.startswith(folder + os.sep) and file.seen is not None:
                yield path, file.seen

    def _report_root(self, sink: Sink, error: OSError) -> None:
        if not self._lost_root:
            self._lost_root = True
            problem = Diagnostic(
                "(directory)",
                "(all files)",
                f"cannot be listed: {error.strerror or error}; the last good objects stay",
                "bring the directory back",
                Severity.ERROR,
                str(self._root),
            )
            sink.report(str(self._root), (problem,))

    def _note(self, file: _File, seen: Fingerprint | None, now: float) -> None:
        if seen == file.seen:
            return
        first = file.changed is None and not file.read
        file.seen = seen
        file.since = now
        if file.changed is None:
            file.changed = now
        if first and seen is not None and self._clock.time() - seen[0] / 1e9 >= REST:
            file.since = now - PATIENCE  # it rested before it was first seen

    @staticmethod
    def _due(file: _File, now: float) -> bool:
        if file.changed is None:
            return False
        return now - file.since >= REST or (file.seen is not None and now - file.changed >= PATIENCE)

    async def _read(self, path: str, sink: Sink) -> set[FileKey]:
        """Take in one file's present content; returns the objects that may have changed."""
        file = self._files[path]
        if file.seen is None:
            del self._files[path]
            sink.report(path, ())
            return self._own(path, file, Manifest({}))
        restless = self._clock.monotonic() - file.since < REST
        fingerprint = file.seen
        # A file that is still being written is read again once it rests.
        file.changed = self._clock.monotonic() if restless else None
        try:
            if fingerprint[2] < _OFFLOAD_BYTES:
                manifest, good = _load(path, file, fingerprint)
            else:
                manifest, good = await asyncio.to_thread(_load, path, file, fingerprint)
        except FileNotFoundError:
            file.changed = self._clock.monotonic()  # the next look decides whether it is gone
            return set()
        except (Unreadable, OSError) as error:
            file.read = True
            file.problems = (self._broken(path, file, error),)
            return set()
        file.read = True
        file.good = good
        file.problems = manifest.diagnostics
        kept = {key: file.manifest.objects[key] for key in manifest.broken if key in file.manifest.objects}
        return self._own(path, file, msgspec.structs.replace(manifest, objects={**kept, **manifest.objects}))

    @staticmethod
    def _broken(path: str, file: _File, error: Unreadable | OSError) -> Diagnostic:
        message = (
            str(error) if isinstance(error, Unreadable) else f"cannot be read: {error.strerror or error}"
        )
        names = [
            object_label(KINDS_BY_NAME[kind], *_parts(key)) for kind, key in sorted(file.manifest.objects)
        ]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if names:
            message += "; its last good objects stay"
        return Diagnostic(
            shown or "(no object yet)", "(whole file)", message, "mend the file", Severity.ERROR, path
        )

    def _own(self, path: str, file: _File, manifest: Manifest) -> set[FileKey]:
        """Make *manifest* what *path* holds; returns the keys it held or holds."""
        for key in file.manifest.objects.keys() - manifest.objects.keys():
            holders = self._owners[key]
            holders.remove(path)
            if not holders:
                del self._owners[key]
        for key in manifest.objects.keys() - file.manifest.objects.keys():
            holders = self._owners.setdefault(key, [])
            holders.append(path)
            holders.sort()
        touched = file.manifest.objects.keys() | manifest.objects.keys()
        file.manifest = manifest
        return touched

    def _tell(self, touched: set[FileKey], due: list[str], sink: Sink) -> None:
        changes: list[ObjectChange] = []
        rivals = set(due)
        for key in sorted(touched):
            holders = self._owners.get(key)
            value = self._files[holders[0]].manifest.objects[key] if holders else None
            rivals.update(holders or ())
            if value == self._current.get(key):
                continue
            if value is None:
                del self._current[key]
            else:
                self._current[key] = value
            changes.append(ObjectChange(key[0], key[1], value))
        if changes:
            sink.apply(changes)
        for path in sorted(rivals):
            if path in self._files:
                file = self._files[path]
                sink.report(path, (*file.problems, *self._doubles(path, file)))
        sink.report(_UNKNOWN, self._unknown())

    def _doubles(self, path: str, file: _File) -> Iterator[Diagnostic]:
        for key in sorted(file.manifest.objects):
            first = self._owners[key][0]
            if first != path:
                yield Diagnostic(
                    object_label(KINDS_BY_NAME[key[0]], *_parts(key[1])),
                    "metadata.name",
                    f"is also in {first}, which counts because it is first by name",
                    "remove one of the two",
                    Severity.ERROR,
                    path,
                )

    def _unknown(self) -> tuple[Diagnostic, ...]:
        firsts: dict[tuple[str, str], tuple[str, UnknownKind]] = {}
        for path in sorted(self._files):
            for unknown in self._files[path].manifest.unknown:
                firsts.setdefault((unknown.api_version, unknown.kind), (path, unknown))
        return tuple(
            Diagnostic(
                unknown.object,
                "kind",
                f"{unknown.api_version} {unknown.kind} is not a kind that peerd reads; it is left out",
                "nothing to do, unless apiVersion or kind is misspelt",
                Severity.WARNING,
                path,
            )
            for path, unknown in firsts.values()
        )


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _load(path: str, file: _File, fingerprint: Fingerprint) -> tuple[Manifest, bytes]:
    """Read and parse one file: its manifest, and its bytes compressed; raises OSError, Unreadable."""
    raw = Path(path).read_bytes()
    reason = _cut_short(raw, zlib.decompress(file.good) if file.good else b"")
    if reason is not None:
        raise Unreadable(reason)
    return parse(path, raw, fingerprint[0] / 1e9, file.manifest.born), zlib.compress(raw, 1)


def _parts(key: object) -> tuple[str, str]:
    namespace, _, name = str(key).rpartition("/")
    return namespace, name


def _cut_short(raw: bytes, previous: bytes) -> str | None:
    """Why *raw* looks like the beginning of a file that is not written whole, or None.

    Half a YAML file is often valid YAML: a Pod cut before its status would vanish from the mesh.
    """
    if not previous.strip():
        return None
    if not raw.strip():
        return "is empty; delete the file to remove its objects"
    whole = (
        len(raw) >= len(previous)
        or raw.endswith(b"\n")
        or previous[len(raw) : len(raw) + 1] in {b"\n", b"\r"}
    )
    if not whole and previous.startswith(raw):
        return "ends in the middle of a line, as if it were not written whole; end it with a newline"
    return None
