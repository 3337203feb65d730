"""What every benchmark prints and keeps (decision D40).

One line per figure: `figure <name> <value> <unit> bar <= <bar>`, or `>=`, or without a bar. The samples, the
seed and the machine go to `bench/results/<benchmark>.json`, so that a figure can be checked afterwards.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


class Figures:
    """The figures of one run; `finish` writes the raw file and gives the exit code."""

    def __init__(self, benchmark: str, seed: int = 0, results: Path = RESULTS) -> None:
        self._benchmark = benchmark
        self._seed = seed
        self._results = results
        self._kept: list[dict[str, Any]] = []
        self._missed: list[str] = []
        self._started = time.time()

    def figure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        samples: Sequence[float] = (),
    ) -> None:
        """Print one figure with its bar, if any, and keep its samples."""
        if at_most is not None and at_least is not None:
            raise ValueError(f"figure {name}: one bar, not two")
        line = f"figure {name} {_number(value)} {unit}"
        missed = False
        if at_most is not None:
            line += f" bar <= {_number(at_most)}"
            missed = not value <= at_most  # so that NaN misses
        elif at_least is not None:
            line += f" bar >= {_number(at_least)}"
            missed = not value >= at_least
        print(line, flush=True)
        if missed:
            self._missed.append(line)
        self._kept.append(
            {
                "name": name,
                "value": value,
                "unit": unit,
                "at_most": at_most,
                "at_least": at_least,
                "missed": missed,
                "samples": list(samples),
            }
        )

    def quantile(self, name: str, samples: Sequence[float], share: float, unit: str, **bar: float) -> None:
        """Print one quantile of *samples* (0.5 = median, 0.99, 1.0 = worst)."""
        self.figure(name, quantile(samples, share), unit, samples=samples, **bar)

    def finish(self) -> int:
        """Write the raw file, name every missed bar, and return 0 or 1."""
        self._results.mkdir(parents=True, exist_ok=True)
        path = self._results / f"{self._benchmark}.json"
        document = {
            "benchmark": self._benchmark,
            "seed": self._seed,
            "started": self._started,
            "seconds": time.time() - self._started,
            "machine": {
                "python": sys.version.split()[0],
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "load": os.getloadavg(),
            },
            "figures": self._kept,
        }
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        print(f"samples: {path}")
        for line in self._missed:
            print(f"MISSED {line}", file=sys.stderr)
        return 1 if self._missed else 0


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least *share* of all samples do not exceed; NaN without samples."""
    if not samples:
        return float("nan")
    if share == 0.5:
        return statistics.median(samples)
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1e6 else f"{value:.0f}"
