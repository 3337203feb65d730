"""Server and channel within one process, for tests and the simulation: no sockets, no threads, no clock.

Bytes are handed over by reference. Flow control holds one message each way, so that a far end that does not
read makes `send` wait at once, which is the strictest a transport may be.
"""

import asyncio
import logging
from collections.abc import Mapping

from peerd.transport.base import Handler, PeerCertificate, StatusCode, StreamClosed

log = logging.getLogger(__name__)

_MAX_MESSAGE = 64 * 1024 * 1024


class MemoryNetwork:
    """Names of servers, in place of addresses."""

    def __init__(self) -> None:
        self.servers: dict[str, MemoryServer] = {}

    def channel(
        self,
        address: str,
        *,
        source: str = "memory",
        certificate: PeerCertificate | None = None,
        max_message: int = _MAX_MESSAGE,
    ) -> "MemoryChannel":
        """A channel to *address* from *source*, which shows *certificate*; receives at most *max_message*."""
        return MemoryChannel(self, address, source, certificate, max_message)


class MemoryServer:
    """Listens under `address` on a network and runs `handlers[method path]` per stream.

    `certificate` is what clients see as this server's. `max_message` bounds what it receives.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        handlers: Mapping[str, Handler],
        *,
        certificate: PeerCertificate | None = None,
        max_message: int = _MAX_MESSAGE,
    ) -> None:
        self.certificate = certificate
        self.max_message = max_message
        self._network = network
        self._address = address
        self._handlers = dict(handlers)
        self._streams: dict[asyncio.Task[None], _Pipe] = {}
        self._open = False

    async def start(self) -> str:
        """Bind; raises OSError where the address is taken."""
        if self._address in self._network.servers:
            raise OSError(f"cannot listen on {self._address}: it is taken")
        self._network.servers[self._address] = self
        self._open = True
        return self._address

    async def close(self, grace: float) -> None:
        """Rule 8."""
        if not self._open:
            return
        self._open = False
        del self._network.servers[self._address]
        if self._streams and grace > 0:
            await asyncio.wait(list(self._streams), timeout=grace)
        for task, pipe in list(self._streams.items()):
            pipe.end(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
            task.cancel()
        if self._streams:
            await asyncio.wait(list(self._streams))

    def accept(self, pipe: "_Pipe") -> None:
        """Run the handler of a new stream."""
        handler = self._handlers.get(pipe.method)
        if handler is None:
            pipe.end(StreamClosed(StatusCode.UNIMPLEMENTED, f"unknown method {pipe.method}"))
            return
        task = asyncio.get_running_loop().create_task(_run(handler, pipe))
        self._streams[task] = pipe
        task.add_done_callback(lambda done: self._streams.pop(done, None))


class MemoryChannel:
    """A channel over a network."""

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        source: str,
        certificate: PeerCertificate | None,
        max_message: int,
    ) -> None:
        self._max_message = max_message
        self._network = network
        self._address = address
        self._source = source
        self._certificate = certificate
        self._pipes: set[_Pipe] = set()

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> "MemoryStream":
        """Open a stream; raises StreamClosed(UNAVAILABLE) where nobody listens."""
        server = self._network.servers.get(self._address)
        if server is None:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: nobody listens")
        sent = {k.lower(): v for k, v in (metadata or {}).items() if not k.lower().endswith("-bin")}
        pipe = _Pipe(method, sent, _Direction(server.max_message), _Direction(self._max_message))
        pipe.server = MemoryStream(pipe, pipe.up, pipe.down, self._certificate, self._source)
        client = MemoryStream(pipe, pipe.down, pipe.up, server.certificate, self._address)
        self._pipes = {p for p in self._pipes if p.closed is None}
        self._pipes.add(pipe)
        server.accept(pipe)
        return client

    async def close(self) -> None:
        """End all streams."""
        for pipe in self._pipes:
            pipe.end(StreamClosed(StatusCode.CANCELLED, "the channel was closed"))
        self._pipes.clear()


class MemoryStream:
    """Either end of a stream."""

    def __init__(
        self,
        pipe: "_Pipe",
        incoming: "_Direction",
        outgoing: "_Direction",
        certificate: PeerCertificate | None,
        remote: str,
    ) -> None:
        self.method = pipe.method
        self.metadata: Mapping[str, str] = pipe.metadata
        self.certificate = certificate
        self.remote = remote
        self._pipe = pipe
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> bytes | None:
        """The next message, also one that arrived before the stream ended."""
        pipe, incoming = self._pipe, self._incoming
        while incoming.message is None:
            if incoming.finished and (pipe.closed is None or pipe.closed.code is StatusCode.OK):
                return None
            if pipe.closed is not None:
                raise StreamClosed(pipe.closed.code, pipe.closed.message)
            await pipe.changed()
        message, incoming.message = incoming.message, None
        pipe.notify()
        return message

    async def send(self, message: bytes) -> None:
        """Hand over one message; waits until the one before was taken."""
        pipe, outgoing = self._pipe, self._outgoing
        if len(message) > outgoing.limit:
            pipe.end(
                StreamClosed(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"a message of {len(message)} bytes is larger than the limit of {outgoing.limit}",
                )
            )
        while pipe.closed is None and outgoing.message is not None:
            await pipe.changed()
        if pipe.closed is not None:
            raise StreamClosed(pipe.closed.code, pipe.closed.message)
        outgoing.message = message
        pipe.notify()

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._outgoing.finished = True
        self._pipe.notify()

    async def cancel(self) -> None:
        """End the stream at once."""
        self._pipe.end(StreamClosed(StatusCode.CANCELLED, "the far end went away"))


class _Direction:
    __slots__ = ("finished", "limit", "message")

    def __init__(self, limit: int) -> None:
        self.message: bytes | None = None
        self.finished = False
        self.limit = limit


class _Pipe:
    """What both ends share."""

    server: MemoryStream

    def __init__(
        self, method: str, metadata: Mapping[str, str], up: "_Direction", down: "_Direction"
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.up = up
        self.down = down
        self.closed: StreamClosed | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def end(self, closed: StreamClosed) -> None:
        """The stream ended; the first reason counts."""
        if self.closed is None:
            self.closed = closed
            self.notify()

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


async def _run(handler: Handler, pipe: _Pipe) -> None:
    closed = StreamClosed(StatusCode.OK)
    try:
        await handler(pipe.server)
    except StreamClosed as raised:
        closed = raised
    except asyncio.CancelledError:
        closed = StreamClosed(StatusCode.CANCELLED, "the handler was cancelled")
        raise
    except Exception:
        log.exception("handler of %s failed", pipe.method)
        closed = StreamClosed(StatusCode.INTERNAL, "internal error")
    finally:
        pipe.down.finished = True
        pipe.end(closed)
