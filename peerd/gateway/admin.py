"""Envoy's admin interface, on a socket in its directory: whether it is up, and how it goes away."""

import asyncio
import contextlib
from pathlib import Path

from peerd.gateway.bootstrap import ADMIN_SOCKET

_ANSWER_S = 5.0
_HEADERS = "Host: admin\r\nConnection: close\r\nContent-Length: 0\r\n"
_TUNNELS = "http.hbone.downstream_rq_active"
_STREAMS = "tcp.peers.downstream_cx_active"


class AdminError(Exception):
    """Envoy does not answer, or refuses."""


async def ask(directory: Path, method: str, path: str) -> str:
    """The body of Envoy's answer.

    Raises:
        AdminError: nobody answers within seconds, or not with 200.
    """
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(str(directory / ADMIN_SOCKET))
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\n{_HEADERS}\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        reason = str(error) or "timeout"
        raise AdminError(f"Envoy does not answer on {directory / ADMIN_SOCKET}: {reason}") from error
    status = head.partition(b"\r\n")[0].decode("latin-1")
    if " 200 " not in status:
        raise AdminError(f"Envoy refuses {path}: {status}")
    return (body if b"chunked" not in head.lower() else _unchunked(body)).decode("utf-8", "replace")


async def drain(directory: Path, notice: float, seconds: float) -> None:
    """Send away whoever comes, and wait until what is there has ended, at most *seconds*.

    Probes fail from now on, and callers are told to open their next tunnel elsewhere (GOAWAY). Who comes none
    the less within *notice* seconds is served: a load balancer has yet to notice. Tunnels that are open go
    on, and so does Envoy until it is told to end.

    Raises:
        AdminError: Envoy does not answer.
    """
    await ask(directory, "POST", "/healthcheck/fail")
    await ask(directory, "POST", "/drain_listeners?graceful&skip_exit")
    await asyncio.sleep(min(notice, seconds))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds - notice)):
            while await active(directory):  # noqa: ASYNC110 (Envoy tells nobody)
                await asyncio.sleep(0.1)


async def active(directory: Path) -> int:
    """How many tunnels and streams are open."""
    text = await ask(directory, "GET", f"/stats?filter=^({_TUNNELS}|{_STREAMS})$")
    return sum(int(line.rpartition(":")[2]) for line in text.splitlines() if ":" in line)


async def end(directory: Path) -> None:
    """Tell Envoy to exit. Raises AdminError where it does not answer."""
    await ask(directory, "POST", "/quitquitquit")


def _unchunked(body: bytes) -> bytes:
    found = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        found += rest[:length]
        body = rest[length + 2 :]
    return bytes(found)
