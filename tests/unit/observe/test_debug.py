"""Debug views and metrics are drawn from one snapshot and say what it holds."""

import msgspec

from peerd import limits
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.federation import RemotePeer
from peerd.model.histogram import HistogramView
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.observe import debug
from peerd.observe.metrics import Metrics
from peerd.observe.snapshot import PublishingView, Snapshot, StreamView
from peerd.peering.importer import ImportCounts
from peerd.peering.peers import PeerSnapshot, PeerTraffic
from peerd.protocol.peer_state import PeerState, PeerStatus
from peerd.serve.connections import TypeView

PEER = PeerSnapshot(
    ObjectKey("istio-system", "peer-west"),
    RemotePeer(
        ObjectKey("istio-system", "peer-west"),
        "west",
        "west-net",
        ("10.0.0.1",),
        15012,
        "cluster.local",
        "istio-system",
        "peerd",
    ),
    PeerStatus(PeerState.CONNECTING, 100.0, "connection refused"),
    ImportCounts(services=3, refused=(("shop/a", "not a host of this peer"),), last_heartbeat=90.0),
    PeerTraffic(received_bytes=512, sent_bytes=64),
    attempts=2,
    next_attempt=130.5,
)
STREAM = StreamView(
    "c-1",
    "ztunnel-1.istio-system",
    "workload",
    "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
    "10.0.0.9:4000",
    50.0,
    "east",
    "1.30",
    (
        TypeView(ADDRESS, "n2", 60.0, "n1"),
        TypeView(AUTHORIZATION, "n3", 61.0, "n3"),
    ),
)
SNAPSHOT = Snapshot(
    "east",
    "east-net",
    "cluster.local",
    "lineage",
    "i1",
    7,
    40.0,
    160.0,
    streams=(STREAM, STREAM),
    peers=(PEER,),
    diagnostics=(Diagnostic("Pod/a/b", "status", "is wrong", "mend it", Severity.WARNING, "f.yaml"),),
    resources={ADDRESS: 10},
    pushes={ADDRESS: 5},
    rejects={AUTHORIZATION: 1},
    certificates_issued=4,
)


def test_a_peer_says_where_how_since_when_and_why():
    """What somebody on call asks first."""
    (peer,) = debug.peers(SNAPSHOT)
    assert peer["gateway"] == "istio-system/peer-west"
    assert (peer["state"], peer["connected"]) == ("connecting", False)
    assert (peer["since"], peer["reason"]) == ("1970-01-01T00:01:40.000+00:00", "connection refused")
    assert (peer["address"], peer["nextAttempt"]) == ("10.0.0.1:15012", "1970-01-01T00:02:10.500+00:00")
    assert (peer["services"], peer["receivedBytes"]) == (3, 512)
    assert peer["refused"] == {"shop/a": "not a host of this peer"}


def test_syncz_has_istiods_form():
    """One object a stream, types by their URL, status by istiod's rule (wire-contract §5.6, §5.8)."""
    first, _ = debug.syncz(SNAPSHOT)
    assert (first["cluster_id"], first["proxy"], first["istio_version"]) == (
        "east",
        "ztunnel-1.istio-system",
        "1.30",
    )
    assert {url: each["status"] for url, each in first["resources"].items()} == {
        ADDRESS: "STALE",
        AUTHORIZATION: "SYNCED",
    }


def test_the_status_rule():
    """An error counts first, then whether anything was sent, then whether it was answered."""
    assert debug.sync_status(TypeView(ADDRESS, "n", acked="n", error="bad")) == "ERROR"
    assert debug.sync_status(TypeView(ADDRESS)) == "NOT_SENT"


def test_connections_and_diagnostics_and_overview():
    """Counts, identities, and problems with their fix."""
    assert debug.connections(SNAPSHOT)["totalClients"] == 2
    (problem,) = debug.diagnostics(SNAPSHOT)
    assert (problem["severity"], problem["where"], problem["fix"]) == ("warning", "f.yaml", "mend it")
    overview = debug.overview(SNAPSHOT)
    assert overview["writer"] is None
    writing = msgspec.structs.replace(SNAPSHOT, publishing=PublishingView(False, "peerd-0_1", 3))
    assert debug.overview(writing)["writer"] == {"holder": "peerd-0_1", "here": False, "pending": 3}
    assert (overview["ready"], overview["resources"], overview["revision"]) == (True, {"WDS": 10}, 7)


def test_metrics_say_what_the_snapshot_says():
    """With istiod's names and labels."""
    before = limits.hits(limits.HTTP_CONNECTIONS)
    limits.hit(limits.HTTP_CONNECTIONS)
    took = HistogramView(((0.1, 3), (1.0, 3)), 4, 7.5)
    lines = set(
        Metrics(lambda: msgspec.structs.replace(SNAPSHOT, convergence=took)).render().decode().splitlines()
    )
    assert {
        'pilot_xds{version="1.30"} 2.0',
        'pilot_xds_pushes_total{type="wds"} 5.0',
        'pilot_total_xds_rejects_total{type="wads"} 1.0',
        'peer_connection_state{cluster="west",gateway="istio-system/peer-west"} 0.0',
        'peerd_peer_state{gateway="istio-system/peer-west",state="connecting"} 1.0',
        'peerd_peer_services{gateway="istio-system/peer-west"} 3.0',
        'peerd_diagnostics{severity="warning"} 1.0',
        "peerd_ready 1.0",
        "istiod_uptime_seconds 120.0",
        'pilot_proxy_convergence_time_bucket{le="0.1"} 3.0',
        'pilot_proxy_convergence_time_bucket{le="+Inf"} 4.0',
        "pilot_proxy_convergence_time_sum 7.5",
        "citadel_server_success_cert_issuance_count_total 4.0",
        f'peerd_limit_hits_total{{limit="http_connections"}} {before + 1}.0',
    } <= lines


def test_whom_withheld_names_wait_for_is_shown():
    """After a restart: how many names, and the Gateway of each peer that has not spoken (decision D13)."""
    found = msgspec.structs.replace(SNAPSHOT, withheld=5, withheld_for=("istio-system/peer-west",))
    text = Metrics(lambda: found).render().decode()
    assert "peerd_withheld_names 5.0" in text
    assert 'peerd_withheld_for_peer{gateway="istio-system/peer-west"} 1.0' in text
    assert "peerd_withheld_for_peer{" not in Metrics(lambda: SNAPSHOT).render().decode()


def test_what_this_replica_writes_is_counted():
    """Requests by kind, verb and outcome, Events by outcome; absent where there is nowhere to write."""
    requests = (("Service", "apply", "ok", 7), ("Service", "apply", "error", 1))
    view = PublishingView(True, "peerd-0_1", 3, requests, (("written", 4),), leftovers=2)
    text = Metrics(lambda: msgspec.structs.replace(SNAPSHOT, publishing=view)).render().decode()
    assert "peerd_writes 1.0" in text
    assert "peerd_writes_pending 3.0" in text
    assert 'peerd_api_requests_total{kind="Service",outcome="ok",verb="apply"} 7.0' in text
    assert 'peerd_events_total{outcome="written"} 4.0' in text
    assert "peerd_leftover_secrets 2.0" in text
    assert "peerd_writes" not in Metrics(lambda: SNAPSHOT).render().decode()
