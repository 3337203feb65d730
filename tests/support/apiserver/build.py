"""Building the API server that tests run, `apiserver`, and the CustomResourceDefinitions, `crds/*.yaml`.

Those of Istio and the Gateway API are taken from their Go modules.
"""

import shutil
from pathlib import Path

from tests.support.go_build import Recipe

_CRDS = {
    "istio.io/api": "kubernetes/customresourcedefinitions.gen.yaml",
    "sigs.k8s.io/gateway-api": "config/crd/standard",
}


def _make(made: Path) -> None:
    version = RECIPE.go("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").strip()
    link = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}"
    RECIPE.go("build", "-trimpath", link, "-o", str(made / "apiserver"), ".")
    (made / "crds").mkdir()
    for module, where in _CRDS.items():
        source = Path(RECIPE.go("list", "-m", "-f", "{{.Dir}}", module).strip()) / where
        for path in sorted(source.glob("*.yaml")) if source.is_dir() else [source]:
            shutil.copyfile(path, made / "crds" / f"{module.replace('/', '-')}-{path.name}")


RECIPE = Recipe(
    Path(__file__),
    _make,
    lasts="10 to 15 minutes",
    skipped="tests on a real API server",
    instead="KUBEBUILDER_ASSETS",
)
built = RECIPE.built
