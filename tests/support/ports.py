"""Ports and loopback addresses for who must be told theirs before they start; no two workers share any."""

import itertools
import os
import random
from collections.abc import Iterator

from peerd.cli.demo.ports import first_ephemeral, is_free

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def shares(first: int, end: int) -> Iterator[int]:
    """This worker's numbers of [first, end), in any order; none comes again before all have."""
    mine = [number for number in range(first, end) if number % WORKERS == WORKER]
    random.SystemRandom().shuffle(mine)
    return itertools.cycle(mine)


# Below those of outgoing connections, which took many a port between its choice and its use. What lies
# between, and the addresses above, are the demo's.
_ports = shares(first_ephemeral() // 2, first_ephemeral() * 3 // 4)
_blocks = shares(1 << 8, 200 << 8)


def unused_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that neither the OS nor this function gives to anybody else."""
    return list(itertools.islice(filter(is_free, _ports), count))


def address_block() -> str:
    """`127.a.b`: 256 addresses that no other test has; all of 127.0.0.0/8 is loopback on Linux."""
    number = next(_blocks)
    return f"127.{number >> 8}.{number & 255}"
