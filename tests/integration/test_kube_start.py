"""`peerd serve --source kube:…` as a process, where the API server is not there, and where it is."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.apiserver import ApiServer
from tests.support.fake_apiserver.kinds import namespace, service_entry

_PATIENCE = 60.0


def serve(tmp_path: Path, kubeconfig: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "peerd.cli.main", "serve", f"--source=kube:{kubeconfig}"]
    flags = {"cluster-id": "east", "state-dir": tmp_path / "state", "log-format": "json", "peering": "off"}
    addresses = dict.fromkeys(("xds-addr", "peer-addr", "http-addr"), "127.0.0.1:0")
    return subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in (flags | addresses).items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(process: "subprocess.Popen[str]") -> Iterator[dict[str, object]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def end(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_PATIENCE)
    finally:
        process.kill()
        process.wait()
    return process.returncode


def test_an_api_server_that_is_away_is_waited_for_and_sigterm_ends_the_wait(tmp_path: Path) -> None:
    """With the reason in the log, and exit code 0 at once."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    process = serve(tmp_path, kubeconfig)
    waiting = next(event for event in events(process) if event["event"] == "api_server_not_ready")
    assert "127.0.0.1:1" in str(waiting["reason"])
    began = time.monotonic()
    assert end(process) == 0
    assert time.monotonic() - began < 20


def test_a_kubeconfig_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Naming the flag, the file and the fix."""
    process = serve(tmp_path, tmp_path / "none")
    output, _ = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 2
    (line,) = output.splitlines()
    assert line.startswith(f"peerd: error: --source kube:{tmp_path}/none: kubeconfig {tmp_path}/none: ")


@pytest.fixture
def started(api_server: ApiServer, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    api_server.admin.create(namespace("istio-system"))
    api_server.admin.create(namespace("shop"))
    api_server.admin.create(service_entry("ext", "ext.example"))
    process = serve(tmp_path, api_server.kubeconfig())
    yield process
    process.kill()
    process.communicate()


def test_a_cluster_is_served_as_it_is(api_server: ApiServer, started: "subprocess.Popen[str]") -> None:
    """Ready, its lineage the system Namespace's uid, its root in a Secret, and a clean end."""
    seen = {}
    for event in events(started):
        seen[event["event"]] = event
        if event["event"] == "ready":
            break
    system = api_server.admin.get(namespace("istio-system"))
    assert system is not None
    assert seen["started"]["lineage"] == system["metadata"]["uid"]
    assert seen["root_made"]["secret"] == "istio-system/istio-ca-secret"
    assert seen["ready"]["addresses"] == 2  # and Service default/kubernetes
    assert end(started) == 0
