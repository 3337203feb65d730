"""A sink that remembers: what a source has told so far, and whether it broke the contract while telling."""

import asyncio
from collections.abc import Callable, Sequence

from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.meta import KubeObject, ObjectKey

Told = dict[tuple[str, ObjectKey], KubeObject]


class RecordedSink:
    """`peerd.sources.base.Sink`."""

    def __init__(self) -> None:
        self.objects: Told = {}
        self.at_sync: Told | None = None
        """What had been told when `synced` was called."""
        self.owned: dict[tuple[str, ObjectKey], dict[str, object]] = {}
        self.problems: dict[str, tuple[Diagnostic, ...]] = {}
        self.batches: list[list[ObjectChange]] = []
        self.deletions: list[tuple[str, ObjectKey]] = []
        self._more = asyncio.Event()

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        keys = [(each.kind, each.key) for each in changes]
        assert changes, "an empty batch"
        assert len(set(keys)) == len(keys), "a key twice in a batch"
        self.batches.append(list(changes))
        for each in changes:
            if each.object is None:
                if self.objects.pop((each.kind, each.key), None) is not None:
                    self.deletions.append((each.kind, each.key))
            else:
                self.objects[each.kind, each.key] = each.object
        self._more.set()

    def own(self, changes: Sequence[OwnChange]) -> None:
        for each in changes:
            if each.object is None:
                self.owned.pop((each.kind, each.key), None)
            else:
                self.owned[each.kind, each.key] = each.object
        self._more.set()

    def synced(self) -> None:
        assert self.at_sync is None, "synced twice"
        self.at_sync = dict(self.objects)
        self._more.set()

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        if diagnostics:
            self.problems[where] = diagnostics
        else:
            self.problems.pop(where, None)
        self._more.set()

    # -- for tests ---------------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        return self.objects.get((kind, ObjectKey(namespace, name)))

    def names(self, kind: str) -> set[str]:
        return {key.name for each, key in self.objects if each == kind}

    def told(self, kind: str, name: str) -> int:
        """How often an object was told."""
        return sum(each.kind == kind and each.key.name == name for batch in self.batches for each in batch)

    async def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait until something is so, in the time of the event loop."""
        async with asyncio.timeout(seconds):
            while not holds():
                await self._more.wait()
                self._more.clear()

    async def until_synced(self, seconds: float = 30.0) -> None:
        await self.until(lambda: self.at_sync is not None, seconds)
