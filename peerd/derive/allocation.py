"""Which address a host name gets: a hash of the name, then the next free one (decision D28).

A pure choice. That existing allocations win and freed addresses rest is the business of their one writer
(peerd/publish/allocations.py), which calls `choose` for new hosts only.
"""

from collections.abc import Set
from ipaddress import IPv4Network, IPv6Network

import xxhash

from peerd.model.federation import Allocation
from peerd.model.record import Record

GLOBAL_POOL = "global"
"""Of our own names: disjoint from istiod's pools, so that both may allocate in one cluster."""
SERVICE_ENTRY_POOL = "service-entry"
"""Of users' ServiceEntries: istiod's own pools, so that addresses look as they always did."""


class Pool(Record, frozen=True):
    """A block of each family; the first and last address of a block are never given."""

    ipv4: IPv4Network
    ipv6: IPv6Network


POOLS = {
    GLOBAL_POOL: Pool(IPv4Network("240.64.0.0/10"), IPv6Network("fdf0:6d65:7368::/48")),
    SERVICE_ENTRY_POOL: Pool(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48")),
}


def choose(host: str, pool: str, taken: Set[bytes]) -> Allocation | None:
    """An address of each family for *host*, none of them in *taken*; None where the pool has no free one.

    Equal arguments give equal addresses on every replica.

    Raises:
        KeyError: there is no such pool.
    """
    blocks = POOLS[pool]
    ipv4 = _free(host, blocks.ipv4, taken)
    ipv6 = _free(host, blocks.ipv6, taken)
    # Half a name would resolve for some clients only: worse than a diagnostic.
    return None if ipv4 is None or ipv6 is None else Allocation(ipv4, ipv6)


def _free(host: str, block: IPv4Network | IPv6Network, taken: Set[bytes]) -> bytes | None:
    size = block.num_addresses - 2
    first = int(block.network_address) + 1
    start = xxhash.xxh64_intdigest(host.encode()) % size
    width = block.max_prefixlen // 8
    # Among one candidate more than there are taken addresses, one is free.
    for step in range(min(size, len(taken) + 1)):
        address = (first + (start + step) % size).to_bytes(width)
        if address not in taken:
            return address
    return None
