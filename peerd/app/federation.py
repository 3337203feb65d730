"""The peering half of a peerd: what it imports, what it exports, whom it dials and serves."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from peerd import __version__
from peerd.app.departures import Departures
from peerd.app.parts import Parts
from peerd.derive.commit import Commit
from peerd.model.changes import Change, ObjectChange, PeerChange
from peerd.model.config import ServeConfig
from peerd.model.federation import FederatedService, PeerInfo, RemotePeer
from peerd.model.identity import SpiffeId
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import Workload
from peerd.peering.importer import Importer
from peerd.peering.peers import PeerTable
from peerd.peering.persistence import ImportJournal
from peerd.peering.turn import TURN
from peerd.peering.validation import LocalCluster
from peerd.protocol.heartbeat import heartbeat_rules
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.peer_places import PeerPlaces
from peerd.transport.base import Handler
from peerd.transport.tls import TlsSource

if TYPE_CHECKING:
    from peerd.app.exports import Exports
    from peerd.peering.dialer import Dialer
    from peerd.serve.peer_acceptance import Acceptance
    from peerd.serve.peers import PeerService

log = structlog.get_logger("peerd.federation")


class Federation:
    """Follows commits from the first one on, and begins to speak once the sources have synced.

    Args:
        config: the settings.
        parts: the outside world.
        lineage: the cluster's, the same after restarts (decision D18).
        replica: tells this replica from others of the cluster, the same after restarts (decision D16).
        epoch: this process run's own (decision D24).
        emit: takes changes for derivation.
        derived: waits until what it took has been derived.
        registry: where served peers are shown.
        peer_changed: hears the Gateway's key when what is known of a peer's state changes.

    Raises:
        StateError: what was kept of imports cannot be read.
    """

    def __init__(
        self,
        config: ServeConfig,
        parts: Parts,
        *,
        lineage: str,
        replica: str,
        epoch: str,
        emit: Callable[[Sequence[Change]], None],
        derived: Callable[[], Awaitable[None]],
        registry: ConnectionRegistry,
        peer_changed: Callable[[ObjectKey], None] | None = None,
    ) -> None:
        self._config = config
        self._parts = parts
        self._lineage = lineage
        self._replica = f"peerd-{replica[:8]}"
        self._epoch = epoch
        self._registry = registry
        self._emit = emit
        self._derived = derived
        self._places = PeerPlaces()
        local = LocalCluster(config.cluster_id, config.system_namespace, lineage)
        self._journal = ImportJournal(Path(config.state_dir) / "imports", parts.disk)
        self._rules = heartbeat_rules(config.heartbeat_seconds)
        self._importer = Importer(local, self._imported, self._journal, self._rules)
        self._restored: frozenset[ObjectKey] = frozenset()
        self.table = PeerTable(self._importer, parts.clock, peer_changed)
        self.info: PeerInfo | None = None
        self._remotes: dict[str, RemotePeer] = {}
        self._exported: dict[str, FederatedService | None] = {}
        self._flat: dict[str, Workload | None] = {}
        self._segment_flat: dict[str, Workload | None] = {}
        self._matched = False
        self._awaited: frozenset[ObjectKey] = frozenset()
        self._speaking: _Speaking | None = None
        self._keeping: asyncio.Task[None] | None = None

    def restore(self) -> list[Change]:
        """The imports of the last process, for the first derivation (decision D13)."""
        if not self._config.peering:
            return []
        stored = self._journal.load()
        # Of a first sync that was cut short there is something too, and it is not all.
        self._restored = frozenset(each.peer for each in stored if each.resources and each.complete)
        self._importer.restore(stored)
        changes = self._importer.restored_changes(self._parts.clock.time())
        self._note_places(changes)
        return changes

    def committed(self, commit: Commit) -> None:
        """Follow one revision of derivation."""
        info = commit.info
        if info is not None:
            self.info = msgspec.structs.replace(info, lineage=self._lineage, version=__version__)
        for name, remote in commit.peers:
            if remote is None:
                self._remotes.pop(name, None)
            else:
                self._remotes[name] = remote
        self._importer.join(commit.network)
        if self._speaking is None:
            self._exported.update(commit.exports)
            self._flat.update(commit.flat_exports)
            self._segment_flat.update(commit.segment_flat_exports)
            if self._matched:
                self._match(commit.peers)
            return
        if info is not None and self.info is not None:
            self._speaking.service.commit_info(self.info)
            self._speaking.dialer.join(self.info.segment, self.info.network)
        self._speaking.exports.put(commit.exports)
        self._speaking.service.commit_workloads(commit.flat_exports, same_segment=False)
        self._speaking.service.commit_workloads(commit.segment_flat_exports, same_segment=True)
        self._follow(commit.peers)

    def follow_gateways(self) -> None:
        """The sources have synced: what was restored is matched with the Gateways, before serving."""
        if not self._config.peering:
            return
        self._matched = True
        self._match(self._remotes.items())
        self._importer.settle_restored()

    def begin(self, own: SpiffeId, info: PeerInfo, tls: TlsSource) -> dict[str, Handler]:
        """After `follow_gateways`: dial, and serve by the handlers returned. Call it once."""
        # Late: none of it is needed to be ready (`Network.prepare_peers`).
        from peerd.app.exports import Exports
        from peerd.peering.dialer import Dialer
        from peerd.protocol.peer_wire import Hello
        from peerd.serve.peer_acceptance import Acceptance
        from peerd.serve.peers import PeerService

        config, parts = self._config, self._parts
        dialer = Dialer(
            hello=Hello(
                config.cluster_id,
                self._replica,
                segment=info.segment,
                network=info.network,
                software=__version__,
            ),
            namespace=config.system_namespace,
            connect=lambda host, port: parts.network.connect(host, port, tls),
            importer=self._importer,
            table=self.table,
            clock=parts.clock,
            source=parts.random,
            resolve=parts.resolve,
            rules=self._rules,
            derived=self._derived,
        )
        acceptance = Acceptance(own, config.cluster_id, config.peer_trust_domains)
        service = PeerService(
            acceptance=acceptance,
            clock=parts.clock,
            epoch=self._epoch,
            lineage=self._lineage,
            registry=self._registry,
            places=self._places,
            rules=self._rules,
        )
        self._speaking = speaking = _Speaking(
            dialer, acceptance, service, Exports(service.commit, parts.clock)
        )
        service.commit_info(info)
        speaking.exports.put(self._exported.items())
        service.commit_workloads(self._flat.items(), same_segment=False)
        service.commit_workloads(self._segment_flat.items(), same_segment=True)
        for waiting in (self._exported, self._flat, self._segment_flat):
            waiting.clear()
        service.sources_synced()
        dialer.start()
        self._follow(self._remotes.items())
        self._keeping = asyncio.ensure_future(self._journal.run())
        return dict(service.handlers())

    def departures(self, submit: Callable[[Sequence[ObjectChange]], None]) -> Departures:
        """What is to stand between the source's objects and derivation, which takes them by *submit*."""
        return Departures(submit, derived=self._derived, holds_much=self._holds_much, leave=self._leave)

    def unsynced(self) -> bool:
        """Whether what a configured peer has to say since the start is not served yet, nor expired."""
        return bool(self._awaited)

    def awaited(self) -> frozenset[ObjectKey]:
        """The Gateways of those peers."""
        return self._awaited

    def forgotten(self) -> frozenset[ObjectKey]:
        """Those of them that left nothing in the state directory either."""
        return self._awaited - self._restored

    async def settle(self, served: Callable[[], Awaitable[None]]) -> None:
        """Look who has synced or expired; `unsynced` says so only once *served* has waited for its word.

        Between a sync and the revision that holds it, what it brings would look as if it were gone (D13).
        """
        unsynced = frozenset(self._importer.unsynced())
        if self._awaited - unsynced:
            await served()
        # Both looks: who synced meanwhile has its turn at the next one, who is new is awaited already.
        self._awaited = unsynced | frozenset(self._importer.unsynced())

    def domains(self) -> frozenset[str]:
        """The domains of global services: ours and those of the peers we know."""
        own = () if self.info is None else (self.info.segment_domain,)
        return self._importer.domains().union(own)

    async def stop(self) -> None:
        """End the streams gracefully; what was imported stays."""
        if self._speaking is not None:
            await self._speaking.dialer.close()
            self._speaking.service.drain()
            self._speaking.exports.close()

    async def close(self) -> None:
        """Write what is left."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._journal.close()

    def _holds_much(self, key: ObjectKey) -> bool:
        return self._speaking is not None and self._importer.holds(key) > TURN

    async def _leave(self, key: ObjectKey) -> None:
        if self._speaking is not None:
            await self._speaking.dialer.leave(key)

    def _imported(self, changes: Sequence[Change]) -> None:
        self._note_places(changes)
        self._emit(changes)

    def _note_places(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, PeerChange):
                self._places.put(change.peer, change.view.info if change.view is not None else None)

    def _match(self, changes: Iterable[tuple[str, RemotePeer | None]]) -> None:
        now = self._parts.clock.time()
        changes = tuple(changes)
        for name, remote in changes:
            key = _key(name)
            self._importer.configure(key, remote, now)
            if remote is not None and not any(self._importer.held(key).versions.values()):
                self._restored -= {key}  # what was kept does not fit the Gateway as it is now
        self._await(changes)

    def _await(self, changes: Iterable[tuple[str, RemotePeer | None]]) -> None:
        keys = {_key(name): remote for name, remote in changes}
        gone = {key for key, remote in keys.items() if remote is None}
        self._awaited = (self._awaited - gone) | (frozenset(self._importer.unsynced()) & keys.keys())

    def _follow(self, changes: Iterable[tuple[str, RemotePeer | None]]) -> None:
        changes = tuple(changes)
        if self._speaking is None or not changes:
            return
        for name, remote in changes:
            self._speaking.acceptance.configure(name, remote)
        if self._config.peering:
            self._speaking.dialer.configure((_key(name), remote) for name, remote in changes)
            self._await(changes)


class _Speaking:
    """What exists from the first sync on."""

    def __init__(
        self, dialer: "Dialer", acceptance: "Acceptance", service: "PeerService", exports: "Exports"
    ) -> None:
        self.dialer = dialer
        self.acceptance = acceptance
        self.service = service
        self.exports = exports


def _key(name: str) -> ObjectKey:
    namespace, _, gateway = name.partition("/")
    return ObjectKey(namespace, gateway)
