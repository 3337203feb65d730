"""The debug endpoints: views of one snapshot, as values that JSON can hold (wire-contract §5.8)."""

import datetime as dt
from typing import Any

from peerd.model.types import SHORT_NAMES
from peerd.observe.snapshot import PublishingView, Snapshot, StreamView
from peerd.serve.connections import TypeView


def peers(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Each dialled peer: where, how it is, since when, why, and what came from it."""
    return [
        {
            "gateway": str(peer.key),
            "cluster": peer.cluster,
            "network": peer.remote.network,
            "state": peer.status.state.value,
            "since": _time(peer.status.since),
            "reason": peer.status.last_error,
            "connected": peer.connected,
            "address": peer.traffic.address or f"{', '.join(peer.remote.addresses)}:{peer.remote.port}",
            "freshness": peer.counts.freshness.value,
            "lastHeartbeat": _time(peer.counts.last_heartbeat),
            "services": peer.counts.services,
            "refused": dict(peer.counts.refused),
            "receivedBytes": peer.traffic.received_bytes,
            "sentBytes": peer.traffic.sent_bytes,
            "attempts": peer.attempts,
            "nextAttempt": _time(peer.next_attempt),
        }
        for peer in snapshot.peers
    ]


def syncz(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Each stream and how far it has got, in istiod's form; types are named as they are on the wire."""
    return [
        {
            "cluster_id": stream.cluster,
            "proxy": stream.proxy,
            "proxy_type": stream.kind,
            "istio_version": stream.version,
            "resources": {
                view.type_url: {
                    "sent": view.sent,
                    "acked": view.acked,
                    "sentTime": _time(view.sent_at),
                    "lastError": view.error,
                    "status": sync_status(view),
                }
                for view in stream.types
            },
        }
        for stream in snapshot.streams
    ]


def connections(snapshot: Snapshot) -> dict[str, Any]:
    """Who is connected, in istiod's form."""
    return {
        "totalClients": len(snapshot.streams),
        "clients": [_client(stream) for stream in snapshot.streams],
    }


def diagnostics(snapshot: Snapshot) -> list[dict[str, str]]:
    """Every present problem in what users wrote."""
    return [
        {
            "severity": problem.severity.value,
            "where": problem.where,
            "object": problem.object,
            "field": problem.field,
            "message": problem.message,
            "fix": problem.fix,
        }
        for problem in snapshot.diagnostics
    ]


def overview(snapshot: Snapshot) -> dict[str, Any]:
    """Who this is and what it serves."""
    return {
        "cluster": snapshot.cluster,
        "network": snapshot.network,
        "trustDomain": snapshot.trust_domain,
        "lineage": snapshot.lineage,
        "instance": snapshot.instance,
        "revision": snapshot.revision,
        "startedAt": _time(snapshot.started_at),
        "ready": not snapshot.not_ready,
        "notReady": snapshot.not_ready,
        "resources": {SHORT_NAMES.get(url, url): count for url, count in snapshot.resources.items()},
        "writer": _writer(snapshot.publishing),
    }


def _writer(view: PublishingView | None) -> dict[str, Any] | None:
    """Which replica writes into the cluster, and what waits here; None where there is nowhere to write."""
    if view is None:
        return None
    return {"holder": view.holder, "here": view.writes, "pending": view.pending}


def sync_status(view: TypeView) -> str:
    """ERROR, NOT_SENT, SYNCED or STALE, by istiod's rule (wire-contract §5.6)."""
    if view.error:
        return "ERROR"
    if not view.sent:
        return "NOT_SENT"
    return "SYNCED" if view.acked == view.sent else "STALE"


def _client(stream: StreamView) -> dict[str, str]:
    return {
        "connectionId": stream.connection,
        "connectedAt": _time(stream.connected_at),
        "address": stream.address,
        "identity": stream.identity,
    }


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds") if seconds else ""
