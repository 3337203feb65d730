"""One peerd on a real API server with 50,000 Pods: time to ready, memory, a Pod's change to a ztunnel.

The API server and its etcd run beside it, on the same cores (`make apiserver`); peerd has exactly the rights
of manifests/base. What it asked of the API server is counted in the audit log. Other sizes:
`python -m bench.kubernetes 1000` for so many Pods.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp

from bench import _kube_cluster as cluster
from bench._ztunnel import Ztunnel
from bench.figures import Figures
from bench.startup import PEERD, cpu_seconds, free_ports, make_cas, wait_ready
from peerd.protocol.envelope import DeltaResponse
from tests.support import rbac
from tests.support.apiserver import ApiServer, MissingError, Request, find

STARTS = 3
QUIET_SECONDS = 30.0
REST_SECONDS = 5.0
RATES = ((1.0, 60), (10.0, 1000))  # changes a second, and how many
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_ASKING = frozenset({"tokenreviews", "subjectaccessreviews"})  # created, but nothing is kept of them


class Arrivals(Ztunnel):
    """Notes when each resource last came, without reading it."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.seen: dict[str, float] = {}
        self.first = asyncio.Event()

    def take(self, response: DeltaResponse, now: float) -> None:
        """Keep the moment."""
        self.seen.update(dict.fromkeys((each.name for each in response.resources), now))
        self.first.set()

    async def until(self, name: str, later_than: float) -> float:
        """The moment at which *name* came, after *later_than*."""
        async with asyncio.timeout(30):
            while self.seen.get(name, 0.0) <= later_than:
                self.changed.clear()
                await self.changed.wait()
        return self.seen[name]


class Running:
    """One peerd, from its start until it is stopped."""

    def __init__(self, root: Path, kubeconfig: Path, number: int) -> None:
        xds, peer, self.http, self.plain = free_ports(4)
        command = [
            str(PEERD), "serve", "--source", f"kube:{kubeconfig}", "--cluster-id", "bench",
            "--ca-dir", str(root / "certs" / "bench"), "--state-dir", str(root / f"state-{number}"),
            "--xds-addr", f"127.0.0.1:{xds}", "--peer-addr", f"127.0.0.1:{peer}",
            "--http-addr", f"127.0.0.1:{self.http}", "--insecure-plaintext-addr", f"127.0.0.1:{self.plain}",
            "--log-level", "warning",
        ]  # fmt: skip
        started = time.perf_counter()
        self.process = subprocess.Popen(command)
        try:
            wait_ready(self.process, self.http, 120.0)
        except BaseException:
            self.stop()
            raise
        self.ready_seconds = time.perf_counter() - started
        self.ready_cpu = cpu_seconds(self.process.pid)

    def mib(self, what: str) -> float:
        """`VmRSS` now, or `VmHWM`, the most there was."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) / 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(pods: int = cluster.PODS) -> int:
    try:
        binaries = find()
    except MissingError as missing:
        print(f"no API server: {missing}", file=sys.stderr)
        return 1
    figures = Figures("kubernetes")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        make_cas(root)
        (root / "api").mkdir()
        server = ApiServer(root / "api", binaries)
        try:
            server.start()
            asyncio.run(measure(server, root, figures, pods))
        finally:
            server.stop()
    return figures.finish()


async def measure(server: ApiServer, root: Path, figures: Figures, pods: int) -> None:
    services = min(cluster.SERVICES, pods)
    async with cluster.session(server) as api:
        before = time.perf_counter()
        await cluster.fill(api, min(cluster.NODES, pods), services, pods)
        print(f"made {pods} Pods in {time.perf_counter() - before:.0f} s", flush=True)
        kubeconfig = rbac.install(server)
        starts = []
        for number in range(STARTS):
            mark = server.audit.mark()
            peerd = await asyncio.to_thread(Running, root, kubeconfig, number)
            starts.append(peerd)
            if number < STARTS - 1:
                await asyncio.to_thread(peerd.stop)
        try:
            figures.quantile("ready", [each.ready_seconds for each in starts], 1.0, "s", at_most=10.0)
            figures.quantile("ready-cpu", [each.ready_cpu for each in starts], 0.5, "s")
            figures.figure("ready-rss", peerd.mib("VmRSS"), "MiB", at_most=500.0)
            figures.figure("start-requests", len(begun(server.audit.requests(rbac.USER, mark))), "requests")
            await serve(server, api, peerd, figures, (pods, services))
        finally:
            await asyncio.to_thread(peerd.stop)


async def serve(
    server: ApiServer, api: aiohttp.ClientSession, peerd: Running, figures: Figures, size: tuple[int, int]
) -> None:
    """What a ztunnel sees, and what it costs the API server. *size*: Pods, Services."""
    ztunnel = Arrivals(peerd.plain)
    with following(ztunnel):
        connected = time.monotonic()
        async with asyncio.timeout(60):
            await ztunnel.first.wait()
        figures.figure("first-answer", time.monotonic() - connected, "s")
        figures.figure("resources", len(ztunnel.seen), "resources")
        figures.figure("rss", peerd.mib("VmRSS"), "MiB", at_most=500.0)
        figures.figure("rss-most", peerd.mib("VmHWM"), "MiB")
        figures.figure("first-writes", await at_rest(server), "writes")
        mark = server.audit.mark()
        await asyncio.sleep(QUIET_SECONDS)
        quiet = begun(server.audit.requests(rbac.USER, mark))
        figures.figure("quiet-requests", len(quiet) / QUIET_SECONDS * 60, "requests/min")
        number = 0
        for rate, count in RATES:
            mark = server.audit.mark()
            cpu = cpu_seconds(peerd.process.pid)
            began = time.monotonic()
            samples = await changes(api, ztunnel, range(number, number + count), rate, size)
            seconds = time.monotonic() - began
            number += count
            name = f"change-at-{rate:.0f}"
            figures.quantile(f"{name}-p50", samples, 0.5, "ms", at_most=15.0)
            figures.quantile(f"{name}-p99", samples, 0.99, "ms", at_most=50.0)
            figures.figure(f"{name}-cpu", (cpu_seconds(peerd.process.pid) - cpu) / seconds * 100, "%core")
            seen = begun(server.audit.requests(rbac.USER, mark))
            per_thousand = 1000 / count
            figures.figure(f"{name}-requests", len(seen) * per_thousand, "per-1000-changes")
            written = [each for each in seen if writes(each)]
            # The Lease is renewed as time passes, whatever changes.
            renewed = [each for each in written if each.resource == "leases"]
            figures.figure(f"{name}-lease-renewals", len(renewed) * per_thousand, "per-1000-changes")
            other = (len(written) - len(renewed)) * per_thousand
            figures.figure(f"{name}-writes", other, "per-1000-changes", at_most=0.0)
            kinds = Counter(f"{each.verb} {each.resource}" for each in seen)
            print(f"asked meanwhile: {dict(kinds)}", flush=True)


async def at_rest(server: ApiServer) -> int:
    """Wait until all is written that a new cluster wants (roots, entries, status); returns how much."""
    count = 0
    while True:
        mark = server.audit.mark()
        await asyncio.sleep(REST_SECONDS)
        new = [each for each in server.audit.requests(rbac.USER, mark) if writes(each)]
        new = [each for each in new if each.resource != "leases"]
        if not new:
            return count
        count += len(new)


async def changes(
    api: aiohttp.ClientSession, ztunnel: Arrivals, numbers: range, rate: float, size: tuple[int, int]
) -> list[float]:
    """Change Pods' readiness at *rate*: milliseconds from each write's answer until the ztunnel heard of it.

    One Pod after the other becomes unready; after the last one, they become ready again.
    """
    pods, services = size
    waiting = []
    began = time.monotonic()
    for step, change in enumerate(numbers):
        number, ready = change % pods, bool(change // pods % 2)
        await asyncio.sleep(max(0.0, began + step / rate - time.monotonic()))
        uid = f"bench//Pod/{cluster.namespace_of(number, services)}/{cluster.pod_name(number)}"
        asked = time.monotonic()
        answered = await cluster.set_ready(api, number, services, ready=ready)
        waiting.append((answered, asyncio.ensure_future(ztunnel.until(uid, asked))))
    return [(await heard - answered) * 1000 for answered, heard in waiting]


def begun(requests: Sequence[Request]) -> list[Request]:
    """One of each: a watch is in the log when it begins and again when it ends."""
    return [each for each in requests if each.verb != "watch" or not each.finished]


def writes(request: Request) -> bool:
    return request.verb in _WRITES and request.resource not in _ASKING


@contextlib.contextmanager
def following(ztunnel: Ztunnel) -> Iterator[None]:
    task = asyncio.ensure_future(ztunnel.run())
    try:
        yield
    finally:
        task.cancel()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
