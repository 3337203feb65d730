"""Identity x type: every pair of decision D37, written out; what is not named is refused."""

import pytest

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.serve.authorisation import GOVERNED, Authorisation

TABLE = Authorisation({"istio-system/ztunnel", "mesh/proxy"}, "istio-system")

CALLERS = {
    "ztunnel": Caller(CallerKind.WORKLOAD, SpiffeId("td", "istio-system", "ztunnel")),
    "ztunnel elsewhere": Caller(CallerKind.WORKLOAD, SpiffeId("td", "mesh", "proxy")),
    "istioctl": Caller(CallerKind.WORKLOAD, SpiffeId("td", "istio-system", "default")),
    "workload": Caller(CallerKind.WORKLOAD, SpiffeId("td", "shop", "reviews")),
    "a ztunnel of another namespace": Caller(CallerKind.WORKLOAD, SpiffeId("td", "shop", "ztunnel")),
    "no identity": Caller(CallerKind.WORKLOAD),
    "gateway": Caller(CallerKind.GATEWAY, SpiffeId("td", "istio-system", "istio-eastwest")),
    "peer": Caller(CallerKind.PEER, SpiffeId("west", "istio-system", "peerd")),
    "a peer named as a ztunnel": Caller(CallerKind.PEER, SpiffeId("td", "istio-system", "ztunnel")),
    "loopback": Caller(CallerKind.LOOPBACK),
}

TYPES = {
    "WDS": "type.googleapis.com/istio.workload.Address",
    "WADS": "type.googleapis.com/istio.security.Authorization",
    "FSDS": "type.googleapis.com/peerd.peering.v1.FederatedService",
    "SGDS": "type.googleapis.com/peerd.peering.v1.Segment",
    "PeerInfo": "type.googleapis.com/peerd.peering.v1.PeerInfo",
    "LDS": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "RDS": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "CDS": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "EDS": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "SDS": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "debug": "istio.io/debug",
    "syncz": "istio.io/debug/syncz",
    "config_dump": "istio.io/debug/config_dump",
    "unknown": "type.googleapis.com/unknown.Type",
    "none": "",
}

ALLOWED = {
    "ztunnel": {"WDS", "WADS"},
    "ztunnel elsewhere": {"WDS", "WADS"},
    "istioctl": {"debug", "syncz", "config_dump"},
    "workload": set(),
    "a ztunnel of another namespace": set(),
    "no identity": set(),
    "gateway": {"LDS", "RDS", "CDS", "EDS"},
    "peer": {"FSDS", "SGDS", "PeerInfo", "WDS"},
    "a peer named as a ztunnel": {"FSDS", "SGDS", "PeerInfo", "WDS"},
    "loopback": {"WDS", "WADS", "debug", "syncz", "config_dump"},
}


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("caller", CALLERS)
def test_identity_by_type(caller: str, type_name: str) -> None:
    """The whole table, refusals included."""
    assert TABLE.allowed(CALLERS[caller], TYPES[type_name]) is (type_name in ALLOWED[caller])


def test_secrets_are_nobodys() -> None:
    """SDS is refused to everyone, by name: private keys travel by file only."""
    assert TYPES["SDS"] in GOVERNED
    assert not any(TABLE.allowed(caller, TYPES["SDS"]) for caller in CALLERS.values())


@pytest.mark.parametrize(
    ("caller", "type_name", "told"),
    [
        (
            "workload",
            "WDS",
            "(workload) may not ask for ...Address: its account is no trusted ztunnel account",
        ),
        ("istioctl", "WADS", "(operator) may not ask for ...: its account is no trusted ztunnel account"),
        ("ztunnel", "syncz", "(ztunnel) may not ask for istio.io/debug/syncz: only accounts of istio-system"),
        ("peer", "LDS", "spiffe://west/ns/istio-system/sa/peerd (peer) may not ask for ...Listener"),
        ("loopback", "FSDS", "loopback (loopback) may not ask for ...FederatedService"),
    ],
)
def test_a_refusal_says_what_to_change(caller: str, type_name: str, told: str) -> None:
    """Who asked, for what, and which setting decides."""
    refusal = TABLE.refusal(CALLERS[caller], TYPES[type_name])

    assert all(part in refusal for part in told.split("...")), refusal
