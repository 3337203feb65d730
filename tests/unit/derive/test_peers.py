"""istio-remote Gateways as peers to dial (peerd/derive/peers.py)."""

import msgspec
import pytest

from peerd.derive.peers import check, dial_port, parse_expiry, remote_peer
from peerd.model.federation import Freshness, PeerInfo, PeerView
from peerd.model.kube.gateway import Gateway
from peerd.model.mesh import Settings

SETTINGS = Settings(cluster_id="east")


def gateway(labels: dict[str, str] | None = None, **annotations: str) -> Gateway:
    return msgspec.convert(
        {
            "metadata": {
                "name": "peer",
                "namespace": "istio-system",
                "labels": labels or {"topology.istio.io/cluster": "west", "topology.istio.io/network": "n2"},
                "annotations": {key.replace("__", "/"): value for key, value in annotations.items()},
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": [
                    {"type": "IPAddress", "value": "192.0.2.1"},
                    {"type": "Hostname", "value": "w.example"},
                ],
                "listeners": [{"name": "xds-tls", "port": 16012, "protocol": "TLS"}],
            },
        },
        Gateway,
    )


def changed(spec: dict[str, object]) -> Gateway:
    return msgspec.convert({"metadata": {"name": "peer", "namespace": "istio-system"}, "spec": spec}, Gateway)


def test_addresses_port_and_labels_are_the_gateways_and_the_rest_has_defaults():
    """D14, D15: every address of spec, the listener's port, control plane account and namespace as ours."""
    peer = remote_peer(gateway(), None, SETTINGS, "cluster.local")

    assert peer is not None
    assert (peer.addresses, peer.port) == (("192.0.2.1", "w.example"), 16012)
    assert (peer.cluster, peer.network, peer.trust_domain) == ("west", "n2", "cluster.local")
    assert (peer.namespace, peer.service_account) == ("istio-system", "peerd")
    assert not peer.self_peer


def test_the_setting_names_the_account_where_the_gateway_does_not():
    """--peer-service-account, and the annotation over it."""
    settings = Settings(cluster_id="east", peer_service_account="mesh")

    plain = remote_peer(gateway(), None, settings, "cluster.local")
    notes = {"peering.peerd.io/service-account": "other", "peering.peerd.io/system-namespace": "mesh-system"}
    annotated = remote_peer(gateway(**notes), None, settings, "cluster.local")

    assert plain is not None
    assert annotated is not None
    assert plain.service_account == "mesh"
    assert (annotated.service_account, annotated.namespace) == ("other", "mesh-system")


def test_a_gateway_that_describes_this_cluster_is_itself():
    """D15: by its label, or learnt from what the far end said."""
    labelled = remote_peer(gateway({"topology.istio.io/cluster": "east"}), None, SETTINGS, "td")
    key = gateway().key
    view = PeerView(key, PeerInfo("east", "n", "td", "lineage"), Freshness.FRESH)
    learnt = remote_peer(gateway({"topology.istio.io/network": "n"}), view, SETTINGS, "td")

    assert labelled is not None
    assert labelled.self_peer
    assert learnt is not None
    assert learnt.self_peer


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"gatewayClassName": "istio-remote"}, "spec.addresses"),
        (
            {"addresses": [{"value": "192.0.2.1"}], "listeners": [{"name": "xds-tls", "port": 70000}]},
            "spec.listeners[xds-tls].port",
        ),
    ],
)
def test_what_cannot_be_dialled_is_not_and_says_why(spec: dict[str, object], field: str):
    found = check(changed(spec))

    assert [each.field for each in found] == [field]
    assert found[0].object == "Gateway/istio-system/peer"
    assert remote_peer(changed(spec), None, SETTINGS, "td") is None


def test_without_the_listener_the_port_is_15012():
    assert dial_port(changed({"listeners": [{"name": "hbone", "port": 15008}]})) == 15012


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 86_400),
        ("90", 90),
        ("90s", 90),
        ("10m", 600),
        ("24h", 86_400),
        ("7d", 604_800),
        ("0", 0),
        ("x", None),
        ("-1", None),
    ],
)
def test_durations(text: str, seconds: int | None):
    """`peering.peerd.io/expire-after`; None is reported and the default used."""
    assert parse_expiry(text) == seconds


def test_an_issuer_pin_must_be_a_sha256():
    """A pin that cannot be right must not be read as `no pin`."""
    bad = gateway(**{"peering.peerd.io/issuer-sha256": "abc"})
    good = gateway(**{"peering.peerd.io/issuer-sha256": ":".join(["AB"] * 32)})

    assert remote_peer(bad, None, SETTINGS, "td") is None
    assert "issuer-sha256" in check(bad)[0].field
    peer = remote_peer(good, None, SETTINGS, "td")
    assert peer is not None
    assert peer.issuer == "ab" * 32
