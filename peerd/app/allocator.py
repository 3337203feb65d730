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
_PATIENCE_SECONDS = 0.2  # a healthy disk needs less; longer, and local changes would be late because of it


class Allocator:
    """Keeps the writing off the event loop, and tries again what could not be written.

    A disk may be slow: what others changed waits for it no longer than a moment, and an address is told when
    it is recorded. *again* is called when it is time to `settle` once more.
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
        self._failing = False
        self._new = not self.restore()  # and not all was told yet that it must hold
        self._written = asyncio.Event()
        self._recording: asyncio.Task[None] | None = None  # meanwhile the records are its own
        self._later: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.diagnostics: tuple[Diagnostic, ...] = ()
        """Hosts whose pool is exhausted."""

    def restore(self) -> list[Change]:
        """Everything recorded, for the first derivation."""
        return [*self._allocations.restore(), *self._takeovers.restore()]

    def want(self, hosts: Iterable[tuple[str, str | None]]) -> None:
        """Derivation's changes of wanted hosts: with a pool, or None where one is wanted no more."""
        changes = tuple(hosts)
        if not changes:
            return
        if self._wanted is not None:
            for host, pool in changes:
                if pool is None:
                    self._wanted.discard(host)
                else:
                    self._wanted.add(host)
        self._write(lambda: self._allocations.want(changes))

    def remember(self, takeovers: Iterable[tuple[str, Takeover | None]]) -> None:
        """Derivation's changes of takeovers that are to be recorded."""
        changes = tuple(takeovers)
        if not changes:
            return
        for service, found in changes:
            if found is None:
                self._remembered.discard(service)
            else:
                self._remembered.add(service)
        self._write(lambda: self._takeovers.want(changes))

    def retain_wanted(self) -> None:
        """With the next `settle`, free what nobody wants then; everything that could want it has spoken.

        Once: from then on whatever is no longer wanted is freed as it is told.
        """
        self._retain, self._new = True, False

    async def settle(self) -> list[Change]:
        """Allocate and record what is wanted; returns what derivation is to hear."""
        if self._recording is None:
            self._take_up()
            if not self._pending:
                return []
            self._recording = asyncio.ensure_future(asyncio.to_thread(self._record))
            await asyncio.wait({self._recording}, timeout=_PATIENCE_SECONDS)
            if not self._recording.done():
                self._recording.add_done_callback(lambda _recorded: self._again())
        if not self._recording.done():
            return []
        recorded, self._recording = self._recording, None
        self.diagnostics = self._allocations.diagnostics
        return self._told(recorded)

    async def recorded(self) -> bool:
        """Wait until what is being written is; whether there was anything, of which `settle` has yet to tell.

        Where nothing was recorded at the start, also until nothing fails: names that others know would seem
        to be gone for want of an address. It is so until `retain_wanted`.
        """
        waited = await self._finished()
        while self._new and self._failing:
            await self._written.wait()
            waited = await self._finished()
        return waited

    async def close(self) -> None:
        """Retry nothing more, and let what is being written come to its end."""
        if self._timer is not None:
            self._timer.cancel()
        await self._finished()

    async def _finished(self) -> bool:
        recording = self._recording
        if recording is None:
            return False
        await asyncio.wait({recording})
        recording.exception()  # `settle` tells of it, unless there is none any more
        return True

    def _write(self, words: Callable[[], None]) -> None:
        """Say it to the records, or once they are not the writing thread's any more."""
        self._pending = True
        if self._recording is None:
            words()
        else:
            self._later.append(words)

    def _take_up(self) -> None:
        """What had to wait for the last writing."""
        later, self._later = self._later, []
        for words in later:
            words()
        if self._retain:
            self._retain = False
            if self._wanted is not None:
                self._pending = True
                self._allocations.retain(self._wanted)
                self._takeovers.retain(self._remembered)
                self._wanted = None

    def _record(self) -> None:
        # One by one: what the first has told is not lost where the second fails.
        self._on_disk += self._allocations.record()
        self._on_disk += self._takeovers.record()

    def _told(self, recorded: asyncio.Task[None]) -> list[Change]:
        try:
            recorded.result()
        except StateError as error:
            if not self._failing:
                # A full disk is no bug of ours: the reason is enough.
                log.error("allocations_not_recorded", reason=str(error), retry_seconds=_RETRY_SECONDS)  # noqa: TRY400
            self._failing = True
            self._written.clear()
            self._retry()
            return []
        if self._failing:
            log.info("allocations_recorded_again")
        self._failing = False
        self._written.set()
        self._pending = bool(self.diagnostics or self._later)
        if self._later:
            self._again()
        elif self._pending:
            self._retry()
        changes, self._on_disk = self._on_disk, []
        return changes

    def _retry(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._again)
