"""The demo's manifests are real ones: they parse without a complaint, and scaling edits what it should."""

import tomllib
from pathlib import Path

import pytest

from peerd.cli.demo import application
from peerd.sources.manifests import parse

PORTS = {"east_hbone": 15008, "west_hbone": 25008, "east_peer": 1, "west_peer": 2}


def objects(folder):
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        manifest = parse(str(path), path.read_bytes(), 0.0)
        assert manifest.diagnostics == ()
        assert manifest.unknown == ()
        found |= manifest.objects
    return found


@pytest.mark.parametrize(("cluster", "pods"), [("east", 9), ("west", 12)])
def test_manifests_are_written_whole_and_parse(tmp_path, cluster, pods):
    """Every placeholder is filled in, every kind is known, every object stands once."""
    application.write_manifests(cluster, tmp_path, PORTS)
    found = objects(tmp_path)
    assert sum(kind == "Pod" for kind, _ in found) == pods
    assert not any("$" in path.read_text() for path in tmp_path.rglob("*.yaml"))


def test_scaling_keeps_the_first_pods(tmp_path):
    """As a user deletes documents from the end of a file."""
    application.write_manifests("west", tmp_path, PORTS)
    before = objects(tmp_path)
    assert application.replicas(tmp_path) == 4
    application.scale(tmp_path, 2)
    assert application.replicas(tmp_path) == 2
    after = objects(tmp_path)
    gone = before.keys() - after.keys()
    assert len(gone) == 2
    assert all(kind == "Pod" and "reviews" in key.name for kind, key in gone)
    assert after.items() <= before.items()


def test_the_wheel_carries_the_manifests():
    """`peerd demo` works from an installed package: data files match the patterns of pyproject.toml."""
    root = Path(__file__).parents[4]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "peerd"
    ]
    shipped = {path for pattern in patterns for path in (root / "peerd").glob(pattern)}
    manifests = {path for path in (root / "peerd/cli/demo/manifests").rglob("*") if path.is_file()}
    assert manifests
    assert manifests <= shipped
