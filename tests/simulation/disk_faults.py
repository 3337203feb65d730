"""Operators (chaos.py): what happens to the disks of state directories."""

from random import Random

from tests.simulation.chaos import Chaos
from tests.simulation.replica import Replica


async def full_disk(chaos: Chaos, random: Random) -> bool:
    """Nothing can be written, but the beginning of it."""
    replica = _sound(chaos, random)
    if replica is None:
        return False
    replica.disk.trouble(full=True)
    return _mended_later(chaos, random, replica, "full")


async def failing_disk(chaos: Chaos, random: Random) -> bool:
    """Every second write or flush fails; what could not be flushed is not there after a loss of power."""
    replica = _sound(chaos, random)
    if replica is None:
        return False
    replica.disk.trouble(failing=True)
    return _mended_later(chaos, random, replica, "failing")


async def slow_disk(chaos: Chaos, random: Random) -> bool:
    """It takes seconds to flush what was written."""
    replica = _sound(chaos, random)
    if replica is None:
        return False
    replica.disk.slow = random.choice((0.5, 5.0, 30.0))
    return _mended_later(chaos, random, replica, f"slow, {replica.disk.slow} s for each flush")


def _sound(chaos: Chaos, random: Random) -> Replica | None:
    found = [each for each in chaos.world.replicas.values() if each.disk.sound]
    return random.choice(found) if found else None


def _mended_later(chaos: Chaos, random: Random, replica: Replica, what: str) -> bool:
    seconds = random.choice((5.0, 30.0, 90.0)) * random.uniform(0.5, 1.5)
    chaos.note(replica.name, f"its disk is {what}, for {seconds:.0f} s")

    async def mend() -> None:
        replica.disk.mend()

    chaos.later(seconds, mend)
    return True
