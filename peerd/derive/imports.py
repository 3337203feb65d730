"""Which services of peers are taken in, and which of our names they may change (decision D23).

The importer has refused what contradicts the peer itself (peerd/peering/validation.py). Here it is held
against what this cluster allows: its istio-remote Gateway, its system namespace, its segment.
"""

import msgspec

from peerd.derive import labels
from peerd.derive.aliases import Named, admitted
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import NetworkGateways, remote_network
from peerd.derive.global_names import Contribution
from peerd.derive.mesh import Mesh
from peerd.derive.peer_ways import PeerWays
from peerd.derive.segments import Segments
from peerd.model.address import Locality
from peerd.model.federation import FederatedService, FederationScope, Freshness, PeerView, Segment
from peerd.model.identity import parse_spiffe_id
from peerd.model.kube.gateway import Gateway
from peerd.model.mesh import Settings
from peerd.model.record import Record
from peerd.model.sharing import shared


class Import(Record, frozen=True):
    """A service of a peer that is taken in. `peer` is the key of its Gateway, `locality` the Gateway's.

    `network` is the one behind the Gateway. `flat`: the peer is on our own network, by its own word, and its
    endpoints are reached one by one (decision D31). `same_names`: its global names are of our own segment's
    domain, so that one name means one service in both clusters. `aliases` are those that our own Segment
    knows.

    `key` is the resource name of its global name's Service, `<namespace>/<host>`: made once, it is looked up
    by many.
    """

    peer: str
    key: str
    cluster: str
    network: str
    trust_domain: str
    stale: bool
    may_take_over: bool
    flat: bool
    same_names: bool
    locality: Locality
    service: FederatedService
    aliases: tuple[str, ...] = ()


class Imports:
    """What is taken in, under the Gateway's key and the service's name."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        segments: Segments,
        gateways: NetworkGateways,
        views: Input[str, PeerView],
        imports: Input[tuple[str, str], FederatedService],
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._segments = segments
        self._gateways = gateways
        self._views = views
        self._told = imports
        self._ways = PeerWays(engine, gateways=gateways, views=views)
        self.table = engine.derive("admitted imports", imports, self._admitted)
        self.diagnostics = self._ways.diagnostics

    def _admitted(self, ctx: Context, key: tuple[str, str], service: FederatedService) -> Import | None:
        """What is taken in; of one cluster's word through several Gateways the first Gateway's."""
        found = self._admit(ctx, key[0], service)
        if found is None:
            return None
        for gateway in ctx.ask(self._ways.before, key[0]):
            other = ctx.get(self._told, (gateway, key[1]))
            if other is not None and self._admit(ctx, gateway, other) is not None:
                return None
        return found

    def _admit(self, ctx: Context, through: str, service: FederatedService) -> Import | None:
        gateway, view = ctx.get(self._gateways.remote, through), ctx.get(self._views, through)
        if gateway is None or view is None:
            return None
        segment = self._segments.of(ctx)
        found = admit(
            gateway,
            view,
            service,
            segment=segment,
            system_namespace=self._settings.system_namespace,
            own_network=self._mesh.of(ctx).network,
        )
        # Aliases are a matter within a segment.
        if found is None or not service.aliases or view.info is None or view.info.segment != segment.name:
            return found
        hosts = admitted(
            self._segments.aliases(ctx),
            Named(service.name, service.namespace),
            service.aliases,
            reserved=(self._settings.domain, segment.domain),
        )
        return msgspec.structs.replace(found, aliases=hosts)


def admit(
    gateway: Gateway,
    view: PeerView,
    service: FederatedService,
    *,
    segment: Segment,
    system_namespace: str,
    own_network: str,
) -> Import | None:
    """*service* as it is taken in through *gateway*, or None where it is not.

    Not taken in: anything of a peer that is unknown or expired; names outside the peer's own domain or in the
    system namespace; identities outside its trust domain; another segment's `segment` services; namespaces
    the Gateway's annotation does not list.
    """
    info = view.info
    if info is None or view.freshness is Freshness.EXPIRED:
        return None
    notes = gateway.metadata.annotations
    namespaces = {name.strip() for name in notes.peer_namespaces.split(",") if name.strip()}
    own = f"{service.name}.{service.namespace}"
    if (
        service.namespace == system_namespace
        or (namespaces and service.namespace not in namespaces)
        or service.global_host != f"{own}.{info.segment_domain}"
        or not service.local_host.startswith(f"{own}.svc.")
        or (service.scope is FederationScope.SEGMENT and info.segment != segment.name)
        or not all(_within(identity, info.trust_domain) for identity in service.identities)
    ):
        return None
    found = gateway.metadata.labels
    return Import(
        peer=shared(str(gateway.key)),
        key=f"{service.namespace}/{service.global_host}",
        cluster=info.cluster,
        network=remote_network(gateway, view),
        trust_domain=info.trust_domain,
        stale=view.freshness is Freshness.STALE,
        may_take_over=notes.peer_takeover == "true",
        # Two clusters that name no network have said nothing of it.
        flat=info.network == own_network != "",
        same_names=info.segment_domain == segment.domain,
        locality=shared(
            Locality(found.get(labels.REGION, ""), found.get(labels.ZONE, ""), found.get(labels.SUBZONE, ""))
        ),
        service=service,
    )


def contribution_of(found: Import) -> Contribution:
    """What a peer says of its global name."""
    service = found.service
    return Contribution(
        key=found.key,
        host=service.global_host,
        name=service.name,
        namespace=service.namespace,
        cluster=found.cluster,
        peer=found.peer,
        ports=shared(service.ports),  # thousands of clusters say the same: comparing them is free then
        distribution=service.distribution,
        scope=service.scope,
        takeover=service.takeover,
        identities=service.identities,
        created=service.created,
    )


def _within(identity: str, trust_domain: str) -> bool:
    try:
        return parse_spiffe_id(identity).trust_domain == trust_domain
    except ValueError:
        return False
