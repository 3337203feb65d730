"""A stream without a transport: scripted messages in, what was sent kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from peerd.transport.base import PeerCertificate


@dataclass
class FakeStream:
    """One call as a handler sees it."""

    messages: list[bytes] = field(default_factory=list)
    metadata: Mapping[str, str] = field(default_factory=dict)
    certificate: PeerCertificate | None = None
    method: str = "/test/Method"
    remote: str = "10.0.0.7:41234"
    sent: list[bytes] = field(default_factory=list)

    async def receive(self) -> bytes | None:
        return self.messages.pop(0) if self.messages else None

    async def send(self, message: bytes) -> None:
        self.sent.append(message)
