"""The digest that tells two ends, in 32 characters, whether they hold the same resources (decision D18)."""

from collections.abc import Iterable
from hashlib import sha256


def digest(versions: Iterable[tuple[str, str]]) -> str:
    """32 hex digits over (name, version) pairs, whatever their order.

    The first 16 bytes of the SHA-256 of `name NUL version LF`, concatenated in the order of the UTF-8 names.
    """
    lines = sorted(f"{name}\0{version}\n".encode() for name, version in versions)
    return sha256(b"".join(lines)).hexdigest()[:32]
