"""helm, run on the project's charts. `make helm` builds it once (build.py)."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.go_build import EVERYTHING
from tests.support.helm.build import built

CHARTS = Path(__file__).parents[3] / "manifests" / "charts"
_KUBERNETES = "1.34.0"  # helm would take itself to speak to 1.20


class HelmError(Exception):
    """What helm said."""


def helm(*arguments: str, stdin: str = "", home: Path | None = None) -> str:
    """Run it; raises HelmError where it fails. Skips the test where it is not built.

    *home* is needed where it talks to an API server, of which it remembers there what kinds it knows.
    """
    binary = built() / "helm"
    if not binary.exists():
        if os.environ.get(EVERYTHING):
            pytest.fail("no helm: run `make helm`")
        pytest.skip("NO HELM: run `make helm`, it needs Go")
    environment = os.environ if home is None else {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [binary, *arguments], input=stdin, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "found symbolic link" not in line]
        raise HelmError("\n".join(said))
    return done.stdout


def template(chart: str, values: Mapping[str, Any], *flags: str, namespace: str) -> list[dict[str, Any]]:
    """The objects a chart makes of *values*."""
    command = ["template", chart, str(CHARTS / chart), "--namespace", namespace, "--values", "-"]
    text = helm(*command, "--kube-version", _KUBERNETES, *flags, stdin=yaml.safe_dump(dict(values)))
    return [tree for tree in yaml.safe_load_all(text) if tree]
