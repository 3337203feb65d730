"""Building helm for the charts' tests, for `make helm`; once for each state of go.mod, go.sum and this file.

Cached as `.cache/helm/<hash>/`, with the CustomResourceDefinition of PodMonitor beside it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GO_MODULE = Path(__file__).parent
CACHE = GO_MODULE.parents[2] / ".cache" / "helm"
_HELM = "helm.sh/helm/v3"
# Only a file of this module is wanted: its version and checksum are pinned here, not in go.mod.
_PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_PROMETHEUS_SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
_POD_MONITOR = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"


def built() -> Path:
    """The directory of the current build: `helm` and `pod-monitor.yaml`. It may not exist yet."""
    digest = hashlib.sha256()
    for path in (GO_MODULE / "go.mod", GO_MODULE / "go.sum", Path(__file__)):
        digest.update(path.read_bytes() + b"\0")
    return CACHE / digest.hexdigest()[:16]


def build() -> Path:
    """Build what is not there yet; raises CalledProcessError where Go says why it cannot be."""
    target = built()
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        version = _go("list", "-m", "-f", "{{.Version}}", _HELM).strip()
        link = f"-ldflags=-s -w -X {_HELM}/internal/version.version={version}"
        _go("build", "-trimpath", link, "-o", str(made / "helm"), f"{_HELM}/cmd/helm")
        module = json.loads(_go("mod", "download", "-json", _PROMETHEUS))
        if module["Sum"] != _PROMETHEUS_SUM:
            raise ValueError(f"{_PROMETHEUS} has checksum {module['Sum']}, not {_PROMETHEUS_SUM}")
        shutil.copyfile(Path(module["Dir"]) / _POD_MONITOR, made / "pod-monitor.yaml")
        made.rename(target)
    return target


def _go(*arguments: str) -> str:
    command = ["go", *arguments]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    return subprocess.run(
        command, cwd=GO_MODULE, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> int:
    """Build, or say in one line that the charts' tests will not run."""
    if shutil.which("go") is None:
        print("helm: SKIPPED, no Go: tests of the charts will not run")
        return 1 if os.environ.get("PEERD_TEST_EVERYTHING") else 0
    if not built().is_dir():
        print("helm: building, 1 to 3 minutes on two cores", flush=True)
        print(f"helm: {build()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
