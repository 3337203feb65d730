"""A CA's files: both layouts are read, and whatever does not fit together is refused by file and fault."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from peerd import limits
from peerd.ca import authority, leaf, pem
from peerd.ca.bundle import BundleError, load_bundle
from tests.support import cas
from tests.support.cas import DAY, NOW

Files = dict[str, bytes]


def _write(directory: Path, files: Files) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("use_rsa", [False, True], ids=["ec", "rsa"])
def test_the_cacerts_layout_is_read(tmp_path: Path, use_rsa: bool) -> None:
    """An intermediate: itself is the one intermediate; a copy of the root in the chain file is left out."""
    root = authority.make_root("test", NOW, use_rsa=use_rsa)
    files = cas.cluster_files(root, use_rsa=use_rsa)
    files["cert-chain.pem"] += pem.write_certificates(root.certificate)

    bundle = load_bundle(_write(tmp_path, files), NOW)

    assert bundle.intermediates == (bundle.certificate,)
    assert bundle.roots == (root.certificate,)
    assert bundle.roots_pem == files["root-cert.pem"]


def test_the_layout_of_a_tls_secret_is_read(tmp_path: Path) -> None:
    """tls.crt with its chain, tls.key, ca.crt, as cert-manager writes them."""
    files = cas.three_level_files()
    secret = {
        "tls.crt": files["cert-chain.pem"],
        "tls.key": files["ca-key.pem"],
        "ca.crt": files["root-cert.pem"],
    }

    bundle = load_bundle(_write(tmp_path, secret), NOW)

    assert [pem.name_of(each) for each in bundle.intermediates] == ["CN=cluster", "CN=policy"]


def test_a_root_that_signs_itself_needs_no_chain(tmp_path: Path) -> None:
    """An empty cert-chain.pem is complete where the signing certificate is a root."""
    files = cas.self_signed_files()
    files["cert-chain.pem"] = b""

    bundle = load_bundle(_write(tmp_path, files), NOW)

    assert bundle.is_root
    assert bundle.intermediates == ()


def test_a_revocation_list_is_handed_on(tmp_path: Path) -> None:
    """ca-crl.pem is optional, checked to be one, and kept as it is."""
    root = authority.make_root("test", NOW)
    revocations = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(leaf.utc(NOW))
        .next_update(leaf.utc(NOW + DAY))
        .sign(root.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    files = {**cas.cluster_files(root), "ca-crl.pem": revocations}

    assert load_bundle(_write(tmp_path, files), NOW).crl == revocations
    files["ca-crl.pem"] = b"not a list"
    with pytest.raises(BundleError, match=r"ca-crl\.pem: is no PEM certificate revocation list"):
        load_bundle(_write(tmp_path, files), NOW)


def _without(name: str) -> Callable[[Files], None]:
    return lambda files: files.pop(name) and None


def _foreign_key(files: Files) -> None:
    files["ca-key.pem"] = pem.write_key(pem.new_key())


def _foreign_root(files: Files) -> None:
    files["root-cert.pem"] = pem.write_certificates(authority.make_root("other", NOW).certificate)


def _cut(name: str) -> Callable[[Files], None]:
    def cut(files: Files) -> None:
        files[name] = files[name][: len(files[name]) * 2 // 3]

    return cut


def _second_block_cut(files: Files) -> None:
    files["root-cert.pem"] += cas.self_signed_files()["root-cert.pem"][:200]


def _set(name: str, content: bytes) -> Callable[[Files], None]:
    def put(files: Files) -> None:
        files[name] = content

    return put


def _two_in_one(files: Files) -> None:
    files["ca-cert.pem"] += files["root-cert.pem"]


def _encrypted(files: Files) -> None:
    files["ca-key.pem"] = pem.read_key(files["ca-key.pem"]).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def _odd_key(files: Files) -> None:
    files["ca-key.pem"] = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _both_layouts(files: Files) -> None:
    files["tls.crt"] = files["ca-cert.pem"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_without("ca-key.pem"), "ca-key.pem missing; a CA needs all of"),
        (_without("cert-chain.pem"), "cert-chain.pem missing"),
        (_without("root-cert.pem"), "root-cert.pem missing"),
        (_both_layouts, "holds ca-cert.pem and tls.crt, which belong to different layouts"),
        (_foreign_key, "ca-key.pem: is not the key of ca-cert.pem"),
        (_foreign_root, "cert-chain.pem nor in root-cert.pem"),
        (_cut("ca-cert.pem"), "ca-cert.pem: a certificate is cut short"),
        (_cut("ca-key.pem"), "ca-key.pem: holds no private key that can be read"),
        (_second_block_cut, "root-cert.pem: a certificate is cut short: 2 begin and 1 end"),
        (_set("root-cert.pem", b""), "root-cert.pem: is empty"),
        (_set("root-cert.pem", b"hello"), "root-cert.pem: holds no PEM certificate"),
        (
            _set("root-cert.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "root-cert.pem: holds a certificate that cannot be parsed",
        ),
        (_two_in_one, "ca-cert.pem: holds 2 certificates; leave the signing one"),
        (_encrypted, "ca-key.pem: holds an encrypted key"),
        (_odd_key, "ca-key.pem: holds a key that is neither EC"),
        (_set("root-cert.pem", b"x" * (limits.CA_FILE_BYTES.value + 1)), "root-cert.pem: is larger than"),
    ],
)
def test_a_set_that_does_not_fit_is_refused_by_file_and_fault(
    tmp_path: Path, spoil: Callable[[Files], None], told: str
) -> None:
    """Partial, mismatched, truncated, unreadable: the message names directory, file and fault."""
    files = cas.cluster_files(authority.make_root("test", NOW))
    spoil(files)

    with pytest.raises(BundleError) as caught:
        load_bundle(_write(tmp_path / "east", files), NOW)

    assert told in str(caught.value)
    assert str(tmp_path / "east") in str(caught.value)


def test_an_empty_directory_says_what_belongs_there(tmp_path: Path) -> None:
    """The message names both layouts and the command that writes one."""
    with pytest.raises(
        BundleError, match=r"holds no CA; expected ca-cert\.pem.*tls\.crt.*peerd certs cluster"
    ):
        load_bundle(tmp_path, NOW)


@pytest.mark.parametrize(
    ("moment", "told"),
    [(NOW + 366 * DAY, "expired on"), (NOW - DAY, "is valid from")],
    ids=["expired", "not-yet-valid"],
)
def test_a_ca_out_of_its_time_is_refused(tmp_path: Path, moment: float, told: str) -> None:
    """Of the signing certificate and of one above it, with its dates."""
    directory = _write(tmp_path, cas.three_level_files())

    with pytest.raises(BundleError, match=told):
        load_bundle(directory, moment)


def test_an_expired_root_is_refused_unless_another_stands_for_it(tmp_path: Path) -> None:
    """A root that was renewed with the same key: the renewed one carries the chain."""
    old = cas.ca("root", NOW, days=1)
    cluster = cas.ca("cluster", NOW, issuer=old, path_length=0)
    renewed = leaf.sign_ca(old.certificate.subject, old.key, leaf.utc(NOW), leaf.utc(NOW + 300 * DAY))
    files = authority.cacerts_files(cluster.certificate, cluster.key, (), (old.certificate,))
    directory = _write(tmp_path, files)

    with pytest.raises(BundleError, match=r"root-cert\.pem: 'CN=root' expired"):
        load_bundle(directory, NOW + 2 * DAY)
    (directory / "root-cert.pem").write_bytes(pem.write_certificates(old.certificate, renewed))
    assert len(load_bundle(directory, NOW + 2 * DAY).roots) == 2


def test_what_may_not_sign_is_refused(tmp_path: Path) -> None:
    """No CA, and a root that allows no CA below itself: each has its own refusal."""
    root = cas.ca("root", path_length=0)
    key = ec.generate_private_key(ec.SECP256R1())
    plain = leaf.sign_leaf(
        root, key.public_key(), [leaf.uri_san("spiffe://x")], leaf.utc(NOW), leaf.utc(NOW + DAY)
    )
    files = authority.cacerts_files(plain, key, (), (root.certificate,))

    with pytest.raises(BundleError, match=r"ca-cert\.pem: .* is no CA"):
        load_bundle(_write(tmp_path / "leaf", files), NOW)

    middle = cas.ca("middle", issuer=root)
    files = authority.cacerts_files(middle.certificate, middle.key, (), (root.certificate,))
    with pytest.raises(BundleError, match=r"root-cert\.pem: 'CN=root' allows 0 CAs below itself, but 1"):
        load_bundle(_write(tmp_path / "path", files), NOW)
