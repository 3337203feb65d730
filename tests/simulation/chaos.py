"""What operators work with: a world, and what is broken in it at the moment.

An operator is a function of it and a Random; it does one thing, or finds nothing to do it to and returns
False. What breaks for a while mends itself within the phase, or at its end by `heal`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random

from tests.simulation.replica import Replica
from tests.simulation.world import World

Operator = Callable[["Chaos", Random], Awaitable[bool]]


class Chaos:
    """A world, and what is broken in it at the moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.strangers = 0
        self._over = asyncio.Event()
        self._mending: list[asyncio.Task[None]] = []

    def later(self, seconds: float, mend: Callable[[], Awaitable[None]]) -> None:
        """Mend something after a while, or when `heal` is called if that is sooner."""

        async def wait() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
            await mend()

        self._mending.append(asyncio.ensure_future(wait()))

    async def heal(self) -> None:
        """Stop every fault."""
        self._over.set()
        while self._mending:  # what is mended may break the next thing
            mending, self._mending = self._mending, []
            await asyncio.gather(*mending)
        self._over.clear()
        for replica in self.world.replicas.values():
            replica.clock.skew = 0.0
            replica.skewed_at = self.world.loop.time()
        self.note("world", "every fault ends")

    def note(self, where: str, what: str) -> None:
        self.world.history.now = self.world.loop.time()
        self.world.history.note(where, what)

    def two(self, random: Random) -> tuple[str, str]:
        one, other = random.sample(list(self.world.clusters), 2)
        return one, other

    def hosts(self, random: Random) -> tuple[str, str]:
        """One replica each of two clusters."""
        one, other = self.two(random)
        clusters = self.world.clusters
        return random.choice(clusters[one].replicas).name, random.choice(clusters[other].replicas).name

    def up(self, random: Random) -> Replica | None:
        found = [each for each in self.world.replicas.values() if each.running]
        return random.choice(found) if found else None
