"""Work in slices: a generator that yields where others may have their turn, and returns what came of it."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def whole(steps: Generator[None, None, T]) -> T:
    """All of *steps* at once; what they return. In turns with others: `peerd/transport/tasks.py`."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
