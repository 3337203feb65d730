"""The contract every transport keeps.

A *method path* names what is called (`/package.Service/Method`). A *stream* carries whole messages, bytes in
and bytes out, both ways at once; a unary call is a stream with one message each way. A server runs one
handler per stream, in a task of its own; returning from the handler ends the stream with status OK, raising
`StreamClosed` ends it with that status, any other exception ends it with INTERNAL and is logged.

Rules an implementation keeps (tests/conformance/test_transport.py proves them):

1. Messages arrive whole, in order, or not at all.
2. `receive()` returns None once the far end has half-closed cleanly (or, on the calling end, ended with OK),
   and raises `StreamClosed` with the far end's status (or UNAVAILABLE with the cause) when the stream or its
   connection ended otherwise. What arrived before is received first. A cancelled stream is CANCELLED or
   UNAVAILABLE on the answering end. Both answers repeat for as long as they are asked.
3. `send()` returns when the message was handed to flow control: a far end that does not read makes it wait,
   and at most one message per stream is held in memory here. It raises `StreamClosed` once the stream ended.
4. One task may receive while another sends. Cancelling either leaves no task behind; on the calling end it
   may also end the stream, so whoever wants to stop waiting without that keeps the task and awaits it later.
5. `metadata` holds the request's ASCII metadata, keys in lower case, pseudo headers and binary keys left out.
6. `certificate` is the far end's *verified* certificate, None where none was asked for.
7. A message larger than the configured limit ends the stream with RESOURCE_EXHAUSTED.
8. `Server.close(grace)` stops accepting, tells far ends to go away (GOAWAY), waits up to *grace* seconds for
   handlers to end, then cancels them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class StatusCode(IntEnum):
    """gRPC status codes (github.com/grpc/grpc: doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StreamClosed(Exception):  # noqa: N818 (a close is not always an error)
    """The stream ended with a status; raised by a handler, it ends the stream with it."""

    def __init__(self, code: StatusCode, message: str = "") -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a verified far end proved: its URI SANs, its issuer's key, its end of life.

    `issuer_key_sha256` is the lower-case hex SHA-256 of the DER SubjectPublicKeyInfo of the CA certificate
    that signed the leaf, so that clusters which share a trust domain can be told apart (decision D14).
    `not_after` is in seconds since 1970.
    """

    uris: tuple[str, ...]
    issuer_key_sha256: str
    not_after: float


class Stream(Protocol):
    """One stream, on either end."""

    @property
    def method(self) -> str:
        """The method path."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Request metadata, on both ends."""
        ...

    @property
    def certificate(self) -> PeerCertificate | None:
        """The far end's verified certificate; on the client side known once the stream is open."""
        ...

    @property
    def remote(self) -> str:
        """The far end's address for logs, such as `10.0.0.7:41234`."""
        ...

    async def receive(self) -> bytes | None:
        """The next message, or None after a clean half-close; raises StreamClosed."""
        ...

    async def send(self, message: bytes) -> None:
        """Hand over one message; waits on flow control; raises StreamClosed."""
        ...


class ClientStream(Stream, Protocol):
    """The calling end of a stream."""

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        ...

    async def cancel(self) -> None:
        """End the stream at once; never raises."""
        ...


Handler = Callable[[Stream], Awaitable[None]]


class Server(Protocol):
    """Listens on one address and runs one handler per stream."""

    async def start(self) -> str:
        """Bind and serve; returns `host:port` as bound. Raises OSError where the address is not to be had."""
        ...

    async def close(self, grace: float) -> None:
        """Rule 8."""
        ...


class Channel(Protocol):
    """One connection to a server, made lazily; several streams share it."""

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        """Open a stream; raises StreamClosed(UNAVAILABLE) where no connection can be made."""
        ...

    async def close(self) -> None:
        """End all streams and the connection; never raises."""
        ...
