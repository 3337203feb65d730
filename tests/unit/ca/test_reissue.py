"""Rotation on disk: each step is refused where it would cut workloads off."""

from pathlib import Path

import pytest
from cryptography import x509

from peerd.ca import authority, pem, reissue
from peerd.ca.bundle import BundleError, load_bundle
from peerd.ca.signer import sign_request
from tests.support import cas
from tests.support.cas import NOW


def test_a_whole_rotation_never_breaks_a_leaf(tmp_path: Path) -> None:
    """Add, switch, remove: every leaf issued before a step verifies with the roots served after it."""
    old, new = authority.make_root("old", NOW), authority.make_root("new", NOW)
    authority.write_new(tmp_path / "east", cas.cluster_files(old))
    identity = "spiffe://td/ns/a/sa/b"

    def leaf_and_roots() -> tuple[tuple[str, ...], str]:
        bundle = load_bundle(tmp_path / "east", NOW)
        return sign_request(bundle, cas.csr(), identity, 0, NOW), bundle.roots_text

    before, _ = leaf_and_roots()
    reissue.add_root(tmp_path / "east", new.certificate, NOW)
    added, roots = leaf_and_roots()
    cas.openssl_verify((*before[:-1], roots), NOW, purpose="sslserver")
    reissue.new_issuer(tmp_path / "east", new, NOW, days=30, use_rsa=False)
    switched, roots = leaf_and_roots()
    cas.openssl_verify((*added[:-1], roots), NOW, purpose="sslserver")
    reissue.remove_root(tmp_path / "east", old.certificate, NOW)
    _, roots = leaf_and_roots()
    cas.openssl_verify((*switched[:-1], roots), NOW, purpose="sslserver")

    assert load_bundle(tmp_path / "east", NOW).roots == (new.certificate,)
    assert (tmp_path / "east" / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    """An issuer nobody trusts yet, the root in use, a root twice, a root that is not there."""
    old, new = authority.make_root("old", NOW), authority.make_root("new", NOW)
    east = tmp_path / "east"
    authority.write_new(east, cas.cluster_files(old))
    before = {path.name: path.read_bytes() for path in east.iterdir()}

    with pytest.raises(BundleError, match="add it first"):
        reissue.new_issuer(east, new, NOW, days=30, use_rsa=False)
    with pytest.raises(BundleError, match="switch the issuer first"):
        reissue.remove_root(east, old.certificate, NOW)
    with pytest.raises(BundleError, match="already holds"):
        reissue.add_root(east, old.certificate, NOW)
    with pytest.raises(BundleError, match="does not hold"):
        reissue.remove_root(east, new.certificate, NOW)

    assert {path.name: path.read_bytes() for path in east.iterdir()} == before


def test_a_new_issuer_keeps_the_name_of_the_cluster(tmp_path: Path) -> None:
    """The subject still says whose CA it is; key and serial are new."""
    root = authority.make_root("test", NOW)
    authority.write_new(tmp_path / "east", cas.cluster_files(root, "east"))
    before = load_bundle(tmp_path / "east", NOW).certificate

    reissue.new_issuer(tmp_path / "east", root, NOW, days=30, use_rsa=True)

    after = load_bundle(tmp_path / "east", NOW).certificate
    assert after.subject == before.subject
    assert after.subject.get_attributes_for_oid(x509.NameOID.LOCALITY_NAME)[0].value == "east"
    assert pem.spki(after) != pem.spki(before)


def test_certificates_of_another_tool_are_left_to_it(tmp_path: Path) -> None:
    """A kubernetes.io/tls set is renewed by who made it."""
    root = authority.make_root("test", NOW)
    files = cas.cluster_files(root)
    secret = {
        "tls.crt": files["cert-chain.pem"],
        "tls.key": files["ca-key.pem"],
        "ca.crt": files["root-cert.pem"],
    }
    authority.write_new(tmp_path / "east", secret)

    with pytest.raises(BundleError, match=r"holds tls\.crt, which another tool owns"):
        reissue.new_issuer(tmp_path / "east", root, NOW, days=30, use_rsa=False)
