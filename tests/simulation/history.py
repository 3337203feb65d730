"""What happened in one run: lines a person can read, counts, and a hash that two equal runs share."""

import hashlib
from collections import Counter


class Violation(AssertionError):  # noqa: N818 (a guarantee was broken; the name is the field's)
    """A guarantee does not hold; `guarantee` names it as docs/guarantees.md does."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


class History:
    """Lines of time, place and event, in the order they happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, str]] = Counter()
        self.deliveries = 0
        self.now = 0.0

    def note(self, where: str, what: str) -> None:
        """One event at the present moment."""
        self.lines.append(f"{self.now:10.3f}  {where:<12}  {what}")

    def digest(self) -> str:
        """Equal for equal runs."""
        text = "\n".join((*self.lines, str(self.deliveries), repr(sorted(self.checks.items()))))
        return hashlib.sha256(text.encode()).hexdigest()
