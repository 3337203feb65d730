"""Server and channel over HTTP/2 with Python's TLS, for peers (decision D2, ADR 5)."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from weakref import WeakSet

from peerd.transport.address import join_address, split_address
from peerd.transport.base import Handler, PeerCertificate, StatusCode, StreamClosed
from peerd.transport.http2_connection import Http2Connection, Http2Options
from peerd.transport.http2_stream import Http2Stream
from peerd.transport.listening import stop_listening
from peerd.transport.tls import (
    TlsError,
    TlsMaterial,
    TlsSource,
    client_context,
    peer_certificate,
    server_context,
)
from peerd.transport.tls_protocol import TlsProtocol, connect

log = logging.getLogger(__name__)

_OPTIONS = Http2Options()


class Http2Server:
    """Listens on `host:port` (port 0: the OS chooses) and runs `handlers[method path]` per stream.

    With `tls` every client must show a certificate under its roots; without it, plaintext.
    """

    def __init__(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        *,
        tls: TlsSource | None = None,
        options: Http2Options = _OPTIONS,
    ) -> None:
        self._host, self._port = split_address(address)
        self._handlers = dict(handlers)
        self._tls = tls
        self._options = options
        self._server: asyncio.Server | None = None
        self._connections: set[Http2Connection] = set()
        # Also those whose handshake has not ended, of which no connection has heard.
        self._accepted: WeakSet[TlsProtocol] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Bind and serve; returns `host:port` as bound.

        Raises:
            OSError: the address is not to be had.
            TlsError: the TLS material cannot be used.
        """
        context = server_context(self._tls, self._refused) if self._tls is not None else None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._protocol(context), self._host, self._port
        )
        return join_address(self._host, self._server.sockets[0].getsockname()[1])

    async def close(self, grace: float) -> None:
        """Rule 8: stop accepting, GOAWAY, wait up to *grace* seconds for handlers, then cancel them."""
        if self._server is None:
            return
        await stop_listening(self._server)
        for connection in self._connections:
            connection.go_away()
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in list(self._connections):
            connection.end(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
            await _closed(connection)
        # Bounded: an event loop may give up a connection that it accepted without telling its protocol.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(each.abort() for each in list(self._accepted)))

    @staticmethod
    def _refused(reason: str) -> None:
        log.warning("a client was refused: %s", reason)

    def _protocol(self, context: ssl.SSLContext | None) -> asyncio.BaseProtocol:
        connection = Http2Connection(
            self._options,
            identify=self._identify,
            accept=self._accept,
            made=self._connections.add,
            lost=self._connections.discard,
        )
        if context is None:
            return connection
        timeout = self._options.handshake_timeout
        accepted = TlsProtocol(connection, context, server_side=True, handshake_timeout=timeout)
        self._accepted.add(accepted)
        return accepted

    def _identify(self, transport: asyncio.BaseTransport) -> PeerCertificate | None:
        try:
            return identify(transport, self._tls)
        except TlsError as error:
            self._refused(str(error))
            raise

    def _accept(self, stream: Http2Stream) -> None:
        handler = self._handlers.get(stream.method)
        if handler is None:
            stream.finish(StatusCode.UNIMPLEMENTED, f"unknown method {stream.method}")
            return
        task = asyncio.get_running_loop().create_task(_run(handler, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Http2Channel:
    """One connection to `host:port`, made by the first `open`, made anew by the first one after it ended.

    The server's name is not checked: who it is stands in its certificate, `stream.certificate`, and is for
    the caller to judge (decision D14).
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: TlsSource | None = None,
        options: Http2Options = _OPTIONS,
        connect_timeout: float = 10.0,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._options = options
        self._timeout = connect_timeout
        self._connection: Http2Connection | None = None
        self._connecting = asyncio.Lock()

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> Http2Stream:
        """Open a stream.

        Raises:
            StreamClosed: UNAVAILABLE where no connection can be made, UNAUTHENTICATED where one was made and
                the far end's certificate does not stand.
        """
        async with self._connecting:
            connection = self._connection
            if connection is None or connection.failure is not None or connection.going_away:
                connection = self._connection = await self._connect()
        scheme = "https" if self._tls is not None else "http"
        return connection.request(method, join_address(self._host, self._port), scheme, metadata or {})

    async def close(self) -> None:
        """End all streams and the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.end(StreamClosed(StatusCode.CANCELLED, "the channel was closed"))
        await _closed(connection)

    async def _connect(self) -> Http2Connection:
        target = join_address(self._host, self._port)
        try:
            connection = self._protocol()
            async with asyncio.timeout(self._timeout):
                if self._tls is None:
                    loop = asyncio.get_running_loop()
                    await loop.create_connection(lambda: connection, self._host, self._port)
                else:
                    context = _client_context(self._tls.current())
                    timeout = self._options.handshake_timeout
                    await connect(connection, self._host, self._port, context, handshake_timeout=timeout)
        except (TlsError, ssl.SSLError) as error:
            raise StreamClosed(StatusCode.UNAUTHENTICATED, f"TLS with {target} failed: {error}") from None
        except TimeoutError:
            raise StreamClosed(
                StatusCode.UNAVAILABLE, f"{target} did not answer within {self._timeout:g} s"
            ) from None
        except OSError as error:
            raise StreamClosed(
                StatusCode.UNAVAILABLE, f"{target} cannot be reached: {str(error) or type(error).__name__}"
            ) from None
        if connection.failure is not None:
            raise connection.failure
        return connection

    def _protocol(self) -> Http2Connection:
        return Http2Connection(
            self._options,
            identify=lambda transport: identify(transport, self._tls),
            accept=None,
            made=_nothing,
            lost=_nothing,  # the next `open` sees it
        )


_contexts: list[tuple[TlsMaterial, ssl.SSLContext]] = []


def _client_context(material: TlsMaterial) -> ssl.SSLContext:
    """The context of *material*, made once: a thousand peers dialled share one, 100 KiB each otherwise."""
    for known, context in _contexts:
        if known is material:
            return context
    context = client_context(material)
    _contexts.insert(0, (material, context))
    del _contexts[2:]
    return context


async def _closed(connection: Http2Connection) -> None:
    """Wait until the socket is closed; a far end that does not read cannot be told goodbye by TLS."""
    try:
        # Not `wait_for`: before Python 3.12 it may swallow a cancellation that comes at the wrong moment.
        async with asyncio.timeout(1.0):
            await connection.closed.wait()
    except TimeoutError:
        connection.abort()
        await connection.closed.wait()


def _nothing(_connection: Http2Connection) -> None:
    pass


def identify(transport: asyncio.BaseTransport, tls: TlsSource | None) -> PeerCertificate | None:
    """The far end's certificate, None on plaintext. Raises TlsError where it does not stand."""
    if tls is None:
        return None
    connection = transport.get_extra_info("ssl_object")
    if connection.selected_alpn_protocol() != "h2":
        raise TlsError("the far end does not speak HTTP/2 (ALPN h2)")
    return peer_certificate(connection, tls.current())


async def _run(handler: Handler, stream: Http2Stream) -> None:
    try:
        await handler(stream)
    except StreamClosed as closed:
        stream.finish(closed.code, closed.message)
    except asyncio.CancelledError:
        stream.finish(StatusCode.UNAVAILABLE, "the server is stopping")
        raise
    except Exception:
        log.exception("the handler of %s failed", stream.method)
        stream.finish(StatusCode.INTERNAL, "internal error")
    else:
        stream.finish(StatusCode.OK, "")
