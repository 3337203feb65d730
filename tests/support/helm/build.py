"""Building helm for the charts' tests, `helm`, and the definition of PodMonitor, `pod-monitor.yaml`."""

import json
import shutil
from pathlib import Path

from tests.support.go_build import Recipe

_HELM = "helm.sh/helm/v3"
# Only a file of this module is wanted: its version and checksum are pinned here, not in go.mod.
_PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_PROMETHEUS_SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
_POD_MONITOR = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"


def _make(made: Path) -> None:
    version = RECIPE.go("list", "-m", "-f", "{{.Version}}", _HELM).strip()
    link = f"-ldflags=-s -w -X {_HELM}/internal/version.version={version}"
    RECIPE.go("build", "-trimpath", link, "-o", str(made / "helm"), f"{_HELM}/cmd/helm")
    module = json.loads(RECIPE.go("mod", "download", "-json", _PROMETHEUS))
    if module["Sum"] != _PROMETHEUS_SUM:
        raise ValueError(f"{_PROMETHEUS} has checksum {module['Sum']}, not {_PROMETHEUS_SUM}")
    shutil.copyfile(Path(module["Dir"]) / _POD_MONITOR, made / "pod-monitor.yaml")


RECIPE = Recipe(Path(__file__), _make, lasts="1 to 3 minutes", skipped="tests of the charts")
built = RECIPE.built
