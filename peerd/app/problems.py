"""Every present problem in what users wrote: logged once when it appears, shown until it is mended.

What derivation says is logged from `complete` on: before, an object may only be ahead of what it names.
"""

from collections.abc import Callable, Iterable

import structlog

from peerd.model.diagnostic import Diagnostic, Severity

DERIVED = "derive/"
"""How places of derivation begin."""

log = structlog.get_logger("peerd.problems")


class Problems:
    """Diagnostics by the place that reported them: a file, a derivation key, the allocator.

    *changed* hears of each change: the place, what it reported before, what it reports now.
    """

    def __init__(
        self,
        changed: Callable[[str, tuple[Diagnostic, ...], tuple[Diagnostic, ...]], None] | None = None,
    ) -> None:
        self._present: dict[str, tuple[Diagnostic, ...]] = {}
        self._complete = False
        self._changed = changed

    def replace(self, place: str, diagnostics: Iterable[Diagnostic]) -> None:
        """What *place* reports now; nothing clears it."""
        now = tuple(diagnostics)
        before = self._present.get(place, ())
        if now:
            self._present[place] = now
        else:
            self._present.pop(place, None)
        for diagnostic in now if self._complete or not place.startswith(DERIVED) else ():
            if diagnostic not in before:
                _say(diagnostic)
        if self._changed is not None and now != before:
            self._changed(place, before, now)

    def complete(self) -> None:
        """All that there is has been derived once."""
        self._complete = True
        for place, found in self._present.items():
            for diagnostic in found if place.startswith(DERIVED) else ():
                _say(diagnostic)

    def present(self) -> tuple[Diagnostic, ...]:
        """All of them, sorted."""
        return tuple(sorted({each for some in self._present.values() for each in some}))


def _say(diagnostic: Diagnostic) -> None:
    tell = log.error if diagnostic.severity is Severity.ERROR else log.warning
    tell(
        "object_problem",
        where=diagnostic.where or None,
        object=diagnostic.object,
        field=diagnostic.field,
        problem=diagnostic.message,
        fix=diagnostic.fix,
    )
