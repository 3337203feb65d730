"""Programs that tests run and Go builds: each once for each state of its sources, then kept in `.cache/`.

A recipe is a module `build.py` beside its go.mod (apiserver, helm) with a `Recipe`; `make apiserver` and
`make helm` run `python -m tests.support.go_build <name>`.
"""

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EVERYTHING = "PEERD_TEST_EVERYTHING"  # set: what is missing is a failure, not a reason to skip
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Recipe:
    """What is built from one Go module.

    Args:
        file: the recipe's own file, beside go.mod and *.go; a change of any of them is a new build.
        make: fills the directory that it is given.
        lasts: how long that takes on two cores.
        skipped: what does not happen without it.
        instead: a variable that makes it unnecessary, if there is one.
    """

    file: Path
    make: Callable[[Path], None]
    lasts: str
    skipped: str
    instead: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.file.parent.name

    def built(self) -> Path:
        """The directory of the current build. It may not exist yet."""
        digest = hashlib.sha256()
        sources = self.file.parent
        for path in sorted([*sources.glob("go.*"), *sources.glob("*.go"), self.file]):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return _ROOT / ".cache" / self.name / digest.hexdigest()[:16]

    def build(self) -> Path:
        """Build what is not there yet; raises CalledProcessError where Go says why it cannot be."""
        target = self.built()
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            self.make(made)
            made.rename(target)
        return target

    def go(self, *arguments: str) -> str:
        """Run Go on the module; returns what it printed."""
        command = ["go", *arguments]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        done = subprocess.run(
            command, cwd=self.file.parent, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def main(self) -> int:
        """Build, or say in one line what will not run."""
        if shutil.which("go") is None:
            if self.instead and os.environ.get(self.instead):
                print(f"{self.name}: no Go, tests use what {self.instead} names")
                return 0
            missing = ", no ".join(filter(None, ("Go", self.instead)))
            print(f"{self.name}: SKIPPED, no {missing}: {self.skipped} will not run")
            return 1 if os.environ.get(EVERYTHING) else 0
        if not self.built().is_dir():
            print(f"{self.name}: building, {self.lasts} on two cores", flush=True)
            print(f"{self.name}: {self.build()}")
        return 0


if __name__ == "__main__":
    sys.exit(importlib.import_module(f"tests.support.{sys.argv[1]}.build").RECIPE.main())
