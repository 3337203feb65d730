"""One peerd among many peers: time to sync, memory, CPU at a steady rate of changes, latency to a ztunnel.

One real `peerd serve`, fake peers in a helper process, each with its own CA, certificate, address and
Gateway, and one ztunnel-like client on the loopback address. Other sizes: `python -m bench.peering 10 100`.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench._peers import PORT, address
from bench._processes import Helper
from bench._ztunnel import Ztunnel
from bench.figures import Figures
from bench.startup import PEERD, cpu_seconds, free_ports, make_cas, wait_ready
from peerd.encode.address import decode_address
from peerd.model.workload import Workload
from peerd.protocol.envelope import DeltaResponse

SIZES = (10, 100, 500, 2000)
SERVICES = 100
RATE = 200
SECONDS = 20.0
SEED = 7

HEAD = """\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: bench}}
"""
GATEWAY = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-%d
  namespace: istio-system
  labels: {topology.istio.io/network: net-%d, topology.istio.io/cluster: c%d}
spec:
  gatewayClassName: istio-remote
  addresses: [{type: IPAddress, value: %s}]
  listeners:
  - {name: cross-network, port: 15008, protocol: HBONE}
  - {name: xds-tls, port: %d, protocol: TLS, tls: {mode: Passthrough}}
"""


class Latencies(Ztunnel):
    """Notes when each capacity of each remote workload arrived."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.workloads: set[str] = set()
        self.seen: dict[tuple[str, int], float] = {}

    def take(self, response: DeltaResponse, now: float) -> None:
        """Keep what it says of workloads."""
        for resource in response.resources:
            record = decode_address(resource.payload)
            if isinstance(record, Workload) and record.services:
                self.workloads.add(resource.name)
                host = record.services[0].service.rpartition("/")[2]
                self.seen[f"{record.network}/{host.partition('.')[0]}", record.capacity or 1] = now
        self.workloads.difference_update(response.removed)

    async def until(self, count: int, seconds: float, following: asyncio.Future[None]) -> None:
        """Until so many remote workloads are held; raises what *following* ends with before that."""
        async with asyncio.timeout(seconds):
            while len(self.workloads) < count:
                if following.done():
                    following.result()
                    raise RuntimeError(f"the stream ended at {len(self.workloads)} workloads")
                self.changed.clear()
                waiting = asyncio.ensure_future(self.changed.wait())
                await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    def milliseconds(self, sent: Iterable[tuple[int, str, int, float]]) -> list[float]:
        """How long those changes took that were seen: (peer, service, capacity, monotonic moment) of each.

        One that the next one of its service overtook within a merge window is never seen.
        """
        return [
            (seen - when) * 1000
            for number, name, healthy, when in sent
            if (seen := self.seen.get((f"net-{number}/{name}", healthy))) is not None
        ]


async def dialled(root: Path, figures: Figures, peers: int, *, distinct: bool, bars: bool) -> None:
    """Peers that this peerd dials."""
    kind = f"{peers}-{'distinct' if distinct else 'same'}"
    helper = Helper("bench._peers")
    helper.ask("serve", root=str(root / "certs"), peers=peers, names=SERVICES, distinct=distinct)
    manifests = HEAD + "".join(GATEWAY % (n, n, n, address(n), PORT) for n in range(peers))
    xds, peer, http, plain = free_ports(4)
    process = serve(root, manifests, kind, (xds, peer, http, plain))
    try:
        wait_ready(process, http)
        started = time.monotonic()
        ztunnel = Latencies(plain)
        following = asyncio.ensure_future(ztunnel.run())
        await ztunnel.until(peers * SERVICES, 600, following)
        figures.figure(f"resumed-{kind}", ztunnel.resumed, "streams")
        figures.figure(f"sync-{kind}", time.monotonic() - started, "s", **({"at_most": 90.0} if bars else {}))
        rss_bar = {"at_most": 1536.0 if distinct else 1024.0} if bars else {}
        figures.figure(f"rss-{kind}", resident(process.pid), "MiB", **rss_bar)
        await asyncio.sleep(10)
        before, at = cpu_seconds(process.pid), time.monotonic()
        sent = await asyncio.to_thread(helper.ask, "change", rate=RATE, seconds=SECONDS, seed=SEED)
        used = (cpu_seconds(process.pid) - before) / (time.monotonic() - at)
        await asyncio.sleep(2)
        figures.figure(f"cpu-{kind}", used * 100, "%core", **({"at_most": 30.0} if bars else {}))
        took = ztunnel.milliseconds(sent["sent"])
        figures.figure(f"changes-seen-{kind}", len(took) / len(sent["sent"]) * 100, "%", at_least=95.0)
        figures.quantile(f"latency-p99-{kind}", took, 0.99, "ms", **({"at_most": 50.0} if bars else {}))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    finally:
        process.kill()
        process.wait()
        helper.stop()


async def inbound(root: Path, figures: Figures, peers: int, *, bars: bool) -> None:
    """Peers that dial this peerd, and only beat."""
    helper = Helper("bench._peers")
    xds, peer, http, plain = free_ports(4)
    process = serve(root, HEAD, f"in-{peers}", (xds, peer, http, plain))
    try:
        wait_ready(process, http)
        helper.ask("dial", root=str(root / "certs"), peers=peers, port=peer)
        await asyncio.sleep(5)
        before, at = cpu_seconds(process.pid), time.monotonic()
        await asyncio.sleep(30)
        used = (cpu_seconds(process.pid) - before) / (time.monotonic() - at)
        figures.figure(f"cpu-inbound-{peers}", used * 100, "%core", **({"at_most": 15.0} if bars else {}))
        figures.figure(f"rss-inbound-{peers}", resident(process.pid), "MiB")
    finally:
        process.kill()
        process.wait()
        helper.stop()


def serve(root: Path, manifests: str, kind: str, ports: tuple[int, int, int, int]) -> subprocess.Popen[bytes]:
    """`peerd serve` on a source and a state directory of its own; ports of xDS, peers, HTTP, plaintext."""
    xds, peer, http, plain = ports
    source = root / f"manifests-{kind}"
    source.mkdir()
    (source / "all.yaml").write_text(manifests)
    os.utime(source / "all.yaml", (0, 1))
    command = [
        str(PEERD), "serve", "--source", f"dir:{source}", "--cluster-id", "bench",
        "--ca-dir", str(root / "certs" / "bench"), "--state-dir", str(root / f"state-{kind}"),
        "--xds-addr", f"127.0.0.1:{xds}", "--peer-addr", f"127.0.0.1:{peer}",
        "--http-addr", f"127.0.0.1:{http}", "--insecure-plaintext-addr", f"127.0.0.1:{plain}",
        "--log-level", "error",
    ]  # fmt: skip
    return subprocess.Popen(command)


def resident(pid: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main(sizes: tuple[int, ...] = SIZES) -> int:
    """All sizes; the bars are those of the largest."""
    figures = Figures("peering", SEED)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cas(root)
        for peers in sizes:
            bars = peers == SIZES[-1]
            for distinct in (True, False):
                asyncio.run(dialled(root, figures, peers, distinct=distinct, bars=bars))
            asyncio.run(inbound(root, figures, peers, bars=bars))
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(tuple(map(int, sys.argv[1:])) or SIZES))
