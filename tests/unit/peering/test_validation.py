"""Whether what a peer says may be believed."""

import msgspec
import pytest

from peerd.limits import PEER_CAPACITY, PEER_NAME_CHARACTERS, hits
from peerd.model.address import Locality
from peerd.model.federation import Capacity, FederatedPort, FederatedService, PeerInfo, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.peering.validation import (
    LocalCluster,
    PeerIsSelfError,
    check_certificate,
    check_info,
    fault,
    same_cluster,
)
from peerd.transport.base import PeerCertificate

GOOD_URI = "spiffe://west.local/ns/istio-system/sa/peerd"
LOCAL = LocalCluster("east", "istio-system", "east-lineage")
INFO = PeerInfo("west", "west-net", "west.local", "west-lineage")
REMOTE = RemotePeer(
    ObjectKey("istio-system", "peer-west"),
    "west",
    "west-net",
    ("192.0.2.1",),
    15012,
    "west.local",
    "istio-system",
    "peerd",
)
GOOD = FederatedService(
    "reviews",
    "shop",
    "reviews.shop.mesh.internal",
    "reviews.shop.svc.cluster.local",
    aliases=("reviews.example.com",),
    ports=(FederatedPort(80), FederatedPort(80, protocol="UDP")),
    identities=("spiffe://west.local/ns/shop/sa/reviews",),
    capacity=(Capacity("west-net", Locality(), 3),),
)


def with_(record, **fields):
    return msgspec.structs.replace(record, **fields)


def test_a_service_as_peers_export_it_has_no_fault() -> None:
    assert fault("shop/reviews", GOOD, INFO, LOCAL) == ""


def test_an_unlike_cluster_domain_is_the_exporters_business() -> None:
    assert fault("shop/reviews", with_(GOOD, local_host="reviews.shop.svc.corp.example"), INFO, LOCAL) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "other"}, "is not called shop/other"),
        ({"namespace": "Shop"}, "is not called"),
        ({"global_host": "bank.shop.mesh.internal"}, "global_host is not reviews.shop.mesh.internal"),
        ({"global_host": "reviews.shop.svc.cluster.local"}, "global_host is not"),
        ({"local_host": "bank.shop.svc.cluster.local"}, "local_host is not"),
        ({"local_host": "reviews.shop.svc."}, "local_host is not"),
        ({"aliases": ("bank.shop.svc.cluster.local",)}, "lies in a domain where names belong to services"),
        ({"aliases": ("bank.shop.mesh.internal",)}, "lies in a domain"),
        ({"aliases": ("cluster.local",)}, "lies in a domain"),
        ({"aliases": ("*.com",)}, "is no DNS name"),
        ({"aliases": ("x" * 70,)}, "is no DNS name"),
        ({"identities": ("spiffe://cluster.local/ns/shop/sa/reviews",)}, "outside the peer's trust domain"),
        ({"identities": ("spiffe://west.local.evil/ns/shop/sa/reviews",)}, "outside the peer's trust domain"),
        ({"identities": ("reviews",)}, "is no SPIFFE id"),
        ({"ports": (FederatedPort(80), FederatedPort(80))}, "a port is named twice"),
        ({"capacity": (Capacity("n", Locality(), 4_000_000),)}, "is not credible"),
    ],
)
def test_each_fault_is_named(fields: dict[str, object], words: str) -> None:
    assert words in fault("shop/reviews", with_(GOOD, **fields), INFO, LOCAL)


def test_the_system_namespace_is_never_imported_into() -> None:
    service = with_(
        GOOD,
        name="istiod",
        namespace="istio-system",
        global_host="istiod.istio-system.mesh.internal",
        local_host="istiod.istio-system.svc.cluster.local",
    )
    assert "system namespace" in fault("istio-system/istiod", service, INFO, LOCAL)


def test_the_limits_on_names_and_capacity_are_counted() -> None:
    before = hits(PEER_NAME_CHARACTERS), hits(PEER_CAPACITY)
    fault("x" * (PEER_NAME_CHARACTERS.value + 1), GOOD, INFO, LOCAL)
    most = with_(GOOD, capacity=(Capacity("west-net", Locality(), PEER_CAPACITY.value),))
    assert fault("shop/reviews", most, INFO, LOCAL) == ""
    more = with_(GOOD, capacity=(Capacity("west-net", Locality(), PEER_CAPACITY.value + 1),))
    assert "not credible" in fault("shop/reviews", more, INFO, LOCAL)
    assert (hits(PEER_NAME_CHARACTERS), hits(PEER_CAPACITY)) == (before[0] + 1, before[1] + 1)


def test_huge_names_are_refused_without_being_repeated() -> None:
    assert len(fault("x" * 100_000, GOOD, INFO, LOCAL)) < 200


def test_who_answers_must_be_who_the_gateway_expects() -> None:
    check_certificate(REMOTE, PeerCertificate((GOOD_URI,), "ab", 0))
    for certificate, words in [
        (None, "no certificate"),
        (PeerCertificate((), "ab", 0), "exactly one URI, and names none"),
        (PeerCertificate(("spiffe://x/ns/istio-system/sa/peerd",), "ab", 0), "expected spiffe://west.local"),
        (PeerCertificate((GOOD_URI, "spiffe://west.local/ns/shop/sa/reviews"), "ab", 0), "exactly one URI"),
    ]:
        with pytest.raises(PeerRefusedError, match=words):
            check_certificate(REMOTE, certificate)


def test_a_pinned_issuer_must_have_signed() -> None:
    uris = (GOOD_URI,)
    pinned = with_(REMOTE, issuer="ab")
    check_certificate(pinned, PeerCertificate(uris, "ab", 0))
    with pytest.raises(PeerRefusedError, match="with key cd, pinned is ab"):
        check_certificate(pinned, PeerCertificate(uris, "cd", 0))


def test_our_own_cluster_and_lineage_is_ourselves() -> None:
    with pytest.raises(PeerIsSelfError):
        check_info(REMOTE, with_(INFO, cluster="east", lineage="east-lineage"), LOCAL)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cluster": "east"}, "cluster ids must be unique"),
        ({"cluster": "north"}, "the Gateway's label topology.istio.io/cluster says 'west'"),
        ({"network": "net9"}, "the Gateway's label topology.istio.io/network says 'west-net'"),
        ({"trust_domain": "cluster.local"}, "its certificate says 'west.local'"),
        ({"segment_domain": "svc.cluster.local"}, "no domain it may name services in"),
        ({"segment_domain": "cluster.local"}, "no domain it may name services in"),
        ({"segment_domain": ""}, "no domain it may name services in"),
        ({"segment_domain": "a b"}, "no domain it may name services in"),
    ],
)
def test_peer_info_must_fit_the_gateway(fields: dict[str, object], words: str) -> None:
    check_info(REMOTE, INFO, LOCAL)
    with pytest.raises(PeerRefusedError, match=words):
        check_info(REMOTE, with_(INFO, **fields), LOCAL)


def test_labels_that_are_not_there_are_learnt() -> None:
    check_info(with_(REMOTE, cluster="", network=""), with_(INFO, cluster="north", network="x"), LOCAL)


@pytest.mark.parametrize("field", ["cluster", "network", "trust_domain", "lineage"])
def test_another_cluster_is_told_by_four_fields(field: str) -> None:
    assert not same_cluster(INFO, with_(INFO, **{field: "other"}))
    assert same_cluster(INFO, with_(INFO, version="2", segment="s", capabilities=("x",)))
