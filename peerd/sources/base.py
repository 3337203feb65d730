"""The contract every source of objects keeps.

A source tells a sink about the objects of the local cluster, as frozen records. Rules:

1. `apply` is given batches of changes that took effect together; within a batch a key appears once.
2. Everything that existed when the source started has been applied before the one call of `synced`.
3. A deletion (`ObjectChange.object` None) is told only when the source knows that the object is gone, never
   because it could not be read.
4. `report` replaces what was reported under the same `where` before; an empty tuple clears it.
5. Objects that peerd itself generated, of kinds that derivation reads, go to `own` and not to `apply`, also
   before `synced` (decision D5).
6. `run` ends only by cancellation, or by raising `SourceError` where the source cannot work at all.
"""

from collections.abc import Sequence
from typing import Protocol

from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic


class SourceError(Exception):
    """The source cannot work at all; the message names what, why and the fix."""


class Sink(Protocol):
    """Where a source's objects go. Calls come from the event loop's thread and must not block."""

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        """Take one batch of changes."""
        ...

    def own(self, changes: Sequence[OwnChange]) -> None:
        """Take a batch of changes of objects that peerd itself generated."""
        ...

    def synced(self) -> None:
        """Everything that existed at the start has been applied."""
        ...

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Take the present problems of one file or one part of an API; empty clears them."""
        ...


class Source(Protocol):
    """A stream of objects."""

    async def run(self, sink: Sink) -> None:
        """Feed *sink* until cancelled; raises SourceError."""
        ...
