"""The seam to an API server: one request, or one stream of lines.

An implementation adds the server's address, TLS and credentials; nothing above it knows them. Rules:

1. `request` answers with whatever status the server gave; it raises only where there was no answer.
2. `stream` raises before the first line where the status is not 200; its lines carry no line end. It ends
   where the server ended it, and raises `ApiUnreachableError` where the connection broke.
3. Both may be cancelled at any await, and leave no connection behind.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from peerd.model.record import Record


class ApiUnreachableError(Exception):
    """There was no answer: no connection, no TLS, a broken connection, or a time-out. Says which."""


class Response(Record, frozen=True):
    """An answer: HTTP status, body, and the seconds of `Retry-After` (0 where there is none)."""

    status: int
    body: bytes
    retry_after: float = 0.0


class ApiTransport(Protocol):
    """One API server. `path` begins with `/api` or `/apis`; `query` is not yet encoded."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout: float = 30.0,  # noqa: ASYNC109 (part of the request, as in every HTTP client)
    ) -> Response:
        """Ask once; raises ApiUnreachableError."""
        ...

    def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """GET *path*, line by line; raises ApiError (peerd/kubeapi/errors.py) and ApiUnreachableError."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
