"""The table of dialled peers: what `status`, metrics and conditions are made from."""

from collections.abc import Callable
from functools import partial

from peerd.model.clock import Clock
from peerd.model.federation import RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record
from peerd.peering.importer import ImportCounts, Importer
from peerd.protocol.peer_state import CONNECTED, PeerEvent, PeerState, PeerStatus, follow


class PeerTraffic(Record, frozen=True):
    """Of the present connection, or of the last one: where to, gRPC message bytes each way, round trip."""

    address: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0
    round_trip: float | None = None
    epoch: str = ""


class PeerSnapshot(Record, frozen=True):
    """One row. Times are wall-clock seconds; `attempts` counts dials since the last healthy stream."""

    key: ObjectKey
    remote: RemotePeer
    status: PeerStatus
    counts: ImportCounts
    traffic: PeerTraffic = PeerTraffic()
    attempts: int = 0
    next_attempt: float = 0.0

    @property
    def connected(self) -> bool:
        """Whether streams are open."""
        return self.status.state in CONNECTED

    @property
    def cluster(self) -> str:
        """The peer's cluster, as it says or as its Gateway says."""
        return self.counts.info.cluster if self.counts.info is not None else self.remote.cluster


class _Row:
    def __init__(self, remote: RemotePeer, status: PeerStatus) -> None:
        self.remote = remote
        self.status = status
        self.traffic = PeerTraffic()
        self.attempts = 0
        self.next_attempt = 0.0
        self.entry: PeerEntry | None = None


class PeerEntry:
    """A row in the hands of its Gateway's present link; what an earlier link still says is dropped."""

    def __init__(self, row: _Row, fire: Callable[[PeerEvent, str], None]) -> None:
        self._row = row
        self._fire = fire

    def fire(self, event: PeerEvent, error: str = "") -> None:
        """Something happened to the peer."""
        if self._current:
            self._fire(event, error)

    def traffic(self, traffic: PeerTraffic) -> None:
        """Figures of the present connection."""
        if self._current:
            self._row.traffic = traffic

    def attempt(self, attempts: int, next_attempt: float) -> None:
        """How many dials failed, and when the next one is due (wall clock; 0: now)."""
        if self._current:
            self._row.attempts, self._row.next_attempt = attempts, next_attempt

    @property
    def _current(self) -> bool:
        return self._row.entry is self


class PeerTable:
    """Rows by Gateway. `changed` is called with a key after each change of its status."""

    def __init__(
        self, importer: Importer, clock: Clock, changed: Callable[[ObjectKey], None] | None = None
    ) -> None:
        self._importer = importer
        self._clock = clock
        self._changed = changed or (lambda _key: None)
        self._rows: dict[ObjectKey, _Row] = {}

    def put(self, remote: RemotePeer) -> None:
        """A Gateway appeared or was edited."""
        row = self._rows.get(remote.key)
        if row is None:
            state = PeerState.SELF if remote.self_peer else PeerState.CONNECTING
            self._rows[remote.key] = _Row(remote, PeerStatus(state, self._clock.time()))
        else:
            row.remote = remote
        self._changed(remote.key)

    def drop(self, key: ObjectKey) -> None:
        """A Gateway is gone."""
        row = self._rows.pop(key, None)
        if row is not None:
            row.entry = None
            self._changed(key)

    def fire(self, key: ObjectKey, event: PeerEvent, error: str = "") -> None:
        """Something happened to a peer."""
        row = self._rows[key]
        before = row.status
        row.status = follow(before, event, self._clock.time(), error)
        if row.status != before:
            self._changed(key)

    def state(self, key: ObjectKey) -> PeerState:
        """The present state."""
        return self._rows[key].status.state

    def entry(self, key: ObjectKey) -> PeerEntry:
        """The row of *key* for a new link: from here on it alone is heard."""
        row = self._rows[key]
        row.entry = PeerEntry(row, partial(self.fire, key))
        row.traffic, row.attempts, row.next_attempt = PeerTraffic(), 0, 0.0
        return row.entry

    def leave(self, key: ObjectKey) -> None:
        """The Gateway's link is being stopped."""
        self._rows[key].entry = None

    def snapshot(self) -> tuple[PeerSnapshot, ...]:
        """All rows, by key."""
        return tuple(self._snapshot(key, row) for key, row in sorted(self._rows.items()))

    def row(self, key: ObjectKey) -> PeerSnapshot | None:
        """One row, None where the Gateway is not dialled."""
        row = self._rows.get(key)
        return None if row is None else self._snapshot(key, row)

    def _snapshot(self, key: ObjectKey, row: _Row) -> PeerSnapshot:
        return PeerSnapshot(
            key=key,
            remote=row.remote,
            status=row.status,
            counts=self._importer.counts(key),
            traffic=row.traffic,
            attempts=row.attempts,
            next_attempt=row.next_attempt,
        )
