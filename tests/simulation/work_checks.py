"""What no peerd does though it could: work that nothing asked for ("No work for nothing").

Counted as it happens: what the importer tells derivation, what is written to the state directory, what
clients are sent, streams that are ended, changes that are walked through. At a quiet moment every stream of a
ztunnel is woken twice, and must not look the second time.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from unittest import mock

import msgspec

from peerd.app.peerd import Peerd
from peerd.limits import PEER_CHANGES, PEER_REASON_CHARACTERS, hits
from peerd.model.changes import Change, PeerChange
from peerd.model.federation import PeerView
from peerd.model.frame import Frame
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, DELTA_METHOD, PEER_INFO
from peerd.protocol.envelope import DeltaResponse, parse_delta_response
from peerd.protocol.peer_state import PeerEvent
from peerd.protocol.server import DeltaServer
from peerd.protocol.subscription import Subscription
from tests.simulation.guarantees import NO_WORK
from tests.simulation.history import History, Violation
from tests.simulation.replica import Replica
from tests.simulation.ztunnel import SimZtunnel

Guard = Callable[[Callable[[], None]], None]

_HEARTBEAT, _HEARTBEATS_APART = "heartbeat", 10.0
_NOTHING = object()
_SHARED = re.compile(r"-0-\d+(-\d+)?$")  # the nonce of an answer that all share who hold nothing
_FAR = (PEER_CHANGES, PEER_REASON_CHARACTERS)  # limits that nothing here comes near


class WorkChecks:
    """Checks of all replicas and ztunnels of one run."""

    def __init__(self, history: History, replicas: dict[str, Replica]) -> None:
        self._history = history
        self._replicas = replicas
        self._views: dict[tuple[str, ObjectKey], PeerView | None] = {}
        self._written: dict[tuple[str, str, str], object] = {}
        self.begin()
        self._removed: dict[tuple[str, str, str], set[str]] = {}  # told by whom to whom, of which type

    def begin(self) -> None:
        """From now on nothing comes near a limit that is far."""
        self._hits = [hits(each) for each in _FAR]

    def watch(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        """Look over a new peerd's shoulder."""
        for kept in (self._views, self._written, self._removed):
            for key in [key for key in kept if replica.name in key[:2]]:
                del kept[key]  # type: ignore[attr-defined]
        self._watch_importer(replica, peerd, guard)
        self._watch_journal(replica, peerd, guard)
        self._watch_interest(replica, peerd, guard)

    def quiet(self) -> None:
        """Nobody is owed anything: woken streams see that at a glance."""
        self._check([hits(each) for each in _FAR] == self._hits, "a limit is counted that nothing came near")
        looked: list[Subscription] = []
        passes, owed_to = Subscription.passes, DeltaServer._owed

        def see(subscription: Subscription, revision: int) -> bool:
            looked.append(subscription)
            return passes(subscription, revision)

        def see_owed(machine: DeltaServer, subscription: Subscription, now: float) -> tuple[Frame, ...]:
            looked.append(subscription)
            return owed_to(machine, subscription, now)

        with (
            mock.patch.object(Subscription, "passes", see),
            mock.patch.object(DeltaServer, "_owed", see_owed),
        ):
            for replica in self._replicas.values():
                assert replica.peerd is not None
                for stream in replica.peerd.ads._streams:
                    if any(each.outstanding for each in stream.machine.statuses()):
                        continue  # what it answers may let something go
                    for _ in range(2):
                        looked.clear()
                        owed = stream.machine.next(replica.loop.time())
                    self._check(
                        owed is None and not looked,
                        f"{replica.name} looks through {len(looked)} subscriptions of a stream at rest",
                    )

    # -- what ztunnels and peers are sent -----------------------------------------------------------------

    def before(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """A response came to a ztunnel; it still holds what it held."""
        held = client.versions(response.type_url)
        if not held and not client.on_demand and client.connected_since < 0:
            self._check(
                _SHARED.search(response.nonce) is not None,
                f"{client.name} holds nothing, and an answer was made for it alone: {response.nonce}",
            )
        if client.connected_since >= 0:
            self._check(
                bool(response.resources or response.removed),
                f"{client.name} was sent an empty response {response.nonce}",
            )
            if client.on_demand and response.type_url == ADDRESS:  # the change log knows no contents
                again = {each.name for each in response.resources if held.get(each.name) == each.version}
                wanted = {name for name in again if client.asked[name]}  # it may have come meanwhile
                client.asked.subtract(wanted)
                again -= wanted
                self._check(not again, f"{client.name} was sent again what it holds: {sorted(again)}")

    def delivered(self, source: str, target: str, method: str, message: bytes) -> None:
        """A message of an answering peerd arrived at another one."""
        if method != DELTA_METHOD:
            return
        response = parse_delta_response(message)
        told = self._removed.setdefault((source, target, response.type_url), set())
        told.difference_update(each.name for each in response.resources)
        again = told.intersection(response.removed)
        self._check(not again, f"{source} told {target} twice that {sorted(again)} are gone")
        told.update(response.removed)

    # -- what a peerd does within itself ------------------------------------------------------------------

    def _watch_importer(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        federation = peerd.federation
        importer, table = federation._importer, federation.table
        emit, fire = importer._emit, table.fire
        dialled: dict[ObjectKey, object] = {}

        def see_emit(changes: Sequence[Change]) -> None:
            guard(lambda: self._told(replica, changes))
            emit(changes)

        def see_fire(key: ObjectKey, event: PeerEvent, error: str = "") -> None:
            speaking = federation._speaking
            if event in {PeerEvent.OPENED, PeerEvent.CHANGED} and speaking is not None:
                hello = speaking.dialer._hello
                way = speaking.dialer._remotes[key], hello.segment, hello.network
                before, dialled[key] = dialled.get(key), way
                if event is PeerEvent.CHANGED:
                    guard(
                        lambda: self._check(
                            before != way, f"{replica.name} dials {key} anew, and nothing was edited"
                        )
                    )
            if event is PeerEvent.OPENED:
                for told in [told for told in self._removed if told[1] == replica.name]:
                    del self._removed[told]
            if event is PeerEvent.REFUSED:
                # Who became another cluster is asked anew, and may be again what it was and is on disk.
                self._written.pop((replica.name, str(key), f"{PEER_INFO}\x00self"), None)
            fire(key, event, error)

        importer._emit = see_emit
        table.fire = see_fire  # type: ignore[method-assign]

    def _told(self, replica: Replica, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, PeerChange):
                place = replica.name, change.peer
                before, self._views[place] = self._views.get(place, _NOTHING), change.view
                self._check(
                    before is None or before != change.view,
                    f"{replica.name} tells derivation again what it said of {change.peer}",
                )

    def _watch_journal(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        log = peerd.federation._journal._log
        put, delete, forget = log.put, log.delete, log.forget

        def see_put(group: str, name: str, value: bytes, *, replaces: bool) -> None:
            guard(lambda: self._wrote(replica, (replica.name, group, name), value))
            put(group, name, value, replaces=replaces)

        def see_delete(group: str, name: str) -> None:
            guard(lambda: self._wrote(replica, (replica.name, group, name), None))
            delete(group, name)

        def see_forget(group: str, held: int) -> None:
            for key in [key for key in self._written if key[:2] == (replica.name, group)]:
                del self._written[key]
            forget(group, held)

        log.put, log.delete, log.forget = see_put, see_delete, see_forget  # type: ignore[method-assign]

    def _wrote(self, replica: Replica, key: tuple[str, str, str], value: bytes | None) -> None:
        """*value* is written, or with None the record is deleted."""
        if key[2] == _HEARTBEAT:
            at = msgspec.msgpack.decode(value, type=float) if value is not None else 0.0
            before, self._written[key] = self._written.get(key), at
            early = isinstance(before, float) and 0 <= at - before < _HEARTBEATS_APART
            self._check(not early, f"{replica.name} writes another heartbeat of {key[1]} after so little")
            return
        before, self._written[key] = self._written.get(key, _NOTHING), value
        self._check(before != value, f"{replica.name} writes {key[1:]} again, as it is already")

    def _watch_interest(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        interest = peerd.ads._interest
        publish = interest.publish

        def see_publish(type_url: str, changes: Iterable[object]) -> None:
            walked: list[object] = []

            def walking() -> Iterator[object]:
                for each in changes:
                    walked.append(each)
                    yield each

            anybody = len(interest)
            publish(type_url, walking())  # type: ignore[arg-type]
            guard(
                lambda: self._check(
                    bool(anybody) or not walked,
                    f"{replica.name} walks through changes of single names, and nobody follows any",
                )
            )

        interest.publish = see_publish  # type: ignore[method-assign]

    def _check(self, holds: bool, what: str) -> None:
        self._history.checks[NO_WORK] += 1
        if not holds:
            raise Violation(NO_WORK, what)
