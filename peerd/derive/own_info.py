"""What this cluster says of itself to its peers: PeerInfo (decisions D15, D17).

Its addresses are those of our own east-west gateways. The lineage, which no object knows, is filled in by the
application.
"""

from peerd.derive import labels
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.gateways import gateway_service_account, hbone_port
from peerd.derive.mesh import ONLY, Mesh
from peerd.derive.problems import error, keyed
from peerd.derive.segments import Segments
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import DataPlaneAddress, PeerInfo
from peerd.model.kube.core import Service
from peerd.model.kube.gateway import Gateway
from peerd.model.mesh import Settings

EAST_WEST_CLASSES = {"istio-eastwest", "istio-east-west"}
HBONE_PORT = 15008


def node_port(gateway: Gateway, service: Service) -> int:
    """The node port behind the gateway's HBONE port, 0 where the Service has none."""
    wanted = hbone_port(gateway) or HBONE_PORT
    for port in service.spec.ports:
        if port.port == wanted:
            return port.node_port
    return 0


class OwnInfo:
    """One PeerInfo, under `ONLY`."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        segments: Segments,
        gateways: Input[str, Gateway],
        services: Input[str, Service],
        node_addresses: Input[str, str],
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._segments = segments
        own = engine.derive("east-west gateways", gateways, self._own)
        self._all = engine.index("all east-west gateways", own, lambda _key, _gateway: (ONLY,))
        # Only gateways' Services and only their nodes: a thousand Services cost nothing here.
        self._services = engine.index(
            "services of gateways",
            services,
            lambda _key, service: (
                (f"{service.metadata.namespace}/{name}",)
                if (name := service.metadata.labels.get(labels.GATEWAY_NAME))
                else ()
            ),
        )
        self._nodes = engine.index("all node addresses", node_addresses, lambda _key, _address: (ONLY,))
        self.table = engine.derive("own info", mesh.facts, self._info)
        self.diagnostics = engine.derive_many("own gateway diagnostics", own, self._diagnostics)

    def _own(self, ctx: Context, _key: str, gateway: Gateway) -> Gateway | None:
        ours = gateway.spec.gateway_class_name in EAST_WEST_CLASSES
        return gateway if ours and ctx.ask(self._mesh.selected, gateway.metadata.namespace) else None

    def _diagnostics(self, ctx: Context, key: str, gateway: Gateway) -> dict[str, Diagnostic]:
        """The network that the gateway claims against the system namespace's: the commonest mistake."""
        named, network = gateway.metadata.labels.get(labels.NETWORK, ""), self._mesh.of(ctx).network
        if not named or named == network:
            return {}
        system = self._settings.system_namespace
        return keyed(
            (
                error(
                    f"Gateway/{key}",
                    f"metadata.labels[{labels.NETWORK}]",
                    f"is {named!r}, but this cluster's network is {network!r}"
                    f" (label {labels.NETWORK} of Namespace {system})",
                    "make both labels equal; peers are told the Namespace's",
                ),
            ),
            "own gateway",
        )

    def _addresses(self, ctx: Context, gateway: Gateway) -> tuple[DataPlaneAddress, ...]:
        """The load balancer's addresses; with annotation NodePort those of the nodes, with the node port."""
        if gateway.metadata.annotations.data_plane.lower() == "nodeport":
            for service in ctx.find(self._services, str(gateway.key)):
                port = node_port(gateway, service)
                if port:
                    nodes = sorted(set(ctx.find(self._nodes, ONLY)))
                    return tuple(DataPlaneAddress("IPAddress", address, port) for address in nodes)
            return ()
        port = hbone_port(gateway) or HBONE_PORT
        return tuple(
            DataPlaneAddress(address.type, address.value, port)
            for address in gateway.status.addresses
            if address.type in {"IPAddress", "Hostname"} and address.value
        )

    def _info(self, ctx: Context, _key: str, _mesh: object) -> PeerInfo:
        mesh = self._mesh.of(ctx)
        own = ctx.find(self._all, ONLY)
        first = own[0] if own else None
        segment = self._segments.of(ctx)
        return PeerInfo(
            cluster=self._settings.cluster_id,
            network=mesh.network,
            trust_domain=mesh.identity_domain,
            lineage="",
            segment=segment.name,
            segment_domain=segment.domain,
            addresses=tuple(address for gateway in own for address in self._addresses(ctx, gateway)),
            gateway_service_account="" if first is None else gateway_service_account(first),
            gateway_namespace="" if first is None else first.metadata.namespace,
        )
