"""The choice of addresses: stable, inside its pool, and honest about exhaustion."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from peerd.derive import allocation
from peerd.derive.allocation import GLOBAL_POOL, POOLS, SERVICE_ENTRY_POOL, Pool, choose
from peerd.model.federation import Allocation


@pytest.mark.parametrize("pool", [GLOBAL_POOL, SERVICE_ENTRY_POOL])
def test_a_host_gets_one_address_of_each_family_inside_its_pool(pool: str) -> None:
    for number in range(200):
        found = choose(f"s{number}.shop.mesh.internal", pool, frozenset())
        assert found is not None
        assert ip_address(found.ipv4) in POOLS[pool].ipv4
        assert ip_address(found.ipv6) in POOLS[pool].ipv6


def test_the_pools_do_not_overlap() -> None:
    """istiod, beside us, gives out of its own (decision D28)."""
    ours, users = POOLS[GLOBAL_POOL], POOLS[SERVICE_ENTRY_POOL]
    assert not ours.ipv4.overlaps(users.ipv4)
    assert not ours.ipv6.overlaps(users.ipv6)


def test_the_choice_is_the_same_in_every_process_and_version() -> None:
    """Two replicas, or one before and after an upgrade, must not differ: the values are pinned."""
    assert choose("reviews.shop.mesh.internal", GLOBAL_POOL, frozenset()) == Allocation(
        bytes.fromhex("f06d1eac"), bytes.fromhex("fdf06d6573680000314dd20fb0504db6")
    )


def test_a_taken_address_is_passed_over_for_the_next() -> None:
    first = choose("a", GLOBAL_POOL, frozenset())
    assert first is not None
    second = choose("a", GLOBAL_POOL, {first.ipv4})
    assert second is not None
    assert int.from_bytes(second.ipv4) == int.from_bytes(first.ipv4) + 1
    assert second.ipv6 == first.ipv6


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pool of two IPv4 addresses and six IPv6 addresses."""
    pool = Pool(IPv4Network("192.0.2.0/30"), IPv6Network("2001:db8::/125"))
    monkeypatch.setitem(allocation.POOLS, "small", pool)
    return "small"


def test_a_pool_gives_every_address_once_and_then_none(small: str) -> None:
    taken: set[bytes] = set()
    for host in ("a", "b"):
        found = choose(host, small, taken)
        assert found is not None
        assert found.ipv4 not in taken
        taken |= {found.ipv4, found.ipv6}
    assert {bytes(address) for address in taken if len(address) == 4} == {
        b"\xc0\x00\x02\x01",
        b"\xc0\x00\x02\x02",
    }
    assert choose("c", small, taken) is None


def test_addresses_of_other_pools_do_not_exhaust_a_pool(small: str) -> None:
    taken = {number.to_bytes(4) for number in range(100)}
    assert choose("a", small, taken) is not None
