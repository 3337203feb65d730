"""Receiving ends of HBONE, grouped by place, as a gateway balances over them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd

import msgspec

from peerd.derive.waypoints import HBONE_PORT
from peerd.model.address import Locality
from peerd.model.gateway_config import GatewayEndpoint, GatewayEndpoints, GatewayPlace, Standpoint
from peerd.model.record import Record
from peerd.model.service import Scope
from peerd.model.sharing import shared
from peerd.model.workload import Workload

_HEAVIEST = 65_535  # Envoy bounds the sum of a cluster's weights by 32 bits


class Member(Record, frozen=True):
    """One receiving end: where it listens, how much it takes, where it is."""

    address: bytes
    port: int = HBONE_PORT
    weight: int = 1
    locality: Locality = Locality()
    node: str = ""

    @classmethod
    def of(cls, workload: Workload) -> "Member":
        """A workload on its first address; its capacity is its weight."""
        capacity = 1 if workload.capacity is None else workload.capacity
        place = workload.locality or shared(Locality())
        return cls(workload.addresses[0], HBONE_PORT, capacity, place, workload.node)

    def times(self, factor: int) -> "Member":
        """The same with a multiple of its weight."""
        return msgspec.structs.replace(self, weight=self.weight * factor)


def places(members: Sequence[Member], prefers: Sequence[Scope] = ()) -> tuple[GatewayPlace, ...]:
    """Members by locality and address, by node where it is one of *prefers*.

    An address that several name counts once, with the larger weight.
    """
    heaviest: dict[tuple[bytes, int], Member] = {}
    for member in members:
        known = heaviest.get((member.address, member.port))
        if known is None or known.weight < member.weight:
            heaviest[member.address, member.port] = member
    scaled = _scaled([member.weight for member in heaviest.values()])
    nodes = Scope.NODE in prefers
    by_place: dict[tuple[Locality, str], list[GatewayEndpoint]] = {}
    for member, weight in zip(heaviest.values(), scaled, strict=True):
        endpoint = GatewayEndpoint(member.address, member.port, weight)
        by_place.setdefault((member.locality, member.node if nodes else ""), []).append(endpoint)
    return tuple(
        GatewayPlace(locality, tuple(sorted(by_place[locality, node])), node)
        for locality, node in sorted(by_place)
    )


_SHARED: Mapping[Scope, Callable[[GatewayPlace, Standpoint], bool]] = {
    Scope.REGION: lambda place, here: place.locality.region == here.locality.region,
    Scope.ZONE: lambda place, here: place.locality.zone == here.locality.zone,
    Scope.SUBZONE: lambda place, here: place.locality.subzone == here.locality.subzone,
    Scope.NODE: lambda place, here: place.node == here.node,
}
RANKED = tuple(_SHARED)
"""What endpoints of one cluster and network may differ in."""


def ranked(endpoints: GatewayEndpoints, here: Standpoint) -> GatewayEndpoints:
    """The same as seen from *here*: ranked as ztunnel does for a caller there (FAILOVER, wire-contract §3.3).

    The more leading preferences a place shares, the earlier: priorities from 0 without gaps, as Envoy wants.
    """

    def shares(place: GatewayPlace) -> int:
        count = 0
        for scope in endpoints.prefers:
            if not _SHARED[scope](place, here):
                break
            count += 1
        return count

    found = [(place, shares(place)) for place in endpoints.places]
    order = sorted({rank for _, rank in found}, reverse=True)
    placed = tuple(
        GatewayPlace(place.locality, place.endpoints, priority=order.index(rank)) for place, rank in found
    )
    return GatewayEndpoints(endpoints.name, placed)


def _scaled(weights: Iterable[int]) -> list[int]:
    """The same proportions from 1 to the heaviest that is sent."""
    weights = list(weights)
    divisor = gcd(*weights) or 1
    weights = [weight // divisor for weight in weights]
    largest = max(weights, default=1)
    if largest <= _HEAVIEST:
        return weights
    return [max(1, weight * _HEAVIEST // largest) for weight in weights]
