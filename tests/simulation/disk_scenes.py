"""What happens to a state directory's disk, as scenarios: seeds meet all of it, but seldom at that moment."""

from tests.simulation.disk_checks import SAYS
from tests.simulation.scenarios import Scenarios, replica_of, told, until
from tests.simulation.truth import GLOBAL
from tests.simulation.world import World

DISKS = Scenarios()


def name_of(service: str) -> str:
    """The global one."""
    return f"shop/{service}.shop.mesh.internal"


@DISKS.add("a disk that takes its time", "every change waited for the address of a new name", east=1, west=1)
async def slow_disk(world: World) -> None:
    east = replica_of(world, "east")
    east.disk.slow = 30.0
    world.put_service("east", "cart", GLOBAL)
    await world.pass_time(2)
    world.scale("east", "web", 4)  # which its ztunnel must know within 2 s
    await world.pass_time(10)
    assert not told(world, "zt-east", name_of("cart")), "an address is told once it is on disk"
    await until(world, lambda: told(world, "zt-east", name_of("cart")), 60, "it is")
    east.disk.mend()


@DISKS.add("a full disk", "each change logged that no address could be recorded", east=1, west=1)
async def full_disk(world: World) -> None:
    east = replica_of(world, "east")
    east.disk.trouble(full=True)
    world.put_service("east", "cart", GLOBAL)
    for count in range(3, 9):
        world.scale("east", "web", count)
        world.scale("west", "web", count)
        await world.pass_time(5)
    said = [line for line in world.history.lines if any(each in line for each in SAYS.values())]
    assert len(said) == 2, "imports and addresses are said once each"
    assert not told(world, "zt-east", name_of("cart"))
    await east.crash(silently=False)
    world.validators.ended("east", world.loop.time())
    await east.start()
    await world.pass_time(5)
    east.disk.mend()
    await until(world, lambda: told(world, "zt-east", name_of("cart")), 20, "there is room again")


@DISKS.add("power is lost", "an address was told that was not on disk", east=1, west=1)
async def power_is_lost(world: World) -> None:
    east = replica_of(world, "east")
    for number in range(8):
        world.put_service("east", f"new{number}", GLOBAL)
        await until(world, lambda: told(world, "zt-east", name_of(f"new{number}")), 120, "a new name")  # noqa: B023
        await east.crash(silently=True)
        world.validators.ended("east", world.loop.time())
        await east.start()
        await world.pass_time(45)  # by then its ztunnel has noticed


@DISKS.add("every second write fails", "a failed flush was not done again", east=1, west=1)
async def failing_disk(world: World) -> None:
    east = replica_of(world, "east")
    for number in range(6):
        east.disk.trouble(failing=True)
        world.put_service("east", f"new{number}", GLOBAL)
        await until(world, lambda: told(world, "zt-east", name_of(f"new{number}")), 120, "a new name")  # noqa: B023
        east.disk.mend()
        await east.crash(silently=True)
        world.validators.ended("east", world.loop.time())
        await east.start()
        await world.pass_time(45)  # by then its ztunnel has noticed
