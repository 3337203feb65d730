"""One link per istio-remote Gateway, following their edits; and the clock that ages what they imported."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import structlog

from peerd.limits import PEER_DIALS
from peerd.model.clock import Clock
from peerd.model.federation import Freshness, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.peering.backoff import Backoff
from peerd.peering.importer import Importer
from peerd.peering.link import Connect, PeerLink, Resolve
from peerd.peering.peers import PeerTable
from peerd.peering.turn import WITHDRAWN
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_state import PeerEvent, PeerState
from peerd.protocol.peer_wire import Hello

log = structlog.get_logger(__name__)

_AGEING = frozenset({PeerState.CONNECTING, PeerState.STALE, PeerState.REFUSED})


class Dialer:
    """Start with `start`, feed with `configure`, end with `close`.

    `derived` waits until the changes that the importer emitted so far have been derived.
    """

    def __init__(
        self,
        *,
        hello: Hello,
        namespace: str,
        connect: Connect,
        importer: Importer,
        table: PeerTable,
        clock: Clock,
        source: random.Random,
        resolve: Resolve | None = None,
        rules: HeartbeatRules | None = None,
        derived: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._derived = derived or _at_once
        self._rules = rules or HeartbeatRules()
        self._hello = hello
        self._namespace = namespace
        self._connect = connect
        self._resolve = resolve or resolve_host
        self._importer = importer
        self._table = table
        self._clock = clock
        self._random = source
        self._remotes: dict[ObjectKey, RemotePeer] = {}
        self._links: dict[ObjectKey, PeerLink] = {}
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._leaving: set[ObjectKey] = set()
        self._withdrawing: dict[ObjectKey, asyncio.Task[None]] = {}
        self._dials = asyncio.Semaphore(PEER_DIALS.value)
        self._ager: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to age imports; call within the running loop."""
        self._ager = asyncio.ensure_future(self._age_for_ever())

    def configure(self, changes: Iterable[tuple[ObjectKey, RemotePeer | None]]) -> None:
        """Gateways put, edited or, with None, deleted. Live streams go on unless the edit concerns them."""
        for key, remote in changes:
            before = self._remotes.get(key)
            self._importer.configure(key, remote, self._clock.time())
            if remote is None:
                self._leaving.discard(key)
                self._remotes.pop(key, None)
                self._stop(key)
                self._table.drop(key)
                continue
            self._remotes[key] = remote
            if key in self._leaving:
                continue
            self._table.put(remote)
            if before is not None and _dials(before) == _dials(remote):
                continue
            if before is not None:
                self._stop(key)
                self._table.fire(key, PeerEvent.CHANGED)
            if remote.self_peer:
                if self._table.state(key) is not PeerState.SELF:
                    self._table.fire(key, PeerEvent.SELF)
            else:
                self._dial(remote)

    async def leave(self, key: ObjectKey) -> None:
        """The Gateway is about to go: end its link, and take back what it brought, others between the turns.

        `configure` is told when the Gateway is gone; until then nothing of it is dialled.
        """
        if key not in self._remotes:
            return
        self._leaving.add(key)
        self._stop(key)
        self._table.drop(key)
        self._importer.leave(key)
        await self._withdraw(key)

    def join(self, segment: str, network: str) -> None:
        """This cluster is in *segment* and on *network* now: streams that said otherwise are made anew."""
        if (segment, network) == (self._hello.segment, self._hello.network):
            return
        self._hello = msgspec.structs.replace(self._hello, segment=segment, network=network)
        for key in list(self._links):
            if self._table.state(key) is not PeerState.SELF:
                self._stop(key)
                self._table.fire(key, PeerEvent.CHANGED)
                self._dial(self._remotes[key])

    async def close(self) -> None:
        """End every link; what was imported stays as it is."""
        tasks = [*self._tasks.values(), *self._ending, *self._withdrawing.values()]
        if self._ager is not None:
            tasks.append(self._ager)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._links.clear()

    def _stop(self, key: ObjectKey) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            self._table.leave(key)
            self._links.pop(key).stop()
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _dial(self, remote: RemotePeer) -> None:
        link = self._links[remote.key] = self._link(remote)
        task = self._tasks[remote.key] = asyncio.ensure_future(link.run())
        task.add_done_callback(_report)

    def _link(self, remote: RemotePeer) -> PeerLink:
        return PeerLink(
            remote,
            hello=self._hello,
            namespace=self._namespace,
            connect=self._connect,
            resolve=self._resolve,
            importer=self._importer,
            entry=self._table.entry(remote.key),
            clock=self._clock,
            backoff=Backoff(self._random),
            rules=self._rules,
            dials=self._dials,
            derived=self._derived,
        )

    async def _age_for_ever(self) -> None:
        while True:
            now = self._clock.time()
            for key in list(self._remotes):
                if key not in self._leaving:
                    self._age(key, now)
            await asyncio.sleep(self._rules.interval / 15)

    async def _withdraw(self, key: ObjectKey) -> None:
        while self._importer.withdraw(key, WITHDRAWN):
            await self._derived()
            await asyncio.sleep(0)  # where there was nothing to derive, too

    def _age(self, key: ObjectKey, now: float) -> None:
        before = self._importer.freshness(key)
        after = self._importer.age(key, now)
        if self._importer.withdraws(key) and key not in self._withdrawing:
            task = self._withdrawing[key] = asyncio.ensure_future(self._withdraw(key))
            task.add_done_callback(lambda _withdrawn: self._withdrawing.pop(key))
            task.add_done_callback(_report)
        state = self._table.state(key)
        if state not in _AGEING or not self._importer.ever_heard(key):
            return
        if after is Freshness.EXPIRED and (after is not before or state is not PeerState.REFUSED):
            self._table.fire(key, PeerEvent.EXPIRED)
        elif after is Freshness.STALE and state is PeerState.CONNECTING:
            self._table.fire(key, PeerEvent.GREW_STALE)
        if after is not before and after is not Freshness.FRESH:
            log.warning("peer_aged", peer=str(key), freshness=after.value)


def _dials(remote: RemotePeer) -> tuple[object, ...]:
    """What of a Gateway a running link depends on."""
    return (
        remote.cluster,
        remote.network,
        remote.addresses,
        remote.port,
        remote.trust_domain,
        remote.namespace,
        remote.service_account,
        remote.issuer,
        remote.self_peer,
    )


async def _at_once() -> None:
    """Nobody derives."""


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("peer_link_failed", exc_info=error)


async def resolve_host(host: str) -> list[str]:
    """Addresses of *host* as the system resolves them now, each once. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # Empty and overlong labels fail in Python's IDNA codec, before any resolver is asked.
        raise OSError(f"it is no host name ({error})") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
