"""The kustomize base, from the chart: `make manifests` writes it, `--check` says whether it is fresh.

Roles, account and CRDs are written by hand (the chart takes the rules from there); everything else is what
the chart makes of its default values, without helm's own marks.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.helm import template

BASE = Path(__file__).parent / "base"
_FILES = {
    "ConfigMap": "mesh-config.yaml",
    "Deployment": "deployment.yaml",
    "GatewayClass": "gateway-classes.yaml",
    "NetworkPolicy": "network-policy.yaml",
    "PodDisruptionBudget": "pod-disruption-budget.yaml",
    "Service": "service.yaml",
}
_HEAD = "# Made by `make manifests` from the chart peerd and its default values; change those.\n"
_MARKS = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def rendered() -> dict[str, str]:
    """File name to content."""
    values = {"uninstall": {"hook": False}}
    found: dict[str, list[dict[str, Any]]] = {}
    for tree in template("peerd", values, namespace="istio-system"):
        if tree["kind"] in _FILES:
            for labels in _labels(tree):
                for mark in _MARKS:
                    labels.pop(mark, None)
            found.setdefault(_FILES[tree["kind"]], []).append(tree)
    return {
        name: _HEAD + "---\n".join(yaml.safe_dump(tree, sort_keys=False, width=110) for tree in trees)
        for name, trees in sorted(found.items())
    }


def _labels(tree: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield tree["metadata"]["labels"]
    if "template" in tree.get("spec", {}):
        yield tree["spec"]["template"]["metadata"]["labels"]


def main() -> int:
    """Write, or with `--check` compare."""
    stale = []
    for name, content in rendered().items():
        path = BASE / name
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text() != content:
                stale.append(name)
        else:
            path.write_text(content)
    if stale:
        sys.stdout.write(f"manifests/base: stale: {', '.join(stale)}: run `make manifests`\n")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
