"""What journals do to a disk, in one place: simulations put another one there, which fails and forgets."""

import os
from pathlib import Path


class Disk:
    """The machine's own. Every method but `close` raises OSError."""

    def open(self, path: Path, flags: int = 0) -> int:
        """A file for reading and writing, made with mode 0600 where it is missing; returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)

    def write(self, descriptor: int, data: bytes, place: int) -> None:
        """All of *data*, from the byte *place* on. A crash of the machine may lose it until `sync`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, place)
            view, place = view[written:], place + written

    def cut(self, descriptor: int, size: int) -> None:
        """Leave the first *size* bytes."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Make what was written durable; may take long."""
        os.fsync(descriptor)

    def sync_names(self, directory: Path) -> None:
        """Make the names of the files in *directory* durable."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Nothing more is done to it."""
        os.close(descriptor)


DISK = Disk()
