"""Time that a test moves by hand, for code that takes a clock and a sleep."""

import asyncio


class SteppedTime:
    """A clock and a sleep: nothing passes except in `advance`, which runs every sleeper that is due."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._wall = wall
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def time(self) -> float:
        return self._wall + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        self._sleepers.append((self._now + seconds, self._count, future))
        await future

    async def settle(self) -> None:
        """Let everything run that needs no time to pass."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass, waking sleepers in order."""
        end = self._now + seconds
        await self.settle()
        while due := sorted(entry for entry in self._sleepers if entry[0] <= end + 1e-9):
            self._now = max(self._now, due[0][0])
            self._sleepers.remove(due[0])
            if not due[0][2].done():
                due[0][2].set_result(None)
            await self.settle()
        self._now = end
