"""CAs on disk for tests: two and three levels, EC and RSA, with a clock that the test turns."""

import datetime as dt
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peerd.ca import authority, leaf, pem
from peerd.ca.bundle import CaBundle, parse_bundle
from peerd.ca.leaf import Issuer
from peerd.ca.pem import CaKey

DAY = 86_400.0
NOW = 1_800_000_000.0  # 2027-01-15; no test reads the real clock


@dataclass
class Turned:
    """A clock that stands still until a test turns it."""

    now: float = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def bundle_of(files: dict[str, bytes], now: float = NOW) -> CaBundle:
    return parse_bundle(files, Path("memory"), now)


def cluster_files(
    root: Issuer, cluster: str = "east", now: float = NOW, **options: object
) -> dict[str, bytes]:
    return authority.make_cluster_ca(root, cluster, now, **options)  # type: ignore[arg-type]


def self_signed_files(now: float = NOW, *, use_rsa: bool = False) -> dict[str, bytes]:
    root = authority.make_root("test", now, use_rsa=use_rsa)
    return authority.cacerts_files(root.certificate, root.key, (), (root.certificate,))


def three_level_files(now: float = NOW, *, use_rsa: bool = False) -> dict[str, bytes]:
    """Root, a policy CA, the cluster's CA under it: two intermediates."""
    root = authority.make_root("test", now, use_rsa=use_rsa)
    policy = ca("policy", now, issuer=root, path_length=1, use_rsa=use_rsa)
    cluster = ca("cluster", now, issuer=policy, path_length=0, use_rsa=use_rsa)
    return authority.cacerts_files(
        cluster.certificate, cluster.key, (policy.certificate, root.certificate), (root.certificate,)
    )


def ca(
    name: str,
    now: float = NOW,
    *,
    issuer: Issuer | None = None,
    path_length: int | None = None,
    days: float = 365,
    use_rsa: bool = False,
) -> Issuer:
    key = pem.new_key(use_rsa=use_rsa)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = leaf.sign_ca(
        subject, key, leaf.utc(now), leaf.utc(now + days * DAY), issuer=issuer, path_length=path_length
    )
    return Issuer(certificate, key)


def csr(key: CaKey | None = None, *, common_name: str = "", uri: str = "") -> str:
    """A request as ztunnel makes it: P-256, empty subject, one URI SAN."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if uri:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def openssl_verify(chain: tuple[str, ...], now: float, *, purpose: str) -> None:
    """`openssl verify` of a CreateCertificate answer, strict, for *purpose* (sslclient or sslserver)."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command on this machine")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, content in (("leaf", chain[0]), ("roots", chain[-1]), ("middle", "".join(chain[1:-1]))):
            (directory / file).write_text(content)
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(now))]
        command += ["-CAfile", str(directory / "roots"), "-untrusted", str(directory / "middle")]
        if len(chain) == 2:
            del command[-2:]
        done = subprocess.run(
            [*command, str(directory / "leaf")], capture_output=True, text=True, check=False, timeout=30
        )
    assert done.returncode == 0, done.stdout + done.stderr


def revocations(issuer: Issuer) -> bytes:
    """An empty revocation list of the root."""
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + dt.timedelta(days=1))
        .sign(issuer.key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
