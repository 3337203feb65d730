"""Tests in virtual time: `@virtual` on an asynchronous test runs it on the simulation's event loop."""

from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.loop import run


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """*test*, which takes nothing, in virtual time."""

    def wrapped() -> None:
        run(test())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped
