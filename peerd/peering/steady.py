"""Summaries that stay steady while Pods come and go (decision D20): a machine between exports and peers.

Against what was last announced: a first definition, a removal, a change of anything but capacity, capacity
from 0 or to 0, and a decrease by a quarter or more are announced at once. Every other change of capacity
waits until it has not changed for 5 s, at most 30 s after the first one that was not announced.
"""

import heapq
from collections.abc import Iterable

from peerd.model.federation import FederatedService
from peerd.model.record import Record


class SteadyRules(Record, frozen=True):
    """Seconds, and the share of the announced capacity whose loss is announced at once."""

    quiet: float = 5.0
    longest: float = 30.0
    loss: float = 0.25


class _Waiting:
    def __init__(self, service: FederatedService, now: float) -> None:
        self.service = service
        self.first = now
        self.last = now


Announcement = tuple[str, FederatedService | None]


class Steady:
    """Monotonic seconds are passed in. `put` and `due` return what to announce now, in order."""

    def __init__(self, rules: SteadyRules | None = None) -> None:
        self._rules = rules or SteadyRules()
        self._announced: dict[str, FederatedService] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._times: list[tuple[float, str]] = []

    def put(self, changes: Iterable[Announcement], now: float) -> list[Announcement]:
        """Take what derivation exports (None: no more); returns what goes out at once."""
        out: list[Announcement] = []
        for name, service in changes:
            if service is None:
                self._waiting.pop(name, None)
                if self._announced.pop(name, None) is not None:
                    out.append((name, None))
            elif self._at_once(self._announced.get(name), service):
                self._waiting.pop(name, None)
                if self._announced.get(name) != service:
                    self._announced[name] = service
                    out.append((name, service))
            else:
                self._wait(name, service, now)
        return out

    def due(self, now: float) -> list[Announcement]:
        """What has waited long enough."""
        out: list[Announcement] = []
        while self._times and self._times[0][0] <= now:
            _, name = heapq.heappop(self._times)
            waiting = self._waiting.get(name)
            if waiting is None:
                continue
            if self._when(waiting) > now:
                heapq.heappush(self._times, (self._when(waiting), name))
                continue
            del self._waiting[name]
            self._announced[name] = waiting.service
            out.append((name, waiting.service))
        return out

    def next_due(self) -> float | None:
        """When `due` may have something, or None."""
        return self._times[0][0] if self._times else None

    def _wait(self, name: str, service: FederatedService, now: float) -> None:
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = waiting = _Waiting(service, now)
            heapq.heappush(self._times, (self._when(waiting), name))
        elif waiting.service != service:
            waiting.service = service
            waiting.last = now

    def _when(self, waiting: _Waiting) -> float:
        return min(waiting.last + self._rules.quiet, waiting.first + self._rules.longest)

    def _at_once(self, announced: FederatedService | None, service: FederatedService) -> bool:
        if announced is None or announced == service:
            # Back at what was announced: there is nothing left to say.
            return True
        if _identity(announced) != _identity(service):
            return True
        before, after = _healthy(announced), _healthy(service)
        if before == 0 or after == 0:
            return True
        return after <= before * (1 - self._rules.loss)


def _healthy(service: FederatedService) -> int:
    return sum(capacity.healthy for capacity in service.capacity)


def _identity(service: FederatedService) -> tuple[object, ...]:
    """Everything but capacity."""
    return tuple(
        getattr(service, field) for field in FederatedService.__struct_fields__ if field != "capacity"
    )
