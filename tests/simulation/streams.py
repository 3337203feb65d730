"""Connections and streams of the simulated network (network.py): what is under way, late, lost, half-open.

Streams keep the contract of peerd/transport/base.py (tests/conformance/test_transport.py holds them to it).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple, Protocol

from peerd.transport.base import Handler, PeerCertificate, StatusCode, Stream, StreamClosed
from tests.simulation.loop import context_of

log = logging.getLogger(__name__)

WINDOW = 64 * 1024  # bytes under way before `send` waits
MAX_MESSAGE = 64 * 1024 * 1024
_QUEUE_SECONDS = 60.0
NEUTRAL = context_of(None)  # what is under way belongs to no process: it arrives though its sender rests


class Parcel(NamedTuple):
    """A message on its way from host *source* to host *target*, an `answer` or not, over a connection for
    which the address `dialled` was used, without its port."""

    source: str
    target: str
    method: str
    message: bytes
    answer: bool
    dialled: str


Told = Callable[[Parcel], None]


class Link:
    """One direction between two hosts. A cut one delivers nothing until it is mended, as TCP does."""

    def __init__(self, latency: tuple[float, float] = (0.0, 0.0)) -> None:
        self.latency = latency
        self.bytes_per_second = 0.0  # 0: no limit
        self.window = WINDOW  # bytes that the far end takes before it reads; one message it always does
        self.cut = False
        self._free_at = 0.0
        self._waiting: list[Callable[[], None]] = []

    def due(self, size: int, now: float, random: Random) -> float:
        """When a message of *size* bytes that is sent now arrives."""
        start = max(now, self._free_at)
        if self.bytes_per_second:
            # What waits for a slow link is bounded, as buffers are: a link that is quick again is free soon.
            start = min(start + size / self.bytes_per_second, now + _QUEUE_SECONDS)
            self._free_at = start
        return start + random.uniform(*self.latency)

    def when_mended(self, go_on: Callable[[], None]) -> None:
        self._waiting.append(go_on)

    def mend(self) -> None:
        self.cut = False
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()


class Tamperer(Protocol):
    """Who changes what one host answers another."""

    def __call__(self, method: str, message: bytes) -> bytes:
        """What is sent instead."""
        ...

    def arrived(self, message: bytes) -> None:
        """What was sent, changed or not, has come."""
        ...


class Network(Protocol):
    """What connections need of the network they are in."""

    random: Random
    latency: tuple[float, float]
    connections: "dict[Connection, None]"
    tampered: Mapping[tuple[str, str], Tamperer]
    sent: Told | None
    delivered: Told | None

    def link(self, source: str, target: str) -> Link: ...


class Connection:
    """What streams between a client and a server share; either end may lose it without the other knowing."""

    def __init__(self, fabric: Network, client: str, server: str, address: str) -> None:
        self.address = address  # that the client dialled, without its port
        self.client = client
        self.server = server
        self.streams: list[SimStream] = []
        self._fabric = fabric
        self._gone: set[str] = set()
        fabric.connections[self] = None

    def other(self, host: str) -> str:
        return self.server if host == self.client else self.client

    @property
    def usable(self) -> bool:
        """Whether the client still believes in it."""
        return self.client not in self._gone

    def vanish(self, host: str, *, after: bool = False) -> None:
        """*host* loses it, now or *after* a moment under way; the far end does not learn it from this."""
        if after:
            seconds = self._fabric.random.uniform(*self._fabric.latency)
            asyncio.get_running_loop().call_later(seconds, self.vanish, host, context=NEUTRAL)
            return
        self._gone.add(host)
        for stream in self.streams:
            if stream.host == host:
                stream.lose()
        if len(self._gone) == len({self.client, self.server}):
            self._fabric.connections.pop(self, None)

    def drop(self) -> None:
        """Both ends lose it, each at its own moment."""
        self.vanish(self.client, after=True)
        self.vanish(self.server, after=True)

    def ended(self, stream: "SimStream") -> None:
        """A stream needs no more of it."""
        if stream in self.streams:
            self.streams.remove(stream)


class SimStream:
    """Either end of a stream (`peerd.transport.base.ClientStream`)."""

    def __init__(
        self, fabric: Network, connection: Connection, host: str, *, method: str, metadata: Mapping[str, str]
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.host = host
        self.certificate: PeerCertificate | None = None
        self.most = MAX_MESSAGE  # what the far end receives at most
        self.remote = ""
        self.answering = False
        self._fabric = fabric
        self._connection = connection
        self._inbox: deque[bytes] = deque()
        self._finished = False  # the far end half-closed
        self._closed: StreamClosed | None = None
        self._under_way: deque[tuple[int, Callable[[], None], float]] = deque()
        self._pumping = False
        self._unread = 0  # bytes sent that the far end has not taken
        self._last_due = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    def join(self, far: "SimStream", remote: str) -> None:
        self._far = far
        self._link = self._fabric.link(self.host, far.host)
        self.remote = remote

    async def receive(self) -> bytes | None:
        """Rule 2."""
        while not self._inbox:
            if self._closed is not None and self._closed.code is not StatusCode.OK:
                raise StreamClosed(self._closed.code, self._closed.message)
            if self._closed is not None or self._finished:
                return None
            await self._changed()
        message = self._inbox.popleft()
        self._far.taken(len(message))
        return message

    async def send(self, message: bytes) -> None:
        """Rule 3."""
        if len(message) > self.most:
            closed = StreamClosed(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {len(message)} bytes is larger than the limit of {self.most}",
            )
            self.finish(closed)
        while self._closed is None and self._unread and self._unread + len(message) > self._link.window:
            await self._changed()
        if self._closed is not None:
            raise StreamClosed(self._closed.code, self._closed.message)
        self._unread += max(1, len(message))
        tamper = self._fabric.tampered.get((self.host, self._far.host)) if self.answering else None
        if tamper is not None:
            message = tamper(self.method, message)
        if self._fabric.sent is not None:
            self._fabric.sent(self._parcel(message))
        self.post(len(message), lambda: self._far.arrived(message))

    def burst(self, messages: Sequence[bytes]) -> None:
        """Send several that arrive as one: who reads them finds the second behind the first."""
        self._unread += sum(max(1, len(each)) for each in messages)

        def arrive() -> None:
            for each in messages:
                self._far.arrived(each)

        self.post(sum(map(len, messages)), arrive)

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.post(0, self._far.half_closed)

    async def cancel(self) -> None:
        """End the stream at once."""
        self.finish(StreamClosed(StatusCode.CANCELLED, "the far end went away"))

    # -- called by the network ---------------------------------------------------------------------------

    def finish(self, closed: StreamClosed) -> None:
        """End this side with a status, which the far side learns after everything that was sent."""
        if self._closed is None:
            self._end(closed)
            self.post(0, lambda: self._far.closed_by_far(closed))

    def lose(self) -> None:
        """The connection is gone."""
        self._under_way.clear()
        self._end(StreamClosed(StatusCode.UNAVAILABLE, "the connection was lost"))

    def taken(self, size: int) -> None:
        self._unread -= max(1, size)
        self._notify()

    def arrived(self, message: bytes) -> None:
        if self._closed is not None:
            return
        self._inbox.append(message)
        if self._fabric.delivered is not None:
            self._fabric.delivered(self._far._parcel(message))
        self._notify()

    def _parcel(self, message: bytes) -> Parcel:
        dialled = self._connection.address
        return Parcel(self.host, self._far.host, self.method, message, self.answering, dialled)

    def half_closed(self) -> None:
        self._finished = True
        self._notify()

    def closed_by_far(self, closed: StreamClosed) -> None:
        self._end(closed)

    def post(self, size: int, arrive: Callable[[], None]) -> None:
        """Put something under way, behind what is under way already."""
        now = asyncio.get_running_loop().time()
        due = max(self._last_due, self._link.due(size, now, self._fabric.random))
        self._last_due = due
        self._under_way.append((size, arrive, due))
        self._pump()

    def _pump(self) -> None:
        if self._pumping or not self._under_way:
            return
        self._pumping = True
        if self._link.cut:
            self._link.when_mended(self._mended)
            return
        _, _, due = self._under_way[0]
        asyncio.get_running_loop().call_at(due, self._deliver, context=NEUTRAL)

    def _mended(self) -> None:
        """What was held back goes on its way now."""
        self._pumping = False
        now = asyncio.get_running_loop().time()
        held = list(self._under_way)
        self._under_way.clear()
        self._last_due = now
        for size, arrive, _ in held:
            self._last_due = max(self._last_due, self._link.due(size, now, self._fabric.random))
            self._under_way.append((size, arrive, self._last_due))
        self._pump()

    def _deliver(self) -> None:
        self._pumping = False
        if self._link.cut or not self._under_way:
            self._pump()
            return
        _, arrive, _ = self._under_way.popleft()
        arrive()
        self._pump()

    def _end(self, closed: StreamClosed) -> None:
        if self._closed is None:
            self._closed = closed
            self._connection.ended(self)
            self._notify()

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _changed(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


async def answer(handler: Handler, stream: Stream, finish: Callable[[StreamClosed], None]) -> None:
    closed = StreamClosed(StatusCode.OK)
    try:
        await handler(stream)
    except StreamClosed as raised:
        closed = raised
    except asyncio.CancelledError:
        closed = StreamClosed(StatusCode.CANCELLED, "the handler was cancelled")
        raise
    except Exception:
        log.exception("handler of %s failed", stream.method)
        closed = StreamClosed(StatusCode.INTERNAL, "internal error")
    finally:
        finish(closed)
