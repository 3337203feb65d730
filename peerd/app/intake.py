"""Objects in: what a source tells, given to everybody in this process who follows objects."""

import asyncio
from collections.abc import Callable, Sequence

from peerd.app.problems import Problems
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic

Follow = Callable[[Sequence[ObjectChange]], None]


class Intake:
    """`peerd.sources.base.Sink`.

    `followers` hear of every batch, in their order: derivation comes last, so that whoever it asks has heard.
    `own_followers` hear of objects that peerd generated, as they lie in the cluster (decision D5).
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.followers: list[Follow] = []
        self.own_followers: list[Callable[[Sequence[OwnChange]], None]] = []
        self.complete = asyncio.Event()

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        """`Sink.apply`."""
        for follow in self.followers:
            follow(changes)

    def own(self, changes: Sequence[OwnChange]) -> None:
        """`Sink.own`."""
        for follow in self.own_followers:
            follow(changes)

    def synced(self) -> None:
        """`Sink.synced`."""
        self.complete.set()

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        """`Sink.report`."""
        self._problems.replace(f"source/{where}", diagnostics)


class LineageWatch:
    """Says so where the system Namespace was made again: peers know this cluster by its old uid (D18).

    Its own lineage a process never changes: what it exported would look like another cluster's.
    """

    def __init__(self, problems: Problems, namespace: str, lineage: str) -> None:
        self._problems = problems
        self._namespace = namespace
        self._lineage = lineage

    def __call__(self, changes: Sequence[ObjectChange]) -> None:
        """`Follow`."""
        for change in changes:
            if (
                change.kind == "Namespace"
                and change.key.name == self._namespace
                and change.object is not None
            ):
                self._problems.replace("lineage", self._compare(change.object.metadata.uid))

    def _compare(self, uid: str) -> tuple[Diagnostic, ...]:
        if uid == self._lineage:
            return ()
        problem = Diagnostic(
            f"Namespace/{self._namespace}",
            "metadata.uid",
            f"was {self._lineage} when peerd started; the cluster was built anew, and peers still take it for"
            " the old one",
            "restart every replica of peerd",
        )
        return (problem,)
