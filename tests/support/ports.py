"""Ports for processes that must be told theirs before they start."""

import contextlib
import random
import socket
from pathlib import Path

_given: set[int] = set()


def unused_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that nobody is given by the OS or by this function before they are.

    They lie below those of outgoing connections, which took many a port between its choice and its use.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(first_ephemeral // 2, first_ephemeral)
        if port not in _given and _is_free(port):
            _given.add(port)
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
