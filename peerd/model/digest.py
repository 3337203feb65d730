"""The digest that tells two ends, in 32 characters, whether they hold the same resources (decision D18)."""

from collections.abc import Iterable

import xxhash


def digest(versions: Iterable[tuple[str, str]]) -> str:
    """32 hex digits over (name, version) pairs, whatever their order.

    XXH3-128 of `name NUL version NUL`, concatenated in the order of the names (api/peering/v1/README.md §3).
    """
    lines = sorted(f"{name}\0{version}\0" for name, version in versions)
    return xxhash.xxh3_128_hexdigest("".join(lines).encode())
