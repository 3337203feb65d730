"""Run seeds: `make simulate SEEDS=100 FROM=1`. The first failure prints its history; exit code 1."""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from peerd.ca import authority
from peerd.protocol.peer_state import TRANSITIONS
from tests.simulation.faults import FAULTS, NAMES, USERS, Chaos, draw
from tests.simulation.history import History
from tests.simulation.loop import EPOCH, run
from tests.simulation.truth import GLOBAL, LOCAL, TAKEOVER
from tests.simulation.world import World, watched_logs

_PHASES = 2
_PHASE_SECONDS = 150.0
_BETWEEN = 7.0  # seconds between two operators, on average


class Result:
    """One seed: its history, and what it broke, if anything."""

    def __init__(self, seed: int, history: History, failure: BaseException | None, virtual: float) -> None:
        self.seed = seed
        self.history = history
        self.failure = failure
        self.virtual = virtual


def make_ca(root: Path) -> Path:
    """A CA directory for every cluster of every seed: the simulated network has no TLS."""
    issuer = authority.make_root("simulation", EPOCH - 86_400)
    directory = root / "ca"
    authority.write_new(directory, authority.make_cluster_ca(issuer, "any", EPOCH - 86_400))
    return directory


def run_seed(seed: int, root: Path, ca: Path) -> Result:
    """One whole history. Everything random in it comes from *seed*."""
    home = root / f"seed-{seed}"
    random = Random(f"{seed}/operators")
    names = ("east", "west", "north", "south")[: random.choice((2, 2, 3, 3, 4))]
    holder: dict[str, World] = {}

    async def main() -> float:
        world = holder["world"] = World(str(seed), home, ca, names)
        with watched_logs(world):
            try:
                await _story(world, random)
            finally:
                await world.close()
        if world.failure is not None:
            raise world.failure
        return world.loop.time()

    failure: BaseException | None = None
    virtual = 0.0
    try:
        virtual = run(main())
    except Exception as error:  # noqa: BLE001 (reported with its seed)
        failure = error
    finally:
        shutil.rmtree(home, ignore_errors=True)
    world = holder["world"]
    return Result(seed, world.history, failure or world.failure, virtual or world.loop.time())


async def _story(world: World, random: Random) -> None:
    chaos = Chaos(world)
    await world.start()
    for name in world.clusters:
        for service in random.sample(NAMES, 2):
            world.put_service(name, service, random.choice((LOCAL, GLOBAL, GLOBAL, TAKEOVER)))
            world.scale(name, service, random.choice((1, 2, 5)))
        for peer in world.clusters:
            if peer != name and random.random() < 0.8:
                world.link(name, peer, random.choice((60, 90, 86_400)))
    await world.quiesce()
    for phase in range(_PHASES):
        # In the first phase nobody changes anything: then no ztunnel may be told anything.
        quiet = phase == 0 and random.random() < 0.5
        end = world.loop.time() + _PHASE_SECONDS
        while world.loop.time() < end:
            await world.pass_time(random.expovariate(1 / _BETWEEN))
            kinds = FAULTS if quiet or random.random() < 0.6 else USERS
            name, operator = draw(random, kinds)
            if await operator(chaos, random):
                world.history.faults[name] += 1
        await chaos.heal()
        await world.quiesce()


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="first", type=int, default=0, help="0: drawn, and printed")
    parser.add_argument("--history", action="store_true", help="print the history though nothing failed")
    parser.add_argument("--keep-going", action="store_true")
    chosen = parser.parse_args(arguments)
    first = chosen.first or Random().randrange(1, 1_000_000)
    print(f"seeds {first} to {first + chosen.seeds - 1}: make simulate SEEDS={chosen.seeds} FROM={first}")
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir=shared if shared.is_dir() else None))
    started, results = time.monotonic(), []
    try:
        ca = make_ca(root)
        for seed in range(first, first + chosen.seeds):
            result = run_seed(seed, root, ca)
            results.append(result)
            if chosen.history or (result.failure is not None and not chosen.keep_going):
                print("\n".join(result.history.lines))
            if result.failure is not None:
                print(f"seed {seed} FAILED: {result.failure!r}"[:1500])
                if not chosen.keep_going:
                    break
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(report(results, time.monotonic() - started))
    return 1 if any(each.failure is not None for each in results) else 0


def report(results: list[Result], seconds: float) -> str:
    """Counts over all seeds."""
    faults: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    transitions: Counter[tuple[str, str]] = Counter()
    for each in results:
        faults += each.history.faults
        checks += each.history.checks
        transitions += each.history.transitions
    deliveries = statistics.median(each.history.deliveries for each in results)
    operators = statistics.median(sum(each.history.faults.values()) for each in results)
    never = [f"{a}+{b}" for a, b in TRANSITIONS if (a.value, b.value) not in transitions]
    never += [name for name in (*FAULTS, *USERS) if name not in faults]
    failed = sum(each.failure is not None for each in results)
    hours = sum(each.virtual for each in results) / 3600
    return "\n".join(
        (
            f"{len(results)} seeds, {failed} failed, {seconds:.1f} s, {seconds / len(results):.2f} s each",
            f"{hours:.1f} virtual hours; median seed: {deliveries:.0f} deliveries, {operators:.0f} operators",
            "operators    " + _counts(faults),
            "checks       " + _counts(checks),
            "transitions  " + _counts({f"{a}+{b}": count for (a, b), count in transitions.items()}),
            "never seen   " + (", ".join(never) or "nothing"),
        )
    )


def _counts(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
