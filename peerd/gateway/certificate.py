"""A gateway's certificate: the key made here, the certificate asked for by CSR (wire-contract §5.4)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from peerd.ca import leaf, pem
from peerd.encode.certificates import decode_certificate_response, encode_certificate_request
from peerd.encode.frame import DecodeError
from peerd.gateway.settings import GatewaySettings
from peerd.model.certificate import CertificateRequest
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.transport.base import Channel, StreamClosed


class CertificateError(Exception):
    """No certificate was to be had, or not the one that was asked for; the text says why and what to mend."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A leaf with its intermediates, its key, the roots that came with it, all PEM; times in Unix seconds."""

    chain: str
    key: str = field(repr=False)
    roots: str
    not_before: float
    not_after: float

    @property
    def renew_at(self) -> float:
        """At half its life."""
        return self.not_before + (self.not_after - self.not_before) / 2


Ask = Callable[[GatewaySettings], Channel]
"""Opens a connection to the CA, verified by the roots file."""


async def request(settings: GatewaySettings, ask: Ask) -> Identity:
    """Make a key and have it certified as the gateway's account.

    Raises:
        CertificateError: a file cannot be read, the CA refuses or is away, or answers for somebody else.
    """
    key = pem.new_key()
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([leaf.uri_san(str(settings.identity))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    message = encode_certificate_request(
        CertificateRequest(csr.public_bytes(Encoding.PEM).decode(), settings.validity_seconds)
    )
    answer = await _call(settings, ask, message)
    try:
        chain = decode_certificate_response(answer)
    except DecodeError as error:
        raise CertificateError(f"{settings.ca} answers no certificate: {error}") from error
    if len(chain) < 2:
        raise CertificateError(f"{settings.ca} answers {len(chain)} texts, not a certificate and its roots")
    return read_identity("".join(chain[:-1]), pem.write_key(key).decode(), chain[-1], settings)


def read_identity(chain: str, key: str, roots: str, settings: GatewaySettings) -> Identity:
    """Take a certificate for the gateway's, after looking whose it is.

    Raises:
        CertificateError: it is not the gateway's, not this key's, or no certificate at all.
    """
    try:
        certificate = pem.read_certificates(chain.encode())[0]
        matching = pem.spki(certificate) == pem.spki(pem.read_key(key.encode()))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from error
    if not matching:
        raise CertificateError("the certificate is of another key than the one that was made for it")
    if uris != [str(settings.identity)]:
        raise CertificateError(
            f"the certificate names {', '.join(uris) or 'nobody'}, and the Gateway's account is"
            f" {settings.identity}; run the gateway under that account, or annotate the Gateway with"
            " gateway.istio.io/service-account"
        )
    return Identity(
        chain=chain,
        key=key,
        roots=roots,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _token(settings: GatewaySettings) -> str:
    return Path(settings.token_file).read_text("utf-8").strip()


async def _call(settings: GatewaySettings, ask: Ask, message: bytes) -> bytes:
    try:
        token = _token(settings)
        channel = ask(settings)
    except (OSError, ValueError) as error:
        raise CertificateError(f"the token or the roots cannot be read: {error}") from error
    try:
        stream = await channel.open(
            CREATE_CERTIFICATE_METHOD,
            {"authorization": f"Bearer {token}", "clusterid": settings.cluster_id},
        )
        await stream.send(message)
        await stream.half_close()
        answer = await stream.receive()
    except StreamClosed as closed:
        raise CertificateError(f"the CA at {settings.ca} gives no certificate: {closed}") from closed
    finally:
        await channel.close()
    if answer is None:
        raise CertificateError(f"the CA at {settings.ca} ended the call without an answer")
    return answer


def ask_over_grpc(settings: GatewaySettings) -> Channel:
    """`Ask` over the transport of the CA's port.

    Raises:
        OSError: the roots file cannot be read.
    """
    from peerd.transport.grpcaio import GrpcChannel  # dear to import, and nothing else here needs it

    return GrpcChannel(
        settings.ca, roots=Path(settings.roots_file).read_bytes(), server_name=settings.ca_server_name
    )


def expired(identity: Identity, now: float | None = None) -> bool:
    """Whether it no longer proves anything."""
    return identity.not_after <= (time.time() if now is None else now)
