"""One copy of equal values: thousands of services have the same ports, places, namespaces."""

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

T = TypeVar("T", bound=Hashable)


def shared(value: T) -> T:
    """*value*, or the equal one that was shared before, if that was not too long ago.

    Bounded, so that a peer which never says the same twice only makes it useless, not large. For values
    whose equals are of the same type, as those of records are.
    """
    return cast("T", _kept(value))


@lru_cache(maxsize=1 << 14)
def _kept(value: Any) -> Any:
    return value
