"""Make a failing seed shorter: `make shrink SEED=n`. Steps go as long as the same guarantee breaks."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.simulation.simulate import scratch
from tests.simulation.story import Plan, plan_of, run_plan

_TRIES = 400


def shorten(plan: Plan, root: Path, ca: Path, tries: int = _TRIES) -> set[int]:
    """The numbers of the steps that are left; those of all where the seed does not fail.

    First halves are tried to be left out, then quarters, and so on, until every single step is needed.
    """
    wanted = _broken(plan, root, ca, set())
    kept = [step.number for step in plan.steps]
    if wanted is None:
        return set(kept)
    everything, size = set(kept), max(1, len(kept) // 2)
    while size >= 1 and tries > 0:
        shorter = False
        for part in _parts(kept, size):
            rest = [number for number in kept if number not in part]
            tries -= 1
            if _broken(plan, root, ca, everything - set(rest)) == wanted:
                kept, shorter = rest, True
            if tries <= 0:
                break
        if not shorter or size > len(kept):
            if size == 1:
                break
            size //= 2
    return set(kept)


def _parts(numbers: list[int], size: int) -> Iterator[set[int]]:
    for start in range(0, len(numbers), size):
        yield set(numbers[start : start + size])


def _broken(plan: Plan, root: Path, ca: Path, without: set[int]) -> str | None:
    failure = run_plan(plan, root, ca, without).failure
    return None if failure is None else getattr(failure, "guarantee", type(failure).__name__)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 1 where the seed does not fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--tries", type=int, default=_TRIES)
    chosen = parser.parse_args(arguments)
    plan = plan_of(chosen.seed)
    with scratch() as (root, ca):
        if _broken(plan, root, ca, set()) is None:
            print(f"seed {chosen.seed} does not fail")
            return 1
        kept = shorten(plan, root, ca, chosen.tries)
        result = run_plan(plan, root, ca, {step.number for step in plan.steps} - kept)
    print(result.history.text(plan))
    print(f"{result.failure}\n{len(kept)} of {len(plan.steps)} steps are enough:")
    for step in plan.steps:
        if step.number in kept:
            print(f"  {step.number}: {step.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
