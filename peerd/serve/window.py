"""The merge window (decision D10): one timer for all streams."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from peerd.limits import MERGE_WINDOW_MS
from peerd.protocol.interest import Interest
from peerd.resources.collection import Published
from peerd.resources.store import ResourceStore
from peerd.transport.tasks import in_turns

_BATCH = 500  # streams woken between two chances for everybody else
_REMEMBERED = 256  # windows whose first change is known: a stream further behind waits for itself
_AT_ONCE = 2_000  # names that are published in one go: 5 ms


class Sleeper(Protocol):
    """A stream that may be owed something."""

    def wake(self) -> None:
        """Look again; never raises."""
        ...


class MergeWindow:
    """Publishes a store's commits: the first one opens the window, it closes on time whatever else comes.

    `sleepers` gives the streams to wake; `interest` those that follow single names.
    """

    def __init__(
        self,
        store: ResourceStore,
        interest: Interest,
        sleepers: Callable[[], Iterable[Sleeper]],
        *,
        seconds: float = MERGE_WINDOW_MS.value / 1000,
    ) -> None:
        self._store = store
        self._interest = interest
        self._sleepers = sleepers
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        # Of the last windows: revision, and the loop's time of the first change.
        self._changes: dict[int, float] = {}
        store.when_opened(self._opened)

    def close(self) -> None:
        """Publish no more."""
        self._stop_timer()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def age(self, revision: int) -> float | None:
        """Seconds since the first change of the window that closed as *revision*; None where long ago."""
        changed = self._changes.get(revision)
        return None if changed is None else asyncio.get_running_loop().time() - changed

    def publish(self) -> None:
        """Close the window now, or where it gathered much, from now on and in slices."""
        self._stop_timer()
        if self._closing is not None:
            return  # its end looks again
        if self._store.gathered <= _AT_ONCE:
            self._published(self._store.close_window(), self._opened_at)
        else:
            self._closing = asyncio.get_running_loop().create_task(self._publish_in_slices(self._opened_at))

    async def published(self) -> None:
        """Publish what was committed before this call, and wait until it is visible."""
        head = self._store.head
        while self._store.revision < head:
            self.publish()
            if self._closing is not None:
                await asyncio.wait({self._closing})

    async def _publish_in_slices(self, opened: float) -> None:
        changes = await in_turns(self._store.closing())
        self._closing = None
        if self._store.open:
            self._arm()
        self._published(changes, opened)

    def _published(self, changes: Mapping[str, tuple[Published, ...]], opened: float) -> None:
        if changes:
            self._changes[self._store.revision] = opened
            if len(self._changes) > _REMEMBERED:
                del self._changes[next(iter(self._changes))]
        for type_url, published in changes.items():
            self._interest.publish(type_url, published)
        self._wake(iter(list(self._sleepers())))

    def _opened(self) -> None:
        self._opened_at = asyncio.get_running_loop().time()
        self._arm()

    def _arm(self) -> None:
        if self._closing is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.publish)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, sleepers: Iterator[Sleeper]) -> None:
        for count, sleeper in enumerate(sleepers, 1):
            sleeper.wake()
            if count == _BATCH:
                asyncio.get_running_loop().call_soon(self._wake, sleepers)
                return
