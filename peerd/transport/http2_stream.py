"""One gRPC stream over HTTP/2, the same for both ends: messages out of data, statuses out of headers."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import quote, unquote

from h2.errors import ErrorCodes
from h2.events import ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from peerd.limits import PEER_MESSAGE_BYTES, hit
from peerd.transport.base import PeerCertificate, StatusCode, StreamClosed

Headers = list[tuple[str, str]]

_PREFIX = 5  # a gRPC message: compressed flag, four bytes of length
_UNQUOTED = "".join(chr(c) for c in range(0x20, 0x7F) if c != ord("%"))
_OK_HTTP = "200"
# github.com/grpc/grpc: doc/http-grpc-status-mapping.md and PROTOCOL-HTTP2.md
_OF_HTTP = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}
_OF_RESET = {
    ErrorCodes.CANCEL: StatusCode.CANCELLED,
    ErrorCodes.NO_ERROR: StatusCode.CANCELLED,
    ErrorCodes.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCodes.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


class Wire(Protocol):
    """What a stream asks of its connection. Calls for a stream that is over do nothing unless said."""

    is_client: bool
    certificate: PeerCertificate | None
    remote: str

    @property
    def max_message(self) -> int:
        """The largest message to be received, bytes."""

    def room(self, stream_id: int) -> int:
        """How many bytes the stream may send in one frame now."""

    def send_data(self, stream_id: int, data: memoryview) -> None:
        """Send one DATA frame. Raises StreamClosed where the stream is gone."""

    def send_headers(self, stream_id: int, headers: Headers, *, end: bool) -> None:
        """Send headers or trailers."""

    def end_stream(self, stream_id: int) -> None:
        """Half-close."""

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """RST_STREAM."""

    def acknowledge(self, stream_id: int, flow: int) -> None:
        """Give *flow* bytes of window back."""

    def release(self, stream: "Http2Stream") -> None:
        """Forget a stream that is over."""


class Http2Stream:
    """One stream on either end (transport/base.py, rules 1 to 7)."""

    def __init__(self, connection: Wire, stream_id: int, method: str, metadata: Mapping[str, str]) -> None:
        self.id = stream_id
        self._connection = connection
        self._method = method
        self._metadata = metadata
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._buffer = bytearray()
        self._readable = asyncio.Event()
        self.writable = asyncio.Event()
        self._sending = asyncio.Lock()
        self._far_end_done = False
        self._closed: StreamClosed | None = None
        self._status: StreamClosed | None = None
        self._headers_sent = False
        self._ended_here = False

    @property
    def method(self) -> str:
        """The method path."""
        return self._method

    @property
    def metadata(self) -> Mapping[str, str]:
        """Request metadata."""
        return self._metadata

    @property
    def certificate(self) -> PeerCertificate | None:
        """The far end's verified certificate."""
        return self._connection.certificate

    @property
    def remote(self) -> str:
        """The far end's address."""
        return self._connection.remote

    async def receive(self) -> bytes | None:
        """The next message; rule 2."""
        while True:
            self._take_chunks()
            message = self._message()
            if message is not None:
                return message
            if self._closed is not None:
                raise self._closed
            if self._far_end_done:
                if self._buffer:
                    raise StreamClosed(StatusCode.INTERNAL, "the stream ended within a message")
                if self._status is not None:
                    raise self._status
                return None
            self._readable.clear()
            await self._readable.wait()

    async def send(self, message: bytes) -> None:
        """Hand over one message; rule 3."""
        async with self._sending:
            self._start_response()
            await self._write(b"\0" + len(message).to_bytes(4, "big") + message)

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        async with self._sending:
            if self._closed is None and not self._ended_here:
                self._ended_here = True
                self._connection.end_stream(self.id)

    async def cancel(self) -> None:
        """End the stream at once."""
        self._connection.reset(self.id, ErrorCodes.CANCEL)
        self.close(StreamClosed(StatusCode.CANCELLED, "cancelled here"))

    def finish(self, code: StatusCode, message: str) -> None:
        """Server side: end the stream with a status."""
        if self._closed is not None:
            return
        trailers: Headers = [("grpc-status", str(int(code)))]
        if message:
            trailers.append(("grpc-message", quote(message, safe=_UNQUOTED)))
        if not self._headers_sent:
            trailers = [(":status", _OK_HTTP), ("content-type", "application/grpc"), *trailers]
        self._connection.send_headers(self.id, trailers, end=True)
        if not self._far_end_done:
            self._connection.reset(self.id, ErrorCodes.NO_ERROR)
        self.close(StreamClosed(code, message))

    # What the connection tells the stream.

    def event(self, event: ResponseReceived | TrailersReceived | StreamEnded | StreamReset) -> None:
        """What happened to the stream, data apart."""
        match event:
            case ResponseReceived():
                self._response_started(mapping(event.headers))
            case TrailersReceived():
                self._trailers(mapping(event.headers))
            case StreamEnded():
                self._far_end_closed()
            case StreamReset():
                self._reset_by_far_end(event.error_code)

    def _response_started(self, headers: Mapping[str, str]) -> None:
        """Client side: the response's first headers."""
        status = headers.get(":status", "")
        if status != _OK_HTTP:
            code = _OF_HTTP.get(status, StatusCode.UNKNOWN)
            self._status = StreamClosed(code, f"the far end answered HTTP status {status}")
        elif not headers.get("content-type", "").startswith("application/grpc"):
            self._status = StreamClosed(StatusCode.UNKNOWN, "the far end's answer is not gRPC")
        elif "grpc-status" in headers:
            self._trailers(headers)

    def _trailers(self, headers: Mapping[str, str]) -> None:
        """Client side: the status of the whole stream."""
        text = headers.get("grpc-status", "")
        message = unquote(headers.get("grpc-message", ""), errors="replace")
        if text == "0":
            self._status = None
        elif text.isascii() and text.isdigit() and int(text) in StatusCode.__members__.values():
            self._status = StreamClosed(StatusCode(int(text)), message)
        else:
            self._status = StreamClosed(StatusCode.UNKNOWN, f"unknown grpc-status {text!r}: {message}")

    def data(self, chunk: bytes, flow: int) -> None:
        """Bytes arrived; they count against the window until somebody reads them."""
        if self._closed is not None:
            self._connection.acknowledge(self.id, flow)
            return
        self._chunks.append((chunk, flow))
        self._readable.set()

    def _far_end_closed(self) -> None:
        """The far end half-closed."""
        self._far_end_done = True
        if self._connection.is_client and self._closed is None:
            # The status is the end of the whole stream: nothing can be sent any more, what came can be read.
            self._ended_here = True
            self.writable.set()
            self._connection.release(self)
        self._readable.set()

    def close(self, reason: StreamClosed) -> None:
        """Nothing more goes either way; the first reason stands."""
        if self._closed is None:
            self._closed = reason
            self._connection.release(self)
        for _, flow in self._chunks:
            self._connection.acknowledge(self.id, flow)
        self._chunks.clear()
        self._readable.set()
        self.writable.set()

    def _reset_by_far_end(self, code: ErrorCodes | int) -> None:
        """RST_STREAM arrived. After a complete answer it only says that our half is not wanted."""
        if self._far_end_done and self._connection.is_client:
            return
        status = _OF_RESET.get(cast("ErrorCodes", code), StatusCode.INTERNAL)
        self.close(StreamClosed(status, f"the far end reset the stream ({name_of(code)})"))

    def _start_response(self) -> None:
        if self._connection.is_client or self._headers_sent or self._closed is not None:
            return
        self._headers_sent = True
        self._connection.send_headers(
            self.id, [(":status", _OK_HTTP), ("content-type", "application/grpc")], end=False
        )

    def _take_chunks(self) -> None:
        needed = self._needed()
        while self._chunks and len(self._buffer) < needed:
            chunk, flow = self._chunks.popleft()
            self._buffer += chunk
            self._connection.acknowledge(self.id, flow)
            needed = self._needed()

    def _needed(self) -> int:
        if len(self._buffer) < _PREFIX:
            return _PREFIX
        return _PREFIX + int.from_bytes(self._buffer[1:_PREFIX], "big")

    def _message(self) -> bytes | None:
        if len(self._buffer) < _PREFIX:
            return None
        if self._buffer[0]:
            self._refuse(StatusCode.UNIMPLEMENTED, "compressed messages are not supported")
        length = self._needed() - _PREFIX
        if length > self._connection.max_message:
            hit(PEER_MESSAGE_BYTES)
            self._refuse(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes is over the limit of {self._connection.max_message}",
            )
        if len(self._buffer) < _PREFIX + length:
            return None
        message = bytes(self._buffer[_PREFIX : _PREFIX + length])
        del self._buffer[: _PREFIX + length]
        return message

    def _refuse(self, code: StatusCode, message: str) -> None:
        reason = StreamClosed(code, message)
        if self._connection.is_client:
            self._connection.reset(self.id, ErrorCodes.CANCEL)
            self.close(reason)
        else:
            self.finish(code, message)
        raise reason

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._closed is not None:
                raise self._closed
            if self._ended_here:
                raise self._status or StreamClosed(StatusCode.CANCELLED, "the stream has ended")
            room = self._connection.room(self.id)
            if room <= 0:
                self.writable.clear()
                await self.writable.wait()
                continue
            self._connection.send_data(self.id, view[:room])
            view = view[room:]


def mapping(headers: object) -> dict[str, str]:
    """Headers as `h2` gives them; of two with one name the last."""
    return {str(key): str(value) for key, value in cast("Headers", headers or ())}


def name_of(code: ErrorCodes | int | None) -> str:
    """An error code as text."""
    return code.name if isinstance(code, ErrorCodes) else str(code)
