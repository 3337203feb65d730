"""Several loops over one connection, of which the first to end ends all; long work that lets others run."""

import asyncio
from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def first_of(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until one of *tasks* ends, cancel the others and await them.

    Raises what the first one raised; where several ended at once, the one that stands first in *tasks*.
    """
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()


async def in_turns(steps: Generator[None, None, T]) -> T:
    """Run *steps* to their end, and at each of their yields whoever else is ready; what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
