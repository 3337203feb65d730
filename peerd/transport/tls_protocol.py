"""TLS between a TCP connection and its protocol, for thousands of connections that mostly rest (ADR 15)."""

import asyncio
import ssl
from asyncio import sslproto


class TlsProtocol(sslproto.SSLProtocol):
    """asyncio's TLS, save that it reads 8 KiB at once.

    The most that was ever read in one go stays allocated, twice, for as long as the connection lives. With
    uvloop's own TLS, which reads up to 256 KiB, that is 75 KiB for each peer after its first sync.
    """

    max_size = 8 << 10

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        handshake_timeout: float,
        done: asyncio.Future[None] | None = None,
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            protocol,
            context,
            done,  # type: ignore[arg-type]  # may be None, as asyncio's servers have it
            server_side=server_side,
            server_hostname="",
            ssl_handshake_timeout=handshake_timeout,  # type: ignore[arg-type]  # any number
        )
        self._tcp: asyncio.Transport | None = None
        self._unwanted = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """TCP is there; TLS begins."""
        self._tcp = transport
        super().connection_made(transport)
        if self._unwanted:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """TCP is gone."""
        super().connection_lost(exc)
        self._lost.set()

    async def abort(self) -> None:
        """Cut the TCP connection, in whatever state TLS is, and wait until it is gone."""
        self._unwanted = True
        if self._tcp is not None:
            self._tcp.abort()
        await self._lost.wait()


async def connect(
    protocol: asyncio.Protocol, host: str, port: int, context: ssl.SSLContext, *, handshake_timeout: float
) -> None:
    """Connect *protocol* to `host:port`; returns when the handshake is done, of which it has heard by then.

    Raises:
        OSError: no connection, no handshake (ssl.SSLError), or none in time (ConnectionAbortedError).
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: TlsProtocol(
            protocol, context, server_side=False, handshake_timeout=handshake_timeout, done=done
        ),
        host,
        port,
    )
    try:
        await done
    except BaseException:
        transport.close()
        raise
