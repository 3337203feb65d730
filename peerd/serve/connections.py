"""Who is connected, and how far each has got: one registry for debug pages, metrics and syncz."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

from peerd.model.caller import Caller
from peerd.model.histogram import Histogram
from peerd.model.record import Record
from peerd.protocol.envelope import Node


class TypeView(Record, frozen=True):
    """One subscription. Nonces are empty before the first; times are seconds since 1970, 0 = never.

    `type_url` is what istioctl is shown: for peers the literal types `FSDS` and `SGDS` (decision D19).
    `rejected` pairs resource names with reasons; `error` is the text of the last NACK while one stands.
    """

    type_url: str
    sent: str = ""
    sent_at: float = 0.0
    acked: str = ""
    acked_at: float = 0.0
    error: str = ""
    error_at: float = 0.0
    rejected: tuple[tuple[str, str], ...] = ()


class Connection:
    """One open stream. `views` tells the state of its types at the moment it is asked."""

    __slots__ = ("asked", "caller", "connected_at", "id", "node", "remote", "views")

    def __init__(
        self,
        id: str,  # noqa: A002 (what it is)
        caller: Caller,
        remote: str,
        connected_at: float,
        views: Callable[[], tuple[TypeView, ...]],
    ) -> None:
        self.id = id
        self.caller = caller
        self.remote = remote
        self.connected_at = connected_at
        self.node = Node()
        self.asked: tuple[str, ...] = ()  # types it was found to be allowed
        self.views = views

    @property
    def proxy(self) -> str:
        """`<pod>.<namespace>`: the third part of the node id, or the whole id where it has no parts."""
        parts = self.node.id.split("~")
        return parts[2] if len(parts) == 4 else self.node.id


# istiod's bounds, and below them what a window of 10 ms makes of them.
_CONVERGENCE = (0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)


class ConnectionRegistry:
    """Open streams, and counts since the start: by type URL (`pushes`, `rejects`) or status name."""

    def __init__(self) -> None:
        self._open: dict[str, Connection] = {}
        self._numbers = itertools.count(1)
        self.pushes: Counter[str] = Counter()
        self.pushed_bytes: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.stale_nonces = 0
        self.convergence = Histogram(_CONVERGENCE)
        """From the first change of a merge window until a stream was sent it."""

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self, caller: Caller, remote: str, connected_at: float, views: Callable[[], tuple[TypeView, ...]]
    ) -> Connection:
        """Register a stream; it gets an id of its own."""
        connection = Connection(str(next(self._numbers)), caller, remote, connected_at, views)
        self._open[connection.id] = connection
        return connection

    def remove(self, connection: Connection) -> None:
        """The stream ended."""
        self._open.pop(connection.id, None)
