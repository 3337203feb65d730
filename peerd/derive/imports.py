"""Which services of peers are taken in, and which of our names they may change (decision D23).

The importer has refused what contradicts the peer itself (peerd/peering/validation.py). Here it is held
against what this cluster allows: its istio-remote Gateway, its system namespace, its segment.
"""

from peerd.derive import labels
from peerd.derive.gateways import remote_network
from peerd.model.address import Locality
from peerd.model.federation import FederatedService, FederationScope, Freshness, PeerView
from peerd.model.identity import parse_spiffe_id
from peerd.model.kube.gateway import Gateway
from peerd.model.record import Record
from peerd.model.sharing import shared


class Import(Record, frozen=True):
    """A service of a peer that is taken in. `peer` is the key of its Gateway, `locality` the Gateway's.

    `network` is the one behind the Gateway. `flat`: the peer is on our own network, by its own word, and its
    endpoints are reached one by one (decision D31).
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
    locality: Locality
    service: FederatedService


def admit(
    gateway: Gateway,
    view: PeerView,
    service: FederatedService,
    *,
    segment: str,
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
        or (service.scope is FederationScope.SEGMENT and info.segment != segment)
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
        locality=shared(
            Locality(found.get(labels.REGION, ""), found.get(labels.ZONE, ""), found.get(labels.SUBZONE, ""))
        ),
        service=service,
    )


def _within(identity: str, trust_domain: str) -> bool:
    try:
        return parse_spiffe_id(identity).trust_domain == trust_domain
    except ValueError:
        return False
