"""A replica's disk: full, failing or slow for a while, and what it forgets when the machine loses power.

The files are real, so that a process that dies leaves what it wrote, as the kernel would. What was not
flushed is remembered here: a loss of power takes it, but for as much of it as had got to the disk by chance.
A flush that fails keeps nothing, and the next one does not bring it back, as Linux has it.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from peerd.state.disk import Disk

WRITTEN_BACK = 35.0  # seconds after which the kernel writes of itself
_SOON = 10.0  # seconds within which what failed is tried again


@dataclass
class _File:
    """`durable` survives a loss of power, as its name does from `named_at` on; `late` are the contents since,
    each with when it will be durable (None: never, for a flush of it has failed)."""

    path: Path
    durable: bytes
    named_at: float
    late: list[tuple[float | None, bytes]] = field(default_factory=list)


class SimDisk(Disk):
    """One machine's.

    Args:
        now: virtual seconds.
        spend: is told how many seconds an operation took.
        random: decides what fails, and what is lost.
    """

    def __init__(self, now: Callable[[], float], spend: Callable[[float], None], random: Random) -> None:
        self._now = now
        self._spend = spend
        self._random = random
        self.full = self.failing = False
        self.slow = 0.0  # seconds that a flush takes
        self.failed: dict[str, float] = {}  # by file: when it could last not be written
        self.flushed: dict[str, float] = {}  # by file: when it last could
        self.troubled: list[tuple[float, float]] = []  # when anything failed; the last may not be over
        self.generation = 0  # how often another one took its place
        self._files: dict[Path, _File] = {}
        self._open: dict[int, _File] = {}

    # -- what goes wrong ---------------------------------------------------------------------------------

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.full or self.failing or self.slow)

    def trouble(self, *, full: bool = False, failing: bool = False) -> None:
        """From now on, until `mend`, nothing can be written, or every second operation fails."""
        self.full, self.failing = full, failing
        start = self._now()
        if self.troubled and start - self.troubled[-1][1] < _SOON:
            start, _ = self.troubled.pop()  # what could not be written then may not have been since
        self.troubled.append((start, float("inf")))

    def mend(self) -> None:
        """It is sound again."""
        if self.full or self.failing:
            self.troubled[-1] = self.troubled[-1][0], self._now()
        self.full = self.failing = False
        self.slow = 0.0

    def troubled_since(self) -> float:
        """When the trouble began that is not over, or was not a moment ago; infinite where there is none."""
        if self.troubled and self._now() - self.troubled[-1][1] < _SOON:
            return self.troubled[-1][0]
        return float("inf")

    def lose_power(self) -> bool:
        """The machine has lost power, and every file is closed; whether anything was lost."""
        lost = False
        for path, file in self._files.items():
            kept = self._kept(file)
            lost = lost or kept != path.read_bytes()
            if kept is None:
                path.unlink()
            else:
                path.write_bytes(kept)
        self._files.clear()
        self._open.clear()
        return lost

    def replace(self) -> None:
        """Another one takes its place; what is wrong goes on."""
        self.generation += 1
        self._files.clear()
        self._open.clear()

    def _kept(self, file: _File) -> bytes | None:
        now, chance = self._now(), self._random.random
        if file.named_at > now and chance() < 0.5:
            return None
        kept = file.durable
        for due, content in file.late:
            if due is not None and (due <= now or chance() < 0.5):
                kept = content
                continue
            if len(content) > len(kept) and chance() < 0.5:  # torn, and the rest may be there and be zeros
                kept = content[: self._random.randrange(len(kept), len(content))]
                if chance() < 0.5:
                    kept = kept.ljust(len(content), b"\0")
            break
        return kept

    # -- what a peerd does -------------------------------------------------------------------------------

    def open(self, path: Path, flags: int = 0) -> int:
        """`Disk.open`."""
        new = not path.exists()
        descriptor = super().open(path, flags)
        if path not in self._files:
            named_at = self._now() + WRITTEN_BACK if new else 0.0
            self._files[path] = _File(path, path.read_bytes(), named_at)
        self._open[descriptor] = self._files[path]
        return descriptor

    def write(self, descriptor: int, data: bytes, place: int) -> None:
        """`Disk.write`."""
        file, fails = self._open[descriptor], self._fails()
        super().write(descriptor, data[: self._random.randrange(len(data))] if fails else data, place)
        self._changed(file)
        if fails:
            self._fail(file)
        self.flushed[file.path.name] = self._now()

    def cut(self, descriptor: int, size: int) -> None:
        """`Disk.cut`."""
        super().cut(descriptor, size)
        self._changed(self._open[descriptor])

    def sync(self, descriptor: int) -> None:
        """`Disk.sync`."""
        file = self._open[descriptor]
        self._spend(self.slow)
        if self._fails():
            file.late = [(None, content) for _, content in file.late]
            self._fail(file)
        if file.late and file.late[-1][0] is not None:
            file.late = [(self._now() + self.slow, file.late[-1][1])]

    def sync_names(self, directory: Path) -> None:
        """`Disk.sync_names`."""
        self._spend(self.slow)
        for path, file in self._files.items():
            if path.parent == directory:
                file.named_at = min(file.named_at, self._now() + self.slow)

    def close(self, descriptor: int) -> None:
        """`Disk.close`."""
        self._open.pop(descriptor, None)
        super().close(descriptor)

    def _fails(self) -> bool:
        return self.full or (self.failing and self._random.random() < 0.5)

    def _fail(self, file: _File) -> None:
        self.failed[file.path.name] = self._now()
        number = errno.ENOSPC if self.full else errno.EIO
        raise OSError(number, os.strerror(number))

    def _changed(self, file: _File) -> None:
        """Its content is another one, and is not durable yet."""
        now = self._now()
        while file.late and file.late[0][0] is not None and file.late[0][0] <= now:
            file.durable = file.late.pop(0)[1]
        file.late.append((now + WRITTEN_BACK, file.path.read_bytes()))
