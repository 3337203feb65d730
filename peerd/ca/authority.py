"""Making CAs: roots, and one intermediate per cluster in the `cacerts` layout (`peerd certs`, the demo)."""

import os
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from peerd.ca import leaf, pem
from peerd.ca.bundle import CACERTS, BundleError
from peerd.ca.leaf import Issuer
from peerd.ca.pem import CaKey, PemError

ROOT_DAYS = 3650
CLUSTER_DAYS = 730
ROOT_FILES = ("root-cert.pem", "root-key.pem")

_DAY = 86_400
_MADE_BY = "`peerd certs root` makes it"


class AlreadyThereError(Exception):
    """A file that would be overwritten; nothing was written."""


def make_root(organization: str, now: float, *, days: int = ROOT_DAYS, use_rsa: bool = False) -> Issuer:
    """A new root that signs itself; its key belongs offline. *now* is in Unix seconds."""
    key = pem.new_key(use_rsa=use_rsa)
    certificate = leaf.sign_ca(
        # Two roots side by side during a rotation must not share a name: verifiers look issuers up by it.
        _subject(organization, f"Root CA {sha256(pem.spki(key)).hexdigest()[:8]}"),
        key,
        leaf.utc(now),
        leaf.utc(now + days * _DAY),
    )
    return Issuer(certificate, key)


def make_cluster_ca(
    root: Issuer, cluster: str, now: float, *, days: int = CLUSTER_DAYS, use_rsa: bool = False
) -> dict[str, bytes]:
    """An intermediate for one cluster, as the four files of `cacerts`, by name.

    It allows no CA below itself, and does not outlive *root*.
    """
    key = pem.new_key(use_rsa=use_rsa)
    end = min(now + days * _DAY, root.certificate.not_valid_after_utc.timestamp())
    if end <= now:
        raise BundleError("the root has expired; make a new one with `peerd certs root`")
    certificate = leaf.sign_ca(
        _subject(_organization(root.certificate), "Intermediate CA", cluster),
        key,
        leaf.utc(now),
        leaf.utc(end),
        issuer=root,
        path_length=0,
    )
    return cacerts_files(certificate, key, (), (root.certificate,))


def cacerts_files(
    certificate: x509.Certificate,
    key: CaKey,
    above: tuple[x509.Certificate, ...],
    roots: tuple[x509.Certificate, ...],
) -> dict[str, bytes]:
    """The four files of Istio's layout; `cert-chain.pem` starts with the signing certificate."""
    contents = (
        pem.write_certificates(certificate),
        pem.write_key(key),
        pem.write_certificates(*roots),
        pem.write_certificates(certificate, *above),
    )
    return dict(zip(CACERTS, contents, strict=True))


def root_files(root: Issuer) -> dict[str, bytes]:
    """The two files of a root."""
    return dict(
        zip(ROOT_FILES, (pem.write_certificates(root.certificate), pem.write_key(root.key)), strict=True)
    )


def load_root(directory: Path) -> Issuer:
    """Read what `root_files` wrote; raises BundleError naming the file."""
    certificate = load_root_certificate(directory)
    certificate_file, key_file = ROOT_FILES
    key = read_key_file(directory / key_file, _MADE_BY)
    if pem.spki(certificate) != pem.spki(key):
        raise BundleError(f"{directory / key_file}: is not the key of {certificate_file}")
    return Issuer(certificate, key)


def load_root_certificate(directory: Path) -> x509.Certificate:
    """The one root certificate in *directory*; raises BundleError naming the file."""
    path = directory / ROOT_FILES[0]
    try:
        found = pem.read_certificates(_read(path, _MADE_BY))
    except PemError as error:
        raise BundleError(f"{path}: {error}") from error
    if len(found) != 1:
        raise BundleError(f"{path}: holds {len(found)} certificates; expected the one root")
    return found[0]


def read_key_file(path: Path, fix: str) -> CaKey:
    """A private key from a file; raises BundleError naming the file, with *fix* where there is none."""
    try:
        return pem.read_key(_read(path, fix))
    except PemError as error:
        raise BundleError(f"{path}: {error}") from error


def _read(path: Path, fix: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}; {fix}") from error


def write_new(directory: Path, files: dict[str, bytes]) -> None:
    """Write *files* into *directory*, making it; only the owner can read them.

    Raises:
        AlreadyThereError: one of them exists; none is written.
        OSError: the directory cannot be written.
    """
    present = [name for name in files if (directory / name).exists()]
    if present:
        raise AlreadyThereError(
            f"{directory}: {', '.join(present)} already there; choose another directory, or move it away"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        _write(directory / name, content)


def replace(path: Path, content: bytes) -> None:
    """Replace one file so that a reader sees the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    _write(temporary, content)
    temporary.replace(path)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _subject(organization: str, role: str, locality: str = "") -> x509.Name:
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, role),
    ]
    if locality:
        names.append(x509.NameAttribute(NameOID.LOCALITY_NAME, locality))
    return x509.Name(names)


def _organization(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else "peerd"
