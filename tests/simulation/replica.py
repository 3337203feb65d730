"""One simulated peerd: a process, its disk and its clock, and the `Peerd` of `peerd serve` in it."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.sources.base import Sink
from tests.simulation.disk import WRITTEN_BACK, SimDisk
from tests.simulation.loop import Process, SimClock, VirtualLoop
from tests.simulation.network import Fabric, Host

if TYPE_CHECKING:
    from tests.simulation.cluster import SimCluster

PEER_PORT = 15012
XDS_PORT = 15010
GATEWAY_PORT = 15019
WRITE_LAG = 5.0  # imports are written at most so many seconds late


class ScriptedSource:
    """`peerd.sources.base.Source` over a dictionary; changes are told a moment after they happened."""

    def __init__(self, objects: dict[tuple[str, ObjectKey], ObjectChange], random: Random) -> None:
        self._objects = objects
        self._random = random
        self._queue: list[ObjectChange] = []
        self._more = asyncio.Event()
        self.told: set[tuple[str, ObjectKey]] = set()

    async def run(self, sink: Sink) -> None:
        """`Source.run`: the first list takes a while, as an API server's does."""
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        self._queue.clear()
        self.told = set(self._objects)
        sink.apply(list(self._objects.values()))
        sink.synced()
        while True:
            await self._more.wait()
            await asyncio.sleep(self._random.uniform(0.0, 0.05))
            self._more.clear()
            batch = {(each.kind, each.key): each for each in self._queue}
            self._queue.clear()
            for place, change in batch.items():
                (self.told.add if change.object is not None else self.told.discard)(place)
            sink.apply(list(batch.values()))

    def changed(self, changes: Sequence[ObjectChange]) -> None:
        """Objects were put or deleted."""
        self._queue += changes
        self._more.set()


class Replica:
    """A machine of a cluster on which peerd runs; `start` runs a new process. Moments are virtual seconds."""

    def __init__(
        self,
        name: str,
        cluster: "SimCluster",
        *,
        fabric: Fabric,
        loop: VirtualLoop,
        state: Path,
        ca: Path,
        seed: str,
        prepare: Callable[["Replica", Peerd], None],
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.loop = loop
        self.clock = SimClock(loop)
        self.state = state
        self.disk = SimDisk(loop.time, loop.spend, Random(f"{seed}/{name}/disk"))
        self.peerd: Peerd | None = None
        self.process: Process | None = None
        self.host: Host | None = None
        self.started = -1.0
        self.ready_at = -1.0
        self.disturbed_at = 0.0  # when it was last paused, stopped or started
        self.skewed_at = float("-inf")
        self.set_back = False  # its clock has been, by an hour
        self.forgot: list[float] = []  # when it lost its disk
        self.lagged_at = -1.0  # when it last ended with imports that were not written
        self.written_until = 0.0  # up to when at least, when it last ended, all was on disk that it imported
        self._rests: list[tuple[float, float]] = []  # of all its processes that have ended
        self._ca = ca
        self._seed = seed
        self._fabric = fabric
        self._prepare = prepare
        self._runs = 0
        self._source: ScriptedSource | None = None

    @property
    def forgot_at(self) -> float:
        """When it last lost its disk; -1: never."""
        return self.forgot[-1] if self.forgot else -1.0

    @property
    def running(self) -> bool:
        """Whether there is a peerd that is ready and not paused."""
        return self.peerd is not None and self.process is not None and not self.process.paused

    def changed(self, changes: Sequence[ObjectChange]) -> None:
        """Objects of the cluster were put or deleted."""
        if self._source is not None:
            self._source.changed(changes)

    def knows(self, kind: str, name: str) -> bool:
        """Whether its peerd has been told of an object in `shop`: each replica at its own moment."""
        return self._source is not None and (kind, ObjectKey("shop", name)) in self._source.told

    def versions(self) -> dict[str, dict[str, str]]:
        """What its peerd serves: per type, name -> version."""
        assert self.peerd is not None
        served = {}
        for type_url in (ADDRESS, AUTHORIZATION):
            collection = self.peerd.store.collection(type_url)
            served[type_url] = {name: collection.get(name).version for name in sorted(collection.names())}  # type: ignore[union-attr]
        return served

    # -- processes ---------------------------------------------------------------------------------------

    def lose_disk(self) -> None:
        """The state directory is lost; the lineage is not, as where it is a Namespace's uid."""
        self.forgot.append(self.loop.time())
        self.disk.replace()
        kept = {name: (self.state / name).read_text() for name in ("lineage", "replica")}
        shutil.rmtree(self.state)
        self.state.mkdir()
        for name, text in kept.items():
            (self.state / name).write_text(text)

    async def start(self) -> None:
        """Run a new peerd until it is ready."""
        self._runs += 1
        self.started = self.disturbed_at = self.loop.time()
        process = self.process = Process(f"{self.name}-{self._runs}")
        random = Random(f"{self._seed}/{self.name}/{self._runs}")
        self._source = source = ScriptedSource(self.cluster.objects, random)
        self.host = Host(self._fabric, self.name, process, self.cluster.certificate())
        parts = Parts(source, self.clock, random, self.host, _resolve, disk=self.disk)
        await self.loop.spawn(process, self._boot(parts))
        self.ready_at = self.disturbed_at = self.loop.time()

    async def stop(self) -> None:
        """SIGTERM: it drains, and ends."""
        peerd, process = self.peerd, self.process
        self.disturbed_at = self.loop.time()
        if peerd is None or process is None:
            return
        self.loop.resume(process)
        self.peerd = None
        await self.loop.spawn(process, peerd.stop(1.0))
        await self._bury(process, silently=False)
        self.written_until = min(self.loop.time(), self.disk.troubled_since() - WRITE_LAG)
        self._rests += process.rests

    async def crash(self, *, silently: bool) -> None:
        """SIGKILL, or with *silently* the machine loses power: nobody is told and nothing more is written."""
        peerd, process = self.peerd, self.process
        self.disturbed_at = self.loop.time()
        if peerd is None or process is None:
            return
        self.peerd = None
        await self._bury(process, silently=silently)
        # What the kernel does: files are closed, the lock is let go, nothing is flushed.
        peerd._table.close()
        peerd._takeovers.close()
        peerd.federation._journal._log.close()
        peerd._lock.close()
        self.written_until = min(self.loop.time(), self.disk.troubled_since()) - WRITE_LAG
        if silently and self.disk.lose_power():
            self.written_until -= WRITTEN_BACK
        self._rests += process.rests
        # Who rests writes nothing, and a disk in trouble takes nothing: all of that was written late.
        for start, end in sorted([*self._rests, *self.disk.troubled], reverse=True):
            if end + WRITE_LAG > self.written_until:
                self.written_until = min(self.written_until, start - WRITE_LAG)

    async def _boot(self, parts: Parts) -> None:
        peerd = Peerd(self.config(), parts)
        self._prepare(self, peerd)
        await peerd.start()
        await peerd.ready()
        self.peerd = peerd

    async def _bury(self, process: Process, *, silently: bool) -> None:
        self._source = None
        self._fabric.host_died(self.name, silently=silently)
        await self.loop.kill(process)

    def config(self) -> ServeConfig:
        """As the flags of `peerd serve` would have it."""
        return ServeConfig(
            source="dir:scripted",
            ca_dir=str(self._ca),
            state_dir=str(self.state),
            cluster_id=self.cluster.name,
            trust_domain="cluster.local",
            xds_addr=f"{self.name}:15017",
            insecure_plaintext_addr=f"{self.name}:{XDS_PORT}",
            peer_addr=f"{self.name}:{PEER_PORT}",
            http_addr="127.0.0.1:0",
            gateway_addr=f"{self.name}:{GATEWAY_PORT}" if self.cluster.gateway else "",
        )


async def _resolve(host: str) -> list[str]:
    return [host]
