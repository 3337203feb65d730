"""Which waypoint a service is bound to (§4.5)."""

from collections.abc import Mapping

from peerd.model.address import GatewayAddress
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import KubeObject
from peerd.model.service import WeightedWaypoint
from tests.support.istiod_model.objects import Held, annotations, gateway_address


class Waypoints:
    """Those of one cluster."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def of(self, found: KubeObject) -> tuple[GatewayAddress | None, tuple[WeightedWaypoint, ...]]:
        """The waypoint of a Service or ServiceEntry, and how it is shared with a canary."""
        labels, namespace = found.metadata.labels, found.metadata.namespace
        if labels.get("gateway.istio.io/managed", "").startswith("istio.io-"):
            return None, ()
        weight = annotations(found).waypoint_canary_weight
        if "istio.io/use-waypoint" not in labels:
            space = self._held.namespaces.get(namespace)
            if space is None:
                return None, ()
            labels = {**space.metadata.labels, **{k: v for k, v in labels.items() if "canary" in k}}
            weight = weight or space.metadata.annotations.waypoint_canary_weight
        primary = self._named(labels, "istio.io/use-waypoint", namespace)
        canary = self._named(labels, "istio.io/use-waypoint-canary", namespace)
        share = int(weight or 0) if (weight or "0").isdigit() else 101
        if primary is None or canary is None or canary == primary or share > 100:
            return primary, ()
        return primary, (WeightedWaypoint(primary, 100 - share), WeightedWaypoint(canary, share))

    def _named(self, labels: Mapping[str, str], label: str, namespace: str) -> GatewayAddress | None:
        name = labels.get(label, "none")
        where = labels.get(f"{label}-namespace", namespace)
        gateway = self._held.gateways.get(f"{where}/{name}")
        if name == "none" or gateway is None or not _attaches(gateway, namespace):
            return None
        traffic = gateway.metadata.labels.get("istio.io/waypoint-for", "service")
        if traffic not in {"service", "all"}:
            return None
        for kind in ("Hostname", "IPAddress"):
            for address in gateway.status.addresses:
                if address.type == kind:
                    return gateway_address(where, self._held.network, address.value, 15008)
        return None


def _attaches(gateway: Gateway, namespace: str) -> bool:
    for listener in gateway.spec.listeners:
        if listener.protocol == "HBONE" and listener.port == 15008:
            if listener.allowed_routes.namespaces.from_ == "All":
                return True
            break
    return gateway.metadata.namespace == namespace
