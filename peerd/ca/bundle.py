"""The CA's files: a signing certificate and its key, the chain above it, the roots that clients trust.

Two layouts are read (wire-contract §5.2): Istio's `cacerts` (`ca-cert.pem`, `ca-key.pem`, `root-cert.pem`,
`cert-chain.pem`, optionally `ca-crl.pem`) and that of a kubernetes.io/tls Secret (`tls.crt`, `tls.key`,
`ca.crt`), as cert-manager writes it. A set that does not fit together is refused as a whole.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from peerd import limits
from peerd.ca import pem
from peerd.ca.leaf import Issuer
from peerd.ca.pem import CaKey, PemError

CACERTS = ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
CRL = "ca-crl.pem"
TLS_SECRET = ("tls.crt", "tls.key", "ca.crt")


class BundleError(ValueError):
    """The files cannot serve as a CA; the text names the file, what is wrong, and the fix."""


@dataclass(frozen=True, slots=True)
class CaBundle:
    """A CA that can sign.

    `certificate` signs with `key`. `intermediates` is the path from `certificate` up to, but without, a root:
    empty where `certificate` is itself a root. `roots` are exactly those of the root file, in its order
    (decision D42). `crl` is handed on as it is, empty where there is none.
    """

    certificate: x509.Certificate
    key: CaKey = field(repr=False, compare=False)  # told by the certificate; key objects do not compare
    intermediates: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    crl: bytes = b""
    source: str = ""
    # PEM of the above, made once: every signature sends them.
    intermediates_text: tuple[str, ...] = field(init=False, repr=False, compare=False)
    roots_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = tuple(pem.write_certificates(each).decode("ascii") for each in self.intermediates)
        object.__setattr__(self, "intermediates_text", texts)
        object.__setattr__(self, "roots_text", pem.write_certificates(*self.roots).decode("ascii"))

    @property
    def issuer(self) -> Issuer:
        """Who signs."""
        return Issuer(self.certificate, self.key)

    @property
    def roots_pem(self) -> bytes:
        """All roots, concatenated."""
        return self.roots_text.encode("ascii")

    @property
    def intermediates_pem(self) -> bytes:
        """What a server sends after its leaf."""
        return "".join(self.intermediates_text).encode("ascii")

    @property
    def is_root(self) -> bool:
        """Whether the signing certificate is a root itself, so that leaves hang directly under it."""
        return not self.intermediates

    @property
    def not_after(self) -> float:
        """When the path that signs stops being valid: the earliest end of its certificates. Unix seconds."""
        path = self.intermediates or (self.certificate,)
        return min(each.not_valid_after_utc.timestamp() for each in path)


def present_layout(directory: Path) -> tuple[str, ...] | None:
    """The files of the layout that *directory* holds any of, or None where it holds nothing of a CA.

    Raises:
        BundleError: files of both layouts.
    """
    cacerts = [name for name in CACERTS if (directory / name).exists()]
    secret = [name for name in TLS_SECRET if (directory / name).exists()]
    if cacerts and secret:
        raise BundleError(
            f"{directory}: holds {cacerts[0]} and {secret[0]}, which belong to different layouts;"
            " remove one of the two sets"
        )
    if cacerts:
        return CACERTS
    return TLS_SECRET if secret else None


def read_files(directory: Path) -> dict[str, bytes]:
    """The bytes of every CA file in *directory*, by name.

    Raises:
        BundleError: no set, a partial set, a file that cannot be read or is larger than any real one.
    """
    layout = present_layout(directory)
    if layout is None:
        raise BundleError(
            f"{directory}: holds no CA; expected {', '.join(CACERTS)} or {', '.join(TLS_SECRET)}"
            " (`peerd certs cluster` writes them)"
        )
    missing = [name for name in layout if not (directory / name).exists()]
    if missing:
        raise BundleError(f"{directory}: {', '.join(missing)} missing; a CA needs all of {', '.join(layout)}")
    wanted = (*layout, CRL) if (directory / CRL).exists() else layout
    return {name: _read(directory / name) for name in wanted}


def load_bundle(directory: Path, now: float) -> CaBundle:
    """Read and check the CA in *directory*. *now* is in Unix seconds.

    Raises:
        BundleError: naming the file and what is wrong.
    """
    return parse_bundle(read_files(directory), directory, now)


def parse_bundle(files: dict[str, bytes], directory: Path, now: float) -> CaBundle:
    """Make a bundle of the files that `read_files` gave; raises BundleError as `load_bundle` does."""
    if CACERTS[0] in files:
        certificate_file, key_file, root_file, chain_file = CACERTS
        signing = _certificates(directory / certificate_file, files[certificate_file])
        if len(signing) > 1:
            raise BundleError(
                f"{directory / certificate_file}: holds {len(signing)} certificates;"
                f" leave the signing one, the others belong in {chain_file}"
            )
        above = _certificates(directory / chain_file, files[chain_file], may_be_empty=True)
    else:
        certificate_file, key_file, root_file = TLS_SECRET
        chain_file = certificate_file
        signing = _certificates(directory / certificate_file, files[certificate_file])
        above = signing[1:]
    roots = _certificates(directory / root_file, files[root_file])
    try:
        key = pem.read_key(files[key_file])
    except PemError as error:
        raise BundleError(f"{directory / key_file}: {error}") from error

    certificate = signing[0]
    if pem.spki(certificate) != pem.spki(key):
        raise BundleError(
            f"{directory / key_file}: is not the key of {certificate_file};"
            " use the pair that belongs together"
        )
    path = _path_to_root(certificate, above, roots)
    if issuer := _missing_issuer(path, roots):
        file = certificate_file if len(path) == 1 else chain_file
        raise BundleError(
            f"{directory / file}: {pem.name_of(path[-1])!r} was issued by {issuer!r}, which is neither in"
            f" {chain_file} nor in {root_file}; add it, or use the files of one CA"
        )
    for depth, each in enumerate(path):
        _check_ca(each, depth, directory / (certificate_file if depth == 0 else chain_file), now)
    _check_root(path, roots, directory / root_file, now)
    if CRL in files:
        _check_crl(directory / CRL, files[CRL])
    return CaBundle(
        certificate=certificate,
        key=key,
        intermediates=tuple(each for each in path if each not in roots),
        roots=roots,
        crl=files.get(CRL, b""),
        source=str(directory),
    )


def _read(path: Path) -> bytes:
    limit = limits.CA_FILE_BYTES
    try:
        with path.open("rb") as file:
            content = file.read(limit.value + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > limit.value:
        limits.hit(limit)
        raise BundleError(f"{path}: is larger than {limit.value} bytes, which no CA file is")
    return content


def _certificates(path: Path, content: bytes, *, may_be_empty: bool = False) -> tuple[x509.Certificate, ...]:
    try:
        found = pem.read_certificates(content)
    except PemError as error:
        raise BundleError(f"{path}: {error}") from error
    if not found and not may_be_empty:
        raise BundleError(f"{path}: is empty; expected a PEM certificate")
    return found


def _path_to_root(
    certificate: x509.Certificate,
    above: tuple[x509.Certificate, ...],
    roots: tuple[x509.Certificate, ...],
) -> tuple[x509.Certificate, ...]:
    """The signing certificate and what is above it, up to the last one below a root, or to a root.

    What a chain file holds beside the path is left out, a copy of the root above all: clients have the roots.
    """
    path = [certificate]
    while path[-1] not in roots and not any(issued(root, path[-1]) for root in roots):
        issuer = next((each for each in above if each not in path and issued(each, path[-1])), None)
        if issuer is None:
            break
        path.append(issuer)
    return tuple(path)


def _missing_issuer(path: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]) -> str:
    """The name of the CA that should be above the path's end, or empty where a root is."""
    last = path[-1]
    if last in roots or any(issued(root, last) for root in roots):
        return ""
    return last.issuer.rfc4514_string() or "a CA without a name"


def issued(issuer: x509.Certificate, below: x509.Certificate) -> bool:
    """Whether *issuer*'s name and key stand under *below*; validity in time is another question."""
    try:
        below.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_ca(certificate: x509.Certificate, below: int, file: Path, now: float) -> None:
    """A CA with *below* CAs between itself and the leaf may sign, today."""
    name = pem.name_of(certificate)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    if not constraints.ca:
        raise BundleError(f"{file}: {name!r} is no CA (basicConstraints CA:TRUE is missing)")
    if constraints.path_length is not None and constraints.path_length < below:
        raise BundleError(
            f"{file}: {name!r} allows {constraints.path_length} CAs below itself, but {below} are in use;"
            " issue it with a longer path length"
        )
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None  # without the extension every use is allowed (RFC 5280 §4.2.1.3)
    if usage is not None and not usage.key_cert_sign:
        raise BundleError(f"{file}: {name!r} may not sign certificates (keyUsage keyCertSign is missing)")
    if now > certificate.not_valid_after_utc.timestamp():
        raise BundleError(
            f"{file}: {name!r} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
        )
    if now < certificate.not_valid_before_utc.timestamp():
        moment = datetime.fromtimestamp(now, UTC)
        raise BundleError(
            f"{file}: {name!r} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
            f" and it is {moment:%Y-%m-%d %H:%M} UTC here; check the clocks"
        )


def _check_root(
    path: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], file: Path, now: float
) -> None:
    """At least one root above the path is good; which of several signed is told by the key, not the name."""
    if path[-1] in roots:
        return
    faults = []
    for root in roots:
        if not issued(root, path[-1]):
            continue
        try:
            _check_ca(root, len(path), file, now)
        except BundleError as fault:
            faults.append(fault)
        else:
            return
    raise faults[0]


def _check_crl(path: Path, content: bytes) -> None:
    blocks = content.split(b"-----BEGIN X509 CRL-----")[1:]
    try:
        if not blocks:
            raise ValueError("no block BEGIN X509 CRL")  # noqa: TRY301 (told like those of the library)
        for block in blocks:
            x509.load_pem_x509_crl(b"-----BEGIN X509 CRL-----" + block)
    except ValueError as error:
        raise BundleError(f"{path}: is no PEM certificate revocation list: {error}") from error
