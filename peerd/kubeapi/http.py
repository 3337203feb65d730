"""An API server over HTTP/1.1: the ApiTransport of production, on aiohttp (ADR 11)."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from peerd import __version__
from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.errors import ApiError
from peerd.limits import API_ANSWER_BYTES, API_LINE_BYTES, hit

_CONNECT_SECONDS = 10.0
_UNAUTHORIZED = 401
_HEADERS = {
    "Accept": "application/json",
    # Compression costs the API server more than a cluster's network does.
    "Accept-Encoding": "identity",
    "User-Agent": f"peerd/{__version__}",
}


class HttpTransport:
    """`peerd.kubeapi.base.ApiTransport`, with credentials that are read again when they are refused."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout: float = 30.0,  # noqa: ASYNC109 (the seam's)
    ) -> Response:
        """`ApiTransport.request`."""
        headers = {**_HEADERS, "Content-Type": content_type} if body else _HEADERS
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS)
        async with self._answer(method, path, query, headers, limits=limits, body=body) as answer:
            pieces, size = [], 0
            async for piece in answer.content.iter_any():
                size += len(piece)
                if size > API_ANSWER_BYTES.value:
                    hit(API_ANSWER_BYTES)
                    raise ApiUnreachableError(f"{method} {path}: more than {API_ANSWER_BYTES.value} bytes")
                pieces.append(piece)
            return Response(answer.status, b"".join(pieces), _retry_after(answer))

    async def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """`ApiTransport.stream`."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        async with self._answer("GET", path, query, _HEADERS, limits=limits) as answer:
            if answer.status != 200:
                body = await answer.content.read(64 * 1024)
                raise ApiError(f"watch {path}", Response(answer.status, body, _retry_after(answer)))
            try:
                async for line in _lines(answer.content.iter_any(), path):
                    yield line
            finally:
                _cut(answer)

    async def close(self) -> None:
        """`ApiTransport.close`."""
        await self._credentials.close()

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        *,
        limits: aiohttp.ClientTimeout,
        body: bytes = b"",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The head of the answer; what breaks while it is read is an ApiUnreachableError too."""

        async def ask() -> aiohttp.ClientResponse:
            return await self._credentials.request(
                method, path, params=query, headers=headers, data=body or None, timeout=limits
            )

        try:
            try:
                answer = await ask()
            except aiohttp.ClientConnectorCertificateError:
                await self._credentials.renew()  # its CA may have been replaced
                answer = await ask()
            if answer.status == _UNAUTHORIZED:
                answer.release()
                await self._credentials.renew()
                answer = await ask()
            async with answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ApiUnreachableError(f"{self._credentials.host}: {reason}") from error


def _cut(answer: aiohttp.ClientResponse) -> None:
    """End the connection of a stream that is left early: at once, not when the far end has said goodbye."""
    connection = answer.connection  # None where it was read to its end
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


async def _lines(pieces: AsyncIterator[bytes], path: str) -> AsyncIterator[bytes]:
    """Whole lines, and at the end what was left of one."""
    begun: list[bytes] = []  # of a line that has not ended
    size = 0
    async for piece in pieces:
        first, *rest = piece.split(b"\n")
        begun.append(first)
        size += len(first)
        if rest:
            line = b"".join(begun)
            *whole, last = rest
            begun, size = [last], len(last)
            if line:
                yield line
            for line in whole:
                if line:
                    yield line
        if size > API_LINE_BYTES.value:
            hit(API_LINE_BYTES)
            raise ApiUnreachableError(f"watch {path}: a line of more than {API_LINE_BYTES.value} bytes")
    line = b"".join(begun)
    if line:
        yield line


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
