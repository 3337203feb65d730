"""What people in the cluster see of it: status and Events, written by the replica that holds the Lease.

Wired here: the Lease, the one writer of this process, statuses (peerd/publish/statuses.py), Events, probes of
peers' gateways, leftover Secrets. What derivation and the dialler say comes in by methods; nothing goes back.
"""

import asyncio
import os
import random
from collections.abc import Sequence

import structlog

from peerd.app.problems import DERIVED
from peerd.app.settings import settings_of
from peerd.derive.commit import Commit
from peerd.kubeapi.base import ApiTransport
from peerd.kubeapi.objects import KubeObjects
from peerd.kubeapi.resources import resource_of
from peerd.model.changes import ObjectChange
from peerd.model.clock import Clock
from peerd.model.config import ServeConfig
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.federation import Freshness, NetworkGateway
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import ObjectKey
from peerd.observe.snapshot import PublishingView
from peerd.peering.peers import PeerTable
from peerd.protocol.peer_state import PeerState
from peerd.publish.event_words import OBJECT_WORDS, word_of
from peerd.publish.events import WARNING, About, Events
from peerd.publish.gateway_controller import GatewayController
from peerd.publish.gateway_status import Path, PathFacts, PeerFacts
from peerd.publish.gateway_workloads import Installation
from peerd.publish.lease import Lease
from peerd.publish.leftovers import Leftovers
from peerd.publish.names import LEASE_NAME
from peerd.publish.notice import Notice, Transition
from peerd.publish.own_gateway_status import OwnFacts
from peerd.publish.probe import GatewayProbes, tls_probe
from peerd.publish.ref import Ref
from peerd.publish.statuses import OWNED, STATUS_KINDS, Statuses
from peerd.publish.writer import Writer
from peerd.serve.other_roots import OtherRoots
from peerd.transport.tls import TlsSource

log = structlog.get_logger("peerd.publishing")

_FLUSH = 0.1  # seconds that changes are gathered for
_LOOK = 1.0  # and between two looks at what only time changes
_SILENCE = 5.0  # what a restart finds stale is heard of a moment later
_SILENT = frozenset({PeerState.STALE, PeerState.REFUSED})


class Publishing:
    """Exists where objects come from an API server.

    Args:
        config: the settings.
        transport: the API server.
        clock, source: as ever.
    """

    def __init__(
        self,
        config: ServeConfig,
        transport: ApiTransport,
        *,
        clock: Clock,
        source: random.Random,
    ) -> None:
        self._config = config
        self._clock = clock
        self._random = source
        objects = KubeObjects(transport)
        name = f"{LEASE_NAME}-{config.revision}" if config.revision else LEASE_NAME
        self.lease = Lease(
            objects,
            namespace=config.system_namespace,
            name=name,
            identity=f"{os.environ.get('POD_NAME', 'peerd')}_{source.getrandbits(48):012x}",
            clock=clock,
            source=source,
            held=self._held,
        )
        self.events = Events(objects, clock=clock, source=source, permit=self.lease)
        self.writer = Writer(
            objects,
            clock=clock,
            source=source,
            permit=self.lease,
            tell=self._notice,
            changed=self._transition,
            owned=OWNED.__contains__,
        )
        self._statuses = Statuses(
            self.writer,
            clock=clock,
            cluster=config.cluster_id,
            peer=self._peer_facts,
            path=self._path_facts,
            beside=config.mode != "standalone",
            peering=config.peering,
            own=self._gateway_facts,
        )
        self._other_roots = OtherRoots(settings_of(config))
        self._gateways = self._gateway_controller(objects) if config.gateway_image else None
        self._leftovers = Leftovers(transport, self.events, config.system_namespace, source)
        self._probes: GatewayProbes | None = None
        self._table: PeerTable | None = None
        self._ways: dict[tuple[str, str, int], NetworkGateway] = {}
        self._network = ""
        self._untold: dict[tuple[str, Diagnostic], None] = {}
        self._silent: dict[ObjectKey, tuple[str, float]] = {}
        self._settled = False
        self._changed = asyncio.Event()

    # -- what is known -----------------------------------------------------------------------------------

    def follow(self, table: PeerTable) -> None:
        """The peers; call it once, before anything is committed."""
        self._table = table

    def applied(self, changes: Sequence[ObjectChange]) -> None:
        """Objects of the source."""
        self._other_roots.apply(changes)
        for change in changes:
            if self._gateways is not None and change.kind == "Gateway":
                self._gateways.object(
                    change.key, change.object if isinstance(change.object, Gateway) else None
                )
            if change.kind in STATUS_KINDS:
                self._statuses.object(change.kind, change.key, change.object)
                self._changed.set()

    def committed(self, commit: Commit) -> None:
        """One revision of derivation."""
        self._statuses.names(commit.federation)
        for way, gateway in commit.ways:
            if gateway is None:
                self._ways.pop(way, None)
            else:
                self._ways[way] = gateway
        if self._probes is not None:
            self._probes.ways(commit.ways)
        elif commit.ways:
            for way, _ in commit.ways:
                self._statuses.peer_changed(ObjectKey(way[0], way[1]))
        self._network = commit.network
        if commit.federation or commit.ways:
            self._changed.set()

    def problem(self, place: str, before: Sequence[Diagnostic], now: Sequence[Diagnostic]) -> None:
        """Diagnostics as `peerd.app.problems.Problems` has them."""
        self._statuses.problem(place.removeprefix(DERIVED), before, now)
        for each in before:
            self._untold.pop((place, each), None)
        for each in now:
            if each not in before:
                self._untold[place, each] = None
        self._changed.set()

    def peer_changed(self, key: ObjectKey) -> None:
        """A peer's state changed, or what its gateways answer."""
        self._statuses.peer_changed(key)
        row = None if self._table is None else self._table.row(key)
        if row is not None and row.counts.freshness is Freshness.STALE and row.status.state in _SILENT:
            self._silent.setdefault(key, (row.cluster, self._clock.monotonic()))
        else:
            self._silent.pop(key, None)
        self._changed.set()

    def settle(self) -> None:
        """Sources and what was restored of peers are derived: from now on it is said."""
        self._settled = True
        now = self._clock.monotonic()  # only from here on is anybody dialled
        self._silent = {key: (cluster, now) for key, (cluster, _) in self._silent.items()}
        self._statuses.settle()
        if self._gateways is not None:
            self._gateways.settle()
        self._changed.set()

    # -- running -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lead or wait, write, tell, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lease.run())
            tasks.create_task(self.events.run())
            tasks.create_task(self._flush_for_ever())
            tasks.create_task(self._look_for_leftovers())
            if self._gateways is not None:
                tasks.create_task(self._gateways.run())

    async def probe(self, tls: TlsSource) -> None:
        """Probe the gateways of peers with the control plane's certificate, until cancelled."""
        self._probes = GatewayProbes(
            tls_probe(tls),
            clock=self._clock,
            source=self._random,
            permit=self.lease,
            changed=self.peer_changed,
        )
        self._probes.ways(self._ways.items())
        await self._probes.run()

    async def close(self) -> None:
        """Let another replica write; after `run` was cancelled."""
        await self.lease.release()

    def view(self) -> PublishingView:
        """For metrics and debug views."""
        return PublishingView(
            writes=self.lease.remaining() > 0,
            holder=self.lease.holder,
            pending=self.writer.pending,
            requests=tuple((*key, count) for key, count in sorted(self.writer.counts.items())),
            events=tuple(sorted(self.events.counts.items())),
            leftovers=self._leftovers.count,
        )

    async def _flush_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
                    await asyncio.sleep(_FLUSH)
            except TimeoutError:
                pass
            self._changed.clear()
            self._statuses.stale(self._stale())
            self._statuses.flush()
            self._tell()

    def _gateway_controller(self, objects: KubeObjects) -> GatewayController:
        config = self._config
        # The Service in front of us is called as tools and charts look for it, beside istiod it is not (D35).
        own = "istiod" if config.mode == "standalone" else "peerd"
        suffix = f"-{config.revision}" if config.revision else ""
        installation = Installation(
            image=config.gateway_image,
            envoy_image=config.envoy_image,
            host=f"{own}{suffix}.{config.system_namespace}.svc",
            ca_host=f"istiod{suffix}.{config.system_namespace}.svc",
            cluster_id=config.cluster_id,
            trust_domain=config.trust_domain or "cluster.local",
            system_namespace=config.system_namespace,
            peerd_account=config.peer_service_account,
            namespaces=config.gateway_namespaces,
        )
        roots = self._other_roots.current
        return GatewayController(
            objects, self.writer, self.lease, installation, self.peer_changed, other_roots=roots
        )

    def _gateway_facts(self, key: ObjectKey) -> OwnFacts | None:
        return None if self._gateways is None else self._gateways.facts(key)

    async def _look_for_leftovers(self) -> None:
        while True:
            wait = _LOOK
            if self._settled and self.lease.remaining() > 0:
                wait = await self._leftovers.look()
            await asyncio.sleep(wait)

    def _tell(self) -> None:
        """Problems that no condition shows, once this replica may tell them."""
        if not self._settled or self.lease.remaining() <= 0:
            return
        untold, self._untold = self._untold, {}
        for _place, diagnostic in untold:
            kind, _, name = diagnostic.object.partition("/")
            found = KINDS_BY_NAME.get(kind)
            if found is None or self._statuses.shows(diagnostic):
                continue
            namespace, _, rest = name.rpartition("/")
            reason = "NotServed" if diagnostic.severity is Severity.ERROR else "NotAsMeant"
            text = f"{diagnostic.field}: {diagnostic.message}; {diagnostic.fix}"
            self.events.say(About(resource_of(found), namespace, rest), WARNING, reason, text)

    # -- what parts say ----------------------------------------------------------------------------------

    def _held(self, held: bool) -> None:  # noqa: FBT001 (a callback with one meaning)
        if held:
            self.writer.wake()
            self._changed.set()

    def _notice(self, notice: Notice) -> None:
        self.events.say(_about(notice.ref), WARNING, OBJECT_WORDS[notice.kind.value], notice.message)

    def _transition(self, transition: Transition) -> None:
        word = word_of(transition)
        if word is not None:
            live = self.writer.live(transition.ref)
            about = _about(transition.ref, "" if live is None else live.uid)
            self.events.say(about, word.kind, word.reason, transition.after["message"])

    def _peer_facts(self, key: ObjectKey) -> PeerFacts | None:
        row = None if self._table is None else self._table.row(key)
        if row is None:
            return None
        kept = row.counts.synced or (row.counts.services > 0 and row.counts.last_heartbeat > 0)
        return PeerFacts(row.status.state, kept, row.status.last_error, row.cluster)

    def _path_facts(self, key: ObjectKey) -> PathFacts:
        row = None if self._table is None else self._table.row(key)
        info = None if row is None else row.counts.info
        if info is not None and self._network and info.network == self._network:
            return PathFacts(Path.SAME_NETWORK, f"Pod to Pod, on our own network {self._network}")
        if self._probes is None:
            named = any(way[:2] == (key.namespace, key.name) for way in self._ways)
            return PathFacts(Path.PROBING if named else Path.UNKNOWN)
        return self._probes.facts(key)

    def _stale(self) -> frozenset[str]:
        """Clusters that no Gateway of ours hears of, for a while already."""
        before = self._clock.monotonic() - _SILENCE
        silent = {cluster for cluster, since in self._silent.values() if cluster and since <= before}
        if silent and self._table is not None:
            silent -= {row.cluster for row in self._table.snapshot() if row.connected}
        return frozenset(silent)


def _about(ref: Ref, uid: str = "") -> About:
    return About(ref.resource, ref.namespace, ref.name, uid)
