"""peerd's own certificates as TLS sources: renewed at half life, and under a new CA at once (D42)."""

import threading
from collections.abc import Callable, Mapping

import structlog

from peerd.ca.bundle import CaBundle
from peerd.ca.issue import OwnCertificate
from peerd.ca.signer import SigningError
from peerd.model.clock import Clock
from peerd.transport.tls import TlsMaterial

log = structlog.get_logger(__name__)

Issue = Callable[[CaBundle, float], OwnCertificate]


class OwnTls:
    """A TlsSource over a CA that may be rotated.

    *bundle* gives the present CA, *issue* makes a certificate with it (`partial` of the functions in
    ca/issue.py), *other_roots* the roots of other trust domains by name (MeshConfig `caCertificates`), whose
    far ends are then accepted beside those of *trust_domain*. An empty *trust_domain* is for a listener that
    asks for no client certificate: trust domains are not told apart.

    May be called from any thread: grpcio asks from its own.
    """

    def __init__(
        self,
        bundle: Callable[[], CaBundle],
        issue: Issue,
        clock: Clock,
        *,
        trust_domain: str = "",
        other_roots: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self._bundle = bundle
        self._issue = issue
        self._clock = clock
        self._trust_domain = trust_domain
        self._other_roots = other_roots
        self._lock = threading.Lock()
        self._under: CaBundle | None = None
        self._own: OwnCertificate | None = None
        self._material: TlsMaterial | None = None

    def current(self) -> TlsMaterial:
        """The material for the next handshake; the same object until something changed.

        Raises:
            SigningError: there has never been a certificate, and the CA cannot issue one.
        """
        with self._lock:
            own, bundle = self._certificate()
            roots: dict[str, bytes] = {}
            if self._trust_domain:  # our own file alone speaks for our own domain
                roots = {**self._other_roots(), self._trust_domain: bundle.roots_pem}
            material = TlsMaterial(own.certificate_chain, own.private_key, bundle.roots_pem, roots)
            if self._material is None or material != self._material:
                self._material = material
            return self._material

    @property
    def not_after(self) -> float:
        """When the present certificate ends, in Unix seconds."""
        with self._lock:
            return self._certificate()[0].not_after

    def _certificate(self) -> tuple[OwnCertificate, CaBundle]:
        bundle, now = self._bundle(), self._clock.time()
        if self._own is None or bundle is not self._under or now >= self._own.renew_at:
            try:
                self._own = self._issue(bundle, now)
            except SigningError as error:
                if self._own is None:
                    raise
                log.warning("own certificate not renewed, the old one stays", reason=str(error))
            self._under = bundle
        return self._own, bundle
