"""The CustomResourceDefinitions that peerd reads objects of, installed and established."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from peerd.model.kube.kinds import KINDS
from tests.support.apiserver.client import ApiFailure, Client

OWN = Path(__file__).parents[3] / "manifests" / "crds"
_PATIENCE = 60.0


def wanted(directory: Path) -> list[dict[str, Any]]:
    """The definitions of the kinds in peerd's table, from *directory* and our own manifests."""
    kinds = {(kind.group, kind.name) for kind in KINDS}
    found = {}
    for path in sorted(directory.glob("*.yaml")) + sorted(OWN.glob("*.yaml")):
        for tree in yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader):
            if tree and tree["kind"] == "CustomResourceDefinition":
                found[tree["spec"]["group"], tree["spec"]["names"]["kind"]] = tree
    return [tree for key, tree in found.items() if key in kinds]


def install(admin: Client, definitions: Iterable[dict[str, Any]]) -> None:
    """Make them and wait until the API server serves every version."""
    made = [admin.create({key: tree[key] for key in tree if key != "status"}) for tree in definitions]
    end = time.monotonic() + _PATIENCE
    for definition in made:
        while not _established(admin.get(definition)):
            if time.monotonic() > end:
                raise TimeoutError(f"{definition['metadata']['name']} is not established")
            time.sleep(0.05)
    for definition in made:
        spec = definition["spec"]
        for version in spec["versions"]:
            while version["served"] and not _served(admin, spec, version["name"]):
                if time.monotonic() > end:
                    raise TimeoutError(f"{definition['metadata']['name']} is not served")
                time.sleep(0.05)


def _established(definition: dict[str, Any] | None) -> bool:
    conditions = (definition or {}).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _served(admin: Client, spec: dict[str, Any], version: str) -> bool:
    try:
        admin.items(f"{spec['group']}/{version}", spec["names"]["kind"])
    except (LookupError, ApiFailure):
        return False
    return True
