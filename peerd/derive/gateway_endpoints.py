"""Receiving ends of HBONE, grouped by place, as a gateway balances over them."""

from collections.abc import Iterable, Sequence
from math import gcd

import msgspec

from peerd.derive.waypoints import HBONE_PORT
from peerd.model.address import Locality
from peerd.model.gateway_config import GatewayEndpoint, GatewayPlace
from peerd.model.record import Record
from peerd.model.sharing import shared
from peerd.model.workload import Workload

_HEAVIEST = 65_535  # Envoy bounds the sum of a cluster's weights by 32 bits


class Member(Record, frozen=True):
    """One receiving end: where it listens, how much it takes, where it is."""

    address: bytes
    port: int = HBONE_PORT
    weight: int = 1
    locality: Locality = Locality()

    @classmethod
    def of(cls, workload: Workload) -> "Member":
        """A workload on its first address; its capacity is its weight."""
        capacity = 1 if workload.capacity is None else workload.capacity
        return cls(workload.addresses[0], HBONE_PORT, capacity, workload.locality or shared(Locality()))

    def times(self, factor: int) -> "Member":
        """The same with a multiple of its weight."""
        return msgspec.structs.replace(self, weight=self.weight * factor)


def places(members: Sequence[Member]) -> tuple[GatewayPlace, ...]:
    """Members by locality and address; an address that several name counts once, with the larger weight."""
    heaviest: dict[tuple[bytes, int], Member] = {}
    for member in members:
        known = heaviest.get((member.address, member.port))
        if known is None or known.weight < member.weight:
            heaviest[member.address, member.port] = member
    scaled = _scaled([member.weight for member in heaviest.values()])
    by_place: dict[Locality, list[GatewayEndpoint]] = {}
    for member, weight in zip(heaviest.values(), scaled, strict=True):
        endpoint = GatewayEndpoint(member.address, member.port, weight)
        by_place.setdefault(member.locality, []).append(endpoint)
    return tuple(GatewayPlace(place, tuple(sorted(by_place[place]))) for place in sorted(by_place))


def _scaled(weights: Iterable[int]) -> list[int]:
    """The same proportions from 1 to the heaviest that is sent."""
    weights = list(weights)
    divisor = gcd(*weights) or 1
    weights = [weight // divisor for weight in weights]
    largest = max(weights, default=1)
    if largest <= _HEAVIEST:
        return weights
    return [max(1, weight * _HEAVIEST // largest) for weight in weights]
