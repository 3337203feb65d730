"""One simulated cluster: objects, a state directory, a clock, and the peerd that runs on them."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.sources.base import Sink
from peerd.transport.base import PeerCertificate
from tests.simulation.loop import EPOCH, Process, SimClock, VirtualLoop
from tests.simulation.network import Fabric, Host, SimChannel

PEER_PORT = 15012
XDS_PORT = 15010
IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/peerd"


class ScriptedSource:
    """`peerd.sources.base.Source` over a dictionary; changes are told a moment after they happened."""

    def __init__(self, objects: dict[tuple[str, ObjectKey], ObjectChange], random: Random) -> None:
        self._objects = objects
        self._random = random
        self._queue: list[ObjectChange] = []
        self._more = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        """`Source.run`: the first list takes a while, as an API server's does."""
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        self._queue.clear()
        sink.apply(list(self._objects.values()))
        sink.synced()
        while True:
            await self._more.wait()
            await asyncio.sleep(self._random.uniform(0.0, 0.05))
            self._more.clear()
            batch = {(each.kind, each.key): each for each in self._queue}
            self._queue.clear()
            sink.apply(list(batch.values()))

    def changed(self, changes: Sequence[ObjectChange]) -> None:
        """Objects were put or deleted."""
        self._queue += changes
        self._more.set()


class SimCluster:
    """A cluster; `start` runs a new peerd process on it.

    Args:
        name: the cluster id.
        address: its gateway's, which others dial.
        root: where its state directory is.
        ca: a CA directory (the network replaces TLS, so one does for all).
        prepare: called with each new Peerd before it starts, to watch it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        fabric: Fabric,
        loop: VirtualLoop,
        root: Path,
        ca: Path,
        seed: str,
        prepare: Callable[["SimCluster", Peerd], None],
    ) -> None:
        self.name = name
        self.address = address
        self.loop = loop
        self.clock = SimClock(loop)
        self.objects: dict[tuple[str, ObjectKey], ObjectChange] = {}
        self.peerd: Peerd | None = None
        self.process: Process | None = None
        self.started = -1.0
        self.ready_at = -1.0
        self.disturbed_at = 0.0  # when it was last paused, stopped or started
        self.skewed_at = -1.0
        self.forgot_at = -1.0  # when it last lost its disk
        self.state = root / name
        self._ca = ca
        self._seed = seed
        self._fabric = fabric
        self._prepare = prepare
        self._runs = 0
        self._issuers = 0
        self._source: ScriptedSource | None = None
        self._host: Host | None = None
        self.new_lineage()

    @property
    def running(self) -> bool:
        """Whether there is a peerd that is ready and not paused."""
        return self.peerd is not None and self.process is not None and not self.process.paused

    # -- objects -----------------------------------------------------------------------------------------

    def apply(self, *changes: ObjectChange) -> None:
        """Put or delete objects."""
        for change in changes:
            if change.object is None:
                self.objects.pop((change.kind, change.key), None)
            else:
                self.objects[change.kind, change.key] = change
        if self._source is not None:
            self._source.changed(changes)

    # -- processes ---------------------------------------------------------------------------------------

    def new_lineage(self) -> None:
        """A state directory that holds nothing but a lineage nobody has seen."""
        self.forgot_at = self.loop.time()
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)
        self._issuers += 1
        made = uuid.UUID(bytes=sha256(f"{self._seed}/{self.name}/{self._issuers}".encode()).digest()[:16])
        (self.state / "lineage").write_text(f"{made}\n")

    def lose_disk(self) -> None:
        """The state directory is lost; the lineage is not, as where it is a Namespace's uid."""
        self.forgot_at = self.loop.time()
        kept = (self.state / "lineage").read_text()
        shutil.rmtree(self.state)
        self.state.mkdir()
        (self.state / "lineage").write_text(kept)

    def new_issuer(self) -> None:
        """The CA that issues the control plane's certificate is replaced."""
        self._issuers += 1
        if self._host is not None:
            self._host.certificate = self._certificate()
        server = self._fabric.servers.get(f"{self.address}:{PEER_PORT}")
        if server is not None:
            server.certificate = self._certificate()

    async def start(self) -> None:
        """Run a new peerd until it is ready."""
        self._runs += 1
        self.started = self.disturbed_at = self.loop.time()
        process = self.process = Process(f"{self.name}-{self._runs}")
        random = Random(f"{self._seed}/{self.name}/{self._runs}")
        self._source = source = ScriptedSource(self.objects, random)
        self._host = Host(self._fabric, self.name, process, self._certificate())
        parts = Parts(source, self.clock, random, self._host, _resolve)
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
        peerd.federation._journal._table.close()
        peerd._lock.close()

    def versions(self) -> dict[str, dict[str, str]]:
        """What its peerd serves: per type, name -> version."""
        assert self.peerd is not None
        served = {}
        for type_url in (ADDRESS, AUTHORIZATION):
            collection = self.peerd.store.collection(type_url)
            served[type_url] = {name: collection.get(name).version for name in sorted(collection.names())}  # type: ignore[union-attr]
        return served

    def connect(self, client: str) -> Callable[[], SimChannel]:
        """How a ztunnel on a node of this cluster connects."""
        host = Host(self._fabric, client)
        return lambda: SimChannel(host, f"{self.address}:{XDS_PORT}")

    async def _boot(self, parts: Parts) -> None:
        peerd = Peerd(self._config(), parts)
        self._prepare(self, peerd)
        await peerd.start()
        await peerd.ready()
        self.peerd = peerd

    async def _bury(self, process: Process, *, silently: bool) -> None:
        self._source = None
        self._fabric.host_died(self.name, silently=silently)
        await self.loop.kill(process)

    def _certificate(self) -> PeerCertificate:
        key = sha256(f"{self.name}/{self._issuers}".encode()).hexdigest()
        return PeerCertificate((IDENTITY,), key, EPOCH + 1e9)

    def _config(self) -> ServeConfig:
        return ServeConfig(
            source="dir:scripted",
            ca_dir=str(self._ca),
            state_dir=str(self.state),
            cluster_id=self.name,
            trust_domain="cluster.local",
            xds_addr=f"{self.address}:15017",
            insecure_plaintext_addr=f"{self.address}:{XDS_PORT}",
            peer_addr=f"{self.address}:{PEER_PORT}",
            http_addr="127.0.0.1:0",
        )


async def _resolve(host: str) -> list[str]:
    return [host]
