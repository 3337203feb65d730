"""How much memory this process has, and how much it may have."""

import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_SHARE = 0.9  # of the container's limit; past that the kernel is about to end the process


def resident_bytes(statm: Path = _STATM) -> int:
    """The resident size now, 0 where the system does not say."""
    try:
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def memory_bound(maximum: Path = _CGROUP) -> int:
    """The resident size past which no stream is added: nine tenths of the container's limit, else 0."""
    try:
        return int(int(maximum.read_text()) * _SHARE)
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return 0
