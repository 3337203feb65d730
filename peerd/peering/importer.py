"""What is held of every peer, and the changes that derivation sees of it.

Attribution is by connection: whatever arrives on the stream of a Gateway is recorded under that Gateway's key
(design: origin). Nothing here is ever exported, so nothing loops.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from peerd.encode.frame import DecodeError
from peerd.encode.peering import PEER_INFO_NAME, decode_peer_info
from peerd.model.changes import Change, PeerChange
from peerd.model.federation import Freshness, PeerInfo, PeerView, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.record import Record
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO
from peerd.peering.holdings import Entry, Holdings, Imported
from peerd.peering.import_changes import change_of, changes_of, withdrawals
from peerd.peering.judging import judge, restored
from peerd.peering.keeper import Keeper, Stored, StoredPeer
from peerd.peering.staleness import freshness
from peerd.peering.turn import TURN
from peerd.peering.validation import LocalCluster, check_info, same_cluster, who
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_session import Held
from peerd.protocol.peer_subscription import Put


@dataclass(slots=True)
class _Peer:
    remote: RemotePeer
    last_heartbeat: float = 0.0
    freshness: Freshness = Freshness.STALE
    told: Freshness | None = None  # to derivation
    info: PeerInfo | None = None
    synced: bool = False
    settled: bool = False  # a sync of this very cluster was complete, and some of it is held
    connections: int = 0
    known_since: float = 0.0
    given_up: bool = False
    leaving: bool = False
    withdrawing: bool = False  # expired, and what is held goes in turns: until it is gone, it is stale
    holdings: Holdings = field(default_factory=Holdings)


class ImportCounts(Record, frozen=True):
    """What is held of a peer: services, workloads, the bytes of all resources, refused ones with reasons.

    Refused resources of other types than FederatedService are named `<type> <name>`.
    """

    services: int = 0
    workloads: int = 0
    bytes: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    synced: bool = False
    last_heartbeat: float = 0.0
    freshness: Freshness = Freshness.STALE
    info: PeerInfo | None = None


class Importer:
    """Holds imports; `emit` is given each batch of changes, in order, and must not fail."""

    def __init__(
        self,
        local: LocalCluster,
        emit: Callable[[Sequence[Change]], None],
        keeper: Keeper | None = None,
        rules: HeartbeatRules | None = None,
    ) -> None:
        self._rules = rules or HeartbeatRules()
        self._local = local
        self._emit = emit
        self._keeper = keeper or Keeper()
        self._peers: dict[ObjectKey, _Peer] = {}
        self._restored: dict[ObjectKey, StoredPeer] = {}
        self._domains: frozenset[str] | None = None

    def join(self, network: str) -> None:
        """The network that this cluster is on now: workloads are taken only of peers on it (decision D31)."""
        if network != self._local.network:
            self._local = msgspec.structs.replace(self._local, network=network)

    def restore(self, stored: Iterable[StoredPeer]) -> None:
        """Before anything else: what the last process kept. It enters when its Gateway is configured."""
        self._restored = {each.peer: each for each in stored}

    def restored_changes(self, now: float) -> list[Change]:
        """What was restored, as changes for the first derivation (decision D13), before Gateways are known.

        Expiry is its Gateway's word, so nothing expires here; a peer whose Gateway turns out to be gone is
        withdrawn by `settle_restored`.
        """
        changes: list[Change] = []
        for stored in self._restored.values():
            info, holdings = restored(stored, self._local)
            how = freshness(stored.last_heartbeat, now, 0)
            changes.append(PeerChange(stored.peer, PeerView(stored.peer, info, how)))
            changes += changes_of(stored.peer, holdings)
        return changes

    def settle_restored(self) -> None:
        """Every Gateway of the first derivation has been configured: what is left has no Gateway any more."""
        changes: list[Change] = []
        for key, stored in self._restored.items():
            self._keeper.forget(key, len(stored.resources))
            changes += withdrawals(key, ((each.type_url, each.name) for each in stored.resources))
            changes.append(PeerChange(key, None))
        self._restored.clear()
        self._send(changes)

    def configure(self, key: ObjectKey, remote: RemotePeer | None, now: float) -> None:
        """A Gateway was put, edited, or with None deleted; *now* is the wall clock."""
        if remote is None:
            self._unlink(key)
            return
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(remote, known_since=now)
            stored = self._restored.pop(key, None)
            gone = self._adopt(peer, stored) if stored is not None else []
            peer.freshness = freshness(peer.last_heartbeat, now, remote.expire_after, self._rules)
            self._send([self._view(peer), *changes_of(key, peer.holdings), *gone])
            if peer.freshness is Freshness.EXPIRED:
                self._withdraw(peer)
        else:
            peer.remote = remote
            self.age(key, now)

    def leave(self, key: ObjectKey) -> None:
        """The Gateway is about to go, and no link takes in any more: from now on `withdraw` takes back."""
        self._peers[key].leaving = True

    def withdraws(self, key: ObjectKey) -> bool:
        """Whether there is something for `withdraw`: of a peer that leaves, or has expired unconnected."""
        peer = self._peers.get(key)
        return peer is not None and (peer.leaving or (peer.withdrawing and not peer.connections))

    def withdraw(self, key: ObjectKey, at_most: int) -> bool:
        """Take back up to so many resources where that is due; returns whether there are more."""
        if not self.withdraws(key):
            return False
        peer = self._peers[key]
        self._take_back(peer, at_most)
        if len(peer.holdings):
            return True
        if peer.withdrawing:
            self._end(peer)
            self._send([self._view(peer)])
        return False

    def opened(self, key: ObjectKey) -> Callable[[float], None]:
        """A connection begins; call what is returned, with the wall clock, when it is over.

        Meanwhile nothing of the peer expires. The session offered what is held; to forget that behind its
        back would leave a hole that nothing fills. And a wall clock that is set forward is no reason to drop
        a peer that answers.
        """
        peer = self._peers[key]
        peer.connections += 1

        def closed(now: float) -> None:
            peer.connections -= 1
            if self._peers.get(key) is peer:
                self.age(key, now)

        return closed

    def held(self, key: ObjectKey) -> Held:
        """What a new connection may offer to resume from."""
        peer = self._peers[key]
        lineage = peer.info.lineage if peer.info is not None else ""
        return Held(lineage, peer.holdings.versions())

    def take(self, key: ObjectKey, type_url: str, puts: Sequence[Put]) -> dict[str, str]:
        """Judge and record resources; returns the refused ones with reasons.

        Raises:
            PeerRefusedError, PeerIsSelfError: PeerInfo says that this peer is not wanted here.
        """
        peer = self._peers[key]
        if type_url == PEER_INFO:
            return self._take_infos(peer, puts)
        info = peer.info
        if info is None:
            raise PeerRefusedError("resources came before a PeerInfo that could be accepted")
        holdings = peer.holdings
        refused: dict[str, str] = {}
        changes: list[Change] = []
        for put in puts:
            judged = judge(type_url, put.name, put.payload, info, self._local)
            size = len(put.payload) + len(put.version)
            reason = judged.fault or holdings.over_quota(type_url, put.name, size)
            if reason:
                refused[put.name] = holdings.refuse(type_url, put.name, reason)
                continue
            record = judged.record
            before = self._accept(peer, type_url, put, record)
            if record is not None and (before is None or before.record != record):
                changes.append(change_of(key, put.name, record))
        self._send(changes)
        return refused

    def remove(self, key: ObjectKey, type_url: str, names: Iterable[str]) -> None:
        """The peer removed names, or a completed sync did not confirm them."""
        peer = self._peers[key]
        changes: list[Change] = []
        for name in names:
            if peer.holdings.remove(type_url, name) is not None:
                self._keeper.delete(key, type_url, name)
                changes += withdrawals(key, [(type_url, name)])
        self._send(changes)

    def check_standing(self, key: ObjectKey) -> None:
        """After PeerInfo was confirmed, resumed or new: what is held against the Gateway as it is now.

        Raises:
            PeerRefusedError, PeerIsSelfError: as `check_info`; also where the peer sent no PeerInfo.
        """
        peer = self._peers[key]
        if peer.info is None:
            raise PeerRefusedError("the peer's PeerInfo is empty or was refused")
        check_info(peer.remote, peer.info, self._local)

    def synced(self, key: ObjectKey) -> None:
        """Every type is in sync."""
        peer = self._peers[key]
        peer.synced = peer.settled = True
        self._keeper.complete(key, now=True)

    def unsynced(self) -> tuple[ObjectKey, ...]:
        """Configured peers that have neither synced since the start nor expired (decision D13).

        One that was never heard counts as expired that long after its Gateway was seen, or nobody would ever
        stop waiting for it.
        """
        return tuple(
            key
            for key, peer in self._peers.items()
            if not peer.synced
            and not peer.remote.self_peer
            and not peer.given_up
            and peer.freshness is not Freshness.EXPIRED
        )

    def domains(self) -> frozenset[str]:
        """The segment domains that the peers we know name; asked for each name of a resuming ztunnel."""
        if self._domains is None:
            infos = (peer.info for peer in self._peers.values())
            self._domains = frozenset(info.segment_domain for info in infos if info is not None)
        return self._domains

    def heartbeat(self, key: ObjectKey, now: float) -> None:
        """The peer is alive at wall-clock *now*."""
        peer = self._peers[key]
        peer.last_heartbeat = now
        self._keeper.heartbeat(key, now)
        self._set_freshness(peer, Freshness.FRESH)

    def age(self, key: ObjectKey, now: float) -> Freshness:
        """Bring freshness up to wall-clock *now*; expiry withdraws what was imported."""
        peer = self._peers[key]
        # A peer that was never heard has nothing to withdraw: it stays as it is until it speaks.
        expire_after = peer.remote.expire_after
        overdue = bool(expire_after) and now - peer.known_since >= expire_after
        peer.given_up = overdue and not peer.last_heartbeat
        found = freshness(peer.last_heartbeat, now, peer.remote.expire_after, self._rules)
        if found is Freshness.EXPIRED and peer.connections and peer.freshness is not found:
            found = Freshness.STALE
        self._set_freshness(peer, found)
        return peer.freshness

    def freshness(self, key: ObjectKey) -> Freshness:
        """How fresh the peer's word is, as derivation was last told."""
        return self._peers[key].freshness

    def ever_heard(self, key: ObjectKey) -> bool:
        """Whether a heartbeat was ever answered, in this process or before."""
        return self._peers[key].last_heartbeat > 0

    def holds(self, key: ObjectKey) -> int:
        """How many resources are held of a peer, 0 of one that is none."""
        return len(self._peers[key].holdings) if key in self._peers else 0

    def counts(self, key: ObjectKey) -> ImportCounts:
        """What is held of a peer."""
        peer = self._peers[key]
        return ImportCounts(
            services=len(peer.holdings.of(FEDERATED_SERVICE)),
            workloads=len(peer.holdings.of(ADDRESS)),
            bytes=peer.holdings.bytes,
            refused=peer.holdings.refused(),
            synced=peer.synced,
            last_heartbeat=peer.last_heartbeat,
            freshness=peer.freshness,
            info=peer.info,
        )

    def _take_infos(self, peer: _Peer, puts: Sequence[Put]) -> dict[str, str]:
        refused: dict[str, str] = {}
        for put in puts:
            try:
                reason = self._take_info(peer, put)
            except DecodeError as error:
                reason = str(error)
            if reason:
                refused[put.name] = peer.holdings.refuse(PEER_INFO, put.name, reason)
        return refused

    def _take_info(self, peer: _Peer, put: Put) -> str:
        if put.name != PEER_INFO_NAME:
            return f"PeerInfo has one resource, {PEER_INFO_NAME!r}"
        info = decode_peer_info(put.payload)
        check_info(peer.remote, info, self._local)
        if peer.settled and peer.info is not None and not same_cluster(peer.info, info):
            # The next connection starts over with it as with a peer never seen.
            peer.synced = peer.settled = False
            peer.holdings.enter(PEER_INFO, put.name, Entry("", 0))
            raise PeerRefusedError(
                f"the peer became another cluster: {who(peer.info)} is now {who(info)}; starting over"
            )
        reason = peer.holdings.over_quota(PEER_INFO, put.name, len(put.payload) + len(put.version))
        if reason:
            return reason
        self._accept(peer, PEER_INFO, put, None)
        if peer.info != info:
            peer.info = info
            self._send([self._view(peer)])
        return ""

    def _accept(self, peer: _Peer, type_url: str, put: Put, record: Imported | None) -> Entry | None:
        """Enter a resource; returns what it replaces."""
        key, size = peer.remote.key, len(put.payload) + len(put.version)
        before = peer.holdings.enter(type_url, put.name, Entry(put.version, size, record))
        # After a full sync most is what was held: it is on disk already.
        same = before is not None and (before.version, before.record) == (put.version, record)
        if not same or type_url == PEER_INFO:
            stored = Stored(key, type_url, put.name, put.version, put.payload)
            self._keeper.put(stored, replaces=before is not None)
        return before

    def _adopt(self, peer: _Peer, stored: StoredPeer) -> list[Change]:
        """Enter what was kept, judged as if it came now; returns what takes the rest back."""
        peer.last_heartbeat = stored.last_heartbeat
        peer.info, peer.holdings = restored(stored, self._local, peer.remote)
        gone = [
            (each.type_url, each.name)
            for each in stored.resources
            if each.name not in peer.holdings.of(each.type_url)
        ]
        for type_url, name in gone:
            self._keeper.delete(stored.peer, type_url, name)
        return withdrawals(stored.peer, gone)

    def _unlink(self, key: ObjectKey) -> None:
        peer = self._peers.pop(key, None)
        self._domains = None
        self._keeper.forget(key, 0 if peer is None else len(peer.holdings))
        if peer is not None:
            self._send([*withdrawals(key, peer.holdings.pop(len(peer.holdings))), PeerChange(key, None)])

    def _set_freshness(self, peer: _Peer, now: Freshness) -> None:
        if peer.freshness is now:
            return
        peer.freshness = now
        peer.withdrawing = now is Freshness.EXPIRED and len(peer.holdings) > TURN
        if peer.withdrawing:
            peer.synced = False
        elif now is not peer.told:
            self._send([self._view(peer)])
        if now is Freshness.EXPIRED and not peer.withdrawing:
            self._withdraw(peer)

    def _withdraw(self, peer: _Peer) -> None:
        self._take_back(peer, len(peer.holdings))
        self._end(peer)

    def _take_back(self, peer: _Peer, at_most: int) -> None:
        key, names = peer.remote.key, peer.holdings.pop(at_most)
        self._keeper.complete(key, now=False)  # what is kept is no longer all
        for type_url, name in names:
            self._keeper.delete(key, type_url, name)
        self._send(withdrawals(key, names))

    def _end(self, peer: _Peer) -> None:
        peer.holdings = Holdings()  # without what was refused
        peer.synced = peer.settled = peer.withdrawing = False

    def _view(self, peer: _Peer) -> PeerChange:
        self._domains = None
        peer.told = Freshness.STALE if peer.withdrawing else peer.freshness
        return PeerChange(peer.remote.key, PeerView(peer.remote.key, peer.info, peer.told))

    def _send(self, changes: Sequence[Change]) -> None:
        if changes:
            self._emit(changes)
