"""Certificates and keys as PEM, read strictly: a truncated file is an error, never a shorter list."""

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MIN_RSA_BITS = 2048
CURVE_NAMES = frozenset({ec.SECP256R1.name, ec.SECP384R1.name, ec.SECP521R1.name})


class PemError(ValueError):
    """What is wrong with a PEM text, without the file's name, which the caller knows."""


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of *pem*, in order; an empty text gives none.

    Raises:
        PemError: text that is no PEM, a block cut short, or a certificate that cannot be parsed.
    """
    begun, ended = pem.count(b"-----BEGIN CERTIFICATE-----"), pem.count(b"-----END CERTIFICATE-----")
    if begun != ended:
        raise PemError(f"a certificate is cut short: {begun} begin and {ended} end")
    if not begun:
        if pem.strip():
            raise PemError("holds no PEM certificate")
        return ()
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise PemError(f"holds a certificate that cannot be parsed: {error}") from error
    if len(found) != begun:
        raise PemError(f"holds {begun} certificates of which {len(found)} can be read")
    return found


def read_key(pem: bytes) -> CaKey:
    """The private key of *pem*: EC on P-256, P-384 or P-521, or RSA of 2048 bits or more.

    Raises:
        PemError: anything else, encrypted keys included.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise PemError("holds an encrypted key; store it without a passphrase") from error
    except ValueError as error:
        raise PemError(f"holds no private key that can be read: {error}") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVE_NAMES:
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    raise PemError(
        f"holds a key that is neither EC (P-256, P-384, P-521) nor RSA of at least {MIN_RSA_BITS} bits"
    )


def write_certificates(*certificates: x509.Certificate) -> bytes:
    """PEM of *certificates*, in order."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def write_key(key: CaKey) -> bytes:
    """Unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_key(*, use_rsa: bool = False) -> CaKey:
    """A fresh private key: EC P-256, or RSA 2048."""
    if use_rsa:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def spki(owner: x509.Certificate | CaKey) -> bytes:
    """DER SubjectPublicKeyInfo of a certificate, or of a private key's public half."""
    return owner.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def name_of(certificate: x509.Certificate) -> str:
    """The subject for messages; a certificate without one is told by its serial number."""
    return certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"
