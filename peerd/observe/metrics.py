"""`/metrics`: istiod's names where istiod has them (wire-contract §5.9), ours for peers and limits."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from peerd import __version__, limits
from peerd.model.generated import IstiodFlags
from peerd.model.types import SHORT_NAMES
from peerd.observe.snapshot import CaView, PublishingView, Snapshot


class _FromSnapshot(Collector):
    """Makes every family from one snapshot, so that numbers of one scrape fit each other."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        snapshot = self._take()
        yield from _streams(snapshot)
        yield from _peers(snapshot)
        if snapshot.publishing is not None:
            yield from _publishing(snapshot.publishing)
        if snapshot.istiod is not None:
            yield from _istiod(snapshot.istiod)
        yield from _limits()

    def describe(self) -> list[Metric]:
        return []  # nothing is fixed before the first snapshot


class Metrics:
    """The registry of one peerd; `take` gives the snapshot of the moment."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FromSnapshot(take))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)


def _streams(snapshot: Snapshot) -> Iterator[Metric]:
    connected = GaugeMetricFamily("pilot_xds", "Streams that are open.", labels=["version"])
    by_version: dict[str, int] = {}
    for stream in snapshot.streams:
        by_version[stream.version] = by_version.get(stream.version, 0) + 1
    for version, count in sorted(by_version.items()):
        connected.add_metric([version], count)
    yield connected
    pushes = CounterMetricFamily("pilot_xds_pushes", "Responses sent.", labels=["type"])
    for url, count in sorted(snapshot.pushes.items()):
        pushes.add_metric([_short(url)], count)
    yield pushes
    convergence = snapshot.convergence
    buckets = [(str(bound), count) for bound, count in convergence.buckets]
    yield HistogramMetricFamily(
        "pilot_proxy_convergence_time",
        "Seconds from the first change of a merge window until a stream was sent it.",
        [*buckets, ("+Inf", convergence.count)],
        sum_value=convergence.sum,
    )
    rejects = CounterMetricFamily("pilot_total_xds_rejects", "Responses refused.", labels=["type"])
    for url, count in sorted(snapshot.rejects.items()):
        rejects.add_metric([_short(url)], count)
    yield rejects
    served = GaugeMetricFamily("peerd_resources", "Resources served.", labels=["type"])
    for url, count in sorted(snapshot.resources.items()):
        served.add_metric([_short(url)], count)
    yield served
    build = GaugeMetricFamily("istio_build", "What runs here.", labels=["component", "tag"])
    build.add_metric(["peerd", __version__], 1)
    yield build
    yield GaugeMetricFamily(
        "istiod_uptime_seconds", "Seconds since the start.", value=snapshot.taken_at - snapshot.started_at
    )
    yield GaugeMetricFamily(
        "peerd_ready", "Whether both first answers can be given.", int(not snapshot.not_ready)
    )
    problems = GaugeMetricFamily("peerd_diagnostics", "Present problems in objects.", labels=["severity"])
    for severity in sorted({"error", "warning"}):
        count = sum(problem.severity.value == severity for problem in snapshot.diagnostics)
        problems.add_metric([severity], count)
    yield problems
    yield CounterMetricFamily(
        "citadel_server_success_cert_issuance_count", "Certificates issued.", snapshot.certificates_issued
    )
    if snapshot.ca is not None:
        yield from _ca(snapshot.ca, snapshot.taken_at)


def _ca(ca: CaView, now: float) -> Iterator[Metric]:
    """With istiod's names (wire-contract §5.9), so that its alerts on expiry work."""
    for name, help_text, value in (
        ("csr_count", "Certificate requests.", ca.requests),
        ("authentication_failure_count", "Refused callers.", ca.authentication_failures),
        ("csr_sign_err_count", "Requests that could not be signed.", ca.signing_errors),
    ):
        yield CounterMetricFamily(f"citadel_server_{name}", help_text, value)
    for name, help_text, end in (
        ("root_cert", "root", ca.root_expiry),
        ("cert_chain", "signing path", ca.chain_expiry),
    ):
        yield GaugeMetricFamily(
            f"citadel_server_{name}_expiry_timestamp", f"When the {help_text} ends, Unix time.", end
        )
        yield GaugeMetricFamily(
            f"citadel_server_{name}_expiry_seconds", f"Seconds until the {help_text} ends.", end - now
        )


def _peers(snapshot: Snapshot) -> Iterator[Metric]:
    state = GaugeMetricFamily("peer_connection_state", "1 while connected.", labels=["gateway", "cluster"])
    phase = GaugeMetricFamily("peerd_peer_state", "1 for the present state.", labels=["gateway", "state"])
    since = GaugeMetricFamily("peerd_peer_state_since", "When it began, Unix time.", labels=["gateway"])
    services = GaugeMetricFamily("peerd_peer_services", "Imported services.", labels=["gateway"])
    received = GaugeMetricFamily(
        "peerd_peer_received_bytes", "gRPC message bytes of the present connection.", labels=["gateway"]
    )
    for peer in snapshot.peers:
        gateway = str(peer.key)
        state.add_metric([gateway, peer.cluster], int(peer.connected))
        phase.add_metric([gateway, peer.status.state.value], 1)
        since.add_metric([gateway], peer.status.since)
        services.add_metric([gateway], peer.counts.services)
        received.add_metric([gateway], peer.traffic.received_bytes)
    yield from (state, phase, since, services, received)
    yield GaugeMetricFamily("peerd_withheld_names", "Held back from ztunnels, by client.", snapshot.withheld)
    waits = GaugeMetricFamily("peerd_withheld_for_peer", "1 while names wait for it.", labels=["gateway"])
    for gateway in snapshot.withheld_for:
        waits.add_metric([gateway], 1)
    yield waits


def _publishing(view: PublishingView) -> Iterator[Metric]:
    yield GaugeMetricFamily("peerd_writes", "1 on the replica that writes.", int(view.writes))
    yield GaugeMetricFamily("peerd_writes_pending", "Objects that wait for a write.", view.pending)
    requests = CounterMetricFamily(
        "peerd_api_requests", "Requests about single objects.", labels=["kind", "verb", "outcome"]
    )
    for kind, verb, outcome, count in view.requests:
        requests.add_metric([kind, verb, outcome], count)
    yield requests
    events = CounterMetricFamily("peerd_events", "Events, by what became of them.", labels=["outcome"])
    for outcome, count in view.events:
        events.add_metric([outcome], count)
    yield events
    yield GaugeMetricFamily(
        "peerd_leftover_secrets", "Remote secrets that nothing needs any more.", view.leftovers
    )


def _istiod(flags: IstiodFlags) -> Iterator[Metric]:
    wrong = GaugeMetricFamily(
        "peerd_istiod_flags_wrong",
        "1 while the istiod beside us reads entries otherwise than peerd needs it, and which flag says so.",
        labels=["flag"],
    )
    wrong.add_metric(["" if flags.safe else flags.flag or "unknown"], int(not flags.safe))
    yield wrong


def _limits() -> Iterator[Metric]:
    hits = CounterMetricFamily("peerd_limit_hits", "How often a limit stopped something.", labels=["limit"])
    values = GaugeMetricFamily("peerd_limit", "The limits that hold.", labels=["limit", "unit"])
    for limit in limits.LIMITS:
        hits.add_metric([limit.name], limits.hits(limit))
        values.add_metric([limit.name, limit.unit], limit.value)
    yield hits
    yield values


def _short(type_url: str) -> str:
    return SHORT_NAMES.get(type_url, type_url).lower()
