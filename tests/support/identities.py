"""Certificates of a peer that are faulty in one way each, under real roots, for real handshakes."""

import time

from peerd.ca import authority, issue, leaf, pem
from peerd.ca.bundle import CaBundle
from peerd.ca.leaf import Issuer
from peerd.transport.tls import TlsMaterial
from tests.support import cas
from tests.support.cas import DAY
from tests.support.mesh_certs import PEERD

START = time.time() - 10 * DAY  # CAs are older than every leaf of a test


def new_root() -> Issuer:
    return authority.make_root("test", START)


def cluster_bundle(root: Issuer, cluster: str) -> CaBundle:
    return cas.bundle_of(cas.cluster_files(root, cluster, START), time.time())


def material(
    bundle: CaBundle,
    uri: str = PEERD,
    *,
    now: float | None = None,
    roots: bytes | None = None,
    by_trust_domain: dict[str, bytes] | None = None,
) -> TlsMaterial:
    """A certificate for *uri* that lives 24 hours from *now* on."""
    own = issue.identity_certificate(bundle, uri, time.time() if now is None else now)
    return TlsMaterial(
        own.certificate_chain,
        own.private_key,
        bundle.roots_pem if roots is None else roots,
        by_trust_domain or {},
    )


def expired(bundle: CaBundle) -> TlsMaterial:
    return material(bundle, now=time.time() - 2 * DAY)


def not_yet_valid(bundle: CaBundle) -> TlsMaterial:
    return material(bundle, now=time.time() + DAY)


def two_names(bundle: CaBundle) -> TlsMaterial:
    """The right identity, and another one beside it."""
    key, now = pem.new_key(), time.time()
    names = [leaf.uri_san(PEERD), leaf.uri_san("spiffe://cluster.local/ns/shop/sa/reviews")]
    made = leaf.sign_leaf(bundle.issuer, key.public_key(), names, leaf.utc(now), leaf.utc(now + DAY))
    chain = pem.write_certificates(made) + bundle.intermediates_pem
    return TlsMaterial(chain, pem.write_key(key), bundle.roots_pem)


def a_ca_as_leaf(bundle: CaBundle) -> TlsMaterial:
    """The cluster's own CA certificate, shown as if it were a leaf."""
    return TlsMaterial(bundle.intermediates_pem, pem.write_key(bundle.key), bundle.roots_pem)
