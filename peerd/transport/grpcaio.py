"""Server and channel on grpc.aio: the ztunnel port and the CA (decision D2).

Its TLS server either demands a client certificate or does not ask for one, and tells nothing of the chain, so
this one never asks: `certificate` is always None here, and peers have another transport.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Read once, when grpc is imported: the event engine's listener costs a third more CPU per message
# (measured with 1,000 connections), and threads that fork nothing need no fork handlers.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener,-event_engine_client")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

from peerd.limits import REQUEST_BYTES, TOKEN_BYTES, hit
from peerd.transport.base import Handler, PeerCertificate, StatusCode, StreamClosed
from peerd.transport.pace import Pace, paced
from peerd.transport.tls import TlsSource

log = logging.getLogger(__name__)

_STATUS = {
    code: grpc_code for grpc_code in grpc.StatusCode for code in StatusCode if code == grpc_code.value[0]
}
_OURS = {grpc_code: code for code, grpc_code in _STATUS.items()}


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Settings of one listener or channel; times in seconds.

    `max_message` bounds what is received: reconnecting ztunnels send every name they hold (§1.4). A server
    refuses by itself what is up to a quarter larger, and can say so and count it; beyond that gRPC does.
    A connection older than `max_age` (with 10 % jitter) is told to go away and has `age_grace` to do so, as
    istiod's chart sets it; 0 = never. `ping_floor` must stay below ztunnel's ping every 30 s (§1.2).
    """

    max_message: int = REQUEST_BYTES.value
    max_age: float = 1800.0
    age_grace: float = 10.0
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    ping_floor: float = 10.0
    max_streams: int = 100_000

    def server_arguments(self) -> list[tuple[str, int]]:
        """As grpc's server takes them."""
        arguments = [
            *self._common(self.max_message + self.max_message // 4),
            # Two servers on one port would share connections at random.
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", self.max_streams),
            # Past 8 KiB gRPC refuses at random, and a token has its own limit.
            ("grpc.max_metadata_size", 2 * TOKEN_BYTES.value),
            # A window that does not grow: one client's large request is read in turn with everybody else's.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 256 * 1024),
            ("grpc.http2.min_ping_interval_without_data_ms", int(self.ping_floor * 1000)),
        ]
        if self.max_age:
            arguments += [
                ("grpc.max_connection_age_ms", int(self.max_age * 1000)),
                ("grpc.max_connection_age_grace_ms", int(self.age_grace * 1000)),
            ]
        return arguments

    def channel_arguments(self) -> list[tuple[str, int]]:
        """As grpc's channel takes them."""
        # A channel of its own, not a connection shared with every other channel to the same address.
        return [*self._common(self.max_message), ("grpc.use_local_subchannel_pool", 1)]

    def _common(self, receive: int) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", receive),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", int(self.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
        ]


_OPTIONS = GrpcOptions()
_AFTER_END = 0.02


class GrpcServer:
    """Listens on `host:port` (port 0: the OS chooses) and runs `handlers[method path]` per stream.

    With `tls` the newest material of the source serves each new connection; without it, plaintext.
    """

    def __init__(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        *,
        tls: TlsSource | None = None,
        options: GrpcOptions = _OPTIONS,
    ) -> None:
        self._address = address
        self._tls = tls
        self._options = options
        self._methods = _Methods(handlers, options.max_message)
        self._server: Any = None

    async def start(self) -> str:
        """Bind and serve; returns `host:port` as bound. Raises OSError where the address is not to be had."""
        server = grpc.aio.server(options=self._options.server_arguments())
        server.add_generic_rpc_handlers((self._methods,))
        try:
            if self._tls is None:
                port = server.add_insecure_port(self._address)
            else:
                port = server.add_secure_port(self._address, _server_credentials(self._tls))
        except RuntimeError as error:
            await server.stop(None)
            raise OSError(f"cannot listen on {self._address}: {error}") from None
        await server.start()
        self._server = server
        return f"{self._address.rpartition(':')[0]}:{port}"

    async def close(self, grace: float) -> None:
        """Rule 8."""
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None


class GrpcChannel:
    """One connection to `host:port`, for clients of the ztunnel port and the CA: benches, tests, the demo.

    With `roots` (PEM) the server's certificate is verified for the host's name, or for `server_name`.
    """

    def __init__(
        self,
        target: str,
        *,
        roots: bytes | None = None,
        server_name: str = "",
        options: GrpcOptions = _OPTIONS,
    ) -> None:
        arguments: list[tuple[str, Any]] = list(options.channel_arguments())
        if server_name:
            arguments.append(("grpc.ssl_target_name_override", server_name))
        self._channel = (
            grpc.aio.insecure_channel(target, options=arguments)
            if roots is None
            else grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options=arguments)
        )
        self._target = target

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> "GrpcClientStream":
        """Open a stream; raises StreamClosed(UNAVAILABLE) where no connection can be made."""
        state = self._channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._target} cannot be reached")
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        sent = dict(metadata or {})
        call = self._channel.stream_stream(method)(metadata=tuple(sent.items()))
        return GrpcClientStream(call, method, sent, self._target)

    async def close(self) -> None:
        """End all streams and the connection; never raises."""
        await self._channel.close()


class GrpcServerStream:
    """The answering end of a stream."""

    __slots__ = ("_context", "_max_message", "_metadata", "_pace", "ended", "method")

    certificate: PeerCertificate | None = None

    def __init__(self, context: Any, method: str, max_message: int, pace: Pace) -> None:
        self._context = context
        self._max_message = max_message
        self._pace = pace
        self._metadata: dict[str, str] | None = None
        self.method = method
        self.ended = False  # the far end went away, or the server's grace is over

    @property
    def metadata(self) -> Mapping[str, str]:
        """Request metadata."""
        if self._metadata is None:
            self._metadata = {
                key.lower(): value
                for key, value in self._context.invocation_metadata()
                if isinstance(value, str)
            }
        return self._metadata

    @property
    def remote(self) -> str:
        """`10.0.0.7:41234`."""
        peer: str = self._context.peer()
        return peer.partition(":")[2].replace("%5B", "[").replace("%5D", "]")

    async def receive(self) -> bytes | None:
        """The next message."""
        try:
            message = await paced(self._pace, self._context.read())
        except asyncio.CancelledError:
            self._raise_if_ended()
            raise
        except _FAILURES as error:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"the stream ended: {error}") from None
        if message is not grpc.aio.EOF:
            received: bytes = message
            if len(received) > self._max_message:
                hit(REQUEST_BYTES)
                raise StreamClosed(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"a message of {len(received)} bytes is over the limit of {self._max_message}",
                )
            return received
        # A cancelled stream reads as one that was half-closed; that it was cancelled comes a moment later,
        # by way of grpc's own thread. `run` then cancels whoever waits here.
        try:
            await asyncio.sleep(_AFTER_END)
        except asyncio.CancelledError:
            self._raise_if_ended()
            raise
        self._raise_if_ended()
        return None

    async def send(self, message: bytes) -> None:
        """Hand over one message."""
        self._raise_if_ended()
        try:
            await self._context.write(message)
        except asyncio.CancelledError:
            self._raise_if_ended()
            raise
        except _FAILURES as error:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"the stream ended: {error}") from None

    def _raise_if_ended(self) -> None:
        if self.ended:
            raise StreamClosed(
                StatusCode.CANCELLED, "the far end went away, or the server is closing"
            ) from None


class GrpcClientStream:
    """The calling end of a stream."""

    certificate: PeerCertificate | None = None

    def __init__(self, call: Any, method: str, metadata: Mapping[str, str], target: str) -> None:
        self._call = call
        self.method = method
        self.metadata = metadata
        self.remote = target

    async def receive(self) -> bytes | None:
        """The next message."""
        message = await self._guard(self._call.read)
        return None if message is grpc.aio.EOF else message

    async def send(self, message: bytes) -> None:
        """Hand over one message."""
        await self._guard(self._call.write, message)

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        await self._guard(self._call.done_writing)

    async def cancel(self) -> None:
        """End the stream at once."""
        self._call.cancel()

    async def _guard(self, operation: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        try:
            return await operation(*arguments)
        except grpc.aio.AioRpcError as error:
            raise StreamClosed(_OURS[error.code()], error.details() or "") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._call.cancelled() and not (task is not None and task.cancelling()):
                raise StreamClosed(StatusCode.CANCELLED, "the stream was cancelled") from None
            raise
        except _FAILURES as error:
            if self._call.done():
                code = await self._call.code()
                raise StreamClosed(_OURS[code], await self._call.details() or "") from None
            raise StreamClosed(StatusCode.UNAVAILABLE, str(error)) from None


_FAILURES = (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method is a stream of bytes both ways; a unary call differs in nothing on the wire."""

    def __init__(self, handlers: Mapping[str, Handler], max_message: int) -> None:
        pace = Pace()
        self._handlers = {
            method: grpc.stream_stream_rpc_method_handler(_behaviour(method, handler, max_message, pace))
            for method, handler in handlers.items()
        }

    def service(self, details: Any) -> Any:
        return self._handlers.get(details.method)


def _behaviour(
    method: str, handler: Handler, max_message: int, pace: Pace
) -> Callable[[Any, Any], Awaitable[None]]:
    async def run(_requests: Any, context: Any) -> None:
        # grpc.aio cancels this task when the far end goes away. The handler has a task of its own, so that it
        # can tell that (StreamClosed) from being cancelled by whoever owns it.
        stream = GrpcServerStream(context, method, max_message, pace)
        task = asyncio.ensure_future(handler(stream))
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            stream.ended = True
            task.cancel()
            await asyncio.wait((task,))
            _log_failure(method, task)
            raise
        code, message = _outcome(method, task)
        if code is not StatusCode.OK:
            await context.abort(_STATUS[code], message)

    return run


def _outcome(method: str, task: asyncio.Future[None]) -> tuple[StatusCode, str]:
    """The status with which a handler ended its stream."""
    if task.cancelled():
        return StatusCode.CANCELLED, "the handler was cancelled"
    error = task.exception()
    if isinstance(error, StreamClosed):
        return error.code, error.message
    if error is None:
        return StatusCode.OK, ""
    _log_failure(method, task)
    return StatusCode.INTERNAL, "internal error"


def _log_failure(method: str, task: asyncio.Future[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, StreamClosed):
        log.error("handler of %s failed", method, exc_info=error)


def _server_credentials(tls: TlsSource) -> Any:
    """Credentials that follow *tls*: grpc asks before each handshake, from a thread of its own."""
    seen = tls.current()

    def configuration() -> Any:
        nonlocal seen
        now = tls.current()
        if now is seen:
            return None
        seen = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(seen), configuration, require_client_authentication=False
    )


def _configuration(material: Any) -> Any:
    return grpc.ssl_server_certificate_configuration([(material.private_key, material.certificate_chain)])
