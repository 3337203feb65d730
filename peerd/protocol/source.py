"""What a delta server needs from where resources are kept; `peerd/resources` gives it."""

from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from peerd.model.frame import Frame
from peerd.model.resource import Resource


class Change(Protocol):
    """What changed between two revisions."""

    @property
    def puts(self) -> tuple[str, ...]:
        """Names to send."""
        ...

    @property
    def removals(self) -> tuple[str, ...]:
        """Names to remove."""
        ...


class Difference(Protocol):
    """What came of comparing a client's versions."""

    @property
    def lacking(self) -> tuple[str, ...]:
        """Names that the client does not hold."""
        ...

    @property
    def differing(self) -> tuple[str, ...]:
        """Names that it holds in another version."""
        ...

    @property
    def removals(self) -> tuple[str, ...]:
        """Names that it holds and that are not published."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it lacks so much that everybody's first answer serves it best."""
        ...


class Newest(Protocol):
    """When a type changed last."""

    @property
    def newest(self) -> int:
        """The last revision that changed the type."""
        ...

    @property
    def newest_removal(self) -> int:
        """The last revision that removed something of the type."""
        ...


class TypeSource(Protocol):
    """The published resources of one type."""

    @property
    def revision(self) -> int:
        """The last closed window."""
        ...

    @property
    def log(self) -> Newest:
        """The change log."""
        ...

    def get(self, name: str) -> Resource | None:
        """A resource."""
        ...

    def resolve(self, key: str) -> tuple[str, ...]:
        """Canonical names behind a name or alias."""
        ...

    def members(self, group: str) -> tuple[str, ...]:
        """Names in a group."""
        ...

    def snapshot(self) -> tuple[Frame, ...]:
        """Everything."""
        ...

    def changes(self, since: int, *, removals: bool = True) -> tuple[Frame, ...]:
        """What changed after *since*; empty where nothing did. Raises BehindHorizonError."""
        ...

    def removals(self, since: int, until: int) -> tuple[Frame, ...]:
        """What was removed in (since, until] and not touched later. Raises BehindHorizonError."""
        ...

    def answer(
        self,
        span: str,
        puts: Iterable[str],
        removals: Iterable[str],
        *,
        aliases: bool = False,
        view: Callable[[Resource], Resource] | None = None,
    ) -> tuple[Frame, ...]:
        """A response of one stream's own, with what *view* makes of each resource."""
        ...

    def notice(self, span: str, frames: Iterable[bytes]) -> tuple[Frame, ...]:
        """A response of one stream's own with resource frames that are not in the store."""
        ...

    def net(self, since: int) -> Change:
        """The names that changed after *since*. Raises BehindHorizonError."""
        ...

    def gone(self, since: int, until: int) -> tuple[str, ...]:
        """The names in `removals`. Raises BehindHorizonError."""
        ...

    @property
    def indexed(self) -> bool:
        """Whether `compare` has no more to make first than what need not be sliced."""
        ...

    def compare(self, versions: Iterable[bytes]) -> Generator[None, None, Difference]:
        """Compare a client's map entries, in slices; ValueError for malformed ones.

        What is published meanwhile may be in the outcome or not.
        """
        ...


class Source(Protocol):
    """All types, and the revision they share."""

    @property
    def revision(self) -> int:
        """The last closed window."""
        ...

    def collection(self, type_url: str) -> TypeSource:
        """One type; raises KeyError where it is not held."""
        ...
