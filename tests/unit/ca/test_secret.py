"""A CA out of a Secret's data: the same layouts as on disk, and what istiod leaves in its own."""

import pytest

from peerd.ca.bundle import BundleError
from peerd.ca.secret import bundle_of
from tests.support.cas import NOW, self_signed_files, three_level_files

WHERE = "Secret/istio-system/cacerts"


def test_both_layouts_are_read() -> None:
    """`cacerts` as istio has it, and a TLS Secret as cert-manager writes it."""
    files = three_level_files()
    bundle = bundle_of(files, WHERE, NOW)
    tls = {
        "tls.crt": files["ca-cert.pem"] + files["cert-chain.pem"],
        "tls.key": files["ca-key.pem"],
        "ca.crt": files["root-cert.pem"],
    }
    assert bundle_of(tls, WHERE, NOW) == bundle_of(files, WHERE, NOW).__class__(
        bundle.certificate, bundle.key, bundle.intermediates, bundle.roots, source=WHERE
    )


def test_keys_that_are_no_part_of_a_ca_are_passed_over() -> None:
    """Whatever else the Secret holds."""
    assert bundle_of({**self_signed_files(), "notes": b"x"}, WHERE, NOW).is_root


def test_what_istiod_made_for_itself_may_lack_chain_and_root() -> None:
    """Its keys are empty there, and one of its own is no TLS key; the certificate is the root."""
    made = self_signed_files()
    left = {**made, "cert-chain.pem": b"", "key.pem": b"", "root-cert.pem": b""}
    assert bundle_of(left, WHERE, NOW, self_made=True).roots_pem == made["ca-cert.pem"]
    with pytest.raises(BundleError):
        bundle_of(left, WHERE, NOW)


@pytest.mark.parametrize("missing", ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"])
def test_a_part_of_a_ca_is_refused_by_name(missing: str) -> None:
    """Of the operator's own Secret all is needed (wire-contract §5.2)."""
    files = self_signed_files()
    del files[missing]
    with pytest.raises(BundleError, match=f"Secret/istio-system/cacerts: {missing} missing"):
        bundle_of(files, WHERE, NOW)


def test_two_cas_in_one_secret_are_refused() -> None:
    """Nobody can know which is meant."""
    with pytest.raises(BundleError, match="both layouts"):
        bundle_of({**self_signed_files(), "tls.crt": b"x"}, WHERE, NOW)


def test_an_empty_secret_says_what_is_missing() -> None:
    """All of it."""
    with pytest.raises(BundleError, match=r"tls.crt, tls.key, ca.crt missing"):
        bundle_of({}, WHERE, NOW)
