"""The HTTP listener: `/ready` and `/metrics` for anyone, `/debug/…` for who may (decision D42).

A responder of our own, because a framework would triple the time to ready: GET and HEAD, no request bodies,
one answer per connection, everything bounded.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from peerd import __version__, limits
from peerd.transport.address import join_address
from peerd.transport.listening import stop_listening


class Answer(NamedTuple):
    """A response: status, media type, body."""

    status: HTTPStatus
    media_type: str
    body: bytes


Ready = Callable[[], str]
"""Why peerd is not ready; empty once it is."""
Authorise = Callable[[Mapping[str, str], str], Awaitable[str]]
"""Called with request headers (lower case) and the caller's address; why it is refused, or empty."""
Views = Mapping[str, Callable[[], object]]
"""Debug views by name: what `/debug/<name>` gives, or an awaitable of it, as msgspec can put into JSON."""


def text(status: HTTPStatus, message: str) -> Answer:
    """One line of plain text."""
    return Answer(status, "text/plain; charset=utf-8", f"{message}\n".encode())


class HttpServer:
    """Serves health, metrics and debug views on one address.

    Args:
        host: the address to bind; empty for all interfaces.
        port: the port, 0 for any.
        ready: tells readiness.
        metrics: renders the metrics; called only when they are asked for.
        views: the debug views.
        authorise: decides about `/debug`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ready: Ready,
        metrics: Callable[[], bytes],
        views: Views,
        authorise: Authorise,
    ) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._metrics = metrics
        self._views = views
        self._authorise = authorise
        self._server: asyncio.Server | None = None
        self._closing = False
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Bind and serve; returns `host:port` as bound. Raises OSError where the address is not to be had."""
        self._server = await asyncio.start_server(
            self._accept, self._host or None, self._port, limit=limits.HTTP_HEADER_BYTES.value
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        return join_address(host, port)

    async def close(self) -> None:
        """Stop accepting and end what is open."""
        self._closing = True
        if self._server is not None:
            await stop_listening(self._server)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (asyncio runs this in a task)
        self._connections.add(task)
        try:
            if len(self._connections) > limits.HTTP_CONNECTIONS.value:
                limits.hit(limits.HTTP_CONNECTIONS)
                return
            answer, head = await self._converse(reader, writer)
            writer.write(_encode(answer, head=head))
            async with asyncio.timeout(limits.HTTP_SECONDS.value):
                await writer.drain()
        except TimeoutError:
            limits.hit(limits.HTTP_SECONDS)
            return  # it never finished its request, or does not read the answer
        except (OSError, EOFError):
            return  # the caller went away
        except asyncio.CancelledError:
            if not self._closing:
                raise
            return  # asyncio 3.11 logs a cancelled connection as an error, and nobody waits for this task
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Answer, bool]:
        try:
            async with asyncio.timeout(limits.HTTP_SECONDS.value):
                raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            limits.hit(limits.HTTP_HEADER_BYTES)
            return text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request headers too large"), False
        try:
            method, target, headers = _parse(raw)
        except ValueError as error:
            return text(HTTPStatus.BAD_REQUEST, f"bad request: {error}"), False
        peer = writer.get_extra_info("peername")
        return await self._answer(method, target, headers, str(peer[0]) if peer else ""), method == "HEAD"

    async def _answer(self, method: str, target: str, headers: Mapping[str, str], address: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
        first, _, rest = urlsplit(target).path.strip("/").partition("/")
        if first == "debug":
            refused = await self._authorise(headers, address)
            return text(HTTPStatus.UNAUTHORIZED, refused) if refused else await self._view(rest)
        return self._open("/".join(filter(None, (first, rest))))

    def _open(self, path: str) -> Answer:
        """What anyone may ask for."""
        if path == "ready":
            reason = self._ready()
            return text(HTTPStatus.SERVICE_UNAVAILABLE, reason) if reason else text(HTTPStatus.OK, "ready")
        if path == "metrics":
            return Answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self._metrics())
        if path == "version":
            return text(HTTPStatus.OK, __version__)
        return text(HTTPStatus.NOT_FOUND, "not found; there are /ready, /metrics, /version and /debug")

    async def _view(self, name: str) -> Answer:
        if not name:
            return _json(sorted(self._views))
        view = self._views.get(name)
        if view is None:
            return text(HTTPStatus.NOT_FOUND, f"no such view; there are {', '.join(sorted(self._views))}")
        value = view()
        return _json(await value if inspect.isawaitable(value) else value)


def _json(value: object) -> Answer:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return Answer(HTTPStatus.OK, "application/json", body + b"\n")


def _parse(raw: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers of a request head; raises ValueError."""
    lines = raw[:-4].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
        raise ValueError("no HTTP/1 request line")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError("a header line without a name")
        headers[name.lower()] = value.strip()
    return parts[0], parts[1], headers


def _encode(answer: Answer, *, head: bool) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.media_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    )
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head else answer.body)
