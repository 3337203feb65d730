"""Between derivation's exports and the peer port: summaries are held steady (decision D20)."""

import asyncio
from collections.abc import Callable, Iterable

from peerd.model.clock import Clock
from peerd.peering.steady import Announcement, Steady


class Exports:
    """Gives *announce* what peers are to be told now; the rest when it has been steady for long enough."""

    def __init__(self, announce: Callable[[Iterable[Announcement]], None], clock: Clock) -> None:
        self._announce = announce
        self._clock = clock
        self._steady = Steady()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def put(self, exports: Iterable[Announcement]) -> None:
        """Derivation's changes of exports; after `close` they are nobody's."""
        if not self._closed:
            self._tell(self._steady.put(exports, self._clock.monotonic()))

    def close(self) -> None:
        """Announce nothing more."""
        self._closed = True
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, announcements: list[Announcement]) -> None:
        if announcements:
            self._announce(announcements)
        self._disarm()
        due = self._steady.next_due()
        if due is not None:
            wait = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._tell_due)

    def _tell_due(self) -> None:
        self._tell(self._steady.due(self._clock.monotonic()))
