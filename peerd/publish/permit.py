"""The right to write into the local cluster: of several replicas one has it (peerd/publish/lease.py)."""

from typing import Protocol


class Permit(Protocol):
    """The right to write."""

    def remaining(self) -> float:
        """Seconds for which it is surely held; 0 = not held."""
        ...


class Always:
    """The permit of a writer without rivals."""

    def remaining(self) -> float:
        """`Permit.remaining`."""
        return float("inf")
