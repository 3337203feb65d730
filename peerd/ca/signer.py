"""From a certificate signing request to the chain that answers it (wire-contract §5.4, checklist 37)."""

from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from peerd import limits
from peerd.ca import leaf, pem
from peerd.ca.bundle import CaBundle
from peerd.ca.leaf import LeafKey
from peerd.limits import CSR_RSA_BITS, hit

DEFAULT_TTL = 24 * 3600
MAX_TTL = 90 * 24 * 3600


class SigningFault(Enum):
    """Whose fault it is that nothing was signed; each has its gRPC status in serve/certificates.py."""

    REQUEST = "csr"
    TTL = "ttl"
    NOT_READY = "ca_not_ready"


class SigningError(Exception):
    """Nothing was signed; the text says why and is safe to send to the caller."""

    def __init__(self, fault: SigningFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def sign_request(bundle: CaBundle, csr: str, identity: str, ttl: int, now: float) -> tuple[str, ...]:
    """Answer one request.

    Of *csr* (PEM) only the public key and the proof that the caller holds it count. *identity* becomes the
    one SAN, as URI. *ttl* is in seconds: 0 or less means 24 hours, more than 90 days is refused, and it never
    outlives the CA. *now* is in Unix seconds.

    Returns:
        PEM texts: the leaf, each intermediate, and last all roots in one.

    Raises:
        SigningError: the request, the lifetime or the CA is at fault.
    """
    public_key = _proven_key(csr)
    certificate = issue(bundle, public_key, [leaf.uri_san(identity)], lifetime(ttl), now)
    return response_chain(bundle, certificate)


def lifetime(ttl: int) -> int:
    """The lifetime that a request for *ttl* seconds gets; raises SigningError above the maximum."""
    if ttl <= 0:
        return DEFAULT_TTL
    if ttl > MAX_TTL:
        raise SigningError(
            SigningFault.TTL,
            f"requested TTL {_hours(ttl)} is greater than the max allowed TTL {_hours(MAX_TTL)}",
        )
    return ttl


def issue(
    bundle: CaBundle, public_key: LeafKey, names: list[x509.GeneralName], seconds: int, now: float
) -> x509.Certificate:
    """Sign a leaf that lives *seconds*, or as long as the CA where that is shorter.

    Raises:
        SigningError: NOT_READY, where the CA has expired.
    """
    end = min(now + seconds, bundle.not_after)
    if end <= now:
        raise SigningError(SigningFault.NOT_READY, "the signing certificate has expired")
    return leaf.sign_leaf(bundle.issuer, public_key, names, leaf.utc(now), leaf.utc(end))


def response_chain(bundle: CaBundle, certificate: x509.Certificate) -> tuple[str, ...]:
    """The answer's list: at least two elements, as ztunnel demands."""
    return (
        pem.write_certificates(certificate).decode("ascii"),
        *bundle.intermediates_text,
        bundle.roots_text,
    )


def _proven_key(csr: str) -> LeafKey:
    limit = limits.CSR_BYTES
    if len(csr) > limit.value:
        limits.hit(limit)
        raise SigningError(SigningFault.REQUEST, f"the request is larger than {limit.value} bytes")
    try:
        request = x509.load_pem_x509_csr(csr.encode("ascii"))
    except ValueError as error:
        raise SigningError(
            SigningFault.REQUEST, "certificate signing request is not properly encoded"
        ) from error
    try:
        public_key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise SigningError(SigningFault.REQUEST, f"the request's key cannot be used: {error}") from error
    if not proven:
        raise SigningError(SigningFault.REQUEST, "the request is not signed by the key it names")
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in pem.CURVE_NAMES:
        return public_key
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size >= pem.MIN_RSA_BITS:
        if public_key.key_size <= CSR_RSA_BITS.value:
            return public_key
        hit(CSR_RSA_BITS)
    raise SigningError(
        SigningFault.REQUEST,
        f"the request's key is neither EC (P-256, P-384, P-521) nor RSA of {pem.MIN_RSA_BITS} to"
        f" {CSR_RSA_BITS.value} bits",
    )


def _hours(seconds: int) -> str:
    """As istiod prints durations: `2160h0m0s`."""
    hours, rest = divmod(seconds, 3600)
    return f"{hours}h{rest // 60}m{rest % 60}s"
