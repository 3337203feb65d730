"""Ports for processes that must be told theirs before they start."""

import contextlib
import socket
from pathlib import Path
from random import SystemRandom

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL = 32_768


def first_ephemeral() -> int:
    """The lowest port that the OS gives to connections, and to whoever leaves the choice to it."""
    try:
        return int(_RANGE.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        return _USUAL


def is_free(port: int) -> bool:
    """Whether a process could listen on it now."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def unused_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on.

    They lie below the ephemeral ones: of those, some would be another's by the time they are used.
    """
    end, chance = first_ephemeral(), SystemRandom()
    found: set[int] = set()
    while len(found) < count:
        port = chance.randrange(end * 3 // 4, end)
        if is_free(port):
            found.add(port)
    return sorted(found)
