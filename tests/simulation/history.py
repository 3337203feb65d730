"""What happened in one run: lines a person can read, counts, and a hash that two equal runs share."""

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.story import Plan


class Violation(AssertionError):  # noqa: N818 (a guarantee was broken; the name is the field's)
    """A guarantee does not hold; `guarantee` names it as docs/guarantees.md does."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee
        self.what = what

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        return Violation, (self.guarantee, self.what)


class History:
    """Lines of time, place and event, in the order they happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, str, str]] = Counter()  # table, state, event
        self.deliveries = 0
        self.now = 0.0

    def note(self, where: str, what: str) -> None:
        """One event at the present moment."""
        self.lines.append(f"{self.now:10.3f}  {where:<12}  {what}")

    def text(self, plan: "Plan") -> str:
        """For people: who there was, and line by line what happened."""
        clusters = ", ".join(
            f"{name} ({count})" if count > 1 else name for name, count in plan.clusters.items()
        )
        return "\n".join((f"seed {plan.seed}; clusters {clusters}", *self.lines))

    def digest(self) -> str:
        """Equal for equal runs."""
        counts = (self.checks, self.transitions)
        text = "\n".join(
            (*self.lines, str(self.deliveries), *(repr(sorted(each.items())) for each in counts))
        )
        return hashlib.sha256(text.encode()).hexdigest()
