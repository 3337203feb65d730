"""The merge window (decision D10): one timer for all streams."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from peerd.limits import MERGE_WINDOW_MS
from peerd.protocol.interest import Interest
from peerd.resources.store import ResourceStore

_BATCH = 500  # streams woken between two chances for everybody else


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
        store.when_opened(self._opened)

    def close(self) -> None:
        """Publish no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def publish(self) -> None:
        """Close the window now."""
        self.close()
        for type_url, changes in self._store.close_window().items():
            self._interest.publish(type_url, changes)
        self._wake(iter(list(self._sleepers())))

    def _opened(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.publish)

    def _wake(self, sleepers: Iterator[Sleeper]) -> None:
        for count, sleeper in enumerate(sleepers, 1):
            sleeper.wake()
            if count == _BATCH:
                asyncio.get_running_loop().call_soon(self._wake, sleepers)
                return
