"""One gRPC connection over HTTP/2 on asyncio, the same for both ends: frames by `h2`, streams next door.

What grpclib could not give, and why this exists (ADR 5): a limit on message size before the message is read,
GOAWAY that lets open streams finish, reads that end with the stream instead of cancelling their task.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from peerd.limits import PEER_MESSAGE_BYTES
from peerd.transport.address import join_address
from peerd.transport.base import PeerCertificate, StatusCode, StreamClosed
from peerd.transport.http2_stream import Headers, Http2Stream, mapping, name_of


@dataclass(frozen=True, slots=True)
class Http2Options:
    """Windows and limits, bytes and seconds.

    The connection window is larger than those of all data streams a peer opens, so that a stream nobody reads
    cannot hold up heartbeats (decision D17). `keepalive` is the silence after which a PING is sent,
    `keepalive_timeout` how long its answer may take.
    """

    stream_window: int = 1 << 20
    connection_window: int = 16 << 20
    max_message: int = PEER_MESSAGE_BYTES.value
    max_headers: int = 64 << 10
    max_streams: int = 100
    keepalive: float = 30.0
    keepalive_timeout: float = 20.0
    handshake_timeout: float = 10.0


class Http2Connection(asyncio.Protocol):
    """The protocol of one connection. `accept` is called with each new stream on the server side.

    `made` and `lost` are told of the connection once its handshake is done, and when it is over.
    """

    def __init__(
        self,
        options: Http2Options,
        *,
        identify: Callable[[asyncio.BaseTransport], PeerCertificate | None],
        accept: Callable[[Http2Stream], None] | None,
        made: Callable[["Http2Connection"], None],
        lost: Callable[["Http2Connection"], None],
    ) -> None:
        self.options = options
        self.is_client = accept is None
        self.certificate: PeerCertificate | None = None
        self.remote = "unknown"
        self.going_away = False
        self.failure: StreamClosed | None = None
        self.closed = asyncio.Event()
        self._identify = identify
        self._accept = accept
        self._made = made
        self._lost = lost
        self._streams: dict[int, Http2Stream] = {}
        self._h2 = _Machine(
            H2Configuration(
                client_side=self.is_client, header_encoding="utf-8", validate_inbound_headers=True
            )
        )
        self._transport: asyncio.Transport | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._heard = False
        self._greeted = False
        self._ping_sent = False
        self._socket_full = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Identify the far end, then send our settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._made(self)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            host, port = name[:2]
            self.remote = join_address(host, port)
        try:
            self.certificate = self._identify(transport)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a certificate, its connection ends)
            self.end(StreamClosed(StatusCode.UNAUTHENTICATED, str(error)))
            return
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: self.options.stream_window,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.options.max_headers,
        }
        if not self.is_client:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = self.options.max_streams
        self._h2.initiate_connection()
        self._h2.update_settings(settings)
        self._h2.increment_flow_control_window(
            self.options.connection_window - self._h2.inbound_flow_control_window
        )
        self._flush()
        self._keepalive = asyncio.get_running_loop().call_later(self.options.keepalive, self._check_alive)

    def data_received(self, data: bytes) -> None:
        """Feed the machine, tell the streams."""
        self._heard = self._greeted = True
        try:
            events = self._h2.receive_data(data)
        except H2Error as error:
            self._flush()  # the GOAWAY that says what was wrong
            self.end(StreamClosed(StatusCode.INTERNAL, f"HTTP/2 protocol error: {error}"))
            return
        for event in events:
            self._handle(event)
        self._flush()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._socket_full = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._socket_full = False
        for stream in self._streams.values():
            stream.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every stream with the cause."""
        cause = f": {exc}" if exc is not None else ""
        if self.is_client and self.certificate is not None and not self._greeted:
            # With TLS 1.3 the server judges our certificate after the client believes itself connected.
            cause = f"{cause}, before it said anything: it probably refused our certificate; its log says why"
        self.end(StreamClosed(StatusCode.UNAVAILABLE, f"the connection to {self.remote} was lost{cause}"))
        self.closed.set()
        self._lost(self)

    # What streams (`http2_stream.Wire`), server and channel ask for.

    @property
    def max_message(self) -> int:
        """The largest message to be received, bytes."""
        return self.options.max_message

    def request(self, method: str, authority: str, scheme: str, metadata: Mapping[str, str]) -> Http2Stream:
        """Client side: open a stream. Raises StreamClosed where the connection has ended."""
        if self.failure is not None:
            raise self.failure
        stream_id = self._h2.get_next_available_stream_id()
        headers: Headers = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", method),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata.items(),
        ]
        try:
            self._h2.send_headers(stream_id, headers)
        except H2Error as error:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"no stream can be opened: {error}") from None
        stream = Http2Stream(self, stream_id, method, dict(metadata))
        self._streams[stream_id] = stream
        self._flush()
        return stream

    def room(self, stream_id: int) -> int:
        """How many bytes the stream may send in one frame now."""
        if self._socket_full:
            return 0
        try:
            window = self._h2.local_flow_control_window(stream_id)
        except H2Error:
            return 1 << 14  # the stream is gone: sending tells why
        return min(window, self._h2.max_outbound_frame_size)

    def send_data(self, stream_id: int, data: memoryview) -> None:
        """Send one DATA frame. Raises StreamClosed where the stream is gone."""
        try:
            self._h2.send_data(stream_id, bytes(data))
        except H2Error as error:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"the stream is gone: {error}") from None
        self._flush()

    def send_headers(self, stream_id: int, headers: Headers, *, end: bool) -> None:
        """Send headers or trailers, unless the stream has ended."""
        try:
            self._h2.send_headers(stream_id, headers, end_stream=end)
        except H2Error:
            return
        self._flush()

    def end_stream(self, stream_id: int) -> None:
        """Half-close, unless the stream has ended."""
        try:
            self._h2.end_stream(stream_id)
        except H2Error:
            return
        self._flush()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """RST_STREAM, unless the stream has ended."""
        try:
            self._h2.reset_stream(stream_id, error_code=code)
        except H2Error:
            return
        self._flush()

    def acknowledge(self, stream_id: int, flow: int) -> None:
        """Give *flow* bytes of window back."""
        if flow and self.failure is None:
            self._h2.acknowledge_received_data(flow, stream_id)
            self._flush()

    def release(self, stream: Http2Stream) -> None:
        """Forget a stream that is over."""
        self._streams.pop(stream.id, None)

    def go_away(self) -> None:
        """Tell the far end to open no more streams here; open ones go on."""
        if self._transport is not None and self.failure is None and not self.going_away:
            self.going_away = True
            self._flush()
            self._transport.write(GoAwayFrame(0, last_stream_id=(1 << 31) - 1).serialize())

    def end(self, reason: StreamClosed) -> None:
        """Close the connection; every stream ends with *reason*, the first one given."""
        if self.failure is None:
            self.failure = reason
            if self._keepalive is not None:
                self._keepalive.cancel()
            if self._transport is not None:
                self._transport.close()
        for stream in list(self._streams.values()):
            stream.close(self.failure)

    def abort(self) -> None:
        """Drop the connection without waiting for what is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._request(event)
            case DataReceived(stream_id=stream_id):
                stream = self._streams.get(stream_id or 0)
                if stream is not None:
                    stream.data(event.data, event.flow_controlled_length)
                else:
                    self.acknowledge(event.stream_id, event.flow_controlled_length)
            case WindowUpdated() | RemoteSettingsChanged():
                for stream in self._streams.values():
                    stream.writable.set()
            case ConnectionTerminated():
                self.going_away = True
                if event.error_code:
                    text = (event.additional_data or b"").decode("utf-8", "replace")
                    reason = f"the far end ended the connection ({name_of(event.error_code)}) {text}".strip()
                    self.end(StreamClosed(StatusCode.UNAVAILABLE, reason))
            case ResponseReceived() | TrailersReceived() | StreamEnded() | StreamReset():
                if stream := self._streams.get(event.stream_id):
                    stream.event(event)
            case _:
                pass  # pings are answered by h2, the rest concerns nobody here

    def _request(self, event: RequestReceived) -> None:
        headers = mapping(event.headers)
        metadata = {
            key: value
            for key, value in headers.items()
            if not key.startswith(":") and not key.endswith("-bin") and key not in {"te", "content-type"}
        }
        stream = Http2Stream(self, event.stream_id, headers.get(":path", ""), metadata)
        self._streams[event.stream_id] = stream
        if headers.get(":method") != "POST" or not headers.get("content-type", "").startswith(
            "application/grpc"
        ):
            self.send_headers(event.stream_id, [(":status", "415")], end=True)
            stream.close(StreamClosed(StatusCode.UNKNOWN, "not a gRPC request"))
        elif self._accept is not None:
            self._accept(stream)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _check_alive(self) -> None:
        """Every `keepalive` seconds: PING after silence, and end a connection that answers nothing."""
        delay = self.options.keepalive
        if self._heard:
            self._heard = self._ping_sent = False
        elif self._ping_sent:
            silence = self.options.keepalive + self.options.keepalive_timeout
            self.end(
                StreamClosed(StatusCode.UNAVAILABLE, f"{self.remote} was silent for {silence:.0f} seconds")
            )
            self.abort()
            return
        else:
            self._h2.ping(b"peerd\0\0\0")
            self._flush()
            self._ping_sent = True
            delay = self.options.keepalive_timeout
        self._keepalive = asyncio.get_running_loop().call_later(delay, self._check_alive)


class _Machine(H2Connection):
    """h2's connection, save that a GOAWAY without error leaves open streams alone, as gRPC wants it."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
