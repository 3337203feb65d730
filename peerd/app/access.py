"""Who may read `/debug`: the same credentials and the same table as debug types over xDS (decision D42)."""

from collections.abc import Mapping
from dataclasses import dataclass

from peerd.model.types import DEBUG
from peerd.serve.authentication import Authenticate
from peerd.serve.authorisation import Authorisation
from peerd.transport.base import PeerCertificate, StreamClosed


@dataclass(frozen=True, slots=True)
class _Request:
    """An HTTP request as the authenticators see a stream."""

    metadata: Mapping[str, str]
    remote: str
    method: str = "GET /debug"
    certificate: PeerCertificate | None = None

    async def receive(self) -> bytes | None:
        return None

    async def send(self, message: bytes) -> None:
        raise NotImplementedError(f"{len(message)} bytes: HTTP answers are not streams")


class DebugAccess:
    """`peerd.observe.http.Authorise`."""

    def __init__(self, authenticate: Authenticate, authorisation: Authorisation) -> None:
        self._authenticate = authenticate
        self._authorisation = authorisation

    async def __call__(self, headers: Mapping[str, str], address: str) -> str:
        """Why the caller is refused, or empty."""
        try:
            caller = await self._authenticate(_Request(headers, address))
        except StreamClosed as closed:
            return closed.message
        if self._authorisation.allowed(caller, DEBUG):
            return ""
        return self._authorisation.refusal(caller, DEBUG)
