"""Run seeds: `make simulate SEEDS=100 FROM=1`. The first failure prints its history; exit code 1."""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from random import Random

from tests.simulation import coverage
from tests.simulation.faults import FAULTS, USERS
from tests.simulation.story import Result, make_ca, run_seed

_ENOUGH = 500  # seeds from which on everything that can happen must have happened
_DELIVERIES, _STEPS = 500, 5  # of the median seed


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="first", type=int, default=0, help="0: drawn, and printed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--history", action="store_true", help="print the history though nothing failed")
    parser.add_argument("--keep-going", action="store_true")
    chosen = parser.parse_args(arguments)
    first = chosen.first or Random().randrange(1, 1_000_000)
    print(f"seeds {first} to {first + chosen.seeds - 1}: make simulate SEEDS={chosen.seeds} FROM={first}")
    started = time.monotonic()
    total, failed = Total(), 0
    with scratch() as (root, ca):
        for result in _results(range(first, first + chosen.seeds), root, ca, chosen.workers):
            total.add(result)
            failing = result.failure is not None
            failed += failing
            if chosen.history or (failing and not chosen.keep_going):
                print(result.history.text(result.plan))
            if failing:
                print(f"seed {result.seed} FAILED: {result.failure!r}"[:1500])
                print(f"make simulate SEEDS=1 FROM={result.seed}; make shrink SEED={result.seed}", flush=True)
                if not chosen.keep_going:
                    break
    print(total.text(time.monotonic() - started))
    missing = total.missing() if total.seeds >= _ENOUGH else []
    if missing:
        print("too little happened: " + "; ".join(missing))
    return 1 if failed or missing else 0


@contextmanager
def scratch() -> Iterator[tuple[Path, Path]]:
    """A directory for state directories, in memory where there is such a place, and a CA."""
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir=shared if shared.is_dir() else None))
    try:
        yield root, make_ca(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _results(seeds: range, root: Path, ca: Path, workers: int) -> Iterator[Result]:
    if workers <= 1:
        for seed in seeds:
            yield run_seed(seed, root, ca)
        return
    with get_context("spawn").Pool(workers) as pool:  # its end ends what still runs
        yield from pool.imap(_run, ((seed, root, ca) for seed in seeds), chunksize=5)


def _run(job: tuple[int, Path, Path]) -> Result:
    result = run_seed(*job)
    if result.failure is None:
        result.history.lines = []  # nobody will read them
    else:
        result.failure.__traceback__ = None
    return result


class Total:
    """Counts over all seeds."""

    def __init__(self) -> None:
        self.seeds = self.failed = 0
        self._virtual = 0.0
        self._deliveries: list[int] = []
        self._steps: list[int] = []
        self._operators: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self._transitions: Counter[tuple[str, str, str]] = Counter()

    def add(self, result: Result) -> None:
        """One more."""
        history = result.history
        self.seeds += 1
        self.failed += result.failure is not None
        self._virtual += result.virtual
        self._deliveries.append(history.deliveries)
        self._steps.append(sum(count for name, count in history.faults.items() if name in FAULTS))
        self._operators += history.faults
        self.checks += history.checks
        self._transitions += history.transitions

    def missing(self) -> list[str]:
        """What should have happened in so many seeds and did not, in words."""
        found = [f"no {name}" for name in (*FAULTS, *USERS) if name not in self._operators]
        found += [
            f"never {' + '.join(pair)}" for pair in coverage.expected() if pair not in self._transitions
        ]
        if statistics.median(self._deliveries) < _DELIVERIES:
            found.append(f"the median seed has {statistics.median(self._deliveries):.0f} deliveries")
        if statistics.median(self._steps) < _STEPS:
            found.append(f"the median seed has {statistics.median(self._steps):.0f} faults")
        return found

    def text(self, seconds: float) -> str:
        """The report."""
        tables: dict[str, list[str]] = {}
        for (table, state, event), count in sorted(self._transitions.items()):
            tables.setdefault(table, []).append(f"{state} + {event} {count}")
        deliveries, steps = statistics.median(self._deliveries), statistics.median(self._steps)
        lines = [
            f"{self.seeds} seeds, {self.failed} failed, {seconds:.1f} s, {seconds / self.seeds:.2f} s each",
            f"median seed: {deliveries:.0f} deliveries, {steps:.0f} faults; {self._virtual / 3600:.0f} hours",
            "operators: " + _counts(self._operators),
            "checks: " + _counts(self.checks),
            *(f"{table}: {', '.join(pairs)}" for table, pairs in tables.items()),
            "never seen: " + (", ".join(" ".join(each) for each in self._unseen()) or "nothing"),
        ]
        return "\n".join(lines)

    def _unseen(self) -> list[tuple[str, str, str]]:
        return [each for each in coverage.expected() if each not in self._transitions]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
