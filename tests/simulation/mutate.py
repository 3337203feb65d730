"""Does anybody notice? `make mutate SLICE=1/4` runs seeds against generated mutants (mutants.py).

Mutants are drawn by a seed of their own; each is a process of its own and runs until a seed fails. It counts
as killed when a *named* guarantee was broken (validators.py). Peerd as it is has to pass first. Results are
kept in a file, one line for each mutant, and `--report` writes mutation_report.md from it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation import mutants

DRAWN = 120
_WHOLE = "whole"  # peerd without a mutant
DRAW_SEED = 8
MOST_SEEDS = 200
_SECONDS_A_SEED = 60  # of processor time: one that takes longer never ends
_HERE = Path(__file__).parent
REPORT = _HERE / "mutation_report.md"
_UNKNOWN = "Not known yet; more seeds first."
REASONS = _HERE / "mutation_survivors.json"


def drawn(count: int = DRAWN) -> list[mutants.Mutant]:
    """The mutants that are tried."""
    return Random(DRAW_SEED).sample(mutants.population(), count)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slice", default="1/1", help="i/n: every n-th mutant, from the i-th on")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("build/mutation.jsonl"))
    parser.add_argument("--again", action="store_true", help="try the survivors among the results again")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        print(json.dumps(_one(chosen.one, chosen.first, chosen.seeds)))
        return 0
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    done = {each["name"]: each for each in _read(chosen.results)}
    if not chosen.report:
        if (whole := _run(_WHOLE, 1, 0))["guarantee"]:
            print(f"peerd as it is breaks a guarantee, so mutants say nothing: {whole['error']}")
            return 1
        index, _, count = chosen.slice.partition("/")
        for mutant in drawn()[int(index) - 1 :: int(count)]:
            before = done.get(mutant.name)
            if before is None or (chosen.again and not before["guarantee"]):
                done[mutant.name] = found = _try(mutant, chosen.first, chosen.seeds)
                with chosen.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                word = (
                    f"killed by {found['guarantee']}, seed {found['seed']}"
                    if found["guarantee"]
                    else "SURVIVED"
                )
                print(f"{mutant.name}: {word} ({found['seconds']:.0f} s)", flush=True)
    tried = [done[each.name] for each in drawn() if each.name in done]
    print(summary(tried))
    if chosen.report or len(tried) == DRAWN:  # what was not run yet the next call runs
        REPORT.write_text(report(tried))
    return 0


def _read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _try(mutant: mutants.Mutant, first: int, seeds: int) -> dict[str, Any]:
    found = _run(f"{mutant.path}#{mutant.number}", first, seeds)
    return {"name": mutant.name, "kind": mutant.kind, **found}


def _run(which: str, first: int, seeds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.simulation.mutate", "--one", which]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--seeds", str(seeds), "--from", str(first)],
        cwd=mutants.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"guarantee": "", "seed": 0, "error": f"it cannot be run: {done.stderr[-300:]}", "seeds": 0}
    return {**found, "seconds": time.monotonic() - began}


def _one(which: str, first: int, seeds: int) -> dict[str, Any]:
    path, _, number = which.partition("#")
    if which != _WHOLE:
        (mutant,) = (each for each in mutants.population() if (each.path, each.number) == (path, int(number)))
        mutants.install(mutant)
    from tests.simulation.story import make_ca, run_seed  # not before the mutant is installed

    def too_long(*_: object) -> None:
        # Who waits for ever may wait for ever while it is ended, too.
        found = {"guarantee": "No errors of our own", "seed": seed, "error": "it never ends", "seeds": seed}
        print(json.dumps(found), flush=True)
        os._exit(0)

    signal.signal(signal.SIGPROF, too_long)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as home:
        root = Path(home)
        ca = make_ca(root)
        # Seed 0: the scenarios, those first that meet most.
        for seed in (0, *range(first, first + seeds)):
            signal.setitimer(signal.ITIMER_PROF, _SECONDS_A_SEED)
            failure: BaseException | None
            try:
                failure = run_seed(seed, root, ca).failure if seed else _scenes(root, ca)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            if failure is not None:
                # What spins, waits for ever or falls over breaks a guarantee too.
                guarantee = getattr(failure, "guarantee", "No errors of our own")
                return {
                    "guarantee": guarantee,
                    "seed": seed,
                    "error": repr(failure)[:300],
                    "seeds": seed - first + 1,
                }
    return {"guarantee": "", "seed": 0, "error": "", "seeds": seeds}


def _scenes(root: Path, ca: Path) -> BaseException | None:
    """What the scenarios say; one that only saw its own expectation fail says nothing here."""
    from tests.simulation.bounds import BOUNDS
    from tests.simulation.clients import CLIENTS
    from tests.simulation.found import FOUND
    from tests.simulation.gauntlet import GAUNTLET
    from tests.simulation.history import Violation
    from tests.simulation.peer_edges import PEER_EDGES
    from tests.simulation.scenarios import play
    from tests.simulation.track_record import SCENARIOS

    for scenario in (*CLIENTS, *BOUNDS, *PEER_EDGES, *GAUNTLET, *FOUND, *SCENARIOS):
        try:
            play(scenario, root, ca)
        except Violation as violation:
            return violation
        except AssertionError:
            continue
        except Exception as error:  # noqa: BLE001 (what spins or falls over breaks a guarantee too)
            return error
    return None


def summary(tried: list[dict[str, Any]]) -> str:
    """One line."""
    killed = sum(bool(each["guarantee"]) for each in tried)
    return f"{len(tried)} mutants, {killed} killed ({killed / max(1, len(tried)):.0%})"


def report(tried: list[dict[str, Any]]) -> str:
    """The page that is committed."""
    reasons: dict[str, str] = json.loads(REASONS.read_text()) if REASONS.exists() else {}
    killed = [each for each in tried if each["guarantee"]]
    by = Counter(each["guarantee"] for each in killed)
    most = max((each["seeds"] for each in tried), default=0)
    introduction = (
        f"`make mutate` broke peerd in {len(tried)} of the {DRAWN} places drawn with seed {DRAW_SEED} from"
        f" {len(mutants.population())}: each guard dropped, each next state swapped, each timer removed in"
        " `peerd/protocol`, `peerd/peering`, `peerd/resources`, and in what withholds, announces and merges"
        f" (`{'`, `'.join(mutants.FILES)}`). The scenarios (seed 0) and then up to {most} seeds were run"
        " against each, until one failed."
    )
    lines = [
        "# Mutation report",
        "",
        introduction,
        "",
        f"**{summary(tried)}.**",
        "",
        "| guarantee | mutants it killed |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in by.most_common()),
        "",
        "## Survivors",
        "",
        "| mutant | seeds | why no history shows it |",
        "|---|---|---|",
        *(
            f"| `{_cell(each['name'])}` | {each['seeds']} | {reasons.get(_place(each['name']), _UNKNOWN)} |"
            for each in tried
            if not each["guarantee"]
        ),
        "",
        "## Killed",
        "",
        "| mutant | by | seed |",
        "|---|---|---|",
        *(f"| `{_cell(each['name'])}` | {each['guarantee']} | {each['seed']} |" for each in killed),
        "",
    ]
    return "\n".join(lines)


def _place(name: str) -> str:
    """A mutant's name without its line, which moves."""
    path, _, rest = name.partition(":")
    return f"{path} {rest.partition(' ')[2]}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
