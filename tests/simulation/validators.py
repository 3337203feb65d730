"""The guarantees of docs/guarantees.md as code: each step is checked as it happens, by who saw it.

A check compares with the truth (truth.py) *since the last quiet moment*, when every view was found equal to
it: a name that nobody touched since then must not have gone away, whatever else failed.
"""

from collections.abc import Callable, Sequence

from peerd.app.peerd import Peerd
from peerd.model.changes import Change, ImportChange, PeerChange
from peerd.model.federation import Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.model.service import Service
from peerd.model.types import ADDRESS, DELTA_METHOD, FEDERATED_SERVICE
from peerd.model.workload import Workload
from peerd.protocol.envelope import DeltaResponse, parse_delta_response
from peerd.protocol.peer_state import PeerEvent, PeerState
from peerd.protocol.peer_wire import HEARTBEAT_METHOD
from tests.simulation.cluster import SimCluster
from tests.simulation.history import History, Violation
from tests.simulation.truth import Truth
from tests.simulation.ztunnel import SimZtunnel

ORIGIN = "Origin"
COMPLETE = "Complete"
NO_PHANTOM_DELETE = "No phantom delete"
MONOTONIC = "Monotonic"
BOUNDED_STALENESS = "Bounded staleness"
ISOLATION = "Isolation"
RESTART = "Restart changes nothing"
POLICIES_FIRST = "Policies first"
LIVENESS = "Liveness"
NO_ERRORS = "No errors of our own"

STALE_AFTER = 45.0
_SLACK = 5.0  # of the once-a-second looks, and of a message under way
_LOCAL_BOUND = 2.0  # seconds from a local change to the cluster's own ztunnel, whatever peers do
_WRITE_LAG = 5.0  # imports are written at most so late
_JOURNAL_LAG = 20.0  # every second heartbeat at worst is written, at most 5 s late


class Validators:
    """Every check, over one run."""

    def __init__(self, history: History, truth: Truth, clusters: dict[str, SimCluster]) -> None:
        self._history = history
        self._truth = truth
        self._clusters = clusters
        self.expiry: dict[tuple[str, str], int] = {}  # of the link from viewer to peer, seconds
        self.quiet_at = 0.0
        self.armed = False  # from the first quiet moment on
        self._heard: dict[tuple[str, str], float] = {}  # when a heartbeat's answer last arrived
        self._heard_wall: dict[tuple[str, str], float] = {}
        self._opened: dict[tuple[str, str], float] = {}
        self.announced: dict[str, list[tuple[float, dict[str, str]]]] = {}
        self._generation: dict[tuple[str, str, str], int] = {}
        self._revisions: dict[tuple[str, str, str], int] = {}
        self._imported_at: dict[str, float] = {}
        self._expected: list[tuple[float, str, str, bool]] = []

    # -- watching a peerd --------------------------------------------------------------------------------

    def watch(self, cluster: SimCluster, peerd: Peerd, guard: Callable[[Callable[[], None]], None]) -> None:
        """Look over a new peerd's shoulder: nothing of what it does is changed. *guard* runs each check."""
        federation, viewer = peerd.federation, cluster.name
        importer, table = federation._importer, federation.table
        emit, synced, fire, begin = importer._emit, importer.synced, table.fire, federation.begin
        self._generation = {key: value for key, value in self._generation.items() if key[0] != viewer}

        def see_emit(changes: Sequence[Change]) -> None:
            guard(lambda: self._imported(cluster, changes))
            emit(changes)

        def see_synced(key: ObjectKey) -> None:
            held = dict(importer._peers[key].versions.get(FEDERATED_SERVICE, {}))
            guard(lambda: self._synced(viewer, key, held))
            synced(key)

        def see_fire(key: ObjectKey, event: PeerEvent, error: str = "") -> None:
            before = table.state(key)
            self._history.transitions[before.value, event.value] += 1
            fire(key, event, error)
            if event is PeerEvent.OPENED:
                self._opened[viewer, _peer(key)] = self._now(cluster)
            after = table.state(key)
            if after is not before:
                self._note(viewer, f"{key.name} is {after.value}{f': {error}' if error else ''}")

        def see_begin(*args: object) -> object:
            handlers = begin(*args)  # type: ignore[arg-type]
            speaking = federation._speaking
            assert speaking is not None
            announce, store = speaking.exports._announce, speaking.service._same_segment.store

            def snapshot() -> None:
                collection = store.collection(FEDERATED_SERVICE)
                held = {name: collection.get(name).version for name in sorted(collection.names())}  # type: ignore[union-attr]
                self.announced[viewer].append((self._now(cluster), held))

            def see_announce(changes: object) -> None:
                announce(changes)  # type: ignore[arg-type]
                snapshot()

            speaking.exports._announce = see_announce  # type: ignore[method-assign]
            snapshot()
            return handlers

        importer._emit = see_emit
        importer.synced = see_synced  # type: ignore[method-assign]
        table.fire = see_fire  # type: ignore[method-assign]
        federation.begin = see_begin  # type: ignore[method-assign, assignment]

    def _imported(self, cluster: SimCluster, changes: Sequence[Change]) -> None:
        viewer = cluster.name
        for change in changes:
            if isinstance(change, PeerChange) and change.view is not None:
                self._aged(cluster, _peer(change.peer), change.view.freshness)
            if not isinstance(change, ImportChange):
                continue
            self._imported_at[viewer] = self._now(cluster)
            peer = _peer(change.peer)
            service = change.service
            if service is None:
                self._history.checks[NO_PHANTOM_DELETE] += 1
                self._generation.pop((viewer, peer, change.name), None)
                name = change.name.partition("/")[2]
                if self.armed and not self._truth.absent_since(self.quiet_at, "import", viewer, peer, name):
                    raise Violation(
                        NO_PHANTOM_DELETE, f"{viewer} gave up {change.name} of {peer}, which still exports it"
                    )
                continue
            self._history.checks[ORIGIN] += 1
            foreign = [each for each in service.identities if not each.endswith(f"-{peer}")]
            if foreign:
                raise Violation(ORIGIN, f"{viewer} holds as {peer}'s {change.name}: {foreign}")
            self._history.checks[MONOTONIC] += 1
            generation = max((port.number for port in service.ports), default=0)
            key = (viewer, peer, change.name)
            if generation < self._generation.get(key, 0):
                raise Violation(
                    MONOTONIC,
                    f"{viewer} went back from {self._generation[key]} to {generation} of {peer}'s"
                    f" {change.name}",
                )
            self._generation[key] = generation

    def _aged(self, cluster: SimCluster, peer: str, freshness: Freshness) -> None:
        viewer = cluster.name
        if freshness is not Freshness.EXPIRED:
            if (viewer, peer) in self._truth.expired:
                self._truth.expired.discard((viewer, peer))
                self._truth.touch_peer(viewer, peer, self._now(cluster))
            return
        self._history.checks[BOUNDED_STALENESS] += 1
        heard = self._heard_wall.get((viewer, peer))
        if heard is None or self._heard[viewer, peer] < cluster.skewed_at:
            age = float("inf")  # what it knew is lost, or its clock was set since
        else:
            age = cluster.clock.time() - heard
        expire = self.expiry.get((viewer, peer), 0)
        if not expire or age < expire - _JOURNAL_LAG:
            raise Violation(BOUNDED_STALENESS, f"{viewer} let {peer} expire after {age:.0f} of {expire} s")
        self._truth.expired.add((viewer, peer))
        self._truth.touch_peer(viewer, peer, self._now(cluster))
        self._note(viewer, f"{peer} expired")

    def _synced(self, viewer: str, key: ObjectKey, held: dict[str, str]) -> None:
        self._history.checks[COMPLETE] += 1
        peer = _peer(key)
        opened = self._opened.get((viewer, peer), 0.0)
        announced = self.announced[peer]
        ends = [at for at, _ in announced[1:]] + [float("inf")]
        if not any(
            held == snapshot for (_, snapshot), end in zip(announced, ends, strict=True) if end >= opened - 1
        ):
            raise Violation(
                COMPLETE,
                f"{viewer} says it has all of {peer}, and holds {held}; {peer} had {announced[-1][1]}",
            )

    def crashed(self, viewer: str, now: float) -> None:
        """What was heard or imported last may not have been written down (decision D22)."""
        if now - self._imported_at.get(viewer, 0.0) < _WRITE_LAG:
            self._clusters[viewer].forgot_at = now
        for key, heard in self._heard.items():
            if key[0] == viewer and now - heard < _JOURNAL_LAG:
                self._heard_wall.pop(key, None)

    # -- the wire ----------------------------------------------------------------------------------------

    def delivered(self, source: str, target: str, method: str, message: bytes, answer: bool) -> None:
        """A message arrived at a host."""
        self._history.deliveries += 1
        cluster = self._clusters.get(target)
        if cluster is None or not answer or source == target:
            return
        if method == HEARTBEAT_METHOD:
            self._heard[target, source] = self._now(cluster)
            self._heard_wall[target, source] = cluster.clock.time()
        elif method == DELTA_METHOD:
            response = parse_delta_response(message)
            self._revision(target, source, response)

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

    # -- watching a ztunnel ------------------------------------------------------------------------------

    def before(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """A response came; the client still holds what it held."""
        if response.type_url != ADDRESS or not self.armed:
            return
        held = client.versions(ADDRESS)
        for name in response.removed:
            if name in held:
                self._removed(client, name)
        for resource in response.resources:
            if resource.name in held and held[resource.name] != resource.version:
                self._changed(client, resource.name)

    def after(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """And now it holds the new."""
        self._note(
            client.name,
            f"{response.type_url.rpartition('.')[2]}"
            f" +{[each.name for each in response.resources]} -{list(response.removed)}",
        )
        self._history.checks[POLICIES_FIRST] += 1
        if response.type_url == ADDRESS:
            named = [client.addresses[each.name] for each in response.resources]
        else:
            named = list(client.addresses.values()) if response.removed else []
        for record in named:
            if not isinstance(record, Workload):
                continue
            unknown = set(record.authorization_policies) - client.policies.keys()
            if unknown:
                raise Violation(
                    POLICIES_FIRST, f"{client.name} holds {record.uid} without its policies {sorted(unknown)}"
                )

    def _removed(self, client: SimZtunnel, name: str) -> None:
        self._history.checks[NO_PHANTOM_DELETE] += 1
        key = self._key(client, name)
        if key is not None and key[0] == "global" and self._forgot(client):
            return
        if key is not None and key[0] == "endpoints" and self._given_up(client, key[2]):
            return
        if key is not None and not self._truth.absent_since(self.quiet_at, *key):
            exporters = self._truth.exporters(client.cluster, key[-1])
            raise Violation(
                NO_PHANTOM_DELETE,
                f"{client.name} was told that {name} is gone, and it is not: exported by {exporters}",
            )

    def _changed(self, client: SimZtunnel, name: str) -> None:
        record = client.addresses.get(name)
        if not isinstance(record, Service) or self._forgot(client):
            return
        self._history.checks[RESTART] += 1
        if not self._truth.touched_since(client.cluster, record.name, self.quiet_at):
            raise Violation(RESTART, f"{client.name} was told a new {name}, and nobody changed it")

    def _forgot(self, client: SimZtunnel) -> bool:
        """Not promised (docs/guarantees.md): its peerd lost its memory, or the last seconds of it."""
        return self._clusters[client.cluster].forgot_at > self.quiet_at

    def _given_up(self, client: SimZtunnel, peer: str) -> bool:
        """A peer that was never heard since the disk was lost is waited for no longer than its expiry."""
        cluster, expire = self._clusters[client.cluster], self.expiry.get((client.cluster, peer), 0)
        return self._forgot(client) and bool(expire) and self._now(cluster) - cluster.forgot_at >= expire

    def _key(self, client: SimZtunnel, name: str) -> tuple[str, ...] | None:
        viewer = client.cluster
        record = client.addresses.get(name)
        if isinstance(record, Service):
            if record.hostname.endswith(".svc.cluster.local"):
                return ("local", viewer, record.name)
            return ("global", viewer, record.name)
        if name.startswith("autogen."):
            _, peer, _, service, _ = name.split(".")
            return ("endpoints", viewer, peer, service)
        if name.startswith("NetworkGateway/"):
            return ("link", viewer, name.split("/")[1].removesuffix("-net"))
        if "//Pod/" in name:
            return ("pod", viewer, name.rpartition("/")[2])
        return None

    # -- time passes -------------------------------------------------------------------------------------

    def expect(self, cluster: str, pod: str, *, present: bool, now: float) -> None:
        """A Pod of the cluster was made or deleted: its own ztunnels must learn it soon."""
        self._expected.append((now, cluster, pod, present))

    def look(self, now: float, clients: Sequence[SimZtunnel]) -> None:
        """What must be so by now."""
        self._look_local(now, clients)
        for viewer, cluster in self._clusters.items():
            if cluster.running and now - max(cluster.disturbed_at, cluster.skewed_at) > _SLACK:
                for peer in sorted(self._truth.links[viewer]):
                    self._look_peer(now, cluster, peer)

    def _look_local(self, now: float, clients: Sequence[SimZtunnel]) -> None:
        due = [each for each in self._expected if now - each[0] > _LOCAL_BOUND]
        self._expected = [each for each in self._expected if now - each[0] <= _LOCAL_BOUND]
        latest = {(cluster, pod): (since, present) for since, cluster, pod, present in due}
        newer = {(cluster, pod) for _, cluster, pod, _ in self._expected}
        for (name, pod), (since, present) in latest.items():
            cluster = self._clusters[name]
            if (name, pod) in newer or not cluster.running or cluster.disturbed_at >= since:
                continue
            for client in clients:
                if client.cluster != name or not cluster.ready_at <= client.connected_since < since:
                    continue
                self._history.checks[ISOLATION] += 1
                if (f"{name}//Pod/shop/{pod}" in client.addresses) is not present:
                    raise Violation(
                        ISOLATION,
                        f"{client.name} does not know after {_LOCAL_BOUND} s that Pod {pod} is"
                        f" {'there' if present else 'gone'}",
                    )

    def _look_peer(self, now: float, cluster: SimCluster, peer: str) -> None:
        viewer = cluster.name
        assert cluster.peerd is not None
        key = ObjectKey("istio-system", f"peer-{peer}")
        importer, table = cluster.peerd.federation._importer, cluster.peerd.federation.table
        heard = self._heard.get((viewer, peer))
        if key not in importer._peers or key not in table._rows or heard is None:
            return
        if heard < cluster.skewed_at:
            return  # ages are of the wall clock: since it was set they mean nothing
        self._history.checks[BOUNDED_STALENESS] += 1
        silent = now - heard
        freshness, state = importer.freshness(key), table.state(key)
        if silent > STALE_AFTER + _SLACK and freshness is Freshness.FRESH:
            raise Violation(BOUNDED_STALENESS, f"{viewer} trusts {peer}, silent for {silent:.0f} s")
        silence = now - max(heard, self._opened.get((viewer, peer), 0.0), cluster.disturbed_at)
        if silence > STALE_AFTER + _SLACK and state in {PeerState.LIVE, PeerState.SYNCING}:
            raise Violation(
                BOUNDED_STALENESS, f"{viewer} shows {peer} as {state.value} after {silence:.0f} s of silence"
            )
        expire = self.expiry.get((viewer, peer), 0)
        # A connection that does not answer is kept for 45 s, and until it ends nothing expires.
        if expire and silent > expire + STALE_AFTER + _SLACK and freshness is not Freshness.EXPIRED:
            if not importer.ever_heard(key):
                return  # it lost its disk: it cannot know
            raise Violation(BOUNDED_STALENESS, f"{viewer} keeps {peer}, silent for {silent:.0f} s")

    # -- small things ------------------------------------------------------------------------------------

    @staticmethod
    def _now(cluster: SimCluster) -> float:
        return cluster.loop.time()

    def _note(self, where: str, what: str) -> None:
        self._history.note(where, what)


def _peer(key: ObjectKey) -> str:
    return key.name.removeprefix("peer-")
