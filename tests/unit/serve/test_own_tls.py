"""peerd's own certificates: the same until they must change, and then the next handshake has the new one."""

from functools import partial

import pytest
from cryptography import x509

from peerd.ca import authority, issue, pem
from peerd.ca.bundle import CaBundle
from peerd.ca.signer import SigningError
from peerd.serve.own_tls import OwnTls
from peerd.transport.tls import TlsMaterial
from tests.support import cas
from tests.support.cas import DAY, NOW, Turned

IDENTITY = "spiffe://td/ns/istio-system/sa/peerd"


class Ca:
    """A CA that a test exchanges."""

    def __init__(self, days: int = 30) -> None:
        self.root = authority.make_root("test", NOW)
        self.bundle = cas.bundle_of(cas.cluster_files(self.root, days=days))

    def current(self) -> CaBundle:
        return self.bundle


@pytest.fixture
def ca() -> Ca:
    return Ca()


def _own(ca: Ca, clock: Turned, **options: object) -> OwnTls:
    return OwnTls(ca.current, _identity, clock, **options)  # type: ignore[arg-type]


def _identity(bundle: CaBundle, now: float) -> issue.OwnCertificate:
    return issue.identity_certificate(bundle, IDENTITY, now)


def _leaf(material: TlsMaterial) -> x509.Certificate:
    return x509.load_pem_x509_certificates(material.certificate_chain)[0]


def test_it_is_one_object_until_half_life(ca: Ca) -> None:
    """Handshakes in between load nothing anew; at half life there is another certificate and key."""
    clock = Turned()
    own = _own(ca, clock)
    first = own.current()

    clock.now = NOW + DAY / 2 - 1
    assert own.current() is first
    clock.now = NOW + DAY / 2
    second = own.current()

    assert _leaf(second).not_valid_after_utc.timestamp() == NOW + DAY * 1.5
    assert second.private_key != first.private_key
    assert own.not_after == NOW + DAY * 1.5


def test_a_new_issuer_counts_at_once(ca: Ca) -> None:
    """The next handshake shows the new chain (decision D42)."""
    own = _own(ca, Turned())
    own.current()

    ca.bundle = cas.bundle_of(cas.cluster_files(ca.root))

    assert _leaf(own.current()).issuer == ca.bundle.certificate.subject
    _leaf(own.current()).verify_directly_issued_by(ca.bundle.certificate)


def test_roots_are_those_of_the_ca_and_of_other_trust_domains(ca: Ca) -> None:
    """Told apart by trust domain where far ends are verified, together where nobody is."""
    other = authority.make_root("other", NOW)
    theirs = pem.write_certificates(other.certificate)
    others: dict[str, bytes] = {}
    peers = _own(ca, Turned(), trust_domain="td", other_roots=lambda: dict(others))
    server = _own(ca, Turned())

    assert peers.current().roots_by_trust_domain == {"td": ca.bundle.roots_pem}
    others["td"] = theirs  # our own file alone speaks for our own domain
    assert peers.current().roots_by_trust_domain == {"td": ca.bundle.roots_pem}
    del others["td"]
    others["west"] = theirs
    assert peers.current().roots_by_trust_domain == {"td": ca.bundle.roots_pem, "west": theirs}
    assert peers.current() is peers.current()
    assert server.current().roots_by_trust_domain == {}
    assert server.current().roots == ca.bundle.roots_pem


def test_an_expired_ca_leaves_the_old_certificate() -> None:
    """It serves as long as it lasts; without any there is nothing to serve with."""
    ca, clock = Ca(days=1), Turned()
    own = _own(ca, clock)
    first = own.current()

    clock.now = NOW + DAY
    assert own.current() is first
    with pytest.raises(SigningError, match="has expired"):
        _own(ca, clock).current()


def test_the_server_has_names_instead_of_an_identity(ca: Ca) -> None:
    """The same source over the other kind of certificate."""

    def names(bundle: CaBundle, now: float) -> issue.OwnCertificate:
        return issue.server_certificate(bundle, ("istiod.istio-system.svc",), now)

    material = OwnTls(ca.current, partial(names), Turned()).current()

    san = _leaf(material).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
