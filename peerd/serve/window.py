"""The merge window (decision D10): one timer for all streams."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from peerd.limits import MERGE_WINDOW_MS
from peerd.protocol.interest import Interest
from peerd.resources.collection import Published
from peerd.resources.store import ResourceStore

_BATCH = 500  # streams woken between two chances for everybody else
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
        store.when_opened(self._opened)

    def close(self) -> None:
        """Publish no more."""
        self._stop_timer()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def publish(self) -> None:
        """Close the window now, or where it gathered much, from now on and in slices."""
        self._stop_timer()
        if self._closing is not None:
            return  # its end looks again
        if self._store.gathered <= _AT_ONCE:
            self._published(self._store.close_window())
        else:
            self._closing = asyncio.get_running_loop().create_task(self._publish_in_slices())

    async def published(self) -> None:
        """Publish what was committed before this call, and wait until it is visible."""
        head = self._store.head
        while self._store.revision < head:
            self.publish()
            if self._closing is not None:
                await asyncio.wait({self._closing})

    async def _publish_in_slices(self) -> None:
        steps = self._store.closing()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                changes: Mapping[str, tuple[Published, ...]] = end.value
                break
            await asyncio.sleep(0)
        self._closing = None
        if self._store.open:
            self._opened()
        self._published(changes)

    def _published(self, changes: Mapping[str, tuple[Published, ...]]) -> None:
        for type_url, published in changes.items():
            self._interest.publish(type_url, published)
        self._wake(iter(list(self._sleepers())))

    def _opened(self) -> None:
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
