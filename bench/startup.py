"""Time to ready and idle CPU of `peerd serve`, beside a Python that only imports grpc.

Three starts are measured, on an empty state directory: without peers, with twenty that are not dialled, and
with twenty that are all unreachable; the third must be as fast as the second. Everything runs in processes of
its own, through public flags.
"""

import compileall
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import peerd
from bench.figures import Figures, quantile

ROUNDS = 7
IDLE_SECONDS = 10.0
PEERD = Path(sys.executable).parent / "peerd"

MANIFESTS = """\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: bench}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {solo.io/service-scope: global}}
spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata:
  name: web-%d
  namespace: shop
  labels: {app: web}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: node}
status: {phase: Running, podIP: 10.0.0.%d, conditions: [{type: Ready, status: "True"}]}
"""
PEER = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-%d
  namespace: istio-system
  labels: {topology.istio.io/network: network-%d, topology.istio.io/cluster: cluster-%d}
spec:
  gatewayClassName: istio-remote
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners: [{name: xds-tls, port: %d, protocol: TLS, tls: {mode: Passthrough}}]
"""


def main() -> int:
    figures = Figures("startup")
    # As `pip install` of a wheel does; an editable install in a machine that writes no bytecode has none.
    compileall.compile_dir(Path(peerd.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder, unreachable() as port:
        root = Path(folder)
        make_cas(root)
        plain = MANIFESTS + "".join(POD % (n, n) for n in range(1, 21))
        peers = plain + "".join(PEER % (n, n, n, port) for n in range(20))
        imports, without, off, unreached = [], [], [], []
        for _ in range(ROUNDS):  # interleaved, so that a busy moment hits all alike
            imports.append(import_grpc())
            without.append(start(root, plain)[0])
            off.append(start(root, peers, "--peering=off")[0])
            unreached.append(start(root, peers)[0])
        _, idle = start(root, plain, idle=IDLE_SECONDS)
    baseline = quantile(imports, 0.5)
    figures.quantile("import-grpc", imports, 0.5, "s")
    figures.quantile("ready", without, 0.5, "s")
    figures.figure("ready-over-import-grpc", quantile(without, 0.5) / baseline, "x", at_most=4.0)
    figures.quantile("ready-peers-off", off, 0.5, "s")
    figures.quantile("ready-peers-unreachable", unreached, 0.5, "s")
    # The same objects, dialled or not: a wait on any of twenty dials would be far more.
    figures.figure(
        "ready-unreachable-over-off", quantile(unreached, 0.5) / quantile(off, 0.5), "x", at_most=1.2
    )
    figures.figure("idle", idle * 100, "%core", at_most=1.0)
    return figures.finish()


def make_cas(root: Path) -> None:
    """A root and one cluster's CA, with the command that users have."""
    run = [str(PEERD), "certs"]
    subprocess.run([*run, "root", "--dir", str(root / "certs")], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*run, "cluster", "bench", "--root", str(root / "certs"), "--dir", str(root / "certs")],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def unreachable() -> Iterator[int]:
    """A port that is bound, so that nobody else gets it, and does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def import_grpc() -> float:
    """Seconds of `python -c "import grpc"`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import grpc"], check=True)
    return time.perf_counter() - started


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start(root: Path, manifests: str, *flags: str, idle: float = 0.0) -> tuple[float, float]:
    """Start one peerd on an empty state directory: seconds to ready, and its share of a core when idle."""
    source, state = root / "manifests", root / "state"
    shutil.rmtree(state, ignore_errors=True)
    source.mkdir(exist_ok=True)
    (source / "all.yaml").write_text(manifests)
    os.utime(source / "all.yaml", (0, 1))  # it rested long ago: no wait for a writer
    xds, peer, http = free_ports(3)
    command = [
        str(PEERD), "serve", "--source", f"dir:{source}", "--cluster-id", "bench",
        "--ca-dir", str(root / "certs" / "bench"), "--state-dir", str(state),
        "--xds-addr", f"127.0.0.1:{xds}", "--peer-addr", f"127.0.0.1:{peer}",
        "--http-addr", f"127.0.0.1:{http}", "--log-level", "error", *flags,
    ]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command)
    try:
        wait_ready(process, http)
        ready = time.perf_counter() - started
        share = 0.0
        if idle:
            time.sleep(2.0)  # what the start left to do is done
            before = cpu_seconds(process.pid)
            time.sleep(idle)
            share = (cpu_seconds(process.pid) - before) / idle
        return ready, share
    finally:
        process.terminate()
        process.wait(15)


def wait_ready(process: subprocess.Popen[bytes], port: int, seconds: float = 30.0) -> None:
    """Ask `/ready` until it says 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"peerd serve ended with code {process.returncode}")
        with contextlib.suppress(OSError):  # not listening yet, or 503
            urlopen(f"http://127.0.0.1:{port}/ready", timeout=1).close()
            return
        time.sleep(0.005)
    raise SystemExit(f"peerd serve was not ready within {seconds:.0f} s")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
