"""The guarantees of docs/guarantees.md hold over seeded histories; `make simulate` runs a thousand more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import coverage, shrink
from tests.simulation.history import History
from tests.simulation.simulate import Total
from tests.simulation.story import Result, make_ca, plan_of, run_plan, run_seed
from tests.simulation.test_validators import drops_imports_with_the_stream

_SEEDS = range(1, 31)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


def hold(result: Result) -> None:
    if result.failure is not None:
        lines = "\n".join(result.history.lines[-80:])
        pytest.fail(
            f"seed {result.seed}: {result.failure}\n{lines}\nmake simulate SEEDS=1 FROM={result.seed}"
        )


def test_every_guarantee_holds_over_seeded_histories(tmp_path: Path, ca: Path) -> None:
    """And the histories are worth it: messages, faults and checks of every kind."""
    total = Total()
    for seed in _SEEDS:
        result = run_seed(seed, tmp_path, ca)
        hold(result)
        total.add(result)
    print(total.text(1.0))
    assert {
        "Origin",
        "Complete",
        "No phantom delete",
        "Monotonic",
        "Bounded staleness",
        "Isolation",
        "Restart changes nothing",
        "Policies first",
        "Status",
        "Nothing twice",
        "Refusal",
        "No work for nothing",
    } <= set(total.checks)


def test_what_happens_too_rarely_is_told() -> None:
    """A run of many seeds fails where an operator, or a transition of any table, was never met."""
    total = Total()
    total.add(Result(plan_of(1), History(), None, 0.0))
    missing = total.missing()
    assert "no partition" in missing
    assert "never peer + live + lost" in missing
    assert "the median seed has 0 deliveries" in missing
    assert set(coverage.UNREACHABLE).isdisjoint(coverage.expected())


def test_one_seed_is_one_history_whatever_the_hash_seed(tmp_path: Path) -> None:
    """Bit for bit, in two processes that hash strings differently."""
    code = (
        "from pathlib import Path; from tests.simulation.story import make_ca, run_seed;"
        "root = Path({!r}); result = run_seed(3, root, make_ca(root));"
        "print(result.history.digest(), result.history.deliveries, result.failure)"
    )
    outputs = []
    for number in ("1", "2"):
        home = tmp_path / number
        home.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code.format(str(home))],
            env={**os.environ, "PYTHONHASHSEED": number},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.splitlines()[-1])
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith("None")


def test_a_failing_seed_replays_and_becomes_shorter(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a peerd that withdraws imports with the stream; what is left breaks the same guarantee."""
    drops_imports_with_the_stream(monkeypatch)
    plan = next(
        plan for seed in range(1, 20) if (plan := plan_of(seed)) and run_seed(seed, tmp_path, ca).failure
    )
    first, again = run_plan(plan, tmp_path, ca), run_plan(plan, tmp_path, ca)
    assert first.history.digest() == again.history.digest()
    kept = shrink.shorten(plan, tmp_path, ca, tries=60)
    assert len(kept) < len(plan.steps) / 2
    without = {step.number for step in plan.steps} - kept
    failure = run_plan(plan, tmp_path, ca, without).failure
    assert getattr(failure, "guarantee", "") == getattr(first.failure, "guarantee", "?")
