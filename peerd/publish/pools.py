"""What holds of pools of addresses, wherever allocations are recorded (decision D28)."""

from collections.abc import Callable, Mapping, Set

from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation

REST_SECONDS = 3600.0
"""How long a freed address is given to nobody else: longer than any client caches a name."""

Choose = Callable[[str, str, Set[bytes]], Allocation | None]
"""Called with host, pool and the addresses that are taken; None where the pool has no free one."""


def exhausted(waiting: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """One for each host of *waiting*, which names the pool that has no address for it."""
    return tuple(
        Diagnostic(
            f"Host/{host}",
            "address",
            f"pool {pool} has no free address",
            "make fewer services global, or wait: a freed address rests for an hour",
        )
        for host, pool in sorted(waiting.items())
    )
