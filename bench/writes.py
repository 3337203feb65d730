"""Endpoints of a flat network written beside an istiod, on a real API server: how fast, how late, how dear.

The writer as it runs in peerd, its own clock, its own watch; only derivation is played. A thousand Pods of a
peer on our network are replaced all at once, then ten a second, then ten a second of them fail and come back.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figures
from peerd.app.parts import SystemClock
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.kubeapi.objects import KubeObjects
from peerd.limits import KUBE_WRITES
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.generated import Generated, GeneratedWorkloadEntry
from peerd.publish.generated import GeneratedObjects
from peerd.publish.writer import Writer
from peerd.sources.kubernetes import KubernetesSource
from tests.support.apiserver import ApiServer, MissingError, find

SEED = 11
PODS = 1_000
RATE, SECONDS = 10, 60  # replaced Pods a second, and for how long
_PATIENCE = 120.0


class Cluster:
    """What lies in the API server, as peerd's own watch tells it; a `peerd.sources.base.Sink`."""

    def __init__(self, objects: KubeObjects, clock: SystemClock) -> None:
        self.writer = Writer(objects, clock=clock, source=random.Random(SEED))
        self.kept = GeneratedObjects(self.writer)
        self.seen: dict[str, float | None] = {}  # by key, when it was seen; None: it is gone
        self.ready = asyncio.Event()
        self._changed = asyncio.Event()

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        """Users' objects are nobody's here."""

    def own(self, changes: Sequence[OwnChange]) -> None:
        self.kept.observe(changes)
        now = time.monotonic()
        for change in changes:
            self.seen[f"{change.kind}/{change.key}"] = None if change.object is None else now
        self._changed.set()

    def synced(self) -> None:
        self.ready.set()

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        for each in diagnostics:
            raise RuntimeError(f"{where}: {each}")

    def want(self, *changes: tuple[str, Generated | None]) -> None:
        """As derivation says it."""
        self.kept.put(changes)

    async def until(self, keys: set[str], gone: set[str] = frozenset()) -> float:  # type: ignore[assignment]
        """Wait until *keys* were seen and *gone* are not there; when that was."""
        async with asyncio.timeout(_PATIENCE):
            while not all(self.seen.get(key) for key in keys) or any(self.seen.get(key) for key in gone):
                self._changed.clear()
                await self._changed.wait()
        now = time.monotonic()
        await self.writer.idle()  # the watch may know before the answer is here
        return now

    @property
    def writes(self) -> int:
        """Requests that changed something, so far."""
        return sum(count for (_, verb, _), count in self.writer.counts.items() if verb != "get")


def pod(number: int) -> tuple[str, GeneratedWorkloadEntry]:
    """The entry of one endpoint, and its key."""
    found = GeneratedWorkloadEntry(
        namespace="shop",
        name=f"autogenflat.west.shop.reviews-{number}.{number:012x}",
        cluster="west",
        gateway="istio-system/west",
        network="one-net",
        labels=(("app", "reviews"),),
        address=f"10.8.{number // 250}.{number % 250 + 1}",
        service_account="reviews",
        locality="west/west-a",
    )
    return f"WorkloadEntry/shop/{found.name}", found


def main() -> int:
    try:
        binaries = find()
    except MissingError as missing:
        print(f"no API server: {missing}", file=sys.stderr)
        return 1
    figures = Figures("writes", SEED)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = ApiServer(Path(folder), binaries)
        try:
            server.start()
            for name in ("istio-system", "shop"):
                server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            asyncio.run(measure(server, figures))
        finally:
            server.stop()
    return figures.finish()


async def measure(server: ApiServer, figures: Figures) -> None:
    credentials = Credentials(str(server.kubeconfig()), "")
    await credentials.load()
    transport = HttpTransport(credentials)
    cluster = Cluster(KubeObjects(transport), SystemClock())
    source = KubernetesSource(transport, system_namespace="istio-system", random=random.Random(SEED))
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each) for each in (source.run(cluster), cluster.writer.run())]
        await cluster.ready.wait()
        cluster.kept.settle(frozenset())
        await all_at_once(cluster, figures)
        await one_after_the_other(cluster, figures)
        await fail_and_return(cluster, figures)
        for task in running:
            task.cancel()
    await transport.close()


async def all_at_once(cluster: Cluster, figures: Figures) -> None:
    """A thousand come, then a thousand others in their place."""
    first, second = (dict(map(pod, range(start, start + PODS))) for start in (0, PODS))
    cluster.want(*first.items())
    await cluster.until(set(first))
    # The burst is saved up again.
    await asyncio.sleep(2.0)
    writes, began, cpu = cluster.writes, time.monotonic(), time.process_time()
    cluster.want(*second.items(), *((key, None) for key in first))
    end = await cluster.until(set(second), set(first))
    cpu = time.process_time() - cpu
    count, seconds = cluster.writes - writes, end - began
    figures.figure("replaced-writes", count / PODS, "writes/Pod", at_most=2.0)
    burst = 2 * KUBE_WRITES.value
    figures.figure("replaced-rate", (count - burst) / seconds, "writes/s", at_most=KUBE_WRITES.value)
    # The limit itself takes 38 s; what is longer is the API server's time, or ours.
    figures.figure("replaced-seconds", seconds, "s", at_most=45.0)
    figures.figure("replaced-cpu", cpu / count * 1000, "ms/write")


async def one_after_the_other(cluster: Cluster, figures: Figures) -> None:
    """Ten Pods a second are replaced: until each new endpoint lies there, and is back in our watch."""
    samples: list[float] = []
    writes, began = cluster.writes, time.monotonic()
    waiting = []

    async def replace(number: int) -> None:
        key, found = pod(2 * PODS + number)
        old, _ = pod(PODS + number)
        asked = time.monotonic()
        cluster.want((key, found), (old, None))
        samples.append((await cluster.until({key}, {old}) - asked) * 1000)

    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        waiting.append(asyncio.ensure_future(replace(number)))
    await asyncio.gather(*waiting)
    figures.figure("rolling-writes", (cluster.writes - writes) / len(samples), "writes/Pod", at_most=2.0)
    figures.quantile("rolling-p50", samples, 0.5, "ms")
    figures.quantile("rolling-p99", samples, 0.99, "ms", at_most=1000.0)


async def fail_and_return(cluster: Cluster, figures: Figures) -> None:
    """One Pod that fails and comes back ten times a second for a minute: its own bound, not the others'."""
    key, found = pod(3 * PODS)
    writes, began = cluster.writes, time.monotonic()
    for step in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + step / RATE - time.monotonic()))
        cluster.want((key, None if step % 2 else found))
    cluster.want((key, found))
    figures.figure("flapping-writes", cluster.writes - writes, "writes/min", at_most=12.0)
    await cluster.until({key})


if __name__ == "__main__":
    sys.exit(main())
