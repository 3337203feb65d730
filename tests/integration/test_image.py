"""The image's steps, run without a builder: what the Dockerfile copies and runs, and how it starts peerd."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65532
_PATIENCE = 180.0  # imports from a tree without byte code, on a busy machine

pytestmark = pytest.mark.timeout(900)  # the image is made of packages from their registry


def instructions():
    """The Dockerfile's lines as (word, rest), the second stage last."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def copied():
    """Top-level names that `COPY .` gets past .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def open_to_all(scratch):
    """The directory of a python3 that nobody may run too: some homes of interpreters are private."""
    for directory in (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin")):
        python = directory / "python3"
        if not python.exists():
            continue
        code = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if as_nobody([python, "-c", code], cwd=scratch, stderr=subprocess.DEVNULL).wait() == 0:
                return directory
        except PermissionError:
            continue
    pytest.fail("no python3 >= 3.11 with ensurepip that other users may run")


@pytest.fixture(scope="module")
def image():
    """The image's /opt/peerd: made by the Dockerfile's own step from what it copies, then read-only."""
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        source, prefix = root / "src", root / "opt-peerd"
        source.mkdir()
        for name in copied():
            found = ROOT / name
            if found.is_dir():
                shutil.copytree(found, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(found, source / name)
                shutil.copymode(found, source / name)
        assert ("RUN", "/src/image/install.sh /src /opt/peerd") in instructions()
        environment = {**os.environ, "PATH": f"{open_to_all(root)}:/usr/bin:/bin"}
        subprocess.run([source / "image" / "install.sh", source, prefix], env=environment, check=True)
        shutil.rmtree(source)
        subprocess.run(["chmod", "-R", "a-w,a+rX", prefix], check=True)
        yield prefix
        subprocess.run(["chmod", "-R", "u+w", prefix], check=True)


@pytest.fixture
def volume():
    """A mounted volume: the one place where the container may write."""
    with tempfile.TemporaryDirectory(prefix="state-") as scratch:
        if os.geteuid() == 0:
            os.chown(scratch, NOBODY, NOBODY)
        yield Path(scratch)


def as_nobody(command, **options):
    """As the image's user; who is not root is nobody in particular already."""
    if os.geteuid() == 0:
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": ()}
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **options)


def test_the_image_runs_as_nobody_what_was_installed():
    """User, entry point and paths of the Dockerfile are those that the tests here use."""
    found = instructions()
    assert ("USER", f"{NOBODY}:{NOBODY}") in found
    assert ("COPY", "--from=build /opt/peerd /opt/peerd") in found
    entry = json.loads(dict(found)["ENTRYPOINT"])
    assert entry == ["peerd"]
    assert "PATH=/opt/peerd/bin:$PATH" in dict(found)["ENV"]


def test_the_image_holds_pinned_run_time_dependencies_only(image):
    """Each distribution has its pinned version; nothing of the tests' tools is there."""
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    )
    code = "import importlib.metadata as m; print([(d.name, d.version) for d in m.distributions()])"
    found = subprocess.run([image / "bin/python", "-c", code], capture_output=True, check=True, text=True)
    held = {name.lower().replace("_", "-"): version for name, version in eval(found.stdout)}
    held.pop("peerd")
    assert held == {name: pinned[name] for name in held}
    assert not {"pytest", "mypy", "ruff", "hypothesis", "grpcio-tools", "pip", "setuptools"} & set(held)


def test_peerd_serves_from_a_read_only_tree(image, volume):
    """As nobody, able to write to its volume alone, it gets ready and ends with code 0 on SIGTERM."""
    manifests = volume / "manifests"
    manifests.mkdir(mode=0o755)
    (manifests / "namespace.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\n"
        "metadata: {name: istio-system, labels: {topology.istio.io/network: east}}\n"
    )
    command = [
        *(image / "bin/peerd", "serve", f"--source=dir:{manifests}", f"--state-dir={volume}/state"),
        *(f"--{each}-addr=127.0.0.1:0" for each in ("xds", "peer", "gateway")),
        "--http-addr=127.0.0.1:0",
        "--log-format=json",
    ]
    process = as_nobody(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = None
        for line in process.stdout:
            if found := re.search(r'"http_addr": ?"([^"]+)"', line):
                address = found[1]
                break
        assert address, "it ended before it listened"
        end = time.monotonic() + _PATIENCE
        while _status(f"http://{address}/ready") != 200:
            assert time.monotonic() < end, "not ready"
            time.sleep(0.1)
    finally:
        process.terminate()
        rest = process.communicate(timeout=_PATIENCE)[0]
    assert process.returncode == 0, rest


def test_the_tree_cannot_be_written(image):
    """The steps leave nothing that nobody may change."""
    code = f"open({str(image / 'bin' / 'new')!r}, 'w')"
    process = as_nobody([image / "bin/python", "-c", code], stderr=subprocess.PIPE, text=True)
    assert "PermissionError" in process.communicate(timeout=_PATIENCE)[1]


def test_the_image_is_built_where_there_is_a_builder():
    """`docker build` or `buildah build` of the Dockerfile itself; here only where an engine answers."""
    for tool in ("docker", "podman", "buildah"):
        if (
            shutil.which(tool)
            and subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0
        ):
            subprocess.run([tool, "build", "--quiet", "--tag", "peerd:test", str(ROOT)], check=True)
            return
    pytest.skip("NO IMAGE BUILDER: docker, podman, buildah: none answers")


def _status(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except (TimeoutError, OSError):
        return 0
