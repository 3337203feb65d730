"""Certificates of a test mesh: one root, an intermediate per cluster, leaves with SPIFFE ids."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from peerd.transport.tls import TlsMaterial, public_key_sha256

PEERD = "spiffe://cluster.local/ns/istio-system/sa/peerd"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A CA: self-signed, or signed by another."""

    def __init__(self, name: str, parent: "Authority | None" = None) -> None:
        self.name = name
        self.parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        signer = parent or self
        self.certificate = (
            _builder(name, signer.name)
            .public_key(self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def root(self) -> "Authority":
        return self if self.parent is None else self.parent.root

    @property
    def key_sha256(self) -> str:
        return public_key_sha256(self.certificate)

    def leaf(
        self,
        uri: str = PEERD,
        *,
        days: float = 1.0,
        roots: bytes | None = None,
        valid: tuple[dt.datetime, dt.datetime] | None = None,
    ) -> TlsMaterial:
        """A leaf for *uri*, with this CA's own chain; trusts this CA's root unless told otherwise.

        It is valid from now on for *days*, or from and until what *valid* says.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder("", self.name, days, valid)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        chain = certificate.public_bytes(Encoding.PEM) + (self.pem if self.parent is not None else b"")
        return TlsMaterial(
            certificate_chain=chain,
            private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            roots=self.root.pem if roots is None else roots,
        )


def _builder(
    subject: str, issuer: str, days: float = 1.0, valid: tuple[dt.datetime, dt.datetime] | None = None
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    start, end = valid or (now - dt.timedelta(minutes=5), now + dt.timedelta(days=days))
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject) if subject else x509.Name([]))
        .issuer_name(_name(issuer))
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
