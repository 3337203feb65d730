"""What derivation gives: one revision of everything that follows from objects and imports."""

from peerd.model.authorization import Authorization
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import (
    FederatedName,
    FederatedService,
    NetworkGateway,
    PeerInfo,
    RemotePeer,
    Takeover,
)
from peerd.model.gateway_config import GatewayCluster, GatewayEndpoints, GatewayListener, OwnGateway
from peerd.model.generated import Generated
from peerd.model.record import Record
from peerd.model.service import Service as WireService
from peerd.model.workload import Workload


class Commit(Record, frozen=True):
    """One revision: what changed since the one before, as pairs of name and record, None = gone.

    Names are resource names (addresses, policies, exports), `<namespace>/<name>` of the istio-remote Gateway
    (peers) or of the Service (takeovers), host names (wanted hosts, with the pool they want an address of),
    and keys that stay equal as long as a problem does (diagnostics). `info` is set when it changed, its
    lineage left to the application; `network` is the cluster's own, always. `gateway_*` configure our
    east-west gateways, who prove to be one of `gateways` (`<namespace>/<name>`).

    `flat_exports` are our endpoints of global services, by uid, for peers on our own network (decision D31);
    peers of our own segment are given `segment_flat_exports` instead, which include services of scope
    segment. `takeovers` are to be recorded, and given back as `TakeoverChange` (decision D23). `generated` is
    for our own API server, under `<Kind>/<namespace>/<name>`. So is `federation`, under `<namespace>/<host>`
    of a global name. `ways` lead into other networks: namespace and name of their istio-remote Gateway, and
    which of its addresses.
    """

    revision: int
    addresses: tuple[tuple[str, Workload | WireService | None], ...] = ()
    policies: tuple[tuple[str, Authorization | None], ...] = ()
    exports: tuple[tuple[str, FederatedService | None], ...] = ()
    flat_exports: tuple[tuple[str, Workload | None], ...] = ()
    segment_flat_exports: tuple[tuple[str, Workload | None], ...] = ()
    takeovers: tuple[tuple[str, Takeover | None], ...] = ()
    peers: tuple[tuple[str, RemotePeer | None], ...] = ()
    wanted_hosts: tuple[tuple[str, str | None], ...] = ()
    diagnostics: tuple[tuple[str, Diagnostic | None], ...] = ()
    generated: tuple[tuple[str, Generated | None], ...] = ()
    federation: tuple[tuple[str, FederatedName | None], ...] = ()
    ways: tuple[tuple[tuple[str, str, int], NetworkGateway | None], ...] = ()
    gateways: tuple[tuple[str, OwnGateway | None], ...] = ()
    gateway_listeners: tuple[tuple[str, GatewayListener | None], ...] = ()
    gateway_clusters: tuple[tuple[str, GatewayCluster | None], ...] = ()
    gateway_endpoints: tuple[tuple[str, GatewayEndpoints | None], ...] = ()
    info: PeerInfo | None = None
    network: str = ""
