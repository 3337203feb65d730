"""A network in one process: latency, bandwidth, cuts in one way or both, connections that break or vanish.

`Fabric` is all of it; `Host` is one machine's view and the `peerd.app.parts.Network` that a peerd is given.
Streams keep the contract of peerd/transport/base.py (tests/conformance/test_transport.py holds them to it).
TLS is replaced by its outcome: each host shows the certificate that its cluster's CA would have issued.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from random import Random

from peerd.transport.base import Handler, PeerCertificate, StatusCode, StreamClosed
from peerd.transport.tls import TlsSource
from tests.simulation.loop import Process, context_of

log = logging.getLogger(__name__)

_WINDOW = 64 * 1024  # bytes under way before `send` waits
_MAX_MESSAGE = 64 * 1024 * 1024
_CONNECT_SECONDS = 10.0  # after which a connection that nobody answers is given up
_NEUTRAL = context_of(None)  # what is under way belongs to no process: it arrives though its sender rests


class Link:
    """One direction between two hosts. A cut one delivers nothing until it is mended, as TCP does."""

    def __init__(self, latency: tuple[float, float] = (0.0, 0.0)) -> None:
        self.latency = latency
        self.bytes_per_second = 0.0  # 0: no limit
        self.cut = False
        self._free_at = 0.0
        self._waiting: list[Callable[[], None]] = []

    def due(self, size: int, now: float, random: Random) -> float:
        """When a message of *size* bytes that is sent now arrives."""
        start = max(now, self._free_at)
        if self.bytes_per_second:
            start += size / self.bytes_per_second
            self._free_at = start
        return start + random.uniform(*self.latency)

    def when_mended(self, go_on: Callable[[], None]) -> None:
        self._waiting.append(go_on)

    def mend(self) -> None:
        self.cut = False
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()


class Fabric:
    """Hosts, links between them, and every open connection.

    Args:
        random: chooses latencies.
        latency: least and most seconds one way, where a link is not given another.
        delivered: told of each message that arrives: from which host, to which, method path, bytes, whether
            it is the answering side's.
    """

    def __init__(
        self,
        random: Random,
        latency: tuple[float, float] = (0.0, 0.0),
        delivered: Callable[[str, str, str, bytes, bool], None] | None = None,
    ) -> None:
        self.random = random
        self.latency = latency
        self.delivered = delivered
        self.servers: dict[str, SimServer] = {}
        self.connections: dict[Connection, None] = {}
        self.keepalive: dict[str, float] = {}  # hosts whose pings find a dead far end, and after how long
        self._links: dict[tuple[str, str], Link] = {}

    def link(self, source: str, target: str) -> Link:
        """The direction from host *source* to host *target*."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link((0.0, 0.0) if source == target else self.latency)
        return found

    def between(self, one: str, other: str) -> list["Connection"]:
        """Open connections between two hosts, whoever dialled."""
        return [each for each in self.connections if {each.client, each.server} == {one, other}]

    def of(self, host: str) -> list["Connection"]:
        """Open connections of a host."""
        return [each for each in self.connections if host in {each.client, each.server}]

    def host_died(self, host: str, *, silently: bool) -> None:
        """A host's process is gone: far ends are told, or with *silently* learn nothing."""
        for name in [name for name, server in self.servers.items() if server.host == host]:
            del self.servers[name]
        for connection in self.of(host):
            connection.vanish(host)
            other = connection.other(host)
            if not silently:
                connection.vanish(other, after=True)
            elif other in self.keepalive:
                asyncio.get_running_loop().call_later(
                    self.keepalive[other], connection.vanish, other, context=_NEUTRAL
                )


class Host:
    """`peerd.app.parts.Network` of one process. Addresses are `host:port`; the host's own name fits any."""

    def __init__(
        self,
        fabric: Fabric,
        name: str,
        process: Process | None = None,
        certificate: PeerCertificate | None = None,
    ) -> None:
        self.fabric = fabric
        self.name = name
        self.process = process
        self.certificate = certificate

    def listen(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        tls: TlsSource | None,  # noqa: ARG002
        max_message: int = _MAX_MESSAGE,
    ) -> "SimServer":
        """Asks nobody for a certificate."""
        return SimServer(self, address, handlers, mutual=False, max_message=max_message)

    def prepare_peers(self) -> None:
        """Nothing has to be imported."""

    def listen_peers(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        tls: TlsSource,  # noqa: ARG002
    ) -> "SimServer":
        """Shows a certificate and sees the caller's."""
        return SimServer(self, address, handlers, mutual=True)

    def connect(
        self,
        host: str,
        port: int,
        tls: TlsSource | None = None,  # noqa: ARG002
    ) -> "SimChannel":
        """A connection, made when the first stream is opened."""
        return SimChannel(self, f"{host}:{port}")


class SimServer:
    """`peerd.transport.base.Server`."""

    def __init__(
        self,
        at: Host,
        address: str,
        handlers: Mapping[str, Handler],
        *,
        mutual: bool,
        max_message: int = _MAX_MESSAGE,
    ) -> None:
        self.host = at.name
        self.process = at.process
        self.certificate = at.certificate if mutual else None
        self.mutual = mutual
        self.max_message = max_message
        self._fabric = at.fabric
        self._address = address
        self._handlers = dict(handlers)
        self._running: dict[asyncio.Task[None], SimStream] = {}
        self._open = False

    async def start(self) -> str:
        """Listen; raises OSError where the address is taken."""
        if self._address in self._fabric.servers:
            raise OSError(98, "the address is taken")
        self._fabric.servers[self._address] = self
        self._open = True
        return self._address

    async def close(self, grace: float) -> None:
        """Rule 8."""
        if not self._open:
            return
        self._open = False
        if self._fabric.servers.get(self._address) is self:
            del self._fabric.servers[self._address]
        if self._running and grace > 0:
            await asyncio.wait(list(self._running), timeout=grace)
        for task, stream in list(self._running.items()):
            stream.finish(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    def accept(self, stream: "SimStream") -> None:
        """A stream arrived: run its handler as a part of this server's process."""
        handler = self._handlers.get(stream.method)
        if not self._open or (self.process is not None and self.process.dead):
            stream.finish(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
        elif handler is None:
            stream.finish(StreamClosed(StatusCode.UNIMPLEMENTED, f"unknown method {stream.method}"))
        else:
            task = asyncio.get_running_loop().create_task(
                _run(handler, stream), context=context_of(self.process)
            )
            self._running[task] = stream
            task.add_done_callback(lambda done: self._running.pop(done, None), context=_NEUTRAL)


class Connection:
    """What streams between a client and a server share; either end may lose it without the other knowing."""

    def __init__(self, fabric: Fabric, client: str, server: str) -> None:
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
            asyncio.get_running_loop().call_later(seconds, self.vanish, host, context=_NEUTRAL)
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


class SimChannel:
    """`peerd.transport.base.Channel`."""

    def __init__(self, at: Host, address: str, max_message: int = _MAX_MESSAGE) -> None:
        self._at = at
        self._address = address
        self._max_message = max_message
        self._connection: Connection | None = None
        self._server: SimServer | None = None

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> "SimStream":
        """Open a stream, over a new connection where there is none."""
        if self._connection is None or not self._connection.usable:
            await self._connect()
        connection, server = self._connection, self._server
        assert connection is not None
        assert server is not None
        fabric, here = self._at.fabric, self._at
        sent = {k.lower(): v for k, v in (metadata or {}).items() if not k.lower().endswith("-bin")}
        client = SimStream(fabric, connection, here.name, method=method, metadata=sent)
        client.certificate, client.most = server.certificate, server.max_message
        far = SimStream(fabric, connection, server.host, method=method, metadata=sent)
        far.certificate, far.most = (here.certificate if server.mutual else None), self._max_message
        far.answering = True
        client.join(far, self._address)
        far.join(client, f"{here.name}:40000")
        connection.streams += [client, far]
        client.post(0, lambda: server.accept(far))
        return client

    async def _connect(self) -> None:
        fabric, here = self._at.fabric, self._at.name
        server = fabric.servers.get(self._address)
        there = server.host if server is not None else self._address.rpartition(":")[0]
        forth, back = fabric.link(here, there), fabric.link(there, here)
        if forth.cut or back.cut:
            await asyncio.sleep(_CONNECT_SECONDS)
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: timed out")
        now = asyncio.get_running_loop().time()
        answered = back.due(64, forth.due(64, now, fabric.random), fabric.random)
        if answered > now:
            await asyncio.sleep(answered - now)
        if forth.cut or back.cut:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: timed out")
        server = fabric.servers.get(self._address)
        if server is None or (server.process is not None and server.process.dead):
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: nobody listens")
        self._server = server
        self._connection = Connection(fabric, here, server.host)

    async def close(self) -> None:
        """End all streams and the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for stream in list(connection.streams):
            if not stream.answering:
                await stream.cancel()
        connection.vanish(connection.client)
        connection.vanish(connection.server, after=True)


class SimStream:
    """Either end of a stream (`peerd.transport.base.ClientStream`)."""

    def __init__(
        self, fabric: Fabric, connection: Connection, host: str, *, method: str, metadata: Mapping[str, str]
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.host = host
        self.certificate: PeerCertificate | None = None
        self.most = _MAX_MESSAGE  # what the far end receives at most
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
        while self._closed is None and self._unread and self._unread + len(message) > _WINDOW:
            await self._changed()
        if self._closed is not None:
            raise StreamClosed(self._closed.code, self._closed.message)
        self._unread += max(1, len(message))
        self.post(len(message), lambda: self._far.arrived(message))

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
            self._fabric.delivered(self._far.host, self.host, self.method, message, self._far.answering)
        self._notify()

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
        asyncio.get_running_loop().call_at(due, self._deliver, context=_NEUTRAL)

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


async def _run(handler: Handler, stream: SimStream) -> None:
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
        stream.finish(closed)
