"""Building the API server that tests run, for `make apiserver`.

Once for each state of go.mod, go.sum, *.go and this file: 10 to 15 minutes on two cores, then cached as
`.cache/apiserver/<hash>/`. The CustomResourceDefinitions of Istio and the Gateway API are taken from their
Go modules at the same time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GO_SOURCES = Path(__file__).parent
CACHE = GO_SOURCES.parents[2] / ".cache" / "apiserver"
_CRDS = {
    "istio.io/api": "kubernetes/customresourcedefinitions.gen.yaml",
    "sigs.k8s.io/gateway-api": "config/crd/standard",
}


def built() -> Path:
    """The directory of the current build: `apiserver`, and `crds/*.yaml`. It may not exist yet."""
    digest = hashlib.sha256()
    for path in sorted([*GO_SOURCES.glob("go.*"), *GO_SOURCES.glob("*.go"), Path(__file__)]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
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
        version = _go("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").strip()
        link = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}"
        _go("build", "-trimpath", link, "-o", str(made / "apiserver"), ".")
        (made / "crds").mkdir()
        for module, where in _CRDS.items():
            source = Path(_go("list", "-m", "-f", "{{.Dir}}", module).strip()) / where
            for path in sorted(source.glob("*.yaml")) if source.is_dir() else [source]:
                shutil.copyfile(path, made / "crds" / f"{module.replace('/', '-')}-{path.name}")
        made.rename(target)
    return target


def _go(*arguments: str) -> str:
    command = ["go", *arguments]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    return subprocess.run(
        command, cwd=GO_SOURCES, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> int:
    """Build, or say in one line that tests on an API server will not run."""
    if shutil.which("go") is None:
        if os.environ.get("KUBEBUILDER_ASSETS"):
            print("apiserver: no Go, tests use the binaries in KUBEBUILDER_ASSETS")
            return 0
        print("apiserver: SKIPPED, no Go, no KUBEBUILDER_ASSETS: tests on a real API server will not run")
        return 1 if os.environ.get("PEERD_TEST_EVERYTHING") else 0
    fresh = not built().is_dir()
    if fresh:
        print("apiserver: building kube-apiserver and etcd, 10 to 15 minutes on two cores", flush=True)
    target = build()
    if fresh:
        print(f"apiserver: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
