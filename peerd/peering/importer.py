"""What is held of every peer, and the changes that derivation sees of it.

Attribution is by connection: whatever arrives on the stream of a Gateway is recorded under that Gateway's key
(design: origin). Nothing here is ever exported, so nothing loops.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from peerd.encode.frame import DecodeError
from peerd.encode.peering import PEER_INFO_NAME, decode_federated_service, decode_peer_info, decode_segment
from peerd.limits import PEER_NAME_CHARACTERS, PEER_REASON_CHARACTERS, PEER_REFUSALS, hit
from peerd.model.changes import Change, ImportChange, PeerChange
from peerd.model.federation import FederatedService, Freshness, PeerInfo, PeerView, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.record import Record
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.peering.quotas import Ledger
from peerd.peering.staleness import freshness
from peerd.peering.validation import LocalCluster, PeerIsSelfError, check_info, fault, same_cluster
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_session import Held
from peerd.protocol.peer_subscription import Put

_WORKLOADS_REFUSED = "workloads of a flat network are not imported by this version"


class Stored(Record, frozen=True):
    """A resource as it came, for the state directory. `peer` is the Gateway's key."""

    peer: ObjectKey
    type_url: str
    name: str
    version: str
    payload: bytes


class StoredPeer(Record, frozen=True):
    """Everything kept of one peer."""

    peer: ObjectKey
    last_heartbeat: float
    resources: tuple[Stored, ...] = ()


class Keeper:
    """Where imports are kept over restarts (persistence.py); this one keeps nothing."""

    def put(self, stored: Stored) -> None:
        """A resource was accepted."""

    def delete(self, peer: ObjectKey, type_url: str, name: str) -> None:
        """A resource is gone."""

    def heartbeat(self, peer: ObjectKey, at: float) -> None:
        """The peer was alive *at* this wall-clock second."""

    def forget(self, peer: ObjectKey) -> None:
        """The Gateway is gone and everything with it."""


@dataclass(slots=True)
class _Peer:
    remote: RemotePeer
    last_heartbeat: float = 0.0
    freshness: Freshness = Freshness.STALE
    info: PeerInfo | None = None
    synced: bool = False
    connections: int = 0
    known_since: float = 0.0
    given_up: bool = False
    services: dict[str, FederatedService] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)


class ImportCounts(Record, frozen=True):
    """What is held of a peer: services, the bytes of all resources, and refused ones with reasons.

    Refused resources of other types than FederatedService are named `<type> <name>`.
    """

    services: int = 0
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
            info, services = _judge(stored, self._local)
            how = freshness(stored.last_heartbeat, now, 0)
            changes.append(PeerChange(stored.peer, PeerView(stored.peer, info, how)))
            changes += [ImportChange(stored.peer, name, service) for name, service in services.items()]
        return changes

    def settle_restored(self) -> None:
        """Every Gateway of the first derivation has been configured: what is left has no Gateway any more."""
        changes: list[Change] = []
        for key, stored in self._restored.items():
            self._keeper.forget(key)
            changes += [
                ImportChange(key, r.name, None) for r in stored.resources if r.type_url == FEDERATED_SERVICE
            ]
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
            changes = [ImportChange(key, name, service) for name, service in peer.services.items()]
            self._send([self._view(peer), *changes, *gone])
            if peer.freshness is Freshness.EXPIRED:
                self._withdraw(peer)
        else:
            peer.remote = remote
            self.age(key, now)

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
        return Held(lineage, {type_url: dict(names) for type_url, names in peer.versions.items()})

    def take(self, key: ObjectKey, type_url: str, puts: Sequence[Put]) -> dict[str, str]:
        """Judge and record resources; returns the refused ones with reasons.

        Raises:
            PeerRefusedError, PeerIsSelfError: PeerInfo says that this peer is not wanted here.
        """
        peer = self._peers[key]
        if type_url == FEDERATED_SERVICE:
            return self._take_services(peer, puts)
        refused: dict[str, str] = {}
        for put in puts:
            try:
                reason = self._take_other(peer, type_url, put)
            except DecodeError as error:
                reason = str(error)
            if reason:
                refused[put.name] = _refuse(peer, type_url, put.name, reason)
            else:
                self._accept(peer, type_url, put)
        return refused

    def remove(self, key: ObjectKey, type_url: str, names: Iterable[str]) -> None:
        """The peer removed names, or a completed sync did not confirm them."""
        peer = self._peers[key]
        changes: list[Change] = []
        for name in names:
            if peer.versions.get(type_url, {}).pop(name, None) is not None:
                self._keeper.delete(key, type_url, name)
            peer.refused.pop((type_url, _short(name)), None)
            peer.ledger.remove(type_url, name)
            if type_url == FEDERATED_SERVICE and peer.services.pop(name, None) is not None:
                changes.append(ImportChange(key, name, None))
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
        self._peers[key].synced = True

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

    def counts(self, key: ObjectKey) -> ImportCounts:
        """What is held of a peer."""
        peer = self._peers[key]
        return ImportCounts(
            services=len(peer.services),
            bytes=peer.ledger.bytes,
            refused=tuple(sorted((_label(*key), reason) for key, reason in peer.refused.items())),
            synced=peer.synced,
            last_heartbeat=peer.last_heartbeat,
            freshness=peer.freshness,
            info=peer.info,
        )

    def _take_services(self, peer: _Peer, puts: Sequence[Put]) -> dict[str, str]:
        type_url = FEDERATED_SERVICE
        refused: dict[str, str] = {}
        changes: list[Change] = []
        info = peer.info
        if info is None:
            raise PeerRefusedError("services came before a PeerInfo that could be accepted")
        for put in puts:
            try:
                service = decode_federated_service(put.payload)
                reason = fault(put.name, service, info, self._local) or _over_quota(peer, type_url, put)
            except DecodeError as error:
                reason = str(error)
            if reason:
                refused[put.name] = _refuse(peer, type_url, put.name, reason)
                continue
            self._accept(peer, type_url, put)
            if peer.services.get(put.name) != service:
                peer.services[put.name] = service
                changes.append(ImportChange(peer.remote.key, put.name, service))
        self._send(changes)
        return refused

    def _take_other(self, peer: _Peer, type_url: str, put: Put) -> str:
        if type_url == PEER_INFO:
            return self._take_info(peer, put)
        if type_url == SEGMENT:
            return _segment_fault(put.name, put.payload, peer.info) or _over_quota(peer, type_url, put)
        return _WORKLOADS_REFUSED

    def _take_info(self, peer: _Peer, put: Put) -> str:
        if put.name != PEER_INFO_NAME:
            return f"PeerInfo has one resource, {PEER_INFO_NAME!r}"
        info = decode_peer_info(put.payload)
        check_info(peer.remote, info, self._local)
        if peer.synced and peer.info is not None and not same_cluster(peer.info, info):
            # The next connection starts over with it as with a peer never seen.
            peer.synced = False
            peer.versions.get(PEER_INFO, {}).clear()
            raise PeerRefusedError(
                f"the peer became another cluster: {_who(peer.info)} is now {_who(info)}; starting over"
            )
        reason = _over_quota(peer, PEER_INFO, put)
        if not reason and peer.info != info:
            peer.info = info
            self._send([self._view(peer)])
        return reason

    def _accept(self, peer: _Peer, type_url: str, put: Put) -> None:
        peer.refused.pop((type_url, _short(put.name)), None)
        peer.versions.setdefault(type_url, {})[put.name] = put.version
        self._keeper.put(Stored(peer.remote.key, type_url, put.name, put.version, put.payload))

    def _adopt(self, peer: _Peer, stored: StoredPeer) -> list[Change]:
        """Enter what was kept, judged as if it came now; returns what takes the rest back."""
        peer.last_heartbeat = stored.last_heartbeat
        peer.info, peer.services = _judge(stored, self._local, peer.remote)
        changes: list[Change] = []
        for resource in stored.resources:
            type_url, name = resource.type_url, resource.name
            if _stands(resource, peer.info, peer.services):
                peer.ledger.enter(type_url, name, len(resource.payload) + len(resource.version))
                peer.versions.setdefault(type_url, {})[name] = resource.version
                continue
            self._keeper.delete(stored.peer, type_url, name)
            if type_url == FEDERATED_SERVICE:
                changes.append(ImportChange(stored.peer, name, None))
        return changes

    def _unlink(self, key: ObjectKey) -> None:
        peer = self._peers.pop(key, None)
        self._domains = None
        self._keeper.forget(key)
        if peer is not None:
            self._send([*(ImportChange(key, name, None) for name in peer.services), PeerChange(key, None)])

    def _set_freshness(self, peer: _Peer, now: Freshness) -> None:
        if peer.freshness is now:
            return
        peer.freshness = now
        self._send([self._view(peer)])
        if now is Freshness.EXPIRED:
            self._withdraw(peer)

    def _withdraw(self, peer: _Peer) -> None:
        key = peer.remote.key
        changes = [ImportChange(key, name, None) for name in peer.services]
        for type_url, names in peer.versions.items():
            for name in names:
                self._keeper.delete(key, type_url, name)
        peer.services.clear()
        peer.versions.clear()
        peer.refused.clear()
        peer.ledger = Ledger()
        peer.synced = False
        self._send(changes)

    def _view(self, peer: _Peer) -> PeerChange:
        self._domains = None
        key = peer.remote.key
        return PeerChange(key, PeerView(key, peer.info, peer.freshness))

    def _send(self, changes: Sequence[Change]) -> None:
        if changes:
            self._emit(changes)


def _over_quota(peer: _Peer, type_url: str, put: Put) -> str:
    return peer.ledger.refusal(type_url, put.name, len(put.payload) + len(put.version))


def _refuse(peer: _Peer, type_url: str, name: str, reason: str) -> str:
    """Remember that a resource was refused, for people to see; what they see is bounded."""
    key = type_url, _short(name)
    reason = reason[: PEER_REASON_CHARACTERS.value]
    if key in peer.refused or len(peer.refused) < PEER_REFUSALS.value:
        peer.refused[key] = reason
    else:
        hit(PEER_REFUSALS)
    return reason


def _short(name: str) -> str:
    return name[: PEER_NAME_CHARACTERS.value]


def _label(type_url: str, name: str) -> str:
    return name if type_url == FEDERATED_SERVICE else f"{type_url.rpartition('.')[2]} {name}"


def _segment_fault(name: str, payload: bytes, info: PeerInfo | None) -> str:
    """Why a Segment is not taken. Raises DecodeError."""
    segment = decode_segment(payload)
    if name != segment.name:
        return f"the resource is not called {segment.name!r:.80} as its content is"
    if info is not None and (segment.name, segment.domain) != (
        info.segment or "default",
        info.segment_domain,
    ):
        return (
            f"segment {segment.name!r:.80} with domain {segment.domain!r:.260} is not the one PeerInfo names"
        )
    return ""


def _judge(
    stored: StoredPeer, local: LocalCluster, remote: RemotePeer | None = None
) -> tuple[PeerInfo | None, dict[str, FederatedService]]:
    """What of a kept peer may still be believed, by a Gateway that may have changed since.

    What cannot be read was written by a version that understood more: the peer sends it again, as it does
    with all that is left out here.
    """
    info: PeerInfo | None = None
    services: dict[str, FederatedService] = {}
    for resource in stored.resources:
        try:
            if resource.type_url == PEER_INFO and resource.name == PEER_INFO_NAME:
                info = decode_peer_info(resource.payload)
            elif resource.type_url == FEDERATED_SERVICE:
                services[resource.name] = decode_federated_service(resource.payload)
        except DecodeError:
            continue
    if info is None:
        return None, {}
    if remote is not None:
        try:
            check_info(remote, info, local)
        except (PeerRefusedError, PeerIsSelfError):
            return None, {}
    return info, {
        name: service for name, service in services.items() if not fault(name, service, info, local)
    }


def _stands(resource: Stored, info: PeerInfo | None, services: Mapping[str, FederatedService]) -> bool:
    if info is None:
        return False
    if resource.type_url == SEGMENT:
        try:
            return not _segment_fault(resource.name, resource.payload, info)
        except DecodeError:
            return False
    return resource.type_url == PEER_INFO or resource.name in services


def _who(info: PeerInfo) -> str:
    return f"{info.cluster}/{info.network or '(no network)'}/{info.trust_domain} (lineage {info.lineage})"
