"""TLS for every transport: material, contexts that follow it, and what a far end proved.

Material is whole PEM texts behind a `TlsSource`; nothing keeps a copy, so that a rotated certificate serves
the next handshake and no stream ends because of it (decision D42). Host names are not checked between
control planes: identity is the URI SAN, and who may be meant by it is the caller's business (decision D14).
"""

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peerd.transport.base import PeerCertificate


class TlsError(Exception):
    """Material that cannot be used, or a far end's certificate that is refused; the text says why."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One end's certificate and whom it trusts, all PEM.

    `certificate_chain` is the leaf, then its intermediates; `private_key` the leaf's, unencrypted. `roots`
    are the trust anchors where trust domains are not told apart. Where `roots_by_trust_domain` is not empty
    (our own domain included), a URI SAN counts only under the anchors of the trust domain that it names, so
    that the CA of one domain cannot speak for another.
    """

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    roots: bytes
    roots_by_trust_domain: Mapping[str, bytes] = field(default_factory=dict)

    def all_roots(self) -> bytes:
        """Every anchor, each PEM block once."""
        return b"\n".join(dict.fromkeys((self.roots, *self.roots_by_trust_domain.values())))


class TlsSource(Protocol):
    """Where material comes from. The same object is returned until it changes."""

    def current(self) -> TlsMaterial:
        """The material for the next handshake."""
        ...


@dataclass(frozen=True, slots=True)
class FixedTls:
    """A source that never changes."""

    material: TlsMaterial

    def current(self) -> TlsMaterial:
        """The one material."""
        return self.material


def server_context(source: TlsSource, refused: Callable[[str], None]) -> ssl.SSLContext:
    """A server context that demands a client certificate and follows *source* without a restart.

    TLS 1.3, ALPN h2, no session tickets: a resumed session would skip the verification that a rotation is
    meant to change. Each far end that fails the handshake is told to *refused* with the reason: event loops
    keep it to themselves. Later faulty material is told there too, while the last good one stands.

    Raises:
        TlsError: the present material cannot be loaded.
    """
    following = _Following(source, refused)
    outer = following.context()

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLCertVerificationError as error:
                refused(f"the far end's certificate is refused: {error.verify_message}")
                raise
            except ssl.SSLError as error:
                refused(f"TLS handshake failed: {error.reason or error}")
                raise

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called for every ClientHello, with a server name or without one.
        connection.context = following.context()

    outer.sni_callback = choose
    outer.sslobject_class = Watched
    return outer


def client_context(material: TlsMaterial) -> ssl.SSLContext:
    """A client context for one dial: presents our certificate, verifies the server's chain, no host name.

    Raises:
        TlsError: the material cannot be loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _load(context, material)
    return context


def peer_certificate(connection: ssl.SSLObject | ssl.SSLSocket, material: TlsMaterial) -> PeerCertificate:
    """What the far end of an established connection proved.

    The issuer is read from the chain that OpenSSL *verified*, never from the one the far end sent: what it
    sent may hold certificates that nothing was checked against.

    Raises:
        TlsError: no certificate, a CA certificate as leaf, several URI SANs, or a chain that ends in an
            anchor which does not stand for the trust domain that the leaf names.
    """
    chain = [x509.load_der_x509_certificate(der) for der in _verified_chain(connection)]
    if len(chain) < 2:
        raise TlsError("the far end showed no certificate that a trusted root signed")
    leaf, issuer, anchor = chain[0], chain[1], chain[-1]
    if _is_ca(leaf):
        raise TlsError("the far end's certificate is itself a CA; it must be an ordinary leaf under one")
    uris = _uris(leaf)
    if len(uris) > 1:
        # An X.509 SVID has exactly one; with several, whoever looks for one would miss the others.
        raise TlsError(f"the far end's certificate names several identities: {', '.join(uris)}")
    if material.roots_by_trust_domain:
        for uri in uris:
            _check_anchor(uri, anchor, material)
    return PeerCertificate(
        uris=uris,
        issuer_key_sha256=public_key_sha256(issuer),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def public_key_sha256(certificate: x509.Certificate) -> str:
    """Lower-case hex SHA-256 of the certificate's DER SubjectPublicKeyInfo (decision D14)."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).hexdigest()


class _Following:
    """The context of the newest material that could be loaded."""

    def __init__(self, source: TlsSource, refused: Callable[[str], None]) -> None:
        self._source = source
        self._refused = refused
        self._material: TlsMaterial | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        material = self._source.current()
        if self._context is None or material is not self._material:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.verify_mode = ssl.CERT_REQUIRED
            context.num_tickets = 0
            try:
                _load(context, material)
            except TlsError as error:
                if self._context is None:
                    raise
                self._refused(f"the last good certificate stays: {error}")
                context = self._context
            self._context, self._material = context, material
        return self._context


def _load(context: ssl.SSLContext, material: TlsMaterial) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    # Everything in root-cert.pem is an anchor, as it is for ztunnel, self-signed or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        # As DER: of a PEM text OpenSSL takes what it can read and leaves the rest out silently.
        context.load_verify_locations(cadata=b"".join(_roots_der(material.all_roots())))
        with _as_file(material.certificate_chain + b"\n" + material.private_key) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise TlsError(f"certificate, key or roots cannot be loaded: {error}") from error


def _roots_der(pem: bytes) -> list[bytes]:
    found = x509.load_pem_x509_certificates(pem)
    if len(found) != pem.count(b"-----BEGIN "):
        raise ValueError("a root is cut short or no certificate")
    return [each.public_bytes(Encoding.DER) for each in found]


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read *content*: Python's ssl takes certificates from files only.

    On Linux it is memory that has no name in any directory; elsewhere a file only we can read.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("peerd-tls")
        path = f"/proc/self/fd/{descriptor}"
    else:  # pragma: no cover (not Linux)
        descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield path
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):  # pragma: no cover (not Linux)
            Path(path).unlink()


def _verified_chain(connection: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    if hasattr(connection, "get_verified_chain"):  # Python 3.13 made it public
        chain: list[bytes] = connection.get_verified_chain()
        return chain
    # Until then the same method lives on the object underneath, and gives objects instead of DER.
    inner: Any = connection._sslobj  # type: ignore[union-attr]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_verified_chain() or ()]


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def _check_anchor(uri: str, anchor: x509.Certificate, material: TlsMaterial) -> None:
    domain = urlsplit(uri).netloc
    roots = material.roots_by_trust_domain.get(domain)
    if roots is None:
        raise TlsError(f"no root is known for trust domain {domain!r}, which the far end's {uri!r} names")
    if anchor not in x509.load_pem_x509_certificates(roots):
        raise TlsError(
            f"the far end's {uri!r} was signed under {anchor.subject.rfc4514_string()!r},"
            f" which is no root of trust domain {domain!r}"
        )
