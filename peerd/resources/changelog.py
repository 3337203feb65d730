"""What changed when, for one type: spans between two closed windows, back to a horizon (decision D4)."""

from bisect import bisect_right
from collections import deque

from peerd.model.horizon import BehindHorizonError
from peerd.model.record import Record


class Tick(Record, frozen=True):
    """The names of one closed window: new ones, changed ones, removed ones."""

    revision: int
    created: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many names the tick holds."""
        return len(self.created) + len(self.changed) + len(self.removed)


class Span(Record, frozen=True):
    """The net change between two revisions: names to send, in the order they changed, and names to remove."""

    puts: tuple[str, ...]
    removals: tuple[str, ...]


class ChangeLog:
    """Ticks of one type, at most *limit* names of them, the newest tick always."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ticks: deque[Tick] = deque()
        self._revisions: deque[int] = deque()
        self._names = 0
        self.horizon = 0
        self.removal_horizon = 0  # the same for removals: the last dropped tick that had some
        self.newest = 0
        self.newest_removal = 0
        # When each absent name was last removed; a name leaves with the tick that removed it.
        self._removed_at: dict[str, int] = {}

    def append(self, tick: Tick) -> None:
        """Add the newest tick; the oldest go once there are too many names."""
        self._ticks.append(tick)
        self._revisions.append(tick.revision)
        self._names += tick.size
        self.newest = tick.revision
        if tick.removed:
            self.newest_removal = tick.revision
        for name in tick.created:
            self._removed_at.pop(name, None)
        for name in tick.removed:
            self._removed_at[name] = tick.revision
        while self._names > self._limit and len(self._ticks) > 1:
            self._drop()

    def span(self, since: int, until: int) -> Span:
        """The net change in (since, until].

        A name that came and went in between is left out. Where `until` is not the newest revision, `puts`
        are names, not contents: what they hold now may be newer.

        Raises:
            BehindHorizonError: *since* is before the horizon.
        """
        if since < self.horizon:
            raise BehindHorizonError(since, self.horizon)
        new: set[str] = set()
        put: dict[str, None] = {}
        removed: dict[str, None] = {}
        for index in range(bisect_right(self._revisions, since), len(self._ticks)):
            tick = self._ticks[index]
            if tick.revision > until:
                break
            for name in tick.created:
                if name in removed:
                    del removed[name]  # the client still has it, in an older form
                else:
                    new.add(name)
                put[name] = None
            for name in tick.changed:
                put[name] = None
            for name in tick.removed:
                put.pop(name, None)
                if name in new:
                    new.remove(name)
                else:
                    removed[name] = None
        return Span(tuple(put), tuple(removed))

    def gone(self, since: int, until: int) -> tuple[str, ...]:
        """Names removed in (since, until] that were not touched later.

        Unlike `span` it names those that came in between too: a client whose removals lag behind the rest
        (decision D8) was given them.

        Raises:
            BehindHorizonError: *since* is before the horizon of removals.
        """
        if since < self.removal_horizon:
            raise BehindHorizonError(since, self.removal_horizon)
        names: dict[str, None] = {}
        for index in range(bisect_right(self._revisions, since), len(self._ticks)):
            tick = self._ticks[index]
            if tick.revision > until:
                break
            names.update(dict.fromkeys(n for n in tick.removed if self._removed_at.get(n) == tick.revision))
        return tuple(names)

    def _drop(self) -> None:
        tick = self._ticks.popleft()
        self._revisions.popleft()
        self._names -= tick.size
        self.horizon = tick.revision
        if tick.removed:
            self.removal_horizon = tick.revision
        for name in tick.removed:
            if self._removed_at.get(name) == tick.revision:
                del self._removed_at[name]
