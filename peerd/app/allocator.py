"""Addresses for host names: what derivation wants is allocated, recorded, and given back (decision D28).

So are takeovers that outlive their Services (decision D23).
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from peerd.model.changes import Change
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Takeover
from peerd.publish.allocations import Allocations
from peerd.publish.takeovers import RecordedTakeovers
from peerd.state.errors import StateError

log = structlog.get_logger("peerd.allocator")

_RETRY_SECONDS = 5.0


class Allocator:
    """Keeps the writing off the event loop, and tries again what could not be written.

    *again* is called when it is time to `settle` once more.
    """

    def __init__(
        self, allocations: Allocations, takeovers: RecordedTakeovers, again: Callable[[], None]
    ) -> None:
        self._allocations = allocations
        self._takeovers = takeovers
        self._again = again
        self._wanted: set[str] | None = set()  # until `retain_wanted`
        self._remembered: set[str] = set()  # until then, too
        self._on_disk: list[Change] = []
        self._pending = False
        self._retain = False
        self._timer: asyncio.TimerHandle | None = None

    def restore(self) -> list[Change]:
        """Everything recorded, for the first derivation."""
        return [*self._allocations.restore(), *self._takeovers.restore()]

    def want(self, hosts: Iterable[tuple[str, str | None]]) -> None:
        """Derivation's changes of wanted hosts: with a pool, or None where one is wanted no more."""
        changes = tuple(hosts)
        if self._wanted is not None:
            for host, pool in changes:
                if pool is None:
                    self._wanted.discard(host)
                else:
                    self._wanted.add(host)
        self._allocations.want(changes)
        self._pending = self._pending or bool(changes)

    def remember(self, takeovers: Iterable[tuple[str, Takeover | None]]) -> None:
        """Derivation's changes of takeovers that are to be recorded."""
        for service, found in takeovers:
            if found is None:
                self._remembered.discard(service)
            else:
                self._remembered.add(service)
            self._takeovers.want([(service, found)])
            self._pending = True

    def retain_wanted(self) -> None:
        """With the next `settle`, free what nobody wants then; everything that could want it has spoken.

        Once: from then on whatever is no longer wanted is freed as it is told.
        """
        self._retain = True

    async def settle(self) -> list[Change]:
        """Allocate and record what is wanted; returns what derivation is to hear."""
        if self._retain:
            self._retain = False
            if self._wanted is not None:
                self._pending = True
                self._allocations.retain(self._wanted)
                self._takeovers.retain(self._remembered)
                self._wanted = None
        if not self._pending:
            return []
        try:
            await asyncio.to_thread(self._record)
        except StateError as error:
            # A full disk is no bug of ours: the reason is enough.
            log.error("allocations_not_recorded", reason=str(error), retry_seconds=_RETRY_SECONDS)  # noqa: TRY400
            self._retry()
            return []
        self._pending = bool(self._allocations.diagnostics)
        if self._pending:
            self._retry()
        changes, self._on_disk = self._on_disk, []
        return changes

    def _record(self) -> None:
        # One by one: what the first has told is not lost where the second fails.
        self._on_disk += self._allocations.record()
        self._on_disk += self._takeovers.record()

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Hosts whose pool is exhausted."""
        return self._allocations.diagnostics

    def close(self) -> None:
        """Retry nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _retry(self) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._again)
