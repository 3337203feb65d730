"""The subscriber's side of one type on a peer stream: full sync, resume, updates, sweep (decision D18).

| phase | asked with | ends by `@sync` COMPLETE |
|---|---|---|
| OFFERED | the digest of what is held | nothing moved |
| FULL | nothing | what the sync did not name is swept |
| DIFFERENCE | the version of every held name | the peer named what to remove |
| SYNCED | | updates follow |

OFFERED goes to DIFFERENCE when the peer wants versions. A DIFFERENCE whose digest does not come out right
goes to FULL once; a FULL that does not is the peer's fault and ends the stream.
"""

from collections.abc import Iterable, Mapping
from enum import Enum

from peerd.limits import PEER_REASON_CHARACTERS, PEER_REFUSED_BYTES, PEER_VERSION_MAP_BYTES, hit
from peerd.model.digest import digest
from peerd.model.record import Record
from peerd.protocol.envelope import DeltaResponse, Node, delta_request
from peerd.protocol.peer_wire import (
    RESERVED,
    SYNC_NAME,
    PeerProtocolError,
    Sync,
    SyncState,
    decode_sync,
    offer,
)

_ENTRY_BYTES = 250  # what a name and a version cost beside their characters


class Phase(Enum):
    """Where the subscription is."""

    OFFERED = "offered"
    FULL = "full"
    DIFFERENCE = "difference"
    SYNCED = "synced"


class Put(Record, frozen=True):
    """A resource as it came."""

    name: str
    version: str
    payload: bytes


class Delivery(Record, frozen=True):
    """One response, to be judged by whoever understands its resources, and then settled."""

    type_url: str
    nonce: str
    puts: tuple[Put, ...]
    removed: tuple[str, ...]
    sync: Sync | None
    system_version: str


class Settled(Record, frozen=True):
    """What follows from a delivery: requests to send, names to sweep, and whether the type is now in sync."""

    requests: tuple[bytes, ...]
    swept: tuple[str, ...] = ()
    synced: bool = False


class PeerSubscription:
    """One type. `held` are the versions of accepted resources; once in sync they are needed no more.

    An *optional* type is one that older servers do not know: they answer it with nothing, not even `@sync`.
    """

    def __init__(
        self, type_url: str, held: Mapping[str, str], lineage: str, *, optional: bool = False
    ) -> None:
        self.type_url = type_url
        self._optional = optional
        self.held: dict[str, str] = dict(held)
        self.phase = Phase.OFFERED if self.held and lineage else Phase.FULL
        self._lineage = lineage
        self._refused: dict[str, str] = {}
        self._refused_bytes = 0
        self._confirmed: set[str] = set()

    def open(self, node: Node | None = None) -> bytes:
        """The first request of the type; the first one of the stream carries the node."""
        versions = offer(self._lineage, digest(self.held.items())) if self.phase is Phase.OFFERED else {}
        return self._subscribe(versions, node)

    def read(self, response: DeltaResponse) -> Delivery:
        """Take a response of this type apart.

        Raises:
            PeerProtocolError: a resource without a name, the same name twice, or an unreadable `@sync`.
        """
        puts: list[Put] = []
        sync: Sync | None = None
        seen: set[str] = set()
        for resource in response.resources:
            if not resource.name:
                raise PeerProtocolError(f"{self.type_url}: a resource without a name")
            if resource.name in seen:
                raise PeerProtocolError(f"{self.type_url}: {_short(resource.name)} twice in one response")
            seen.add(resource.name)
            if resource.name == SYNC_NAME:
                sync = decode_sync(resource.payload)
            elif not resource.name.startswith(RESERVED):
                puts.append(Put(resource.name, resource.version, resource.payload))
        return Delivery(
            type_url=self.type_url,
            nonce=response.nonce,
            puts=tuple(puts),
            removed=response.removed,
            sync=sync,
            system_version=response.system_version,
        )

    def settle(self, delivery: Delivery, refused: Mapping[str, str]) -> Settled:
        """Record what was accepted, answer, and move on at `@sync`. *refused* maps names to reasons.

        Raises:
            PeerProtocolError: a full sync that does not add up to the digest the peer gave, or more refused
            resources than are remembered.
        """
        for put in delivery.puts:
            if put.name in refused:
                self._refuse(put)
            elif self.phase is not Phase.SYNCED:
                self.held[put.name] = put.version
                self._forget_refused(put.name)
            if self.phase is Phase.FULL:
                self._confirmed.add(put.name)
        for name in delivery.removed:
            self.held.pop(name, None)
            self._forget_refused(name)
            self._confirmed.discard(name)
        answer = self._answer(delivery.nonce, refused)
        optional, self._optional = self._optional, False  # its first answer says whether it is known
        if delivery.sync is None:
            if optional and not (delivery.puts or delivery.removed):
                return self._unknown(answer)
            return Settled((answer,))
        if delivery.sync.state is SyncState.VERSIONS_WANTED:
            if self.phase is not Phase.OFFERED:
                raise PeerProtocolError(f"{self.type_url}: versions wanted, and no digest was offered")
            return Settled((answer, self._ask_difference()))
        return self._complete(delivery.sync, answer)

    def _unknown(self, answer: bytes) -> Settled:
        """What the server does not know it does not export (specification §2)."""
        swept, self.held, self.phase = tuple(sorted(self.held)), {}, Phase.SYNCED
        return Settled((answer,), swept, synced=True)

    def _complete(self, sync: Sync, answer: bytes) -> Settled:
        swept: tuple[str, ...] = ()
        if self.phase is Phase.FULL:
            swept = tuple(sorted(self.held.keys() - self._confirmed))
            for name in swept:
                del self.held[name]
        if self.phase is not Phase.SYNCED and digest((self.held | self._refused).items()) != sync.digest:
            if self.phase is Phase.FULL:
                raise PeerProtocolError(
                    f"{self.type_url}: what arrived does not add up to its digest {sync.digest}"
                )
            return Settled((answer, self._ask_full()))
        self.phase = Phase.SYNCED
        # Only a sync needs them, and there is none after this.
        self.held = {}
        self._confirmed = set()
        self._refused = {}
        return Settled((answer,), swept, synced=True)

    def _ask_difference(self) -> bytes:
        if (
            sum(len(name) + len(version) + 6 for name, version in self.held.items())
            > PEER_VERSION_MAP_BYTES.value
        ):
            hit(PEER_VERSION_MAP_BYTES)
            return self._ask_full()
        self.phase = Phase.DIFFERENCE
        return self._subscribe(self.held)

    def _ask_full(self) -> bytes:
        self.phase = Phase.FULL
        self._confirmed = set()
        self._refused = {}
        self._refused_bytes = 0
        return self._subscribe({})

    def _refuse(self, put: Put) -> None:
        if self.phase is Phase.SYNCED:
            return
        self._forget_refused(put.name)
        self._refused[put.name] = put.version
        self._refused_bytes += len(put.name) + len(put.version) + _ENTRY_BYTES
        if self._refused_bytes > PEER_REFUSED_BYTES.value:
            hit(PEER_REFUSED_BYTES)
            raise PeerProtocolError(
                f"{self.type_url}: {len(self._refused)} resources of one sync had to be refused, the last is"
                f" {_short(put.name)}; that is more than is remembered"
            )

    def _forget_refused(self, name: str) -> None:
        version = self._refused.pop(name, None)
        if version is not None:
            self._refused_bytes -= len(name) + len(version) + _ENTRY_BYTES

    def _subscribe(self, versions: Mapping[str, str], node: Node | None = None) -> bytes:
        return delta_request(self.type_url, subscribe=("*",), versions=versions, node=node)

    def _answer(self, nonce: str, refused: Mapping[str, str]) -> bytes:
        error = reasons(refused.items()) if refused else None
        return delta_request(self.type_url, nonce=nonce, error=error)


def reasons(refused: Iterable[tuple[str, str]]) -> str:
    """`name: reason; ...`, as much of it as is worth sending."""
    text = "; ".join(f"{_short(name)}: {reason}" for name, reason in refused)
    if len(text) <= PEER_REASON_CHARACTERS.value:
        return text
    hit(PEER_REASON_CHARACTERS)
    return text[: PEER_REASON_CHARACTERS.value] + "…"


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:80] + "…"
