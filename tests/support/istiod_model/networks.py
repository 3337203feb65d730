"""Gateways of other networks, and the Workloads that stand for them (§4.6)."""

from collections import defaultdict
from collections.abc import Iterable

from peerd.model.address import GatewayAddress, parse_ip
from peerd.model.kube.gateway import Gateway
from peerd.model.workload import Workload
from tests.support.istiod_model.objects import Held, gateway_address


class Networks:
    """The ways out of one cluster: of istio-remote Gateways with a network and an HBONE listener."""

    def __init__(self, held: Held) -> None:
        self._ways: dict[str, list[tuple[GatewayAddress, Gateway, str]]] = defaultdict(list)
        for _, gateway in sorted(held.gateways.items()):
            network = gateway.metadata.labels.get("topology.istio.io/network", "")
            if gateway.spec.gateway_class_name != "istio-remote" or not network:
                continue
            port = next((each.port for each in gateway.spec.listeners if each.protocol == "HBONE"), 0)
            for address in gateway.status.addresses:
                if port and address.type in {"IPAddress", "Hostname"}:
                    way = gateway_address(gateway.metadata.namespace, network, address.value, port)
                    self._ways[network].append((way, gateway, address.value))

    def way(self, network: str) -> GatewayAddress | None:
        """One gateway for a whole network: of several the first (golden README, quirks)."""
        ways = self._ways.get(network)
        return ways[0][0] if ways else None

    def workloads(self) -> Iterable[Workload]:
        """One for each address of a gateway."""
        for network, ways in self._ways.items():
            for way, gateway, value in ways:
                meta = gateway.metadata
                uid = f"NetworkGateway/{network}/{value}/{way.hbone_mtls_port}"
                ip = parse_ip(value)
                yield Workload(
                    uid=uid,
                    name=uid,
                    namespace=meta.namespace,
                    addresses=() if ip is None else (ip,),
                    hostname=value if ip is None else "",
                    network=network,
                    service_account=meta.annotations.gateway_service_account or f"{meta.name}-istio-remote",
                )
