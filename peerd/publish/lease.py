"""Which of several replicas writes: the holder of one Lease (decision D16).

Every replica dials, serves and knows what it would write; one writes. A holder renews every 3 s and counts
itself out 2 s before the 9 s that the others give it, so that two never write at once, whatever their wall
clocks say: durations are measured by each on its own monotonic clock, from when it saw the Lease change.
Stopped properly it lets go at once; killed, it is replaced after 9 s and one look (at most 13 s in all).
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects
from peerd.kubeapi.resources import LEASE
from peerd.model.clock import Clock
from peerd.model.generated import FIELD_MANAGER

log = structlog.get_logger("peerd.lease")

DURATION = 9.0
MARGIN = 2.0  # before the end of the duration the holder stops
RENEW = 3.0  # seconds between renewals, and between looks of those who wait
_CONFLICT = 409


class Lease:
    """`peerd.publish.permit.Permit`, once `run` is under way.

    Args:
        objects: the API server.
        namespace, name: of the Lease, which is made where it does not exist.
        identity: of this replica, unlike every other's.
        clock: monotonic time measures, wall time is only written down.
        source: spreads looks, so that replicas do not ask at once.
        held: called with whether this replica writes, whenever that changes.
    """

    def __init__(
        self,
        objects: KubeObjects,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        source: random.Random,
        held: Callable[[bool], None] = lambda _held: None,
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._clock = clock
        self._random = source
        self._held = held
        self._until = 0.0  # monotonic: when we stop counting ourselves the holder
        self._told = False
        self._problem = ""  # as it was logged
        self._seen: tuple[str, str] | None = None  # holder and version of the Lease as last seen
        self._seen_at = 0.0  # monotonic: when that was new
        self._seen_for = 0.0  # and for how long it holds from then on
        self.holder = ""
        """Who holds it, as far as is known; empty where nobody does."""

    def remaining(self) -> float:
        """Seconds for which nobody else can hold it; 0 = it is not ours."""
        return max(0.0, self._until - self._clock.monotonic())

    async def run(self) -> None:
        """Get it, keep it, and when it is lost get it again, until cancelled."""
        while True:
            pause = await self.attempt()
            # Not past the end of what we hold: it is then told that it is lost.
            remaining = self.remaining()
            await asyncio.sleep(min(pause, remaining) if remaining else pause)
            self._tell()

    async def attempt(self) -> float:
        """Ask once, renew or take what can be; returns the seconds until the next attempt."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(max(1.0, min(RENEW, self.remaining() or RENEW))):
                ours = await self._try(began)
        except TimeoutError:
            self._trouble("lease_not_reached", "no answer")
        except ApiUnreachableError as error:
            self._trouble("lease_not_reached", str(error))
        except ApiError as error:
            if error.status != _CONFLICT:
                self._trouble("lease_refused", str(error))
        else:
            self._problem = ""
            if ours:
                self._until = began + DURATION - MARGIN
        self._tell()
        return RENEW * self._random.uniform(0.8, 1.0)

    async def release(self) -> None:
        """Let it go, so that another replica need not wait; call it once, after `run` was cancelled."""
        if self.remaining() <= 0:
            return
        self._until = 0.0
        self._tell()
        try:
            async with asyncio.timeout(RENEW):
                found = await self._objects.get(LEASE, self._namespace, self._name)
                if found is not None and found.get("spec", {}).get("holderIdentity") == self.identity:
                    spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._replace(found, spec)
        except (TimeoutError, ApiError, ApiUnreachableError) as error:
            log.info("lease_not_released", reason=str(error))

    async def _try(self, began: float) -> bool:
        """Whether it is ours now."""
        found = await self._objects.get(LEASE, self._namespace, self._name)
        if found is None:
            if self._is_anothers(began):
                return False  # somebody deleted it, and whoever held it does not know yet
            metadata = {"namespace": self._namespace, "name": self._name}
            manifest = {"metadata": metadata, "spec": self._spec(0, fresh=True)}
            await self._objects.create(LEASE, manifest, manager=FIELD_MANAGER)
            self.holder = self.identity
            return True
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, _version(found))
        if seen != self._seen:
            self._seen, self._seen_at = seen, began
        self._seen_for = max(float(spec.get("leaseDurationSeconds") or 0), 1.0)
        self.holder = holder
        if holder not in {"", self.identity}:
            self._until = 0.0  # whatever we thought
        if self._is_anothers(began):
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + int(holder != self.identity)
        fresh = self._spec(transitions, fresh=holder != self.identity)
        await self._replace(found, {**spec, **fresh})
        if holder != self.identity:
            log.info("lease_taken", lease=f"{self._namespace}/{self._name}", before=holder or None)
        self.holder = self.identity
        return True

    def _is_anothers(self, now: float) -> bool:
        """Whether the last holder that was seen may still count on it."""
        holder = self._seen[0] if self._seen is not None else ""
        return holder not in {"", self.identity} and now < self._seen_at + self._seen_for

    def _spec(self, transitions: int, *, fresh: bool) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION),
            "leaseTransitions": transitions,
            "renewTime": now,
        }
        return spec | ({"acquireTime": now} if fresh else {})

    async def _replace(self, found: dict[str, Any], spec: dict[str, Any]) -> None:
        """With the version that was read: of two who try, one wins."""
        metadata = {
            "namespace": self._namespace,
            "name": self._name,
            "resourceVersion": _version(found),
        }
        await self._objects.replace(LEASE, {"metadata": metadata, "spec": spec}, manager=FIELD_MANAGER)

    def _trouble(self, event: str, reason: str) -> None:
        """Once: it is tried again every three seconds."""
        if reason != self._problem:
            self._problem = reason
            log.warning(event, lease=f"{self._namespace}/{self._name}", reason=reason)

    def _tell(self) -> None:
        ours = self.remaining() > 0
        if ours != self._told:
            self._told = ours
            log.info("writing" if ours else "not_writing", identity=self.identity)
            self._held(ours)


def _version(found: dict[str, Any]) -> str:
    return str((found.get("metadata") or {}).get("resourceVersion", ""))
