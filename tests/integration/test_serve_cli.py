"""`peerd serve` as a process: what it says of bad input, how it stops, what it goes on serving."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.ztunnel import Ztunnel
from tests.support.ports import unused_ports

SERVE = [sys.executable, "-m", "peerd.cli.main", "serve"]
SYSTEM = """\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: net}}
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: node}
status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: "True"}]}
"""
PEER = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-%d
  namespace: istio-system
  labels: {topology.istio.io/network: net-%d, topology.istio.io/cluster: cluster-%d}
spec:
  gatewayClassName: istio-remote
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners: [{name: xds-tls, port: %d, protocol: TLS, tls: {mode: Passthrough}}]
"""


@pytest.fixture
async def cluster(tmp_path, certificates):
    """A cluster with one Pod, not started; stopped at the end whatever happened."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "system.yaml").write_text(SYSTEM)
    (tmp_path / "manifests" / "pod.yaml").write_text(POD % "10.0.0.1")
    ports = dict(zip(("xds", "peer", "http", "gateway", "plaintext"), unused_ports(5), strict=True))
    cluster = Cluster("east", tmp_path, certificates / "east", ports, SERVE)
    yield cluster
    await cluster.stop()


@pytest.fixture
async def ztunnel(cluster, certificates):
    """A client of the cluster's xDS port, not connected."""
    roots = (certificates / "root-cert.pem").read_bytes()
    client = Ztunnel("east", f"127.0.0.1:{cluster.ports['xds']}", roots, cluster.token)
    yield client
    await client.close()


def address(client):
    """The one Pod's address as the client knows it."""
    workload = client.workloads.get("east//Pod/shop/web")
    return workload and workload.addresses[0][3]


def refused(cluster, **changed):
    """Start with flags replaced; the one line that it says before it exits with code 2."""
    flags = dict(flag.split("=", 1) for flag in cluster.arguments())
    flags |= {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    result = subprocess.run(
        [*SERVE, *(f"{name}={value}" for name, value in flags.items())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("peerd: error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.mark.parametrize("flag", ["xds-addr", "peer-addr", "http-addr", "insecure-plaintext-addr"])
async def test_a_port_in_use_is_named_with_its_flag(cluster, flag):
    """Which flag, which value, what to do."""
    with socket.socket() as taken:
        # Its own port: one that the system chooses now may be that of another flag.
        taken.bind(("127.0.0.1", cluster.ports[flag.removeprefix("insecure-").removesuffix("-addr")]))
        taken.listen()
        value = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(cluster, **{flag.replace("-", "_"): value})
    assert f"--{flag} {value}: " in line
    assert re.search(r"in use|; ", line)


@pytest.mark.parametrize("broken", ["missing", "partial", "garbage"])
async def test_a_bad_ca_directory_is_named_with_its_file(cluster, tmp_path, certificates, broken):
    """Never a traceback of a parser."""
    directory = tmp_path / "ca"
    if broken != "missing":
        shutil.copytree(certificates / "east", directory)
    if broken == "partial":
        (directory / "ca-key.pem").unlink()
    if broken == "garbage":
        (directory / "ca-cert.pem").write_text("not a certificate")
    line = refused(cluster, ca_dir=directory)
    assert "--ca-dir" in line
    assert str(directory) in line
    assert {"missing": str(directory), "partial": "ca-key.pem", "garbage": "ca-cert.pem"}[broken] in line


async def test_a_bad_key_set_is_named(cluster, tmp_path):
    """A file that is not there, and one that is no key set."""
    assert "--jwks-file" in refused(cluster, jwks_file=tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{}")
    assert "--jwks-file" in refused(cluster, jwks_file=tmp_path / "bad.json")


async def test_a_state_directory_serves_one_process(cluster):
    """The second one says who has it."""
    await cluster.start()
    await cluster.until_ready(60)
    line = refused(cluster)
    assert f"{cluster.root}/state: is in use by another peerd (process {cluster.pid})" in line


async def test_a_corrupt_state_directory_stops_the_start(cluster):
    """What was promised to be kept is not thrown away silently."""
    await cluster.start()
    await cluster.until_ready(60)
    await cluster.stop()
    (cluster.root / "state" / "lineage").write_text("garbage")
    assert "lineage: holds 'garbage', which is not a UUID; restore it" in refused(cluster)


async def test_sigterm_drains_within_ten_seconds_with_streams_open(cluster, ztunnel):
    """The stream is ended by peerd, the exit code is 0."""
    await cluster.start()
    await cluster.until_ready(60)
    await ztunnel.connect(60)
    started = time.monotonic()
    assert await cluster.stop() == 0
    assert time.monotonic() - started < 10


async def test_unreachable_peers_hold_up_nothing(cluster, ztunnel):
    """Twenty peers that nobody can dial, an empty state directory: ready, and the Pod is served."""
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        port = dead.getsockname()[1]
        peers = "".join(PEER % (n, n, n, port) for n in range(20))
        (cluster.manifests / "peers.yaml").write_text(peers)
        await cluster.start()
        await cluster.until_ready(60)
        await ztunnel.connect(60)
        assert address(ztunnel) == 1
        states = []
        async with asyncio.timeout(60):
            while len(states) < 20:  # dialling begins once the cluster is ready
                states = [peer["state"] for peer in await cluster.debug("peers")]
    assert states == ["connecting"] * 20


async def test_peering_off_dials_nobody(cluster, monkeypatch):
    """Gateways are derived all the same."""
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen()
        peer.setblocking(False)
        (cluster.manifests / "peers.yaml").write_text(PEER % (1, 1, 1, peer.getsockname()[1]))
        monkeypatch.setenv("PEERD_PEERING", "off")
        await cluster.start()
        await cluster.until_ready(60)
        await asyncio.sleep(0.5)
        with pytest.raises(BlockingIOError):
            peer.accept()


async def test_edits_arrive_and_broken_ones_keep_the_last_good_state(cluster, ztunnel):
    """Edit, break, mend: the client sees the good states only, the operator the problem."""
    await cluster.start()
    await cluster.until_ready(60)
    await ztunnel.connect(60)
    assert address(ztunnel) == 1
    pod = cluster.manifests / "pod.yaml"
    pod.write_text(POD % "10.0.0.2")
    await ztunnel.until(lambda: address(ztunnel) == 2, 60, "the edit")
    pod.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: web\nspec: [\n")
    problems = []
    async with asyncio.timeout(60):
        while not problems:
            problems = [each for each in await cluster.debug("diagnostics") if each["where"] == str(pod)]
            await asyncio.sleep(0.05)
    assert "is not valid YAML" in problems[0]["message"]
    assert address(ztunnel) == 2
    pod.write_text(POD % "10.0.0.3")
    await ztunnel.until(lambda: address(ztunnel) == 3, 60, "the mended file")


async def test_bad_objects_are_named_and_the_rest_is_served(cluster, ztunnel):
    """At the start as well: an unparsable file, an unknown kind, a Gateway without an address."""
    (cluster.manifests / "broken.yaml").write_text("{")
    (cluster.manifests / "unknown.yaml").write_text("apiVersion: v2\nkind: Thing\nmetadata: {name: t}\n")
    gateway = (PEER % (1, 1, 1, 15012)).replace("  addresses: [{type: IPAddress, value: 127.0.0.1}]\n", "")
    (cluster.manifests / "gateway.yaml").write_text(gateway)
    await cluster.start()
    await cluster.until_ready(60)
    await ztunnel.connect(60)
    assert address(ztunnel) == 1
    told = {(each["object"], each["field"]) for each in await cluster.debug("diagnostics")}
    assert ("(no object yet)", "(whole file)") in told
    assert ("Thing/t", "kind") in told
    assert ("Gateway/istio-system/peer-1", "spec.addresses") in told


async def test_debug_is_refused_without_a_token(cluster):
    """`/ready` and `/metrics` are open, nothing else (decision D42)."""
    await cluster.start()
    await cluster.until_ready(60)
    status, metrics = await cluster._get("/metrics", "")
    assert status == 200
    assert b"pilot_xds" in metrics
    status, _ = await cluster._get("/debug/peers", "")
    assert status == 401
    status, _ = await cluster._get("/debug/peers", "nonsense")
    assert status == 401
    status, _ = await cluster._get("/debug/peers", cluster.token())
    assert status == 401  # a ztunnel may have its own configuration, not look at everything


async def test_every_debug_view_answers_an_operator(cluster, ztunnel):
    """The views that docs/operations.md names."""
    await cluster.start()
    await cluster.until_ready(60)
    await ztunnel.connect(60)
    assert await cluster.debug("") == sorted(
        ["peers", "syncz", "connections", "diagnostics", "overview", "config_dump"]
    )
    assert (await cluster.debug("overview"))["ready"] is True
    (workload,) = (await cluster.debug("config_dump"))["workloads"]
    assert workload["addresses"] == ["10.0.0.1"]
    (stream,) = await cluster.debug("syncz")
    assert stream["proxy"] == "ztunnel-1.istio-system"
    assert {each["status"] for each in stream["resources"].values()} == {"SYNCED"}
    assert (await cluster.debug("connections"))["totalClients"] == 1


async def test_the_log_is_json_from_start_to_end(cluster):
    """One object a line, for machines; the last lines tell that it drained."""
    await cluster.start()
    await cluster.until_ready(60)
    assert await cluster.stop() == 0
    events = [json.loads(line)["event"] for line in cluster.log.read_text().splitlines()]
    assert events[0] == "started"
    assert events[-2:] == ["draining", "stopped"]
