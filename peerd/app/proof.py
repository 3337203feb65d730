"""What proves a peerd to peers and gateways: a certificate of its own CA, or beside istiod of istiod's."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from peerd.app.authority import Authority
from peerd.ca.issue import identity_certificate
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic
from peerd.model.identity import SpiffeId
from peerd.serve.own_tls import OwnTls
from peerd.transport.tls import TlsSource

if TYPE_CHECKING:
    from peerd.app.istiod import IstiodIdentity

OtherRoots = Callable[[], Mapping[str, bytes]]


class Proof:
    """Either *authority* or *istiod* is there."""

    def __init__(self, authority: Authority | None, istiod: "IstiodIdentity | None", clock: Clock) -> None:
        self._authority = authority
        self._istiod = istiod
        self._clock = clock

    async def run(self, own: SpiffeId) -> None:
        """Beside istiod keep a certificate for *own*, until cancelled; an authority has its own task."""
        if self._istiod is not None:
            await self._istiod.run(own)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Why there is no new certificate beside istiod."""
        if self._istiod is None or not self._istiod.problem:
            return ()
        text = f"peerd is not certified by istiod: {self._istiod.problem}"
        fix = "see --istiod-addr, --istiod-token-file and --istiod-root-file; peers cannot be reached without"
        return (Diagnostic("Deployment/istiod", "(certificate)", text, fix),)

    async def tls(self, own: SpiffeId, other_roots: OtherRoots = dict) -> TlsSource:
        """The material that proves *own*, once there is some; *other_roots* by trust domain count besides."""
        if self._istiod is not None:
            await self._istiod.certified()
            return self._istiod.tls(own.trust_domain, other_roots)
        authority = self._authority
        assert authority is not None  # noqa: S101 (one of the two)
        return OwnTls(
            lambda: authority.bundle,
            lambda ca, now: identity_certificate(ca, str(own), now),
            self._clock,
            trust_domain=own.trust_domain,
            other_roots=other_roots,
        )
