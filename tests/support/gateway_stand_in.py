"""Who answers on the HBONE port of a peer that has no Envoy: enough for a probe of the data plane (D33)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from peerd.transport.tls import FixedTls, TlsMaterial, server_context


@asynccontextmanager
async def gateway_of(shown: TlsMaterial) -> AsyncIterator[int]:
    """A port on loopback where a TLS server shows this certificate, and hangs up."""

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    context = server_context(FixedTls(shown), lambda _refused: None)
    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
