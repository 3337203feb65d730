"""The shape of what is issued: the extensions of a leaf and of a CA (wire-contract §5.4, RFC 5280)."""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from peerd.ca.pem import CaKey

# Far ends' clocks lag: a leaf is valid since two minutes ago, as istiod's are.
BACKDATE = timedelta(minutes=2)

LeafKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: CaKey = field(repr=False)


_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_BOTH_SIDES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_NO_CA = x509.BasicConstraints(ca=False, path_length=None)


def uri_san(identity: str) -> x509.GeneralName:
    """A SPIFFE identity as subject alternative name."""
    return x509.UniformResourceIdentifier(identity)


def host_san(host: str) -> x509.GeneralName:
    """A host as subject alternative name: IP addresses as such, everything else as DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def sign_leaf(
    issuer: Issuer,
    public_key: LeafKey,
    names: list[x509.GeneralName],
    now: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """An ordinary leaf: empty subject, hence a critical SAN; client and server use; never a CA.

    *not_after* is taken as it is: callers clamp it to the end of *issuer*.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(_BOTH_SIDES, critical=False)
        .add_extension(_NO_CA, critical=True)
        .add_extension(authority_key(issuer.certificate), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    return builder.sign(issuer.key, hash_for(issuer.key))


def sign_ca(
    subject: x509.Name,
    key: CaKey,
    now: datetime,
    not_after: datetime,
    *,
    issuer: Issuer | None = None,
    path_length: int | None = None,
) -> x509.Certificate:
    """A CA certificate for *key*; without *issuer* a root that signs itself."""
    public_key = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(authority_key(issuer.certificate), critical=False)
    signing_key = issuer.key if issuer else key
    return builder.sign(signing_key, hash_for(signing_key))


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Names the issuer's key, as the issuer itself does where it says so."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def hash_for(key: CaKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that fits the signing key's strength."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.key_size > 384:
            return hashes.SHA512()
        if key.curve.key_size > 256:
            return hashes.SHA384()
    return hashes.SHA256()


def utc(seconds: float) -> datetime:
    """A moment in Unix seconds as the datetime that certificates take, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC)
