"""Network gateways: where other networks are entered, and who answers there (wire-contract §4.6).

They come from Gateways of class `istio-remote`. With an HBONE listener a Gateway's own addresses count;
without one, or where NodePort is preferred, those the peer itself names (decision D15).
"""

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import Mesh, MeshFacts
from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from peerd.model.federation import Freshness, NetworkGateway, PeerView
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import Workload, WorkloadType

REMOTE_CLASS = "istio-remote"


def remote_network(gateway: Gateway, view: PeerView | None) -> str:
    """The network behind a Gateway: its label, else what the peer says (decision D15)."""
    named = gateway.metadata.labels.get(labels.NETWORK, "")
    return named or ("" if view is None or view.info is None else view.info.network)


def gateway_service_account(gateway: Gateway) -> str:
    """The gateway's own account: the annotation, else by class (wire-contract §4.6)."""
    account = gateway.metadata.annotations.gateway_service_account
    if account:
        return account
    name = gateway.metadata.name
    return f"{name}-{REMOTE_CLASS}" if gateway.spec.gateway_class_name == REMOTE_CLASS else name


def hbone_port(gateway: Gateway) -> int:
    """The port of the first HBONE listener, 0 where there is none."""
    for listener in gateway.spec.listeners:
        if listener.protocol == "HBONE":
            return listener.port
    return 0


def _prefers_node_port(gateway: Gateway) -> bool:
    return gateway.metadata.annotations.preferred_data_plane.lower() == "nodeport"


def _reachable(gateway: Gateway, view: PeerView | None) -> tuple[tuple[str, str, int], ...]:
    """Type, value and HBONE port of each address, in order."""
    own = tuple(
        (address.type, address.value, hbone_port(gateway))
        for address in gateway.status.addresses
        if address.type in {"IPAddress", "Hostname"} and address.value and hbone_port(gateway)
    )
    info = None if view is None or view.freshness is Freshness.EXPIRED else view.info
    told = () if info is None else tuple((a.type, a.value, a.port) for a in info.addresses)
    if _prefers_node_port(gateway) and told:
        return told
    return own or told


def network_gateways(gateway: Gateway, view: PeerView | None, mesh: MeshFacts) -> tuple[NetworkGateway, ...]:
    """The entries into the network behind an istio-remote Gateway, best first: one for each usable address.

    The trust domain is the annotation (decision D29), else the mesh's.
    """
    network = remote_network(gateway, view)
    if not network:
        return ()
    meta = gateway.metadata
    domain = meta.annotations.gateway_trust_domain or mesh.identity_domain
    info = view.info if view is not None else None
    account = gateway_service_account(gateway)
    namespace = meta.namespace
    if info is not None and info.gateway_service_account and not meta.annotations.gateway_service_account:
        account, namespace = info.gateway_service_account, info.gateway_namespace or namespace
    found: list[NetworkGateway] = []
    for kind, value, port in _reachable(gateway, view):
        ip = pack(value)
        if not 0 < port < 65536 or (kind == "IPAddress" and ip is None):
            continue
        # What parses as an IP is one, whatever its type says.
        destination: NetworkAddress | NamespacedHostname = (
            NamespacedHostname(namespace, value) if ip is None else NetworkAddress(network, ip)
        )
        found.append(
            NetworkGateway(
                network=network,
                address=GatewayAddress(destination, port),
                namespace=namespace,
                service_account=account,
                trust_domain="" if domain == "cluster.local" else domain,
                gateway=ObjectKey(meta.namespace, meta.name),
                value=value,
            )
        )
    return tuple(found)


def gateway_workload(gateway: NetworkGateway) -> Workload:
    """The Workload that lets ztunnel check the gateway's certificate (wire-contract §3.4, §4.3)."""
    uid = f"NetworkGateway/{gateway.network}/{gateway.value}/{gateway.address.hbone_mtls_port}"
    destination = gateway.address.destination
    by_ip = isinstance(destination, NetworkAddress)
    return Workload(
        uid=uid,
        name=uid,
        namespace=gateway.namespace,
        addresses=(destination.address,) if isinstance(destination, NetworkAddress) else (),
        hostname="" if by_ip else gateway.value,
        network=gateway.network,
        trust_domain=gateway.trust_domain,
        service_account=gateway.service_account,
        workload_type=WorkloadType.DEPLOYMENT,  # istiod leaves it unset (golden: networks)
    )


class NetworkGateways:
    """All entries into other networks, under namespace and name of the Gateway and the address's position."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        gateways: Input[str, Gateway],
        views: Input[str, PeerView],
        beside: bool = False,
    ) -> None:
        self._mesh = mesh
        self._beside = beside
        self.remote = engine.derive("remote gateways", gateways, self._remote)
        self.table = engine.derive_many("network gateways", self.remote, self._gateways, joined=(views,))
        self._views = views
        self.by_network = engine.index(
            "gateways by network", self.table, lambda _key, gateway: (gateway.network,)
        )
        self.wire = engine.derive_many(
            "gateway workloads", self.table, lambda _ctx, _key, gateway: _named(gateway_workload(gateway))
        )

    def _remote(self, ctx: Context, _key: str, gateway: Gateway) -> Gateway | None:
        is_remote = gateway.spec.gateway_class_name == REMOTE_CLASS
        return gateway if is_remote and ctx.ask(self._mesh.selected, gateway.metadata.namespace) else None

    def _gateways(
        self, ctx: Context, _key: str, gateway: Gateway
    ) -> dict[tuple[str, str, int], NetworkGateway]:
        meta = gateway.metadata
        # Istiod knows what the Gateway says, and nothing of what its peer says.
        view = None if self._beside else ctx.same(self._views)
        found = network_gateways(gateway, view, self._mesh.of(ctx))
        # The position keeps the order of the addresses: the first one is used (golden README, quirks).
        return {(meta.namespace, meta.name, position): entry for position, entry in enumerate(found)}

    def into(self, ctx: Context, network: str) -> GatewayAddress | None:
        """The address that workloads of *network* name as their gateway: of the first Gateway the first."""
        found = ctx.find(self.by_network, network)
        return found[0].address if found else None


def _named(workload: Workload) -> dict[str, Workload]:
    return {workload.uid: workload}
