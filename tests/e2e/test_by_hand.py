"""docs/by-hand.md, typed in as it stands, ends with two clusters that peer."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.ports import unused_ports

ROOT = Path(__file__).parents[2]
PORTS = ("16012", "16013", "16014", "26012", "26013", "26014")


def commands():
    """The code blocks of the page, with ports of this run."""
    section = (ROOT / "docs" / "by-hand.md").read_text("utf-8")
    for port, unused in zip(PORTS, unused_ports(len(PORTS)), strict=True):
        assert port in section
        section = section.replace(port, str(unused))
    return re.findall(
        r"^```\n(.*?)^```", section.replace("cp -r peerd", f"cp -r {ROOT}/peerd"), re.MULTILINE | re.DOTALL
    )


def shell(command, home):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=home,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_two_clusters_by_hand(tmp_path):
    """Certificates, manifests, tokens, two processes, and the peers as east sees them."""
    certificates, objects, tokens, serve, look = commands()
    for step in (certificates, objects, tokens):
        result = shell(step, tmp_path)
        assert result.returncode == 0, result.stderr
    one, two = re.findall(r"peerd serve (?:[^\n]*\\\n)*[^\n]*", serve)
    with contextlib.ExitStack() as running:
        for command in (one, two):
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], cwd=tmp_path, env=environment)
            running.callback(process.wait, 30)
            running.callback(process.send_signal, signal.SIGTERM)
        deadline = time.monotonic() + 60
        state = ""
        while state != "live":
            assert time.monotonic() < deadline, state
            answer = shell(look, tmp_path)
            with contextlib.suppress(json.JSONDecodeError, LookupError):
                state = json.loads(answer.stdout)[0]["state"]
            time.sleep(0.1)
