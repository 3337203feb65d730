"""Events on objects of the local cluster: what changed, told once, counted when it recurs, never a flood.

An Event's name is made from what it says, so that the same thing said again, by this process or another, is
a higher count of the same Event. Events are best effort: what cannot be written is tried again for a while
and then forgotten; nothing waits for them.
"""

import asyncio
import random
from collections import Counter, deque
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import structlog

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.kubeapi.resources import EVENT
from peerd.limits import EVENTS, EVENTS_PER_OBJECT, EVENTS_WAITING, KUBE_WRITE_S, hit
from peerd.model.clock import Clock
from peerd.model.generated import FIELD_MANAGER
from peerd.model.record import Record
from peerd.publish.conditions import shortened
from peerd.publish.pace import Bucket, keep_working, retry_wait
from peerd.publish.permit import Permit

log = structlog.get_logger("peerd.events")

NORMAL, WARNING = "Normal", "Warning"
_REFILL = 60.0  # seconds until an object that was told EVENTS_PER_OBJECT times may be told once more
_AGAIN = 600.0  # seconds for which the same thing about the same object is not told again
_ATTEMPTS = 5
_KEPT = 10_000  # how many told things are remembered
_CONFLICT = 409


class About(Record, frozen=True):
    """The object an Event is about. `uid` empty: it is looked up before the Event is written."""

    resource: Resource
    namespace: str
    name: str
    uid: str = ""

    @property
    def place(self) -> str:
        """The namespace its Events live in; those of cluster-scoped objects live in `default`."""
        return self.namespace or "default"


class Event(Record, frozen=True):
    """`kind` is `Normal` or `Warning`, `reason` one CamelCase word, `at` wall-clock seconds."""

    about: About
    kind: str
    reason: str
    message: str
    at: float

    @property
    def name(self) -> str:
        """The same for the same words about the same object."""
        about = self.about
        said = "\0".join((about.resource.kind, about.uid, self.kind, self.reason, self.message))
        return f"{about.name[:200]}.{sha256(said.encode()).hexdigest()[:16]}"


class Events:
    """Call `run` in a task, `say` at any time from the same loop.

    Args:
        objects: the API server.
        component: who reports.
        permit: without it nothing is said: another replica says it.
    """

    def __init__(
        self,
        objects: KubeObjects,
        *,
        clock: Clock,
        source: random.Random,
        permit: Permit,
        component: str = "peerd",
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._random = source
        self._permit = permit
        self._component = component
        self._queue: deque[tuple[Event, int]] = deque()
        self._bucket = Bucket(EVENTS.value, 10 * EVENTS.value, clock.monotonic())
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._told: dict[tuple[About, str, str, str], float] = {}
        self._paused_until = 0.0
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """Events by outcome: `written`, `repeated` (not told again), `dropped`."""

    def say(self, about: About, kind: str, reason: str, message: str) -> None:
        """Tell *message* about an object, unless that was said a moment ago, or it is told too much."""
        if self._permit.remaining() <= 0:
            return
        now = self._clock.monotonic()
        message = shortened(message)
        key = about, kind, reason, message
        last = self._told.get(key)
        if last is not None and now - last < _AGAIN:
            self.counts["repeated"] += 1
            return
        if not self._may(about, now):
            hit(EVENTS_PER_OBJECT)
            self.counts["dropped"] += 1
            return
        if len(self._told) >= _KEPT:
            self._told.clear()
        self._told[key] = now
        if len(self._queue) >= EVENTS_WAITING.value:
            hit(EVENTS_WAITING)
            self.counts["dropped"] += 1
            self._queue.popleft()
        self._queue.append((Event(about, kind, reason, message, self._clock.time()), 0))
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        await keep_working(self.work, self._wake)

    async def work(self) -> float | None:
        """Write what may be written now; returns the seconds until more may be, None for never."""
        while self._queue:
            if self._permit.remaining() <= 0:
                self._queue.clear()  # what changed is another replica's to tell
                return None
            now = self._clock.monotonic()
            paced = self._bucket.wait(now)
            wait = max(self._paused_until - now, paced)
            if wait > 0:
                if paced == wait:
                    hit(EVENTS)
                return wait
            self._bucket.take(now)
            event, failures = self._queue.popleft()
            await self._write(event, failures)
        return None

    async def _write(self, event: Event, failures: int) -> None:
        try:
            async with asyncio.timeout(min(float(KUBE_WRITE_S.value), self._permit.remaining())):
                known = await self._identified(event)
                if known is not None:
                    await self._post(known)
        except (TimeoutError, ApiUnreachableError) as error:
            self._again(event, failures, str(error) or "no answer", 0.0)
        except ApiError as error:
            if error.status in {429, 500, 502, 503, 504}:
                self._again(event, failures, str(error), error.retry_after)
            else:
                self.counts["dropped"] += 1
                log.warning("event_refused", about=event.about.name, reason=str(error))
        else:
            self.counts["dropped" if known is None else "written"] += 1

    def _again(self, event: Event, failures: int, reason: str, asked: float) -> None:
        if failures + 1 >= _ATTEMPTS:
            self.counts["dropped"] += 1
            log.warning("event_not_written", about=event.about.name, reason=reason)
            return
        self._paused_until = self._clock.monotonic() + max(asked, retry_wait(failures, self._random))
        self._queue.appendleft((event, failures + 1))

    async def _identified(self, event: Event) -> Event | None:
        """The Event with its object's uid, without which `kubectl describe` does not find it."""
        about = event.about
        if about.uid:
            return event
        field = f"metadata.name={about.name}"
        found = await self._objects.list(about.resource, about.namespace, fields=field)
        if not found:
            return None  # the object is gone
        uid = (found[0].get("metadata") or {}).get("uid", "")
        known = About(about.resource, about.namespace, about.name, uid)
        return Event(known, event.kind, event.reason, event.message, event.at)

    async def _post(self, event: Event) -> None:
        try:
            await self._objects.create(EVENT, self._manifest(event), manager=FIELD_MANAGER)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            await self._count(event)

    async def _count(self, event: Event) -> None:
        """It was said before: within the hour that the API server keeps Events."""
        found = await self._objects.get(EVENT, event.about.place, event.name)
        count = 1 if found is None else int(found.get("count") or 1)
        patch = {"count": count + 1, "lastTimestamp": _written(event.at)}
        await self._objects.merge(EVENT, event.about.place, event.name, patch, manager=FIELD_MANAGER)

    def _manifest(self, event: Event) -> dict[str, Any]:
        about, at = event.about, _written(event.at)
        involved = {
            "apiVersion": about.resource.api_version,
            "kind": about.resource.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        }
        return {
            "metadata": {"namespace": about.place, "name": event.name},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": event.kind,
            "reason": event.reason,
            "message": event.message,
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
        }

    def _may(self, about: About, now: float) -> bool:
        key = about.resource.kind, about.namespace, about.name
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _KEPT:
                self._buckets.clear()
            bucket = self._buckets[key] = Bucket(1 / _REFILL, EVENTS_PER_OBJECT.value, now)
        if bucket.wait(now) > 0:
            return False
        bucket.take(now)
        return True


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
