"""Clusters, ztunnels and a network in one loop, watched all the time: what operators work on."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from peerd.model.changes import ObjectChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.envelope import DeltaResponse
from peerd.protocol.peer_state import PeerState
from peerd.transport.base import PeerCertificate
from tests.simulation.cluster import SimCluster
from tests.simulation.gateway import IDENTITY, NAME, SimGateway
from tests.simulation.guarantees import LIVENESS, NO_ERRORS
from tests.simulation.history import History, Violation
from tests.simulation.loop import EPOCH, Process, VirtualLoop
from tests.simulation.network import Fabric, Host, SimChannel
from tests.simulation.oracle import Oracle, gateway_key
from tests.simulation.replica import GATEWAY_PORT, XDS_PORT, Replica
from tests.simulation.streams import Parcel
from tests.simulation.truth import Truth
from tests.simulation.users import Users
from tests.simulation.validators import Validators
from tests.simulation.ztunnel import SimZtunnel
from tests.support import clusters as objects

LIVENESS_SECONDS = 240.0
"""Within this after the last fault every view equals what the sources imply: the longest redial (60 s), the
longest silence before a dead stream is given up (45 s), summaries held steady (30 s), and some."""

_KEEPALIVE = 40.0  # seconds until a ztunnel's HTTP/2 pings find that its peerd's node lost power
_LATENCY = (0.0005, 0.08)
ASKED = ("shop/web.shop.mesh.internal", "shop/cart.shop.mesh.internal", "shop/web.shop.svc.cluster.local")
"""What a ztunnel on demand asks for."""


class World(Users):
    """One run's everything.

    Args:
        seed: of all randomness.
        root: a directory for state directories.
        ca: a CA directory.
        names: the clusters, and how many replicas of peerd each has.
        on_demand: clusters that also have a ztunnel that asks for single names.
        gateways: clusters that have an east-west gateway which their own peerds configure.
        networks: of clusters that begin on another than their own `<name>-net`.
    """

    def __init__(
        self,
        seed: str,
        root: Path,
        ca: Path,
        names: Mapping[str, int],
        on_demand: Collection[str] = (),
        *,
        gateways: Collection[str] = (),
        networks: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.history = History()
        self.clusters: dict[str, SimCluster] = {}
        self.replicas: dict[str, Replica] = {}
        truth = Truth(names)
        super().__init__(truth, Validators(self.history, truth, self.replicas))
        self.fabric = Fabric(Random(f"{seed}/network"), _LATENCY, self._delivered, self._sent)
        for name, replicas in names.items():
            cluster = self.clusters[name] = SimCluster(
                name,
                self.new_address(name),
                network=networks.get(name, f"{name}-net"),
                replicas=replicas,
                fabric=self.fabric,
                loop=loop,
                root=root,
                ca=ca,
                seed=seed,
                prepare=self._prepare,
            )
            self.replicas |= {each.name: each for each in cluster.replicas}
            cluster.apply(
                objects.system(cluster.network),
                objects.namespace("shop"),
                objects.node("node-1", name, f"{name}-a"),
            )
            if name in gateways:
                cluster.gateway = True
                cluster.apply(_own_gateway())
        self.ztunnels = [SimZtunnel(f"zt-{name}", name, self._connect(name), self) for name in names]
        self.ztunnels += [
            SimZtunnel(f"zo-{name}", name, self._connect(name, "zo"), self, on_demand=ASKED)
            for name in on_demand
        ]
        self.gateways = [
            SimGateway(f"gw-{name}", name, self._connect_gateway(name), self) for name in gateways
        ]
        self._processes: dict[str, Process] = {}
        self.failure: BaseException | None = None
        self._watching: list[asyncio.Task[None]] = []
        loop.set_exception_handler(self._loop_failed)

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Every cluster and every ztunnel."""
        await asyncio.gather(*(replica.start() for replica in self.replicas.values()))
        for client in (*self.ztunnels, *self.gateways):
            self.start_client(client)
        self._watching.append(asyncio.ensure_future(self._tick()))

    async def close(self) -> None:
        """End everything."""
        for replica in self.replicas.values():
            if replica.process is not None:
                self.loop.resume(replica.process)  # a paused one would never end
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for process in self._processes.values():
            await self.loop.kill(process)
        for replica in self.replicas.values():
            await replica.crash(silently=True)

    def start_client(self, client: SimZtunnel | SimGateway) -> None:
        """Run a ztunnel or a gateway as a process of its own."""
        process = self._processes[client.name] = Process(client.name)
        task = self.loop.spawn(process, client.run())
        task.add_done_callback(self._ended)

    def process_of(self, client: SimZtunnel) -> Process:
        """What a ztunnel runs as."""
        return self._processes[client.name]

    async def restart_ztunnel(self, client: SimZtunnel) -> None:
        """The Pod is replaced: it remembers nothing."""
        await self._end(client)
        fresh = SimZtunnel(client.name, client.cluster, client._connect, self, on_demand=client.on_demand)
        self.ztunnels[self.ztunnels.index(client)] = fresh
        self.start_client(fresh)

    async def restart_gateway(self, gateway: SimGateway) -> None:
        """The same of a gateway."""
        await self._end(gateway)
        fresh = SimGateway(gateway.name, gateway.cluster, gateway.connect, self)
        self.gateways[self.gateways.index(gateway)] = fresh
        self.start_client(fresh)

    async def _end(self, client: SimZtunnel | SimGateway) -> None:
        await self.loop.kill(self._processes.pop(client.name))
        for connection in self.fabric.of(client.name):
            connection.vanish(client.name)
            connection.vanish(connection.other(client.name), after=True)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; a violation seen meanwhile is raised here."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await asyncio.sleep(min(1.0, end - self.loop.time()))
            if self.failure is not None:
                raise self.failure

    async def quiesce(self, seconds: float = LIVENESS_SECONDS) -> float:
        """Liveness: wait until every view is what the sources imply; returns how long it took."""
        oracle = Oracle(self.clusters, self.truth)
        began = self.loop.time()
        while True:
            wrong = self._different(oracle)
            if not wrong:
                break
            if self.loop.time() - began > seconds:
                raise Violation(LIVENESS, f"after {seconds:.0f} quiet seconds: {'; '.join(wrong)}")
            await self.pass_time(3.0)
        self.truth.look(self.loop.time())
        self.validators.quiet(self.loop.time())
        self.history.now = self.loop.time()
        self.history.note("world", f"quiet: all views equal after {self.loop.time() - began:.0f} s")
        return self.loop.time() - began

    def background(self, doing: Coroutine[Any, Any, None]) -> None:
        """Let somebody act beside all others; a violation that it raises is the run's."""

        async def guarded() -> None:
            try:
                await doing
            except Violation as violation:
                self.fail(violation)

        self._watching.append(asyncio.ensure_future(guarded()))

    # -- the observer's side -----------------------------------------------------------------------------

    def before(self, client: SimZtunnel, response: Any) -> None:
        """`Observer.before`."""
        self._guard(lambda: self.validators.before(client, response))

    def after(self, client: SimZtunnel, response: Any) -> None:
        """`Observer.after`."""
        self._guard(lambda: self.validators.after(client, response))

    def gateway_told(self, gateway: SimGateway, response: DeltaResponse) -> None:
        """`gateway.Observer.gateway_told`."""
        self._guard(lambda: self.validators.gateways.before(gateway, response))

    def fail(self, failure: BaseException) -> None:
        """The first violation counts; `pass_time` raises it."""
        if self.failure is None:
            self.history.now = self.loop.time()
            self.history.note("violation", str(failure))
            self.failure = failure

    def error_is_due(self, process: Process | None, event: Mapping[str, Any]) -> bool:
        """Whether a peerd had to log that error, an event of structlog (disk_checks.py)."""
        due = False

        def ask() -> None:
            nonlocal due
            due = True  # a violation says more than that there was an error
            due = self.validators.disks.says(process, event["event"])

        self._guard(ask)
        return due

    def _guard(self, check: Any) -> None:
        self.history.now = self.loop.time()
        try:
            check()
        except Violation as violation:
            self.fail(violation)

    def _prepare(self, replica: Replica, peerd: Any) -> None:
        self.validators.watch(replica, peerd, self._guard)
        self._watching.append(asyncio.get_running_loop().create_task(self._finished(replica, peerd)))

    async def _finished(self, replica: Replica, peerd: Any) -> None:
        while not peerd._tasks:  # noqa: ASYNC110 (it has no event for it)
            await asyncio.sleep(0.01)
        try:
            await peerd.finished()
        except asyncio.CancelledError:
            if replica.peerd is peerd:
                raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a bug of ours)
            self.fail(Violation(NO_ERRORS, f"a part of {replica.name} failed: {error!r}"))

    def _delivered(self, parcel: Parcel) -> None:
        self._guard(lambda: self.validators.delivered(parcel))
        liar = self.fabric.tampered.get((parcel.source, parcel.target))
        if liar is not None:
            liar.arrived(parcel.message)

    def _sent(self, parcel: Parcel) -> None:
        self._guard(lambda: self.validators.sent(parcel))

    def _different(self, oracle: Oracle) -> list[str]:
        wrong: list[str] = []
        expected: dict[str, dict[str, dict[str, str]]] = {}
        for name, replica in self.replicas.items():
            if replica.peerd is None:
                return [f"{name} does not run"]
            expected[name], served = oracle.versions(replica), replica.versions()
            for type_url in (ADDRESS, AUTHORIZATION):
                wrong += _compare(f"{name} serves", expected[name][type_url], served[type_url])
            shown = {row.key: row.status.state for row in replica.peerd.federation.table.snapshot()}
            for peer in sorted(self.truth.links[replica.cluster.name]):
                if (state := shown.get(gateway_key(peer))) is not PeerState.LIVE:
                    wrong.append(f"{name} shows {peer} as {state}")
        for client in self.ztunnels:
            if client.at not in expected:
                wrong.append(f"{client.name} is not connected")
                continue
            replica = self.replicas[client.at]
            for type_url in (ADDRESS, AUTHORIZATION):
                due = client.due(type_url, expected[client.at][type_url], replica)
                wrong += _compare(f"{client.name} holds", due, client.versions(type_url))
        for gateway in self.gateways:
            if gateway.at not in expected:
                wrong.append(f"{gateway.name} is not connected")
                continue
            for type_url, held in gateway.held.items():
                due = gateway.due(type_url, expected[gateway.at][type_url])
                wrong += _compare(f"{gateway.name} holds", due, held)
        return wrong

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._guard(lambda: self.validators.look(self.loop.time(), self.ztunnels, self.gateways))

    def _connect(self, name: str, kind: str = "zt") -> Any:
        host, local = self._near(f"{kind}-{name}", name), self.clusters[name].local
        return lambda: SimChannel(host, f"{local}:{XDS_PORT}")

    def _connect_gateway(self, name: str) -> Callable[[], SimChannel]:
        host, local = self._near(f"gw-{name}", name), self.clusters[name].local
        host.certificate = PeerCertificate((IDENTITY,), f"gw-{name}", EPOCH + 1e9)
        return lambda: SimChannel(host, f"{local}:{GATEWAY_PORT}")

    def _near(self, client: str, name: str) -> Host:
        """The host of a client within a cluster."""
        for replica in self.clusters[name].replicas:
            for source, target in ((client, replica.name), (replica.name, client)):
                self.fabric.link(source, target).latency = (0.0001, 0.002)
        self.fabric.keepalive[client] = _KEEPALIVE
        return Host(self.fabric, client)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.fail(Violation(NO_ERRORS, f"a ztunnel failed: {task.exception()!r}"))

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fail(Violation(NO_ERRORS, f"{context.get('message')}: {context.get('exception')!r}"))


def _own_gateway() -> ObjectChange:
    tree = {
        "metadata": {"name": NAME, "namespace": "istio-system"},
        "spec": {
            "gatewayClassName": "istio-eastwest",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    }
    return objects.put("Gateway", tree)


def _compare(what: str, expected: dict[str, str], found: dict[str, str]) -> list[str]:
    if expected == found:
        return []
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    differing = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    return [f"{what} wrong: lacks {missing}, has too much {extra}, differs in {differing}"]
