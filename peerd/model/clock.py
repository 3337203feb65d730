"""Time is passed in: a wall clock for what is written down, a monotonic one for what is waited for."""

from typing import Protocol


class Clock(Protocol):
    """Seconds as floats."""

    def time(self) -> float:
        """Wall clock, seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...
