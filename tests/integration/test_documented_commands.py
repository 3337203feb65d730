"""What README and docs tell an operator to type: each command is there, has each flag, does what it says.

helm's commands on our charts are rendered and taken by a real API server; those of peerd are run, or where
they would serve or uninstall, read by the command itself. Charts of others are not ours to test.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from peerd.ca.bundle import CACERTS
from peerd.ca.secret import bundle_of
from peerd.cli.main import main
from tests.support.helm import helm, template
from tests.support.helm.made import by_name, dry_run

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
SYSTEM = "istio-system"
_GATEWAYS = "gateways.gateway.networking.k8s.io"  # Istio has Gateways, too
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each code block."""
    return _BLOCK.findall((ROOT / page).read_text("utf-8"))


def commands(page: str) -> Iterator[list[str]]:
    """Every command of its shell blocks, in order, as words."""
    for language, text in blocks(page):
        if language not in {"", "bash", "sh"}:
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in {"helm", "kubectl", "peerd", "docker"}:
                yield words


ALL = [(page, words) for page in PAGES for words in commands(page)]


def of(program: str) -> list[Any]:
    """Commands of one program, each once."""
    found = {shlex.join(words): (page, words) for page, words in ALL if words[0] == program}
    return [pytest.param(words, id=f"{page}: {' '.join(words[1:4])}") for page, words in found.values()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which what the pages show as a file lies: a YAML block that begins with its name."""
    place = tmp_path_factory.mktemp("home")
    for name in ("manifests", "peerd", "Dockerfile", "image"):
        (place / name).symlink_to(ROOT / name)
    for page in PAGES:
        for language, text in blocks(page):
            named = re.match(r"# ([\w-]+\.yaml)\n", text)
            if language == "yaml" and named:
                (place / named[1]).write_text(text)
    return place


def test_the_pages_tell_of_the_whole_life_of_an_installation() -> None:
    """Installed, upgraded, rolled back, uninstalled, both charts; or this file proves nothing."""
    told = {(words[1], words[2]) for _, words in ALL if words[0] == "helm"}
    assert told >= {
        ("install", "peerd"), ("install", "peering"), ("upgrade", "peerd"), ("rollback", "peerd"),
        ("uninstall", "peerd"), ("uninstall", "peering"),
    }  # fmt: skip


@pytest.mark.parametrize("words", of("helm"))
def test_helm_knows_every_flag(words: list[str]) -> None:
    """As the pinned helm has it."""
    known = helm(words[1], "--help")
    for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", known), f"helm {words[1]} has no {flag}"


@pytest.mark.parametrize("words", [each for each in of("helm") if "manifests/charts" in each.id])
def test_what_helm_installs_is_taken(words: list[str], home: Path, charts_cluster: Any) -> None:
    """Rendered with the very same values, then by the API server with strict validation."""
    release, chart, flags = words[2], words[3], words[4:]
    flags = [flag for flag in flags if flag not in {"--reset-then-reuse-values", "--create-namespace"}]
    files = [str(home / word) if word.endswith(".yaml") else word for word in flags]
    text = helm("template", release, str(ROOT / chart), *files, "--kube-version", "1.34.0")
    objects = [tree for tree in yaml.safe_load_all(text) if tree]
    assert objects
    dry_run(charts_cluster, objects)


def test_readme_looks_at_the_link_that_it_makes(home: Path) -> None:
    """The Gateway that is described is one of the chart, made of the values that are shown."""
    (install,) = [words for words in commands("README.md") if words[:3] == ["helm", "install", "peering"]]
    values = yaml.safe_load((home / install[-1]).read_text())
    made = by_name(template("peering", values, namespace=SYSTEM))
    described = [words[3] for words in commands("README.md") if words[2:3] == [_GATEWAYS]]
    assert described
    assert all(("Gateway", name) in made for name in described)


@pytest.mark.parametrize("words", of("kubectl"))
def test_kubectl_is_given_what_is_there(words: list[str]) -> None:
    """Directories of manifests are, and have a kustomization."""
    for flag, value in zip(words, [*words[1:], ""], strict=True):
        if flag == "-k":
            assert (ROOT / value / "kustomization.yaml").exists(), value


def test_the_image_is_tagged_as_the_chart_asks_for_it() -> None:
    """The repository of the one is that of the other, the tag the chart's default."""
    ((_, build),) = [each for each in ALL if each[1][0] == "docker"]
    repository, _, tag = build[build.index("--tag") + 1].rpartition(":")
    chart = yaml.safe_load((ROOT / "manifests/charts/peerd/Chart.yaml").read_text())
    assert tag == chart["appVersion"]
    installs = [words for _, words in ALL if words[:3] == ["helm", "install", "peerd"]]
    assert installs
    assert all(f"image.repository={repository}" in words for words in installs)


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_certificates_are_made_and_put_into_the_secret_as_written(page: str, tmp_path: Path) -> None:
    """The commands of a page in order, then a CA of the files that kubectl is told to take."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    secrets = 0
    for words in commands(page):
        if words[:2] == ["peerd", "certs"]:
            subprocess.run(words, cwd=tmp_path, env={**os.environ, "PATH": path}, check=True, timeout=60)
        if words[:4] == ["kubectl", "create", "secret", "generic"]:
            secrets += 1
            paths = [tmp_path / word.removeprefix("--from-file=") for word in words if "--from-file" in word]
            files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
            data = {file.name: file.read_bytes() for file in files}
            assert set(data) == set(CACERTS)
            bundle = bundle_of(data, "Secret", (tmp_path / "certs").stat().st_mtime, self_made=False)
            assert bundle.roots
    assert secrets == 1


_MENTIONED = re.compile(r"`(peerd [a-z][^`]*)`")


@pytest.mark.parametrize("page", PAGES)
def test_every_peerd_command_that_is_mentioned_exists(page: str) -> None:
    """In blocks and in running text, with its flags."""
    text = (ROOT / page).read_text("utf-8")
    said = [shlex.split(each.replace("\n", " ").replace("…", "")) for each in _MENTIONED.findall(text)]
    for words in [*said, *(words for words in commands(page) if words[0] == "peerd")]:
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, f"{page}: {shlex.join(words)}"
            command, rest = found, rest[1:]
        known = {option for each in command.params for option in each.opts} | {"--help"}
        for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert flag in known, f"{page}: {shlex.join(words)}: no {flag}"
