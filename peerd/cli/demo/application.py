"""The demo's application: packaged manifests, written with this run's ports, edited as a user would."""

import string
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

SERVICE = "reviews"
NAMESPACE = "books"
_PODS = Path("books", "reviews-pods.yaml")
_SEPARATOR = "---\n"


def write_manifests(
    cluster: str, target: Path, ports: Mapping[str, int], addresses: Mapping[str, str] | None = None
) -> None:
    """Write the manifests of *cluster* below *target*, `${…}` replaced from *ports*.

    *addresses* replaces beginnings of Pods' addresses, where something is to answer at them.
    """
    _copy(files(__package__) / "manifests" / cluster, target, ports, addresses or {})


def _copy(source: Traversable, target: Path, ports: Mapping[str, int], addresses: Mapping[str, str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name, ports, addresses)
        elif entry.name.endswith(".yaml"):
            text = string.Template(entry.read_text("utf-8")).substitute(ports)
            for old, new in addresses.items():
                text = text.replace(old, new)
            (target / entry.name).write_text(text, "utf-8")


def replicas(manifests: Path) -> int:
    """How many Pods of the scaled service the manifests hold."""
    return len((manifests / _PODS).read_text("utf-8").split(_SEPARATOR))


def scale(manifests: Path, count: int) -> Path:
    """Keep the first *count* Pods of the scaled service; returns the edited file."""
    path = manifests / _PODS
    pods = path.read_text("utf-8").split(_SEPARATOR)
    path.write_text(_SEPARATOR.join(pods[:count]), "utf-8")
    return path
