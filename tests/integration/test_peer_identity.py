"""Who is let in between control planes, over real sockets, in both directions (decision D14)."""

import logging
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from peerd.ca.bundle import CaBundle
from peerd.ca.describe import key_sha256
from peerd.ca.leaf import Issuer
from peerd.protocol.peer_state import PeerState
from peerd.transport.tls import TlsMaterial
from tests.support import identities
from tests.support.identities import cluster_bundle, material, new_root
from tests.support.mesh_certs import PEERD, Authority
from tests.support.peering import PeeringCluster, renamed, service

WORKLOAD = "spiffe://cluster.local/ns/shop/sa/reviews"

Fault = Callable[[CaBundle], TlsMaterial]

# What is wrong with the certificate, how the one that sees it says so, and whether TLS itself sees it.
FAULTS: dict[str, tuple[Fault, str, bool]] = {
    "a workload's": (lambda ca: material(ca, WORKLOAD), WORKLOAD, False),
    "another account": (
        lambda ca: material(ca, "spiffe://cluster.local/ns/istio-system/sa/istiod"),
        "spiffe://cluster.local/ns/istio-system/sa/istiod",
        False,
    ),
    "another namespace": (
        lambda ca: material(ca, "spiffe://cluster.local/ns/mesh/sa/peerd"),
        "spiffe://cluster.local/ns/mesh/sa/peerd",
        False,
    ),
    "another trust domain": (
        lambda ca: material(ca, "spiffe://other/ns/istio-system/sa/peerd"),
        "spiffe://other/ns/istio-system/sa/peerd",
        False,
    ),
    "no SPIFFE identity": (lambda ca: material(ca, "https://west/peerd"), "https://west/peerd", False),
    "expired": (identities.expired, "certificate has expired", True),
    "not yet valid": (identities.not_yet_valid, "certificate is not yet valid", True),
    "two identities": (identities.two_names, "names several identities", True),
    "a CA": (identities.a_ca_as_leaf, "itself a CA|invalid CA|unsuitable|unsupported", True),
}


@pytest.fixture(scope="module")
def root() -> Issuer:
    return new_root()


@pytest.fixture
async def pair(root: Issuer) -> AsyncIterator[tuple[PeeringCluster, PeeringCluster]]:
    """east dials west; both hold good certificates until a test exchanges one."""
    east = PeeringCluster("east", Authority("unused"))
    west = PeeringCluster("west", Authority("unused"))
    east.tls.material = material(cluster_bundle(root, "east"))
    west.tls.material = material(cluster_bundle(root, "west"))
    await east.start()
    await west.start(service("reviews"))
    yield east, west
    await east.stop()
    await west.stop()


async def _refused(east: PeeringCluster, west: PeeringCluster, **gateway: object) -> str:
    """The reason on the peer's state once east has been refused, or has refused."""
    key = east.link(west, **gateway)
    await east.until(lambda: bool(east.row(key).status.last_error), "a reason on the peer's state")
    assert east.row(key).status.state is not PeerState.LIVE
    assert not east.imports.get(key)
    return east.row(key).status.last_error


async def test_good_certificates_of_two_clusters_are_let_in(
    pair: tuple[PeeringCluster, PeeringCluster],
) -> None:
    """What the faulty ones below are compared with."""
    east, west = pair

    key = east.link(west)

    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_is_not_who_the_gateway_means_is_refused_by_the_dialler(
    pair: tuple[PeeringCluster, PeeringCluster], root: Issuer, fault: str
) -> None:
    """The reason is on the peer's state."""
    east, west = pair
    make, told, _ = FAULTS[fault]
    west.tls.material = make(cluster_bundle(root, "west"))

    reason = await _refused(east, west)

    assert any(words in reason for words in told.split("|")), reason


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_client_that_is_no_peer_is_refused_by_the_server(
    pair: tuple[PeeringCluster, PeeringCluster],
    root: Issuer,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reason is in the server's log; on the client's state too, unless TLS refused before any word."""
    east, west = pair
    make, told, seen_by_tls = FAULTS[fault]
    east.tls.material = make(cluster_bundle(root, "east"))

    with caplog.at_level(logging.WARNING), capture_logs() as logs:
        reason = await _refused(east, west)

    in_log = caplog.text + "".join(str(each) for each in logs if each["event"] == "peer_refused")
    assert any(words in in_log for words in told.split("|")), (reason, in_log)
    assert seen_by_tls or any(words in reason for words in told.split("|")), reason


async def test_a_root_speaks_for_its_own_trust_domain_only(
    pair: tuple[PeeringCluster, PeeringCluster], root: Issuer
) -> None:
    """Two trust domains with a root each, both trusted: a name under the other's root is refused."""
    east, west = pair
    other = new_root()
    theirs = cluster_bundle(other, "west")
    domains = {
        "cluster.local": cluster_bundle(root, "east").roots_pem,
        "other": theirs.roots_pem,
    }
    ours = cluster_bundle(root, "east")
    east.tls.material = material(ours, by_trust_domain=domains)
    west.tls.material = material(theirs, PEERD, by_trust_domain=domains)

    reason = await _refused(east, west)

    assert "which is no root of trust domain 'cluster.local'" in reason


async def test_two_trust_domains_peer_where_each_knows_the_others_root(
    pair: tuple[PeeringCluster, PeeringCluster], root: Issuer
) -> None:
    """The Gateway names the trust domain when dialling, the accepted list when serving (decision D14)."""
    east, west = pair
    other = new_root()
    theirs = cluster_bundle(other, "west")
    ours = cluster_bundle(root, "east")
    domains = {"cluster.local": ours.roots_pem, "other": theirs.roots_pem}
    east.tls.material = material(ours, by_trust_domain=domains)
    west.tls.material = material(theirs, "spiffe://other/ns/istio-system/sa/peerd", by_trust_domain=domains)
    west.info = renamed(west.info, trust_domain="other")
    west.service.commit_info(west.info)

    key = east.link(west, trust_domain="other")

    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)


async def test_in_a_shared_trust_domain_the_pinned_issuer_tells_clusters_apart(
    pair: tuple[PeeringCluster, PeeringCluster], root: Issuer
) -> None:
    """The right name from another cluster's CA: refused where the Gateway pins the key."""
    east, west = pair
    real = cluster_bundle(root, "west")
    west.tls.material = material(cluster_bundle(root, "mallory"))

    reason = await _refused(east, west, issuer=key_sha256(real.certificate))

    assert key_sha256(real.certificate) in reason
