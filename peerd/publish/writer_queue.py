"""Which objects are due, in which order: those that may be written now, and those that wait."""

import asyncio
import heapq
from collections.abc import Iterator

from peerd.publish.ref import SortKey
from peerd.publish.writer_entry import Entry


class Queue:
    """An entry is in it once. Monotonic seconds.

    `wake` is set by every change, `idle` by whoever found that nothing is pending.
    """

    def __init__(self) -> None:
        self._ready: list[tuple[bool, bool, int, SortKey, int, Entry]] = []
        self._waiting: list[tuple[float, SortKey, int, Entry]] = []
        self._turns = 0
        self.pending = 0
        """How many entries are in it."""
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    def add(self, entry: Entry, now: float, wait: float) -> None:
        """Have its turn in *wait* seconds, and no other before."""
        self.remove(entry)
        entry.turn = self._next()
        self.pending += 1
        self.idle.clear()
        if wait > 0:
            heapq.heappush(self._waiting, (now + wait, entry.ref.sort_key, entry.turn, entry))
        else:
            self._push_ready(entry)
        self.wake.set()

    def remove(self, entry: Entry) -> None:
        """It need not be written."""
        if entry.turn:
            entry.turn = 0
            self.pending -= 1
            self.wake.set()

    def look_at(self, entry: Entry, at: float) -> None:
        """Have `due` give it back at that time: it is looked at again, not written."""
        entry.look = self._next()
        heapq.heappush(self._waiting, (at, entry.ref.sort_key, entry.look, entry))
        self.wake.set()

    def due(self, now: float) -> Iterator[Entry]:
        """Those to be looked at; what is to be written moves to those that are ready."""
        while self._waiting and self._waiting[0][0] <= now:
            *_, turn, entry = heapq.heappop(self._waiting)
            if turn == entry.turn:
                self._push_ready(entry)
            elif turn == entry.look:
                yield entry

    def pop(self) -> Entry | None:
        """The first that is ready, which it then is no more."""
        while self._ready:
            *_, turn, entry = heapq.heappop(self._ready)
            if turn == entry.turn:
                self.remove(entry)
                return entry
        return None

    @property
    def is_ready(self) -> bool:
        """Whether `pop` may find something."""
        return bool(self._ready)

    def until_due(self, now: float) -> float | None:
        """Seconds until `due` finds something, None for never."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None

    def _push_ready(self, entry: Entry) -> None:
        # What failed before waits for what did not: thousands that are refused hold nobody up. Deletions come
        # last, and in the opposite order.
        deletes = entry.wanted is None
        order = -entry.order if deletes else entry.order
        failed = entry.failures > 0
        heapq.heappush(self._ready, (failed, deletes, order, entry.ref.sort_key, entry.turn, entry))

    def _next(self) -> int:
        self._turns += 1
        return self._turns
