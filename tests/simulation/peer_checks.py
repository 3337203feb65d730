"""What a peerd takes in from its peers, and what it says of them, against the truth (docs/guarantees.md)."""

from collections.abc import Sequence
from itertools import product
from typing import TypeVar

from peerd.model.changes import Change, ImportChange, ImportedWorkloadChange, PeerChange
from peerd.model.federation import Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, DELTA_METHOD
from peerd.protocol.envelope import DeltaResponse, parse_delta_response
from peerd.protocol.peer_state import PeerEvent, PeerState
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, PeerProtocolError, decode_heartbeat
from tests.simulation.checks import Checks, Run
from tests.simulation.cluster import SimCluster
from tests.simulation.guarantees import (
    BOUNDED_STALENESS,
    COMPLETE,
    HEARTBEAT_LAG,
    JOURNAL_LAG,
    MONOTONIC,
    NO_PHANTOM_DELETE,
    NOTHING_TWICE,
    ORIGIN,
    REFUSAL,
    SLACK,
    STALE_AFTER,
    STATUS,
)
from tests.simulation.history import Violation
from tests.simulation.lies import Liar
from tests.simulation.replica import Replica
from tests.simulation.standing import Standing
from tests.simulation.streams import Parcel

_RESUME_BYTES = 1024  # of messages, each way, where nothing changed (decision D18)

_Said = TypeVar("_Said")
_Way = tuple[str, str]  # which replica looks at which cluster


class PeerChecks(Checks):
    """Checks of peers."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        # By replica, and whether it is for peers of its own segment: since when that was said.
        self.announced: dict[tuple[str, bool], list[tuple[float, dict[str, str]]]] = {}
        self.announced_pods: dict[tuple[str, bool], list[tuple[float, frozenset[str]]]] = {}
        self.imported_at: dict[str, float] = {}
        self._asked: dict[tuple[str, str, int], tuple[float, float]] = {}  # heartbeats: virtual and wall time
        self._answered: dict[_Way, float] = {}  # when a heartbeat's answer last arrived
        self._alive: dict[_Way, tuple[float, float]] = {}  # when what it answers was asked, on this stream
        self._recognised: set[_Way] = set()  # ways on whose present stream the peer has said who it is
        self._heard: dict[_Way, float] = {}  # when who is known to be the peer was last alive
        self._heard_wall: dict[_Way, float] = {}
        self._opened: dict[_Way, float] = {}
        self._ended: dict[_Way, float] = {}
        self._offered: dict[_Way, dict[str, dict[str, str]]] = {}  # what was held when a stream was opened
        self._bytes: dict[_Way, list[int]] = {}  # since then: received, sent
        self._standing: dict[_Way, Standing] = {}
        self._generation: dict[tuple[str, str, str], int] = {}
        self._revisions: dict[tuple[str, str, str], int] = {}

    def heard(self, name: str, peer: str) -> float:
        """When a replica last heard, by what it asked then, of a cluster that is alive; -1: never."""
        return self._heard.get((name, peer), -1.0)

    def asked(self, name: str, peer: str) -> float:
        """When a replica last sent a heartbeat to one of that name; -1: never."""
        return max((at for key, (at, _) in self._asked.items() if key[:2] == (name, peer)), default=-1.0)

    def answered(self, name: str, peer: str) -> float:
        """When an answer to one last arrived at its host, whoever read it; -1: never."""
        return self._answered.get((name, peer), -1.0)

    def begins(self, replica: Replica) -> None:
        """A new process: it knows what it restored, and nothing else."""
        self._generation = {key: value for key, value in self._generation.items() if key[0] != replica.name}
        self._standing = {key: value for key, value in self._standing.items() if key[0] != replica.name}

    def ended(self, name: str, until: float) -> None:
        """What was heard of late is not on disk (decision D22); what was imported is, up to *until*."""
        for way, heard in self._heard.items():
            if way[0] == name and heard > until - HEARTBEAT_LAG:
                self._heard_wall.pop(way, None)

    # -- the importer ------------------------------------------------------------------------------------

    def imported(self, replica: Replica, changes: Sequence[Change]) -> None:
        """The importer is about to tell derivation."""
        viewer = replica.cluster.name
        for change in changes:
            if isinstance(change, PeerChange) and change.view is not None:
                self._aged(replica, peer_of(change.peer), change.view.freshness)
            if isinstance(change, ImportedWorkloadChange):
                self._endpoint(replica, peer_of(change.peer), change)
            if not isinstance(change, ImportChange):
                continue
            self.imported_at[replica.name] = replica.loop.time()
            peer, service = peer_of(change.peer), change.service
            key = replica.name, peer, change.name
            if service is None:
                self._history.checks[NO_PHANTOM_DELETE] += 1
                self._generation.pop(key, None)
                name = change.name.partition("/")[2]
                if self.armed and not self._truth.absent_since(self.quiet_at, "import", viewer, peer, name):
                    raise Violation(
                        NO_PHANTOM_DELETE,
                        f"{replica.name} gave up {change.name} of {peer}, which still exports it",
                    )
                continue
            self._history.checks[ORIGIN] += 1
            foreign = [each for each in service.identities if not each.endswith(f"-{peer}")]
            if foreign:
                raise Violation(ORIGIN, f"{replica.name} holds as {peer}'s {change.name}: {foreign}")
            self._history.checks[MONOTONIC] += 1
            generation = max((port.number for port in service.ports), default=0)
            if generation < self._generation.get(key, 0):
                raise Violation(
                    MONOTONIC,
                    f"{replica.name} went back from {self._generation[key]} to {generation} of {peer}'s"
                    f" {change.name}",
                )
            self._generation[key] = generation

    def _endpoint(self, replica: Replica, peer: str, change: ImportedWorkloadChange) -> None:
        """A Pod of a peer on the same network."""
        self.imported_at[replica.name] = replica.loop.time()
        viewer, pod = replica.cluster.name, change.uid.rpartition("/")[2]
        if change.workload is None:
            self._history.checks[NO_PHANTOM_DELETE] += 1
            if self.armed and not self._truth.absent_since(self.quiet_at, "flat", viewer, peer, pod):
                raise Violation(NO_PHANTOM_DELETE, f"{replica.name} gave up Pod {pod} of {peer}")
            return
        self._history.checks[ORIGIN] += 1
        if not change.uid.startswith(f"{peer}//Pod/shop/") or change.workload.cluster_id != peer:
            raise Violation(ORIGIN, f"{replica.name} holds as {peer}'s: {change.uid}")

    def synced(self, replica: Replica, peer: str, held: dict[str, dict[str, str]], services: str) -> None:
        """A first sync is complete: *held* by type URL, of which *services* names the services."""
        self._history.checks[COMPLETE] += 1
        way = replica.name, peer
        opened, found = self._opened.get(way, 0.0), held.get(services, {})
        exporters = [each.name for each in self._replicas.values() if each.cluster.name == peer]
        if not _was_said(self.announced, exporters, found, opened):
            raise Violation(COMPLETE, f"{replica.name} says it has all of {peer}, and holds {found}")
        self._all_pods(replica, peer, exporters, opened, frozenset(held.get(ADDRESS, ())))
        # What came while the process rested belongs to later, and is counted already.
        if held and held == self._offered.get(way) and replica.disturbed_at <= opened:
            self._history.checks[NOTHING_TWICE] += 1
            if max(self._bytes[way]) > _RESUME_BYTES:
                raise Violation(
                    NOTHING_TWICE,
                    f"{replica.name} and {peer} exchanged {self._bytes[way]} bytes, and nothing had changed",
                )

    def _all_pods(
        self, replica: Replica, peer: str, exporters: list[str], opened: float, pods: frozenset[str]
    ) -> None:
        """*pods* are held of the peer: on one network all that are exported, else none; nor of an old one."""
        here, there = replica.cluster, self._cluster(peer)
        unlinked = self._truth.absent_since(self.quiet_at, "link", here.name, peer)
        if not pods and (here.network != there.network or there.older or unlinked):
            return
        if not _was_said(self.announced_pods, exporters, pods, opened):
            raise Violation(
                COMPLETE, f"{replica.name} says it has all of {peer}, and of its Pods {sorted(pods)}"
            )

    def _cluster(self, name: str) -> SimCluster:
        return next(each.cluster for each in self._replicas.values() if each.cluster.name == name)

    def recognised(self, replica: Replica, peer: str) -> None:
        """The peer has said who it is, and that was accepted: signs of life are its own."""
        way = replica.name, peer
        self._recognised.add(way)
        if way in self._alive:
            self._heard[way], self._heard_wall[way] = self._alive[way]

    def forgotten(self, replica: Replica, peer: str) -> None:
        """The Gateway is gone, and what was said of the peer with it."""
        self._standing.pop((replica.name, peer), None)

    def fired(
        self, replica: Replica, peer: str, event: PeerEvent, state: PeerState, held: dict[str, dict[str, str]]
    ) -> None:
        """Something happened to a peer, and people are told *state*."""
        way = replica.name, peer
        if event is PeerEvent.OPENED:
            self._opened[way] = replica.loop.time()
            self._offered[way], self._bytes[way] = held, [0, 0]
            self._alive.pop(way, None)
            self._recognised.discard(way)
            self._generation = {
                key: value for key, value in self._generation.items() if key[:2] != way
            }  # it may be another replica's word now
        if event in {PeerEvent.LOST, PeerEvent.REFUSED, PeerEvent.SELF, PeerEvent.CHANGED}:
            self._ended[way] = replica.loop.time()
        self._history.checks[STATUS] += 1
        standing = self._standing.setdefault(way, Standing())
        standing.take(event)
        if standing.words() is not state:
            raise Violation(
                STATUS,
                f"{replica.name} shows {peer} as {state.value} after {event.value}; it is"
                f" {standing.words().value}",
            )

    def seen_through(self, viewer: Replica, peer: str, liar: Liar) -> bool:
        """A lie was told a while ago on a connection that should be sound; whether that could be judged."""
        assert viewer.peerd is not None
        key, way = ObjectKey("istio-system", f"peer-{peer}"), (viewer.name, peer)
        federation = viewer.peerd.federation
        if key not in federation._importer._peers or key not in federation.table._rows:
            return False
        if liar.lie.words:
            if self._ended.get(way, 0.0) >= liar.told_at:
                return False
            refused = dict(federation._importer.counts(key).refused)
            for name, lie in liar.names.items():
                if not any(name[:80] in each and lie.words in refused[each] for each in refused):
                    raise Violation(
                        REFUSAL,
                        f"{viewer.name} took from {peer}: {lie.title} ({name[:80]}); refused: {refused}",
                    )
            return True
        if liar.lie.harmless:
            return True
        if self._ended.get(way, 0.0) < liar.first_at:
            raise Violation(REFUSAL, f"{viewer.name} goes on with {peer}, which lied: {liar.lie.title}")
        return True

    def _aged(self, replica: Replica, peer: str, freshness: Freshness) -> None:
        viewer, way = replica.cluster.name, (replica.name, peer)
        expired = (viewer, peer, replica.name)
        if freshness is not Freshness.EXPIRED:
            if expired in self._truth.expired:
                self._truth.expired.discard(expired)
                self._truth.touch_peer(viewer, peer, replica.loop.time())
            return
        self._history.checks[BOUNDED_STALENESS] += 1
        heard = self._heard_wall.get(way)
        if heard is None or self._heard[way] - JOURNAL_LAG < replica.skewed_at:
            age = float("inf")  # what it knew is lost, or its clock was set since
        else:
            age = replica.clock.time() - heard
        expire = self._expiry.get((viewer, peer), 0)
        if not expire or age < expire - JOURNAL_LAG:
            raise Violation(
                BOUNDED_STALENESS, f"{replica.name} let {peer} expire after {age:.0f} of {expire} s"
            )
        self._truth.expired.add(expired)
        self._truth.touch_peer(viewer, peer, replica.loop.time())
        self._history.note(replica.name, f"{peer} expired")

    # -- the wire ----------------------------------------------------------------------------------------

    def delivered(self, parcel: Parcel) -> None:
        """A message arrived at a replica. Whose it is, says the Gateway whose address was dialled."""
        replica, peer = self._replicas[parcel.target], self._truth.owners.get(parcel.dialled)
        if not parcel.answer or peer is None or peer == replica.cluster.name:
            return
        way, method, message = (parcel.target, peer), parcel.method, parcel.message
        if method == HEARTBEAT_METHOD:
            try:
                asked = self._asked.get((*way, decode_heartbeat(message)))
            except PeerProtocolError:
                asked = None
            if asked is None:
                return  # it answers nothing that was asked
            self._answered[way] = replica.loop.time()
            self._alive[way] = asked
            if way in self._recognised:
                self._heard[way], self._heard_wall[way] = self._alive[way]
        elif method == DELTA_METHOD:
            if way in self._bytes:
                self._bytes[way][0] += len(message)
            self._revision(*way, parse_delta_response(message))

    def sent(self, parcel: Parcel) -> None:
        """A message left a replica."""
        peer = self._truth.owners.get(parcel.dialled)
        if parcel.answer or peer is None:
            return
        replica, way = self._replicas[parcel.source], (parcel.source, peer)
        if parcel.method == HEARTBEAT_METHOD:
            key = *way, decode_heartbeat(parcel.message)
            self._asked[key] = replica.loop.time(), replica.clock.time()
        elif way in self._bytes:
            self._bytes[way][1] += len(parcel.message)

    def _revision(self, viewer: str, peer: str, response: DeltaResponse) -> None:
        epoch, slash, revision = response.system_version.rpartition("/")
        if not slash:
            return
        self._history.checks[MONOTONIC] += 1
        key = (viewer, epoch, response.type_url)
        if int(revision) < self._revisions.get(key, 0):
            raise Violation(
                MONOTONIC, f"{viewer} was told revision {revision} after {self._revisions[key]} by {peer}"
            )
        self._revisions[key] = int(revision)

    # -- time passes -------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """What must be so by now."""
        for replica in self._replicas.values():
            if replica.running and now - max(replica.disturbed_at, replica.skewed_at) > SLACK:
                for peer in sorted(self._truth.links[replica.cluster.name]):
                    self._look(now, replica, peer)

    def _look(self, now: float, replica: Replica, peer: str) -> None:
        assert replica.peerd is not None
        way, key = (replica.name, peer), ObjectKey("istio-system", f"peer-{peer}")
        importer, table = replica.peerd.federation._importer, replica.peerd.federation.table
        heard = self._heard.get(way)
        if key not in importer._peers or key not in table._rows or heard is None:
            return
        if heard - JOURNAL_LAG < replica.skewed_at:
            return  # ages are of the wall clock: since it was set they mean nothing
        self._history.checks[BOUNDED_STALENESS] += 1
        silent = now - heard
        freshness, state = importer.freshness(key), table.state(key)
        if silent > STALE_AFTER + SLACK and freshness is Freshness.FRESH:
            raise Violation(BOUNDED_STALENESS, f"{replica.name} trusts {peer}, silent for {silent:.0f} s")
        silence = now - max(self._answered[way], self._opened.get(way, 0.0), replica.disturbed_at)
        if silence > STALE_AFTER + SLACK and state in {PeerState.LIVE, PeerState.SYNCING}:
            raise Violation(
                BOUNDED_STALENESS,
                f"{replica.name} shows {peer} as {state.value} after {silence:.0f} s of silence",
            )
        expire = self._expiry.get((replica.cluster.name, peer), 0)
        # A connection that does not answer is kept for 45 s, and until it ends nothing expires. Who wakes up
        # may open one before he looks how late it is.
        due = max(heard + expire, replica.disturbed_at) + STALE_AFTER + SLACK
        if expire and now > due and freshness is not Freshness.EXPIRED:
            if not importer.ever_heard(key):
                return  # it lost its disk: it cannot know
            raise Violation(BOUNDED_STALENESS, f"{replica.name} keeps {peer}, silent for {silent:.0f} s")


def _was_said(
    announced: dict[tuple[str, bool], list[tuple[float, _Said]]],
    exporters: list[str],
    found: _Said,
    since: float,
) -> bool:
    """Whether one of the *exporters* said *found* at some moment since then."""
    for exporter, near in product(exporters, (True, False)):
        told = announced.get((exporter, near), [])
        ends = [at for at, _ in told[1:]] + [float("inf")]
        if any(found == each and end >= since - 1 for (_, each), end in zip(told, ends, strict=True)):
            return True
    return False


def peer_of(key: ObjectKey) -> str:
    """The cluster that a Gateway leads to."""
    return key.name.removeprefix("peer-")
