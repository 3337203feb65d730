"""From changes to published resources: one batch at a time, in slices, as one revision.

Source, importer and allocator put changes in; derivation turns a batch into records, encoding turns those
into resources, the stores take them. Nothing is visible before the whole batch is. Work yields to the event
loop every few milliseconds, and what comes in meanwhile is the next batch (decision D3).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Protocol

import structlog

from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import encode_address
from peerd.encode.policy import encode_policy
from peerd.limits import SLICE_MS
from peerd.model.changes import Change, ObjectChange
from peerd.model.clock import Clock
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION

log = structlog.get_logger("peerd.pipeline")


class ResourceSink(Protocol):
    """The part of the resource store that the pipeline writes to."""

    def stage(self, changes: Iterable[ResourceChange]) -> None:
        """Gather changes; nobody sees them before `commit`."""
        ...

    def commit(self) -> int:
        """Make all that is staged one revision."""
        ...


class Pipeline:
    """Runs derivation.

    Args:
        world: derivation.
        store: where addresses and policies go.
        clock: measures slices.
        on_commit: awaited with each commit, after the store took it; what it returns is the next batch's
            beginning, so that an allocation is never a revision later than it must be.
        more: what else of a commit goes into the store, encoded.
    """

    def __init__(
        self,
        world: World,
        store: ResourceSink,
        clock: Clock,
        on_commit: Callable[[Commit], Awaitable[Sequence[Change]]],
        more: Callable[[Commit], Iterable[ResourceChange]] = lambda _commit: (),
    ) -> None:
        self._world = world
        self._store = store
        self._clock = clock
        self._on_commit = on_commit
        self._more = more
        self._queued: dict[object, Change] = {}
        self._turns = count()
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._done = asyncio.Event()  # of the batch that has not begun
        self.revisions = 0

    def submit(self, changes: Iterable[Change]) -> None:
        """Queue changes; they are part of one of the next batches, in order. None of them: an empty batch.

        Of several changes of one object that wait, the last one counts: however fast objects change, no more
        wait than there are objects.
        """
        for change in changes:
            self._queued[self._place(change)] = change
        self._quiet.clear()
        self._wake.set()

    async def quiet(self) -> None:
        """Wait until everything submitted so far has been derived and stored, and what followed from it."""
        await self._quiet.wait()

    async def derived(self) -> None:
        """Wait until the batch that takes what waits now is done; at once where nothing waits."""
        if self._queued:
            await self._done.wait()

    async def run(self) -> None:
        """Derive until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._batch()
            if not self._wake.is_set():
                self._quiet.set()

    async def _batch(self) -> None:
        batch, self._queued = self._queued, {}
        done, self._done = self._done, asyncio.Event()
        self._world.apply(batch.values())
        while not self._world.work(self._slice()):  # noqa: ASYNC110 (a turn for others, then on)
            await asyncio.sleep(0)
        commit = self._world.commit()
        await self._store_resources(commit)
        self.revisions += 1
        follow_up = await self._on_commit(commit)
        if follow_up:
            self._queued = {**{self._place(change): change for change in follow_up}, **self._queued}
            self._wake.set()
        done.set()

    def _place(self, change: Change) -> object:
        return (change.kind, change.key) if isinstance(change, ObjectChange) else next(self._turns)

    async def _store_resources(self, commit: Commit) -> None:
        slice_over = self._slice()
        chunk: list[ResourceChange] = []
        for change in chain(_encoded(commit), self._more(commit)):
            chunk.append(change)
            if slice_over():
                self._store.stage(chunk)
                chunk = []
                await asyncio.sleep(0)
                slice_over = self._slice()
        self._store.stage(chunk)
        self._store.commit()

    def _slice(self) -> Callable[[], bool]:
        monotonic = self._clock.monotonic
        end = monotonic() + SLICE_MS.value / 1000
        return lambda: monotonic() >= end


def _encoded(commit: Commit) -> Iterator[ResourceChange]:
    for name, policy in commit.policies:
        yield ResourceChange(AUTHORIZATION, name, encode_policy(policy) if policy is not None else None)
    for name, address in commit.addresses:
        yield ResourceChange(ADDRESS, name, encode_address(address, name) if address is not None else None)
