"""Where kube-apiserver, etcd and the CustomResourceDefinitions are."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.apiserver.build import built


class MissingError(Exception):
    """There is no API server to start; says what to do."""


@dataclass(frozen=True)
class Binaries:
    """Commands to which flags are added, and a directory of CRDs."""

    etcd: tuple[str, ...]
    kube_apiserver: tuple[str, ...]
    crds: Path


def find() -> Binaries:
    """Envtest's `KUBEBUILDER_ASSETS` (kube-apiserver, etcd) first, else what `make apiserver` built.

    CRDs always come from the build, or from the directory `PEERD_CRDS` names where there is no Go.
    Raises MissingError.
    """
    made = built()
    crds = Path(os.environ["PEERD_CRDS"]) if os.environ.get("PEERD_CRDS") else made / "crds"
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        names = [str(Path(assets) / name) for name in ("etcd", "kube-apiserver")]
        if missing := [name for name in names if not os.access(name, os.X_OK)]:
            raise MissingError(f"KUBEBUILDER_ASSETS is set, but {missing[0]} cannot be run")
        if not crds.is_dir():
            raise MissingError(
                "KUBEBUILDER_ASSETS is set, but there are no CRDs: run `make apiserver` with Go, or name a"
                " directory with those of Istio and the Gateway API in PEERD_CRDS"
            )
        return Binaries((names[0],), (names[1],), crds)
    binary = str(made / "apiserver")
    if os.access(binary, os.X_OK):
        return Binaries((binary, "etcd"), (binary, "kube-apiserver"), crds)
    if shutil.which("go"):
        raise MissingError("run `make apiserver` first, it builds kube-apiserver and etcd")
    raise MissingError("neither Go nor KUBEBUILDER_ASSETS is there")
