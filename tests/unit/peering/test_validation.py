"""Whether what a peer says may be believed."""

import msgspec
import pytest

from peerd.limits import PEER_CAPACITY, PEER_NAME_CHARACTERS, PEER_UID_CHARACTERS, hits
from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, Port
from peerd.model.federation import Capacity, FederatedPort, FederatedService, PeerInfo, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload
from peerd.peering.validation import (
    LocalCluster,
    PeerIsSelfError,
    check_certificate,
    check_info,
    fault,
    same_cluster,
    workload_fault,
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


UID = "west//Pod/shop/reviews-1"
FLAT = LocalCluster("east", "istio-system", "east-lineage", network="west-net")
WORKLOAD = Workload(
    UID,
    "reviews-1",
    "shop",
    addresses=(bytes([10, 1, 2, 3]), bytes.fromhex("fd00" + "00" * 13 + "01")),
    network="west-net",
    tunnel_protocol=TunnelProtocol.HBONE,
    trust_domain="west.local",
    service_account="reviews",
    cluster_id="west",
    services=(ServicePorts("shop/reviews.shop.mesh.internal", (Port(80, 8080),)),),
)


def test_a_workload_of_a_flat_network_has_no_fault() -> None:
    assert workload_fault(UID, WORKLOAD, INFO, FLAT) == ""


def test_before_our_own_network_is_known_a_kept_workload_is_judged_by_the_rest() -> None:
    assert workload_fault(UID, WORKLOAD, INFO, LOCAL) == ""


def test_a_workload_of_another_network_is_entered_by_its_gateway() -> None:
    other = with_(FLAT, network="east-net")
    assert "on network west-net, not on ours" in workload_fault(UID, WORKLOAD, INFO, other)


def test_a_uid_longer_than_any_is_refused_and_counted() -> None:
    before = hits(PEER_UID_CHARACTERS)
    name = UID + "x" * PEER_UID_CHARACTERS.value
    assert "longer than 768" in workload_fault(name, with_(WORKLOAD, uid=name), INFO, FLAT)
    assert hits(PEER_UID_CHARACTERS) == before + 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"uid": "west//Pod/shop/another"}, "not called as its uid"),
        ({"cluster_id": "east"}, "not of the peer's own cluster west"),
        ({"name": "Reviews"}, "no DNS name"),
        ({"namespace": "shop/x"}, "no DNS name"),
        ({"namespace": "istio-system"}, "system namespace istio-system"),
        ({"trust_domain": ""}, "trust domain is not the peer's, west.local"),
        ({"service_account": "a/../b"}, "service account"),
        ({"network": "another"}, "network is not the peer's"),
        ({"network_gateway": GatewayAddress(NamespacedHostname("x", "y"), 15008)}, "by way of something"),
        ({"tunnel_protocol": TunnelProtocol.NONE}, "HBONE"),
        ({"addresses": ()}, "no address"),
        ({"hostname": "metadata.internal"}, "no address"),
        ({"addresses": (b"abc",)}, "address 616263"),
        ({"addresses": (bytes([127, 0, 0, 1]),)}, "address 7f000001"),
        ({"addresses": (bytes([169, 254, 169, 254]),)}, "address a9fea9fe"),
        ({"addresses": (bytes(4),)}, "address 00000000"),
        ({"authorization_policies": ("shop/deny",)}, "policies"),
        ({"capacity": PEER_CAPACITY.value + 1}, "not credible"),
        ({"services": (ServicePorts("shop/reviews.shop.svc.cluster.local", ()),)}, "no global service"),
        ({"services": (ServicePorts("shop/reviews.bank.mesh.internal", ()),)}, "no global service"),
        ({"services": (ServicePorts("shop/a.b.shop.mesh.internal", ()),)}, "no global service"),
        (
            {"services": (ServicePorts("istio-system/x.istio-system.mesh.internal", ()),)},
            "system namespace istio-system",
        ),
        ({"services": (ServicePorts("shop/r.shop.mesh.internal", (Port(0, 1),)),)}, "port numbers"),
        ({"services": (ServicePorts("shop/r.shop.mesh.internal", (Port(1, 70_000),)),)}, "port numbers"),
    ],
)
def test_a_workload_that_could_mislead_is_refused(fields: dict[str, object], words: str) -> None:
    assert words in workload_fault(UID, with_(WORKLOAD, **fields), INFO, FLAT)


def test_a_workload_of_another_cluster_s_name_is_refused() -> None:
    name = "east//Pod/shop/reviews-1"
    assert "own cluster west" in workload_fault(name, with_(WORKLOAD, uid=name), INFO, FLAT)
