"""Every limit of peerd, with its reason. What reaches one counts it here, and `/metrics` shows the count."""

from collections import Counter
from typing import NamedTuple


class Limit(NamedTuple):
    """A bound on something that could otherwise grow: its name in metrics and logs, its value, and why."""

    name: str
    value: int
    unit: str
    reason: str


MERGE_WINDOW_MS = Limit(
    "merge_window",
    10,
    "ms",
    "D10: opened by the first change, never extended: one message for a replaced Pod, and bounded latency",
)
TYPES_PER_STREAM = Limit(
    "types_per_stream", 16, "types", "a client uses at most four; each costs one subscription record"
)
SOURCE_FILE_BYTES = Limit(
    "source_file_bytes",
    64 * 1024 * 1024,
    "bytes",
    "D7: a manifest is parsed as a tree in memory; larger files are a mistake or belong to an API server",
)

CA_FILE_BYTES = Limit(
    "ca_file_bytes", 1024 * 1024, "bytes", "a Secret of Kubernetes holds no more, and so no CA file does"
)
CSR_BYTES = Limit(
    "csr_bytes", 64 * 1024, "bytes", "the largest real request, with an RSA 8192 key, is under 4 KiB of PEM"
)
CSRS_WAITING = Limit(
    "csrs_waiting",
    4096,
    "requests",
    "each waits for its signature in memory; ztunnels keep at most 8 in flight, and retry with backoff",
)

LIMITS: tuple[Limit, ...] = (
    MERGE_WINDOW_MS,
    TYPES_PER_STREAM,
    SOURCE_FILE_BYTES,
    CA_FILE_BYTES,
    CSR_BYTES,
    CSRS_WAITING,
)

_hits: Counter[str] = Counter()


def hit(limit: Limit, times: int = 1) -> None:
    """Count that *limit* stopped something."""
    _hits[limit.name] += times


def hits(limit: Limit) -> int:
    """How often *limit* stopped something since the process started."""
    return _hits[limit.name]
