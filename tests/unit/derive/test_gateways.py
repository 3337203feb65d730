"""Network gateways and peers: where another network is entered, who answers, and whom to dial."""

import pytest

from peerd.derive.peers import parse_expiry
from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from peerd.model.changes import PeerChange
from peerd.model.federation import DataPlaneAddress, Freshness, PeerInfo, PeerView, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.mesh import Settings
from peerd.model.workload import Workload
from tests.support.derived import derive, diagnostics, workload
from tests.support.worlds import Seen

WORLD = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
    ---
    apiVersion: networking.istio.io/v1
    kind: WorkloadEntry
    metadata: {namespace: shop, name: far}
    spec: {network: net2, address: 10.9.0.1}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata:
      namespace: istio-gateways
      name: west
      creationTimestamp: '2026-01-01T00:00:00Z'
      labels: {%(labels)s}
      annotations: {%(notes)s}
    spec:
      gatewayClassName: istio-remote
      addresses: [%(spec)s]
      listeners: [%(listeners)s]
    status: {addresses: [%(status)s]}
"""
DEFAULTS = {
    "labels": "topology.istio.io/network: net2, topology.istio.io/cluster: west",
    "notes": "",
    "spec": "{type: IPAddress, value: 192.0.2.1}",
    "listeners": "{name: hbone, port: 15008, protocol: HBONE}, {name: xds-tls, port: 15012, protocol: TLS}",
    "status": "{type: IPAddress, value: 192.0.2.1}",
}
KEY = ObjectKey("istio-gateways", "west")
INFO = PeerInfo(
    "west",
    "net2",
    "west.local",
    "lineage",
    addresses=(DataPlaneAddress("IPAddress", "192.0.2.77", 31008),),
    gateway_service_account="gw",
    gateway_namespace="gw-ns",
)


def world(view: PeerView | None = None, settings: Settings | None = None, **changes: str) -> Seen:
    more = () if view is None else (PeerChange(KEY, view),)
    return derive(WORLD % (DEFAULTS | changes), *more, settings=settings)


def known(freshness: Freshness = Freshness.FRESH) -> PeerView:
    return PeerView(KEY, INFO, freshness)


def gateways(seen: Seen) -> list[str]:
    return sorted(name for name in seen.parts["addresses"] if name.startswith("NetworkGateway/"))


def test_each_status_address_is_a_workload_and_the_first_is_used() -> None:
    """Uids hold network, address as written and HBONE port; addresses of other types do not count."""
    status = (
        "{type: Hostname, value: gw.example.org}, {type: IPAddress, value: 'fd00::1'}, "
        "{type: NamedAddress, value: x}"
    )
    seen = world(status=status)
    assert gateways(seen) == ["NetworkGateway/net2/fd00::1/15008", "NetworkGateway/net2/gw.example.org/15008"]
    expected = GatewayAddress(NamespacedHostname("istio-gateways", "gw.example.org"), 15008)
    assert workload(seen, "far").network_gateway == expected


def test_a_gateways_identity_is_its_annotation_else_its_name_and_class() -> None:
    """Account and trust domain as the Gateway says them (wire-contract §4.6, D29)."""
    plain = world().parts["addresses"]["NetworkGateway/net2/192.0.2.1/15008"]
    assert isinstance(plain, Workload)
    assert (plain.namespace, plain.service_account, plain.trust_domain) == (
        "istio-gateways",
        "west-istio-remote",
        "",
    )
    notes = "gateway.istio.io/service-account: ew, gateway.istio.io/trust-domain: west.local"
    named = world(notes=notes).parts["addresses"]["NetworkGateway/net2/192.0.2.1/15008"]
    assert isinstance(named, Workload)
    assert (named.service_account, named.trust_domain) == ("ew", "west.local")


def test_without_an_hbone_listener_a_gateway_is_known_once_the_peer_names_the_port() -> None:
    """PeerInfo gives addresses, port and account (D15); an expired peer's word is forgotten."""
    bare = {"listeners": "{name: xds-tls, port: 15012, protocol: TLS}"}
    assert gateways(world(**bare)) == []
    assert gateways(world(known(), **bare)) == ["NetworkGateway/net2/192.0.2.77/31008"]
    told = world(known(), **bare).parts["addresses"]["NetworkGateway/net2/192.0.2.77/31008"]
    assert isinstance(told, Workload)
    assert (told.namespace, told.service_account) == ("gw-ns", "gw")
    assert gateways(world(known(Freshness.EXPIRED), **bare)) == []


def test_the_gateways_own_addresses_win_unless_node_ports_are_preferred() -> None:
    """The annotation turns it round, and only once the peer has named its nodes."""
    notes = "peering.solo.io/preferred-data-plane-service-type: NodePort"
    assert gateways(world(known())) == ["NetworkGateway/net2/192.0.2.1/15008"]
    assert gateways(world(known(), notes=notes)) == ["NetworkGateway/net2/192.0.2.77/31008"]
    assert gateways(world(notes=notes)) == ["NetworkGateway/net2/192.0.2.1/15008"]


def test_the_network_is_the_label_else_what_the_peer_says() -> None:
    """Without either there is no gateway."""
    assert gateways(world(labels="")) == []
    assert gateways(world(known(), labels="")) == ["NetworkGateway/net2/192.0.2.1/15008"]


def test_of_several_gateways_to_a_network_the_first_by_name_is_used() -> None:
    """A second Gateway object adds its own Workload, and changes nothing for those that use the first."""
    second = (
        (WORLD % (DEFAULTS | {"spec": "", "status": "{type: IPAddress, value: 192.0.2.2}"}))
        .split("---")[-1]
        .replace("name: west", "name: west-2")
    )
    seen = derive(WORLD % DEFAULTS + "    ---" + second)
    assert gateways(seen) == ["NetworkGateway/net2/192.0.2.1/15008", "NetworkGateway/net2/192.0.2.2/15008"]
    expected = GatewayAddress(NetworkAddress("net2", b"\xc0\x00\x02\x01"), 15008)
    assert workload(seen, "far").network_gateway == expected


def peer(seen: Seen) -> RemotePeer | None:
    found = seen.parts["peers"].get("istio-gateways/west")
    assert found is None or isinstance(found, RemotePeer)
    return found


def test_a_remote_gateway_is_a_peer_with_defaults() -> None:
    """Spec addresses, port 15012, our trust domain and system namespace, account peerd, a day (D14, D15)."""
    assert peer(world()) == RemotePeer(
        key=KEY,
        cluster="west",
        network="net2",
        addresses=("192.0.2.1",),
        port=15012,
        trust_domain="cluster.local",
        namespace="istio-system",
        service_account="peerd",
        created="2026-01-01T00:00:00Z",
    )
    assert peer(world(settings=Settings(peering=False))) is None


def test_annotations_name_the_peers_control_plane() -> None:
    """Its trust domain, namespace, account, pinned issuer and expiry; the gateway's account is another."""
    notes = (
        "gateway.istio.io/trust-domain: west.local, gateway.istio.io/service-account: ew, "
        "peering.peerd.io/system-namespace: sys, peering.peerd.io/service-account: cp, "
        f"peering.peerd.io/issuer-sha256: '{'AB' * 32}', peering.peerd.io/expire-after: 90m"
    )
    found = peer(world(notes=notes, listeners="{name: xds-tls, port: 443, protocol: TLS}"))
    assert found is not None
    assert (found.trust_domain, found.namespace, found.service_account) == ("west.local", "sys", "cp")
    assert (found.issuer, found.expire_after, found.port) == ("ab" * 32, 5400, 443)


@pytest.mark.parametrize(
    ("changes", "field", "dialled"),
    [
        ({"spec": "", "status": ""}, "spec.addresses", False),
        (
            {"notes": "peering.peerd.io/issuer-sha256: zz"},
            "metadata.annotations[peering.peerd.io/issuer-sha256]",
            False,
        ),
        (
            {"notes": "peering.peerd.io/expire-after: soon"},
            "metadata.annotations[peering.peerd.io/expire-after]",
            True,
        ),
    ],
)
def test_what_keeps_a_peer_from_being_dialled_is_told(
    changes: dict[str, str], field: str, dialled: bool
) -> None:
    """A pinned issuer that cannot be read is never taken for none: that would be less safe than meant."""
    seen = world(**changes)
    assert [d.field for d in diagnostics(seen)] == [field]
    assert (peer(seen) is not None) is dialled


@pytest.mark.parametrize(
    ("labels", "view", "is_self"),
    [
        ("topology.istio.io/cluster: Kubernetes", None, True),
        ("topology.istio.io/cluster: west", None, False),
        ("", None, False),
        ("", PeerView(KEY, PeerInfo("Kubernetes", "net1", "cluster.local", "l"), Freshness.FRESH), True),
    ],
)
def test_a_gateway_that_describes_this_cluster_is_no_peer_to_dial(
    labels: str, view: PeerView | None, is_self: bool
) -> None:
    """By its label, or by what the far end says where it has none (D15)."""
    found = peer(world(view, labels=labels))
    assert found is not None
    assert found.self_peer is is_self


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 86_400), ("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800)],
)
def test_expiry_is_seconds_or_a_unit(text: str, seconds: int) -> None:
    """Empty is a day, 0 is never."""
    assert parse_expiry(text) == seconds
    assert parse_expiry("soon") is parse_expiry("-1") is parse_expiry("1w") is None
