"""One seed, whole: a plan of what happens when, and the run of it. Everything random comes from the seed.

Each step has a Random of its own, so that a plan from which others were left out (shrink.py) still does the
same. `run_seed` is all that others need.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from random import Random

from peerd.ca import authority
from tests.simulation import coverage
from tests.simulation.chaos import Chaos
from tests.simulation.faults import FAULTS, USERS, draw
from tests.simulation.history import History
from tests.simulation.logs import watched_logs
from tests.simulation.loop import EPOCH, run
from tests.simulation.truth import GLOBAL, LOCAL, TAKEOVER
from tests.simulation.user_operators import NAMES, SHARED_NETWORK
from tests.simulation.world import World

CLUSTERS = ("east", "west", "north", "south", "delta", "echo", "golf", "hotel", "india", "juliett")

_PHASES = 2
_PHASE_SECONDS = 150.0
_BETWEEN = 7.0  # seconds between two operators, on average
_SIZES = (2,) * 8 + (3,) * 9 + (4,) * 3
_LARGE = 0.015  # of the seeds have 6 to 10 clusters


@dataclass(frozen=True)
class Step:
    """An operator (faults.py), some seconds after the one before."""

    number: int
    phase: int
    wait: float
    name: str


@dataclass(frozen=True)
class Plan:
    """What a seed stands for; `clusters` are names and numbers of replicas."""

    seed: int
    clusters: dict[str, int]
    on_demand: tuple[str, ...]
    gateways: tuple[str, ...]
    networks: dict[str, str]
    steps: tuple[Step, ...]


class Result:
    """One seed: its history, and what it broke, if anything."""

    def __init__(self, plan: Plan, history: History, failure: BaseException | None, virtual: float) -> None:
        self.seed = plan.seed
        self.plan = plan
        self.history = history
        self.failure = failure
        self.virtual = virtual


def make_ca(root: Path) -> Path:
    """A CA directory for every cluster of every seed: the simulated network has no TLS."""
    issuer = authority.make_root("simulation", EPOCH - 86_400)
    directory = root / "ca"
    authority.write_new(directory, authority.make_cluster_ca(issuer, "any", EPOCH - 86_400))
    return directory


def plan_of(seed: int) -> Plan:
    """What *seed* stands for."""
    random = Random(f"{seed}/plan")
    count = random.randint(6, 10) if random.random() < _LARGE else random.choice(_SIZES)
    names = CLUSTERS[:count]
    clusters = {name: 2 if count <= 3 and random.random() < 0.15 else 1 for name in names}
    on_demand = tuple(name for name in names if random.random() < 0.3)
    gateways = tuple(name for name in names if random.random() < 0.25)
    # A fifth of the seeds begins with clusters that share a network.
    flat = random.sample(names, random.randint(2, count)) if random.random() < 0.2 else ()
    steps: list[Step] = []
    for phase in range(_PHASES):
        # In the first phase often nobody changes anything: then no ztunnel may be told anything.
        quiet = phase == 0 and random.random() < 0.5
        passed = 0.0
        while passed < _PHASE_SECONDS:
            wait = random.expovariate(1 / _BETWEEN)
            passed += wait
            kinds = FAULTS if quiet or random.random() < 0.6 else USERS
            steps.append(Step(len(steps), phase, wait, draw(random, kinds)))
    return Plan(seed, clusters, on_demand, gateways, dict.fromkeys(flat, SHARED_NETWORK), tuple(steps))


def run_seed(seed: int, root: Path, ca: Path) -> Result:
    """One whole history."""
    return run_plan(plan_of(seed), root, ca)


def run_plan(plan: Plan, root: Path, ca: Path, without: Collection[int] = ()) -> Result:
    """The same; steps *without* are waited for, and not done."""
    home = root / f"seed-{plan.seed}"
    holder: dict[str, World] = {}

    async def main() -> None:
        world = World(
            str(plan.seed),
            home,
            ca,
            plan.clusters,
            plan.on_demand,
            gateways=plan.gateways,
            networks=plan.networks,
        )
        holder["world"] = world
        coverage.count(world.history.transitions)
        with watched_logs(world.fail, world.error_is_due):
            try:
                await _story(world, plan, frozenset(without))
            finally:
                await world.close()
        if world.failure is not None:
            raise world.failure

    failure: BaseException | None = None
    try:
        run(main())
    except Exception as error:  # noqa: BLE001 (reported with its seed)
        failure = error
    finally:
        shutil.rmtree(home, ignore_errors=True)
    world = holder["world"]
    return Result(plan, world.history, world.failure or failure, world.loop.time())


async def _story(world: World, plan: Plan, without: frozenset[int]) -> None:
    random, chaos = Random(f"{plan.seed}/setup"), Chaos(world)
    await world.start()
    linked = 0.8 if len(plan.clusters) <= 4 else 0.3
    for name in world.clusters:
        for service in random.sample(NAMES, 2):
            world.put_service(name, service, random.choice((LOCAL, GLOBAL, GLOBAL, TAKEOVER)))
            world.scale(name, service, random.choice((1, 2, 5)))
        for peer in world.clusters:
            if peer != name and random.random() < linked:
                world.link(name, peer, random.choice((60, 90, 86_400)))
    await world.quiesce()
    operators = {name: operator for name, (_, operator) in (*FAULTS.items(), *USERS.items())}
    for phase in range(_PHASES):
        for step in plan.steps:
            if step.phase != phase:
                continue
            await world.pass_time(step.wait)
            if step.number not in without and await operators[step.name](
                chaos, Random(f"{plan.seed}/step/{step.number}")
            ):
                world.history.faults[step.name] += 1
        await chaos.heal()
        await world.quiesce()
