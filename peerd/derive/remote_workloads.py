"""Endpoints in other networks: one Workload for each way in (decisions D21, D27; wire-contract §3.6)."""

from collections.abc import Iterable

import xxhash

from peerd.derive.imports import Import
from peerd.model.address import Locality, NamespacedHostname, NetworkAddress, Port, ip_text
from peerd.model.federation import NetworkGateway
from peerd.model.sharing import shared
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload

STALE_DIVISOR = 10


def counted(healthy: int, *, stale: bool, fresh_elsewhere: bool) -> int:
    """What *healthy* endpoints count: of a stale peer a tenth, at least 1, while others are fresh (D21)."""
    if stale and fresh_elsewhere and healthy:
        return max(1, healthy // STALE_DIVISOR)
    return healthy


def split(capacity: int, ways: int) -> tuple[int, ...]:
    """*capacity* over *ways* gateways: the remainder to the first ones, each at least 1 (D27)."""
    each, rest = divmod(capacity, ways)
    return tuple(max(1, each + (position < rest)) for position in range(ways))


def remote_workloads(
    found: Import,
    gateways: Iterable[NetworkGateway],
    services: tuple[ServicePorts, ...],
    *,
    own_network: str,
    fresh_elsewhere: bool,
) -> dict[str, Workload]:
    """The Workloads of one import by uid: for each network and locality with capacity, for each gateway.

    *services* are the names that lead here, with the ports the peer has. Without gateway there is no way in,
    and no Workload. On *own_network* the name of the cluster is added to that of the network: ztunnel takes a
    gateway to other networks only.
    """
    ways = {way.address: way for way in gateways}
    workloads: dict[str, Workload] = {}
    for capacity in found.service.capacity:
        if not capacity.healthy or not services:
            continue
        into = [way for way in ways.values() if way.network == capacity.network]
        if not into:
            continue
        locality = shared(filled(capacity.locality, found.locality))
        flat = capacity.network == own_network
        network = shared(f"{own_network}/{found.cluster}") if flat else capacity.network
        shares = split(
            counted(capacity.healthy, stale=found.stale, fresh_elsewhere=fresh_elsewhere), len(into)
        )
        for way, share in zip(into, shares, strict=True):
            uid = f"{_prefix(found)}.{_digest(capacity.network, locality, way)}"
            workloads[uid] = Workload(
                uid=uid,
                name=uid,
                namespace=found.service.namespace,
                network=network,
                tunnel_protocol=TunnelProtocol.HBONE,
                trust_domain="" if found.trust_domain == "cluster.local" else found.trust_domain,
                cluster_id=found.cluster,
                network_gateway=way.address,
                services=services,
                locality=None if locality == Locality() else locality,
                capacity=share,
            )
    return workloads


def ports_of(found: Import, ports: Iterable[Port]) -> tuple[Port, ...]:
    """Of a service's *ports* those that the peer has, each with a target: a remote port is never 0 (§3.3)."""
    targets = {port.number: port.target or port.number for port in found.service.ports}
    return shared(
        tuple(
            Port(port.service_port, port.target_port or targets[port.service_port])
            for port in ports
            if port.service_port in targets
        )
    )


def filled(locality: Locality, gateway: Locality) -> Locality:
    """Labels of the Gateway fill what the peer does not say (D27)."""
    return Locality(
        locality.region or gateway.region, locality.zone or gateway.zone, locality.subzone or gateway.subzone
    )


def _prefix(found: Import) -> str:
    return f"autogen.{found.cluster}.{found.service.namespace}.{found.service.name}"


def _digest(network: str, locality: Locality, way: NetworkGateway) -> str:
    """Eight hex digits that tell apart what one peer's service has: never the peer's order or age."""
    match way.address.destination:
        case NetworkAddress(_, address):
            place = ip_text(address)
        case NamespacedHostname(namespace, hostname):
            place = f"{namespace}/{hostname}"
    text = "\0".join(
        (
            network,
            locality.region,
            locality.zone,
            locality.subzone,
            place,
            str(way.address.hbone_mtls_port),
        )
    )
    return f"{xxhash.xxh32_intdigest(text.encode()):08x}"
