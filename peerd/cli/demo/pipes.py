"""What HBONE is made of: TLS, HTTP/2 and CONNECT streams, each a pipe over another pipe.

A *pipe* is anything with `read`, `write` and `close`, so that an inner tunnel is made of the same parts as
the outer one that it goes through. On h2 and ssl alone.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from hyperframe.frame import Frame, GoAwayFrame

from peerd.transport.tls import TlsError, TlsMaterial, peer_certificate

_CHUNK = 65_536

Accept = Callable[["Tunnel"], Coroutine[Any, Any, None]]
"""What becomes of a tunnel that the far end opens."""


class HboneError(Exception):
    """The request got no answer; the text says where it ended."""


class RefusedError(HboneError):
    """CONNECT was answered with another status than 200."""

    def __init__(self, where: str, authority: str, status: int, reason: str = "") -> None:
        super().__init__(f"{where} answers CONNECT {authority} with {status}{reason and ': '}{reason}")
        self.status = status


class Pipe(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """What came, at least one byte; nothing once the far end has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Send."""
        ...

    async def close(self) -> None:
        """End, and let go of what is beneath; never raises."""
        ...


class SocketPipe:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """`Pipe.read`; raises OSError."""
        return await self._reader.read(_CHUNK)

    async def write(self, data: bytes) -> None:
        """`Pipe.write`; raises OSError."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """`Pipe.close`."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class TlsPipe:
    """TLS over a pipe. `handshake` first; then `uris` is who the far end proved to be."""

    def __init__(self, pipe: Pipe, context: ssl.SSLContext, material: TlsMaterial, *, server: bool) -> None:
        self._pipe = pipe
        self._material = material
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self.uris: tuple[str, ...] = ()

    async def handshake(self) -> None:
        """Raises HboneError where one end refuses the other."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    if not await self._fill():
                        raise HboneError("the connection ended during the TLS handshake") from None
            await self._flush()
            self.uris = peer_certificate(self._tls, self._material).uris
        except (ssl.SSLError, TlsError) as error:
            with contextlib.suppress(OSError, HboneError):
                await self._flush()  # the alert, so that the far end knows
            raise HboneError(f"TLS: {error}") from error

    async def read(self) -> bytes:
        """`Pipe.read`; raises HboneError where the far end refuses us."""
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise HboneError(f"TLS: {error}") from error

    async def write(self, data: bytes) -> None:
        """`Pipe.write`."""
        self._tls.write(data)
        await self._flush()

    async def close(self) -> None:
        """`Pipe.close`."""
        with contextlib.suppress(ssl.SSLError, OSError, HboneError):
            self._tls.unwrap()
        with contextlib.suppress(OSError, HboneError):
            await self._flush()
        await self._pipe.close()

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._pipe.write(data)

    async def _fill(self) -> bool:
        data = await self._pipe.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)


class Http2:
    """One end of HTTP/2 over a pipe, whose streams are CONNECT tunnels. `run` must go on beside them."""

    def __init__(self, pipe: Pipe, *, client: bool, name: str = "") -> None:
        self._pipe = pipe
        self._name = name
        self._state = _Connection(h2.config.H2Configuration(client_side=client))
        self._tunnels: dict[int, Tunnel] = {}
        self._accept: Accept | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = ""
        self._room = asyncio.Event()
        self._state.initiate_connection()
        self._runner: asyncio.Task[None] | None = None

    async def begin(self, accept: Accept | None = None) -> None:
        """Say hello, and take what comes from now on; *accept* handles each tunnel that the far end opens."""
        self._accept = accept
        await self.flush()
        self._runner = asyncio.ensure_future(self._run())

    @property
    def leaving(self) -> bool:
        """Whether the far end takes no further tunnels, or is gone."""
        return bool(self._ended)

    async def finished(self) -> None:
        """Wait for the far end to go."""
        if self._runner is not None:
            await asyncio.wait({self._runner})

    async def connect(self, authority: str, headers: Mapping[str, str]) -> "Tunnel":
        """Open a tunnel.

        Raises:
            RefusedError: the answer is not 200.
            HboneError: there is no answer.
        """
        stream = self._state.get_next_available_stream_id()
        tunnel = self._tunnels[stream] = Tunnel(self, stream, authority, headers)
        self._state.send_headers(
            stream, [(":method", "CONNECT"), (":authority", authority), *headers.items()]
        )
        await self.flush()
        status = await tunnel.answered()
        if status != 200:
            reason = (await tunnel.read()).decode("utf-8", "replace")
            raise RefusedError(self._name, authority, status, reason)
        return tunnel

    async def answer(self, stream: int, status: int) -> None:
        """Answer a tunnel that the far end opened."""
        self._state.send_headers(stream, [(":status", str(status))], end_stream=status != 200)
        await self.flush()

    async def send(self, stream: int, data: bytes) -> None:
        """Send on a tunnel as the far end makes room."""
        while data:
            try:
                room = min(self._state.local_flow_control_window(stream), self._state.max_outbound_frame_size)
                if room > 0:
                    self._state.send_data(stream, data[:room])
                    data = data[room:]
            except h2.exceptions.ProtocolError as error:
                raise HboneError(f"{self._name}: the tunnel is closed: {self._ended or error}") from error
            await self.flush()
            if data and room <= 0:
                self._room.clear()
                await self._room.wait()

    async def end_stream(self, stream: int) -> None:
        """Nothing more will be sent on a tunnel."""
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError, HboneError):
            self._state.end_stream(stream)
            await self.flush()

    async def close(self) -> None:
        """End all tunnels and the connection; never raises."""
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError, HboneError):
            self._state.close_connection()
            await self.flush()
        if self._runner is not None:
            self._runner.cancel()
        for task in (*self._tasks, *([self._runner] if self._runner else [])):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._pipe.close()

    async def flush(self) -> None:
        """Send what h2 has for the far end."""
        data = self._state.data_to_send()
        if data:
            await self._pipe.write(data)

    async def _run(self) -> None:
        try:
            while data := await self._pipe.read():
                for event in self._state.receive_data(data):
                    self._take(event)
                await self.flush()
            self._finish("the far end closed the connection")
        except (OSError, HboneError, h2.exceptions.ProtocolError) as error:
            self._finish(str(error) or type(error).__name__)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                headers = _text(event.headers)
                tunnel = Tunnel(self, event.stream_id or 0, headers.get(":authority", ""), headers)
                self._tunnels[tunnel.stream] = tunnel
                if self._accept is not None:
                    task = asyncio.ensure_future(self._accept(tunnel))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            case h2.events.ResponseReceived():
                self._tunnels[event.stream_id or 0].respond(int(_text(event.headers)[":status"]))
            case h2.events.DataReceived():
                tunnel = self._tunnels[event.stream_id or 0]
                tunnel.feed(event.data or b"")
                self._state.acknowledge_received_data(event.flow_controlled_length or 0, tunnel.stream)
            case h2.events.StreamEnded():
                self._tunnels[event.stream_id or 0].finish("")
            case h2.events.StreamReset():
                code = event.error_code
                name = code.name if isinstance(code, h2.errors.ErrorCodes) else str(code)
                self._tunnels[event.stream_id or 0].finish(f"reset: {name}")
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._room.set()
            case h2.events.ConnectionTerminated():
                self._ended = self._ended or "sent away by GOAWAY"

    def _finish(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._room.set()
        for tunnel in self._tunnels.values():
            tunnel.finish(self._ended)


class Tunnel:
    """One CONNECT stream, a pipe; `authority` and `headers` as they were asked."""

    def __init__(self, http: Http2, stream: int, authority: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self.stream = stream
        self.authority = authority
        self.headers = headers
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._ended: str | None = None
        self._status = 0

    async def answered(self) -> int:
        """The status of the answer. Raises HboneError where the tunnel ended without one."""
        while not self._status:
            if self._ended is not None:
                raise HboneError(f"no answer to CONNECT {self.authority}: {self._ended or 'ended'}")
            self._changed.clear()
            await self._changed.wait()
        return self._status

    async def accept(self, status: int = 200) -> None:
        """Answer it."""
        await self._http.answer(self.stream, status)

    async def read(self) -> bytes:
        """`Pipe.read`; raises HboneError where the tunnel was reset."""
        while not self._buffer and self._ended is None:
            self._changed.clear()
            await self._changed.wait()
        if not self._buffer and self._ended:
            raise HboneError(f"tunnel to {self.authority}: {self._ended}")
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    async def write(self, data: bytes) -> None:
        """`Pipe.write`."""
        await self._http.send(self.stream, data)

    async def close(self) -> None:
        """`Pipe.close`; the connection beneath goes on."""
        await self._http.end_stream(self.stream)

    def respond(self, status: int) -> None:
        """The answer came."""
        self._status = status
        self._changed.set()

    def feed(self, data: bytes) -> None:
        """Data came."""
        self._buffer += data
        self._changed.set()

    def finish(self, reason: str) -> None:
        """Nothing more comes; *reason* is empty where that is as it should be."""
        if self._ended is None:
            self._ended = reason
        self._changed.set()


class _Connection(h2.connection.H2Connection):
    """h2's, save that a GOAWAY leaves open streams alone: who drains sends one and serves them on."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


def _text(headers: Iterable[tuple[bytes, bytes]] | None) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers or ()}
