"""Which pairs of state and event a run must have met: every one of every transition table.

Those that no history can meet are listed with the reason, and the unit test that meets them.
"""

from collections import Counter
from enum import Enum
from typing import Any

from peerd.protocol import peer_state, subscription

TABLES: dict[str, Any] = {"peer": peer_state, "subscription": subscription}

_COMPARING = (
    "both services finish comparing before they read on (AdsStream._read, PeerService._read); the machine"
    " itself: test_server.py::test_a_client_begins_again_while_its_versions_are_compared"
)

UNREACHABLE: dict[tuple[str, str, str], str] = {
    ("subscription", "comparing", event): _COMPARING for event in ("plain", "versions", "equal", "wanted")
}

Pair = tuple[str, str, str]


class _Counting(dict[tuple[Enum, Enum], Enum]):
    """A transition table that counts who looks something up in it."""

    def __init__(self, name: str, table: dict[tuple[Enum, Enum], Enum]) -> None:
        super().__init__(table)
        self.name = name
        self.counts: Counter[Pair] = Counter()

    def __getitem__(self, pair: tuple[Enum, Enum]) -> Enum:
        self.counts[self.name, pair[0].value, pair[1].value] += 1
        return super().__getitem__(pair)


def count(counts: Counter[Pair]) -> None:
    """Let *counts* have every transition that is taken from now on, in this process."""
    for name, module in TABLES.items():
        if not isinstance(module.TRANSITIONS, _Counting):
            module.TRANSITIONS = _Counting(name, module.TRANSITIONS)
        module.TRANSITIONS.counts = counts


def expected() -> list[Pair]:
    """(table, state, event) of every pair that must be met."""
    pairs = [
        (name, state.value, event.value)
        for name, module in TABLES.items()
        for state, event in module.TRANSITIONS
    ]
    return [each for each in pairs if each not in UNREACHABLE]
