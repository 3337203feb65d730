"""Several Gateways that lead to one cluster: which comes first, and who is told.

An istio-remote Gateway left over beside its successor brings the same services a second time. They count
once: through the Gateway whose peer is in touch, then the older one, then by name (as decision D31 orders).
"""

from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import NetworkGateways
from peerd.derive.problems import keyed, warning
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Freshness, PeerView
from peerd.model.kube.gateway import Gateway
from peerd.model.record import Record


class Way(Record, frozen=True, order=True):
    """A Gateway whose peer is known; they sort as they count."""

    stale: bool
    created: str
    gateway: str
    cluster: str
    lineage: str


class PeerWays:
    """For each Gateway those that lead to the same cluster and come before it."""

    def __init__(self, engine: Engine, *, gateways: NetworkGateways, views: Input[str, PeerView]) -> None:
        self._views = views
        self._table = engine.derive("ways to peers", gateways.remote, self._way, joined=(views,))
        self._by_cluster = engine.index("ways by cluster", self._table, lambda _key, way: (way.cluster,))
        self.before = engine.memo("ways before", self._before)
        self.diagnostics = engine.derive_many("double ways", self._table, self._diagnostics)

    def _way(self, ctx: Context, key: str, gateway: Gateway) -> Way | None:
        view = ctx.same(self._views)
        if view is None or view.info is None or view.freshness is Freshness.EXPIRED:
            return None
        return Way(
            stale=view.freshness is Freshness.STALE,
            created=gateway.metadata.creation_timestamp or "~",
            gateway=key,
            cluster=view.info.cluster,
            lineage=view.info.lineage,
        )

    def _before(self, ctx: Context, gateway: str) -> tuple[str, ...]:
        own = ctx.get(self._table, gateway)
        if own is None:
            return ()
        return tuple(way.gateway for way in sorted(ctx.find(self._by_cluster, own.cluster)) if way < own)

    def _diagnostics(self, ctx: Context, _key: str, own: Way) -> dict[str, Diagnostic]:
        ways = sorted(ctx.find(self._by_cluster, own.cluster))
        others = ", ".join(way.gateway for way in ways if way != own)
        if not others:
            return {}
        where, field = f"Gateway/{own.gateway}", "spec.addresses"
        if len({way.lineage for way in ways}) > 1:
            text = f"two clusters call themselves {own.cluster}, here and behind {others}"
            fix = "give each cluster an id of its own"
        else:
            text = f"{others} leads to the same cluster {own.cluster}"
            fix = "keep one Gateway for each cluster, with all its addresses"
        told = f"{text}: it counts once, through {ways[0].gateway}"
        return keyed((warning(where, field, told, fix),), "double")
