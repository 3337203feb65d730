"""A healthy peer's changes on their way to a ztunnel: alone, and beside a hostile peer of each kind.

One real `peerd serve`, a healthy peer with 100 services that changes 100 times a second, a ztunnel-like
client, and in a process of their own the hostile ones (bench/_hostile.py), each as fast as it can. Before
each of them the same is measured without it, when nothing is left of the one before. The last kind is honest,
as large as a peer may be, and unlinked while the healthy one is measured. Some kinds only:
`python -m bench.hostile flaps million-pods`.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench._hostile import DIALLED, HOST, NETWORK
from bench._peers import PORT, address
from bench._processes import Helper
from bench.figures import Figures, quantile
from bench.peering import GATEWAY, HEAD, SERVICES, Latencies, resident, serve
from bench.startup import cpu_seconds, free_ports, make_cas, wait_ready
from peerd.limits import PEER_RESOURCES, PEER_WORKLOADS

UNLINKED = "unlinked"
LARGE = PEER_RESOURCES.value + PEER_WORKLOADS.value
DIALLING = ("never-acks", "flaps")
KINDS = (*(kind for kind in DIALLED if kind != UNLINKED), *DIALLING, UNLINKED)
RATE = 100
SECONDS = 8.0
LONGEST = 10  # times the p99 alone: as one batch, what is unlinked held up everything for seconds
SEED = 11
REST = 0.03  # of a core
HOSTILE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-hostile
  namespace: istio-system
  labels: {topology.istio.io/network: %s, topology.istio.io/cluster: hostile}
spec:
  gatewayClassName: istio-remote
  addresses: [{type: IPAddress, value: %s}]
  listeners:
  - {name: cross-network, port: 15008, protocol: HBONE}
  - {name: xds-tls, port: %d, protocol: TLS, tls: {mode: Passthrough}}
"""


class Bench:
    """One peerd with its healthy peer; `measure` one kind after the other."""

    def __init__(self, root: Path, figures: Figures) -> None:
        self._root = root
        self._figures = figures
        self._xds, self._peer, self._http, self._plain = free_ports(4)
        self._changes = 0
        self._alone = 0
        self._healthy = Helper("bench._peers")
        self._hostile = Helper("bench._hostile", nice=5)
        self._process: subprocess.Popen[bytes]

    async def run(self, kinds: tuple[str, ...]) -> None:
        """All of them."""
        certs = str(self._root / "certs")
        self._healthy.ask("serve", root=certs, peers=1, names=SERVICES, distinct=True)
        manifests = HEAD + GATEWAY % (0, 0, 0, address(0), PORT)
        ports = (self._xds, self._peer, self._http, self._plain)
        self._process = serve(self._root, manifests, "hostile", ports)
        try:
            wait_ready(self._process, self._http)
            ztunnel = Latencies(self._plain)
            following = asyncio.ensure_future(ztunnel.run())
            await ztunnel.until(SERVICES, 60, following)
            await self._latencies(ztunnel)  # the first one pays for what is made once
            self._alone = await self._served()
            for kind in kinds:
                await self._measure(kind, ztunnel)
            self._figures.figure("rss", resident(self._process.pid), "MiB")
            self._figures.figure("resumed", ztunnel.resumed, "streams", at_most=0)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        finally:
            self._process.kill()
            self._process.wait()
            self._healthy.stop()
            self._hostile.stop()

    async def _measure(self, kind: str, ztunnel: Latencies) -> None:
        gateway = self._root / "manifests-hostile" / "hostile.yaml"
        await self._rests(lambda served: served == self._alone)
        alone = await self._latencies(ztunnel)
        await self._ask("begin", root=str(self._root / "certs"), kind=kind, port=self._peer)
        if kind in DIALLED:
            gateway.write_text(HOSTILE % (NETWORK, HOST, PORT))
        await self._ask("met")
        if kind == UNLINKED:
            await self._rests(lambda served: served >= self._alone + LARGE)
            gateway.unlink()
        cpu, at = cpu_seconds(self._process.pid), time.monotonic()
        beside = await self._latencies(ztunnel)
        used = (cpu_seconds(self._process.pid) - cpu) / (time.monotonic() - at)
        gateway.unlink(missing_ok=True)
        streams = (await self._ask("end"))["count"]
        before = quantile(alone, 0.99)
        self._figures.figure(f"{kind}-streams", streams, "streams")
        self._figures.figure(f"{kind}-cpu", used * 100, "%core")
        self._figures.quantile(f"{kind}-alone-p99", alone, 0.99, "ms")
        self._figures.quantile(f"{kind}-p99", beside, 0.99, "ms", at_most=2 * before)
        if kind == UNLINKED:
            self._figures.quantile(f"{kind}-longest", beside, 1.0, "ms", at_most=LONGEST * before)
            self._figures.figure(f"{kind}-left-meanwhile", await self._served() - self._alone, "resources")

    async def _rests(self, done: Callable[[int], bool]) -> None:
        """Until *done* holds of the number of resources served, and nothing is left to do.

        Else the next one's "alone" would not be: what goes takes longer to go than its Gateway.
        """
        async with asyncio.timeout(300):
            while True:
                before = cpu_seconds(self._process.pid)
                await asyncio.sleep(1)
                busy = cpu_seconds(self._process.pid) - before
                if busy < REST and done(await self._served()):
                    return

    async def _served(self) -> int:
        """Resources of type Address, as the process itself says."""
        url = f"http://127.0.0.1:{self._http}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read().decode())
        lines = [each for each in page.splitlines() if each.startswith('peerd_resources{type="wds"}')]
        return int(float(lines[0].rpartition(" ")[2]))

    async def _latencies(self, ztunnel: Latencies) -> list[float]:
        """Milliseconds from the healthy peer's change to the ztunnel, for some seconds."""
        first = 10 + self._changes
        self._changes += int(RATE * SECONDS)
        answer = await asyncio.to_thread(
            self._healthy.ask, "change", rate=RATE, seconds=SECONDS, seed=SEED, first=first
        )
        await asyncio.sleep(1)
        return ztunnel.milliseconds(answer["sent"])

    async def _ask(self, op: str, **options: object) -> dict[str, int]:
        return await asyncio.to_thread(self._hostile.ask, op, **options)


def main(kinds: tuple[str, ...] = KINDS) -> int:
    """Every kind, or those that are named."""
    figures = Figures("hostile", SEED)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cas(root)
        asyncio.run(Bench(root, figures).run(kinds))
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or KINDS))
