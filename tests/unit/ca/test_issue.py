"""peerd's own certificates: the names istiod answers to, the control plane's identity, never a CA."""

from cryptography import x509

from peerd.ca import authority, issue
from peerd.ca.bundle import CaBundle
from tests.support import cas
from tests.support.cas import DAY, NOW


def _bundle() -> CaBundle:
    return cas.bundle_of(cas.cluster_files(authority.make_root("test", NOW)))


def _chain(own: issue.OwnCertificate, bundle: CaBundle) -> tuple[str, ...]:
    blocks = own.certificate_chain.decode().split("-----BEGIN")[1:]
    return (*("-----BEGIN" + block for block in blocks), bundle.roots_text)


def test_the_server_answers_to_the_names_tools_look_for() -> None:
    """istiod's Service names and those of a revision, what the operator adds, this machine (§5.2, D35)."""
    names = issue.server_names("istio-system", "canary", ("peerd.example.org", "10.0.0.7"))

    assert names == (
        "peerd.example.org",
        "10.0.0.7",
        "istiod.istio-system.svc",
        "istiod-remote.istio-system.svc",
        "istio-pilot.istio-system.svc",
        "peerd.istio-system.svc",
        "istiod-canary.istio-system.svc",
        "localhost",
        "127.0.0.1",
        "::1",
    )


def test_the_server_certificate_is_an_ordinary_leaf() -> None:
    """Hosts as DNS names, addresses as IP names, CA:FALSE, verified by openssl under the cluster's root."""
    bundle = _bundle()

    own = issue.server_certificate(bundle, ("istiod.istio-system.svc", "127.0.0.1", "::1"), NOW)

    leaf = x509.load_pem_x509_certificates(own.certificate_chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    cas.openssl_verify(_chain(own, bundle), NOW, purpose="sslserver")


def test_the_identity_certificate_names_the_control_plane_only() -> None:
    """One URI SAN, usable on both ends of a peer stream; renewed at half its life (decision D14)."""
    bundle = _bundle()

    own = issue.identity_certificate(bundle, "spiffe://td/ns/istio-system/sa/peerd", NOW)

    leaf = x509.load_pem_x509_certificates(own.certificate_chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://td/ns/istio-system/sa/peerd"]
    for purpose in ("sslserver", "sslclient"):
        cas.openssl_verify(_chain(own, bundle), NOW, purpose=purpose)
    assert (own.renew_at, own.not_after) == (NOW + DAY / 2, NOW + DAY)


def test_it_ends_with_the_ca() -> None:
    """Clamped, and renewed at half of what is left."""
    bundle = cas.bundle_of(cas.cluster_files(authority.make_root("test", NOW), days=1))

    own = issue.identity_certificate(bundle, "spiffe://td/ns/a/sa/b", NOW + DAY / 2)

    assert (own.renew_at, own.not_after) == (NOW + DAY * 3 / 4, NOW + DAY)
