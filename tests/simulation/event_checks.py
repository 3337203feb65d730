"""Whether what is fired at the peer table has happened, and whether what has happened shows there.

`Standing` (standing.py) holds the words against the events; this holds the events against the facts.
"""

from collections.abc import Callable, Sequence

from peerd.app.peerd import Peerd
from peerd.model.changes import Change, PeerChange
from peerd.model.federation import Freshness, PeerInfo
from peerd.model.kube.meta import ObjectKey
from peerd.peering.importer import Importer
from peerd.protocol.peer_state import PeerEvent, PeerState
from tests.simulation.guarantees import BOUNDED_STALENESS, ORIGIN, SLACK, STALE_AFTER, STATUS
from tests.simulation.history import History, Violation
from tests.simulation.replica import Replica

Guard = Callable[[Callable[[], None]], None]

_SEEN_WITHIN = 4.0  # seconds from an age to its being shown: peers are looked at once a second
_AGES = {PeerEvent.GREW_STALE: Freshness.STALE, PeerEvent.EXPIRED: Freshness.EXPIRED}
_HIDES_AGE = {
    Freshness.STALE: {PeerState.CONNECTING},
    Freshness.EXPIRED: {PeerState.CONNECTING, PeerState.STALE},
}


class EventChecks:
    """Of all replicas of one run."""

    def __init__(self, history: History, replicas: dict[str, Replica]) -> None:
        self._history = history
        self._replicas = replicas
        self._synced_as: dict[tuple[str, ObjectKey], tuple[str, ...]] = {}
        self._odd_since: dict[tuple[str, ObjectKey, str], float] = {}

    def watch(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        """Look over a new peerd's shoulder."""
        for kept in (self._synced_as, self._odd_since):
            for key in [key for key in kept if key[0] == replica.name]:
                del kept[key]  # type: ignore[attr-defined]
        federation = peerd.federation
        importer, table = federation._importer, federation.table
        fire, drop, emit = table.fire, table.drop, importer._emit

        def see_fire(key: ObjectKey, event: PeerEvent, error: str = "") -> None:
            guard(lambda: self._fired(replica, importer, key, event, error))
            fire(key, event, error)

        def see_drop(key: ObjectKey) -> None:
            self._synced_as.pop((replica.name, key), None)
            drop(key)

        def see_emit(changes: Sequence[Change]) -> None:
            guard(lambda: self._aged(replica, importer, changes))
            for change in changes:
                if isinstance(change, PeerChange) and (
                    change.view is None or change.view.freshness is Freshness.EXPIRED
                ):
                    self._synced_as.pop((replica.name, change.peer), None)  # it starts over anyway
            emit(changes)

        table.fire, table.drop = see_fire, see_drop  # type: ignore[method-assign]
        importer._emit = see_emit

    def _fired(
        self, replica: Replica, importer: Importer, key: ObjectKey, event: PeerEvent, error: str
    ) -> None:
        place = replica.name, key
        if event in _AGES:
            self._history.checks[STATUS] += 1
            found = importer.freshness(key)
            if found is not _AGES[event]:
                raise Violation(STATUS, f"{replica.name}: {key} {event.value}, and its word is {found.value}")
        elif event is PeerEvent.REFUSED and "became another cluster" in error:
            self._synced_as.pop(place, None)
        elif event is PeerEvent.SYNCED:
            info = importer.counts(key).info
            assert info is not None
            self._history.checks[ORIGIN] += 1
            before, self._synced_as[place] = self._synced_as.get(place), _who(info)
            if before not in {None, _who(info)}:
                raise Violation(
                    ORIGIN, f"{replica.name} goes on with {key} as before, and it is another cluster"
                )

    def _aged(self, replica: Replica, importer: Importer, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, PeerChange) and change.view is not None and change.peer in importer._peers:
                silent = replica.clock.time() - importer._peers[change.peer].last_heartbeat
                self._history.checks[BOUNDED_STALENESS] += 1
                if change.view.freshness is Freshness.STALE and 0 <= silent < STALE_AFTER - SLACK:
                    raise Violation(
                        BOUNDED_STALENESS,
                        f"{replica.name} trusts {change.peer} less, {silent:.0f} s after a sign of life",
                    )

    def look(self, now: float) -> None:
        """What must show by now."""
        for replica in self._replicas.values():
            if not replica.running or replica.peerd is None:
                continue
            importer, table = replica.peerd.federation._importer, replica.peerd.federation.table
            for key in table._rows:
                if key not in importer._peers:
                    continue
                freshness, state = importer.freshness(key), table.state(key)
                hidden = importer.ever_heard(key) and state in _HIDES_AGE.get(freshness, ())
                if self._lasts(replica, key, "hidden", hidden, now):
                    raise Violation(
                        STATUS, f"{replica.name} shows {key} as {state.value}; its word is {freshness.value}"
                    )
                ahead = importer._peers[key].last_heartbeat > replica.clock.time() + 1
                if self._lasts(replica, key, "ahead", ahead and freshness is Freshness.FRESH, now):
                    raise Violation(
                        BOUNDED_STALENESS, f"{replica.name} trusts {key} for a sign of life from the future"
                    )

    def _lasts(self, replica: Replica, key: ObjectKey, what: str, holds: bool, now: float) -> bool:
        """Whether what must pass soon has lasted for too long, nothing disturbing."""
        place = replica.name, key, what
        if not holds:
            self._odd_since.pop(place, None)
            return False
        since = max(self._odd_since.setdefault(place, now), replica.disturbed_at)
        return now - since > _SEEN_WITHIN


def _who(info: PeerInfo) -> tuple[str, ...]:
    return info.cluster, info.network, info.trust_domain, info.lineage
