"""Several loops over one connection, of which the first to end ends all."""

import asyncio
from collections.abc import Sequence


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
