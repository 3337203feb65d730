"""Certificates in words, for `peerd certs show` and for messages."""

from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from peerd.ca import pem


def describe(certificate: x509.Certificate, now: float) -> dict[str, str]:
    """What an operator wants to know, in the order to print it. *now* is in Unix seconds.

    `public key sha256` is what `peering.peerd.io/issuer-sha256` pins (decision D14).
    """
    names = _names(certificate)
    return {
        "subject": certificate.subject.rfc4514_string() or "(empty)",
        "issuer": certificate.issuer.rfc4514_string() or "(empty)",
        **({"names": ", ".join(names)} if names else {}),
        "kind": _kind(certificate),
        "key": _key(certificate),
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to "
        f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({_state(certificate, now)})",
        "serial": f"{certificate.serial_number:x}",
        "public key sha256": key_sha256(certificate),
    }


def key_sha256(certificate: x509.Certificate) -> str:
    """Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo."""
    return sha256(pem.spki(certificate)).hexdigest()


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _kind(certificate: x509.Certificate) -> str:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        return "leaf"
    return "root CA" if certificate.subject == certificate.issuer else "intermediate CA"


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits"
    return type(key).__name__


def _state(certificate: x509.Certificate, now: float) -> str:
    left = certificate.not_valid_after_utc.timestamp() - now
    if left < 0:
        return "EXPIRED"
    if certificate.not_valid_before_utc.timestamp() > now:
        return "NOT YET VALID"
    days = int(left // 86_400)
    return f"{days} days left" if days else f"{int(left // 3600)} hours left"
