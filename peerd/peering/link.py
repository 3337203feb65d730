"""One dialled peer: dial, run a connection until it ends, wait, again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from peerd.limits import PEER_ADDRESSES, PEER_DIALS, hit
from peerd.model.clock import Clock
from peerd.model.federation import RemotePeer
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.types import DELTA_METHOD, PEER_INFO
from peerd.peering.backoff import Backoff
from peerd.peering.importer import Importer
from peerd.peering.peers import PeerEntry, PeerTraffic
from peerd.peering.rate import RateLimit
from peerd.peering.turn import TURN
from peerd.peering.validation import PeerIsSelfError, check_certificate
from peerd.protocol.heartbeat import HeartbeatClient, HeartbeatRules
from peerd.protocol.peer_session import PeerSession
from peerd.protocol.peer_state import PeerEvent
from peerd.protocol.peer_subscription import Delivery
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, PeerProtocolError
from peerd.transport.address import join_address
from peerd.transport.base import Channel, ClientStream, StatusCode, StreamClosed
from peerd.transport.tasks import first_of, in_turns

log = structlog.get_logger(__name__)

Connect = Callable[[str, int], Channel]
"""A channel to an IP address (or, in tests, any name) and port."""

Resolve = Callable[[str], Awaitable[list[str]]]
"""IP addresses of a host name; of an address, itself. Raises OSError."""

_REFUSALS = frozenset(
    {
        StatusCode.UNAUTHENTICATED,
        StatusCode.PERMISSION_DENIED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.ALREADY_EXISTS,
        StatusCode.UNIMPLEMENTED,
    }
)


class _LostError(Exception):
    """The connection is over; the message says why, empty for a graceful end."""


class PeerLink:
    """Runs until cancelled, or until the peer turns out to be this cluster."""

    def __init__(
        self,
        remote: RemotePeer,
        *,
        hello: Hello,
        namespace: str,
        connect: Connect,
        resolve: Resolve,
        importer: Importer,
        entry: PeerEntry,
        clock: Clock,
        backoff: Backoff,
        rules: HeartbeatRules,
        dials: asyncio.Semaphore,
        derived: Callable[[], Awaitable[None]],
    ) -> None:
        self._derived = derived
        self._underived = 0
        self._rules = rules
        self._dials = dials
        self._remote = remote
        self._key = remote.key
        self._hello = hello
        self._namespace = namespace
        self._connect = connect
        self._resolve = resolve
        self._importer = importer
        self._entry = entry
        self._clock = clock
        self._backoff = backoff
        self._log = log.bind(peer=str(remote.key), cluster=remote.cluster or None)
        self._address = ""
        self._attempts = 0
        self._first_answer = 0.0
        self._alive = 0.0  # wall clock of the last sign of life on the present connection
        self._recognised = False  # whether its PeerInfo was accepted
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """Take nothing more from the connection, from now on and not once `run` comes to cancel it."""
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        """Dial for ever."""
        while True:
            try:
                await self._round()
            except PeerIsSelfError:
                self._entry.fire(PeerEvent.SELF)
                self._log.info("peer_is_this_cluster", address=self._address)
                return
            except PeerRefusedError as error:
                self._ended(PeerEvent.REFUSED, str(error))
            except PeerProtocolError as error:
                self._ended(PeerEvent.LOST, f"protocol: {error}")
            except StreamClosed as closed:
                refused = closed.code in _REFUSALS
                self._ended(
                    PeerEvent.REFUSED if refused else PeerEvent.LOST,
                    f"{closed.message or 'no reason given'} ({closed.code.name})",
                )
            except _LostError as lost:
                self._ended(PeerEvent.LOST, str(lost))
            except OSError as error:
                self._ended(PeerEvent.LOST, str(error))
            except Exception as error:  # noqa: BLE001 (a bug or unthought-of input ends a round, not a peer)
                self._log.exception("peer_link_failed", target=self._address)
                self._ended(PeerEvent.LOST, f"internal error: {error!r:.200}")
            await self._wait()

    def _ended(self, event: PeerEvent, error: str) -> None:
        self._entry.fire(event, error)
        target = self._address or ",".join(self._remote.addresses)
        if not error:
            self._log.info("peer_went_away", target=target)
        elif event is PeerEvent.REFUSED:
            self._log.warning("peer_refused", target=target, reason=error)
        else:
            self._log.warning("peer_disconnected", target=target, reason=error)

    async def _wait(self) -> None:
        wait = self._backoff.next()
        self._attempts += 1
        self._entry.attempt(self._attempts, self._clock.time() + wait)
        self._log.info(
            "peer_retry",
            target=self._address or ",".join(self._remote.addresses),
            wait_seconds=round(wait, 1),
            attempt=self._attempts,
        )
        await asyncio.sleep(wait)

    async def _round(self) -> None:
        """Try every address until one gives a connection; then run that until it ends."""
        self._address = ""
        addresses = await self._addresses()
        for index, host in enumerate(addresses):
            self._address = join_address(host, self._remote.port)
            channel = self._connect(host, self._remote.port)
            try:
                try:
                    stream = await self._open(channel)
                except StreamClosed:
                    if index + 1 < len(addresses):
                        continue
                    raise
                await self._connected(channel, stream)
            finally:
                await channel.close()
            return

    async def _open(self, channel: Channel) -> ClientStream:
        if self._dials.locked():
            hit(PEER_DIALS)
        async with self._dials:
            return await channel.open(DELTA_METHOD, self._hello.metadata())

    async def _addresses(self) -> list[str]:
        found: list[str] = []
        failures: list[str] = []
        for name in self._remote.addresses:
            try:
                found += [each for each in await self._resolve(name) if each not in found]
            except OSError as error:
                failures.append(f"{name} cannot be resolved: {error}")
        if not found:
            raise _LostError("; ".join(failures) or "the Gateway has no address; add one to spec.addresses")
        if len(found) > PEER_ADDRESSES.value:
            hit(PEER_ADDRESSES)
            del found[PEER_ADDRESSES.value :]
        return found

    async def _connected(self, channel: Channel, stream: ClientStream) -> None:
        check_certificate(self._remote, stream.certificate)
        beats = await channel.open(HEARTBEAT_METHOD, self._hello.metadata())
        session = PeerSession(self._hello, self._namespace, self._importer.held(self._key))
        heartbeats = HeartbeatClient(self._clock.monotonic(), self._rules)
        self._first_answer = self._alive = 0.0
        self._recognised = False
        closed = self._importer.opened(self._key)
        self._entry.fire(PeerEvent.OPENED)
        self._log.info("peer_connected", target=self._address)
        # A verdict on the data stream says more than the end of the heartbeats, so it stands first.
        self._tasks = [
            asyncio.ensure_future(self._exchange(stream, session, heartbeats)),
            asyncio.ensure_future(self._beat(beats, heartbeats, session)),
            asyncio.ensure_future(self._listen(beats, heartbeats)),
        ]
        try:
            await first_of(self._tasks)
        finally:
            closed(self._clock.time())
            self._note(session, heartbeats)
        raise _LostError

    async def _exchange(
        self, stream: ClientStream, session: PeerSession, heartbeats: HeartbeatClient
    ) -> None:
        limit = RateLimit(self._clock.monotonic())
        for request in session.open():
            await stream.send(request)
        while (message := await stream.receive()) is not None:
            was_in_sync = session.in_sync
            delivery = await in_turns(session.receive(message))
            refused = await self._take(delivery)
            settled = session.settle(delivery, refused)
            await self._remove(delivery.type_url, (*delivery.removed, *settled.swept))
            if refused:
                self._log.warning(
                    "peer_resources_refused",
                    type=delivery.type_url,
                    refused=len(refused),
                    first=next(iter(refused.items())),
                )
            if settled.synced and delivery.type_url == PEER_INFO:
                self._importer.check_standing(self._key)
                self._recognised = True
                if self._alive:
                    self._importer.heartbeat(self._key, self._alive)
            if settled.synced and session.in_sync:
                self._importer.synced(self._key)
                self._entry.fire(PeerEvent.SYNCED)
                self._log.info(
                    "peer_synced", target=self._address, services=self._importer.counts(self._key).services
                )
            self._note(session, heartbeats)
            for request in settled.requests:
                await stream.send(request)
            if was_in_sync:
                wait = limit.take(len(delivery.puts) + len(delivery.removed), self._clock.monotonic())
                if wait:
                    await asyncio.sleep(wait)

    async def _take(self, delivery: Delivery) -> dict[str, str]:
        refused: dict[str, str] = {}
        for start in range(0, len(delivery.puts), TURN):
            part = delivery.puts[start : start + TURN]
            await self._room_for(len(part))
            refused |= self._importer.take(self._key, delivery.type_url, part)
        return refused

    async def _remove(self, type_url: str, names: Sequence[str]) -> None:
        for start in range(0, len(names), TURN):
            part = names[start : start + TURN]
            await self._room_for(len(part))
            self._importer.remove(self._key, type_url, part)

    async def _room_for(self, changes: int) -> None:
        if self._underived + changes > TURN:
            self._underived = 0
            await self._derived()
            await asyncio.sleep(0)  # where there was nothing to derive, too
        self._underived += changes

    async def _beat(self, beats: ClientStream, heartbeats: HeartbeatClient, session: PeerSession) -> None:
        while True:
            now = self._clock.monotonic()
            if heartbeats.silent(now):
                raise _LostError(f"no heartbeat for {self._rules.stale_after:g} seconds")
            message = heartbeats.due(now)
            if message is not None:
                # A far end that does not read must not keep us from noticing its silence, on time.
                try:
                    async with asyncio.timeout(heartbeats.wait(now)):
                        await beats.send(message)
                except TimeoutError:
                    continue
            self._note(session, heartbeats)
            await asyncio.sleep(heartbeats.wait(self._clock.monotonic()))

    async def _listen(self, beats: ClientStream, heartbeats: HeartbeatClient) -> None:
        while (message := await beats.receive()) is not None:
            now = self._clock.monotonic()
            # Alive when it was asked: the answer may have waited here while this process was paused.
            round_trip = heartbeats.heard(message, now)
            # But whoever answers at the peer's address may be another cluster, until it has said who it is.
            self._alive = self._clock.time() - round_trip
            if self._recognised:
                self._importer.heartbeat(self._key, self._alive)
            # A stream is healthy once it has outlived a heartbeat interval; before that it may be a flap.
            if not self._first_answer:
                self._first_answer = now
            elif now - self._first_answer >= self._rules.interval / 2 and self._attempts:
                self._backoff.reset()
                self._attempts = 0
                self._entry.attempt(0, 0.0)

    def _note(self, session: PeerSession, heartbeats: HeartbeatClient) -> None:
        self._entry.traffic(
            PeerTraffic(
                address=self._address,
                received_bytes=session.received_bytes,
                sent_bytes=session.sent_bytes,
                round_trip=heartbeats.round_trip,
                epoch=session.epoch,
            )
        )
