"""Clusters, ztunnels and a network in one loop, and the means to change them: what operators work on."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import structlog

from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.peer_state import PeerState
from tests.simulation.cluster import SimCluster
from tests.simulation.guarantees import LIVENESS, NO_ERRORS, REFUSAL
from tests.simulation.history import History, Violation
from tests.simulation.lies import Liar
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Fabric, Host, SimChannel
from tests.simulation.oracle import Oracle, gateway_key
from tests.simulation.replica import XDS_PORT, Replica
from tests.simulation.strangers import Stranger, visit
from tests.simulation.truth import GLOBAL, TAKEOVER, Service, Truth
from tests.simulation.validators import Validators
from tests.simulation.ztunnel import SimZtunnel
from tests.support import clusters as objects

LIVENESS_SECONDS = 240.0
"""Within this after the last fault every view equals what the sources imply: the longest redial (60 s), the
longest silence before a dead stream is given up (45 s), summaries held steady (30 s), and some."""

_SEEN_THROUGH = 3.0  # seconds after which a lie must have had its consequence
_KEEPALIVE = 40.0  # seconds until a ztunnel's HTTP/2 pings find that its peerd's node lost power
_LATENCY = (0.0005, 0.08)
ASKED = ("shop/web.shop.mesh.internal", "shop/cart.shop.mesh.internal", "shop/web.shop.svc.cluster.local")
"""What a ztunnel on demand asks for."""

_LABELS = {GLOBAL: {"solo.io/service-scope": "global"}, TAKEOVER: {"istio.io/global": "true"}}


class World:
    """One run's everything.

    Args:
        seed: of all randomness.
        root: a directory for state directories.
        ca: a CA directory.
        names: the clusters, and how many replicas of peerd each has.
        on_demand: clusters that also have a ztunnel that asks for single names.
    """

    def __init__(
        self, seed: str, root: Path, ca: Path, names: Mapping[str, int], on_demand: Collection[str] = ()
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.history = History()
        self.truth = Truth(names)
        self.clusters: dict[str, SimCluster] = {}
        self.replicas: dict[str, Replica] = {}
        self.validators = Validators(self.history, self.truth, self.replicas)
        self.fabric = Fabric(Random(f"{seed}/network"), _LATENCY, self._delivered, self._sent)
        self._moves = self._strangers = 0
        self._mirrors: dict[str, tuple[str, bool]] = {}
        for name, replicas in names.items():
            cluster = self.clusters[name] = SimCluster(
                name,
                self.new_address(),
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
        for name in self.replicas:
            self.validators.announced[name] = []
        self.ztunnels = [SimZtunnel(f"zt-{name}", name, self._connect(name), self) for name in names]
        self.ztunnels += [
            SimZtunnel(f"zo-{name}", name, self._connect(name, "zo"), self, on_demand=ASKED)
            for name in on_demand
        ]
        self._processes: dict[str, Process] = {}
        self._pods = 0
        self._policies: dict[str, set[str]] = {name: set() for name in names}
        self.failure: BaseException | None = None
        self._watching: list[asyncio.Task[None]] = []
        loop.set_exception_handler(self._loop_failed)

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Every cluster and every ztunnel."""
        await asyncio.gather(*(replica.start() for replica in self.replicas.values()))
        for client in self.ztunnels:
            self.start_ztunnel(client)
        self._watching.append(asyncio.ensure_future(self._tick()))

    async def close(self) -> None:
        """End everything."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for process in self._processes.values():
            await self.loop.kill(process)
        for replica in self.replicas.values():
            await replica.crash(silently=True)

    def start_ztunnel(self, client: SimZtunnel) -> None:
        """Run a ztunnel as a process of its own."""
        process = self._processes[client.name] = Process(client.name)
        task = self.loop.spawn(process, client.run())
        task.add_done_callback(self._ended)

    async def restart_ztunnel(self, client: SimZtunnel) -> None:
        """The Pod is replaced: it remembers nothing."""
        await self.loop.kill(self._processes.pop(client.name))
        for connection in self.fabric.of(client.name):
            connection.vanish(client.name)
            connection.vanish(connection.other(client.name), after=True)
        fresh = SimZtunnel(client.name, client.cluster, client._connect, self, on_demand=client.on_demand)
        self.ztunnels[self.ztunnels.index(client)] = fresh
        self.start_ztunnel(fresh)

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

    # -- what users do -----------------------------------------------------------------------------------

    def put_service(self, cluster: str, name: str, scope: str) -> None:
        """Create a Service, or change its scope."""
        services = self.truth.services[cluster]
        service = services.setdefault(name, Service(name))
        service.scope = scope
        self._write(cluster, service)

    def next_generation(self, cluster: str, name: str) -> None:
        """Change a port of a Service."""
        self._write(cluster, self.truth.services[cluster][name])

    def delete_service(self, cluster: str, name: str) -> None:
        """Delete a Service with its Pods."""
        for pod in list(self.truth.services[cluster][name].pods):
            self._delete_pod(cluster, name, pod)
        del self.truth.services[cluster][name]
        self._log(cluster, f"delete Service {name}")
        self.clusters[cluster].apply(objects.gone("Service", "shop", name))
        self.truth.touch(cluster, [name], self.loop.time())

    def scale(self, cluster: str, name: str, count: int) -> None:
        """So many ready Pods."""
        pods = self.truth.services[cluster][name].pods
        self._log(cluster, f"scale {name} from {len(pods)} to {count}")
        while len(pods) > count:
            self._delete_pod(cluster, name, pods[0])
        while len(pods) < count:
            self._pods += 1
            pod = f"{name}-{self._pods}"
            pods.append(pod)
            number = list(self.clusters).index(cluster) + 1
            ip = f"10.{number}.{self._pods // 250}.{self._pods % 250 + 1}"
            self.clusters[cluster].apply(
                objects.pod(pod, name, ip, node="node-1", account=f"{name}-{cluster}")
            )
            self.validators.expect(cluster, pod, present=True, now=self.loop.time())
        self.truth.touch(cluster, [name], self.loop.time())

    def link(self, viewer: str, peer: str, expire_after: int) -> None:
        """An istio-remote Gateway in *viewer* that leads to *peer*."""
        self._log(viewer, f"link {peer}, expiry {expire_after} s")
        self.truth.links[viewer].add(peer)
        for replica in self.clusters[viewer].replicas:
            self.truth.expired.discard((viewer, peer, replica.name))
        self.validators.expiry[viewer, peer] = expire_after
        self._write_gateway(viewer, peer)
        self.truth.touch_peer(viewer, peer, self.loop.time())

    def reroute(self, peer: str) -> None:
        """Every Gateway that leads to *peer* is edited to what its address and network are now."""
        for viewer in self.clusters:
            if peer in self.truth.links[viewer]:
                self._log(viewer, f"its Gateway to {peer} is brought up to date")
                self._write_gateway(viewer, peer)
                self.truth.rerouted(viewer, peer, self.loop.time())

    def move(self, cluster: str) -> None:
        """The load balancer before the cluster's gateway gets another address."""
        self.clusters[cluster].move(self.new_address())
        self._log(cluster, f"its gateway moves to {self.clusters[cluster].address}")
        for replica in self.clusters[cluster].replicas:
            for connection in self.fabric.of(replica.name):
                if connection.server == replica.name and connection.client in self.replicas:
                    connection.drop()

    def relabel(self, cluster: str) -> None:
        """The cluster gets another network: everything of it changes, here and wherever it is imported."""
        found = self.clusters[cluster]
        found.network = f"{cluster}-net" if found.network.endswith("2") else f"{cluster}-net2"
        self._log(cluster, f"its network is {found.network}")
        found.apply(objects.system(found.network))
        now = self.loop.time()
        for viewer in self.clusters:
            if viewer == cluster or cluster in self.truth.links[viewer]:
                self.truth.rerouted(viewer, cluster, now)

    def new_address(self) -> str:
        """One that nobody has had."""
        self._moves += 1
        return f"192.0.2.{self._moves}"

    def unlink(self, viewer: str, peer: str) -> None:
        """Delete it."""
        self._log(viewer, f"unlink {peer}")
        self.truth.links[viewer].discard(peer)
        self.clusters[viewer].apply(objects.gone("Gateway", "istio-system", gateway_key(peer).name))
        self.truth.touch_peer(viewer, peer, self.loop.time())

    def _write_gateway(self, viewer: str, peer: str) -> None:
        network, address, cluster = self.clusters[peer].network, self.clusters[peer].address, peer
        found = self._mirrors.get(viewer)
        if found is not None and found[0] == peer:
            address, cluster = self.clusters[viewer].address, viewer if found[1] else ""
            network = self.clusters[viewer].network if found[1] else ""
        self.clusters[viewer].apply(
            objects.remote_gateway(
                gateway_key(peer).name,
                network,
                address,
                labels={"topology.istio.io/cluster": cluster} if cluster else {},
                annotations={"peering.peerd.io/expire-after": str(self.validators.expiry[viewer, peer])},
            )
        )

    def mirror(self, viewer: str, peer: str, *, says_so: bool) -> None:
        """The Gateway to *peer* leads to *viewer* itself; with *says_so* by its labels."""
        self._mirrors[viewer] = peer, says_so
        self._log(viewer, f"its Gateway to {peer} leads to itself{', and says so' if says_so else ''}")
        self._write_gateway(viewer, peer)
        self.truth.rerouted(viewer, peer, self.loop.time())

    def unmirror(self, viewer: str) -> None:
        """And again to the peer."""
        peer, _ = self._mirrors.pop(viewer)
        if peer in self.truth.links[viewer]:
            self._log(viewer, f"its Gateway to {peer} leads there again")
            self._write_gateway(viewer, peer)
            self.truth.rerouted(viewer, peer, self.loop.time())

    @property
    def mirrored(self) -> set[str]:
        """Clusters of which a Gateway leads to themselves."""
        return set(self._mirrors)

    def catch(self, liar: Liar, teller: Replica, viewer: Replica) -> None:
        """Watch that a lie is seen through."""

        async def go() -> None:
            for _ in range(100):
                await asyncio.sleep(0.1)
                if liar.told:
                    break
            else:
                return
            told, way = self.loop.time(), (teller.name, viewer.name)
            await asyncio.sleep(_SEEN_THROUGH)
            quiet = not any(self.fabric.link(*each).cut for each in (way, way[::-1]))
            quiet = quiet and not any(self.fabric.link(*each).bytes_per_second for each in (way, way[::-1]))
            alone = max(viewer.disturbed_at, viewer.ready_at, teller.disturbed_at) < told - _SEEN_THROUGH
            if not (quiet and alone and viewer.running and teller.running):
                return
            if self.validators.peers.seen_through(viewer, teller.cluster.name, liar):
                self.history.checks[REFUSAL] += 1

        async def guarded() -> None:
            try:
                await go()
            except Violation as violation:
                self.fail(violation)

        self._watching.append(asyncio.ensure_future(guarded()))

    def visit(self, stranger: Stranger, replica: Replica, random: Random) -> None:
        """Let somebody break the protocol."""

        async def go() -> None:
            self._strangers += 1
            host = Host(self.fabric, f"stranger-{self._strangers}")
            try:
                if await visit(stranger, replica, random, host):
                    self.history.checks[REFUSAL] += 1
            except Violation as violation:
                self.fail(violation)

        self._watching.append(asyncio.ensure_future(go()))

    def put_policy(self, cluster: str, app: str) -> None:
        """An AuthorizationPolicy for the Pods of one Service."""
        self._policies[cluster].add(app)
        self._log(cluster, f"put policy for {app}")
        spec = {
            "selector": {"matchLabels": {"app": app}},
            "action": "DENY",
            "rules": [{"from": [{"source": {"namespaces": ["evil"]}}]}],
        }
        tree = {"metadata": {"name": f"deny-{app}", "namespace": "shop"}, "spec": spec}
        assert "AuthorizationPolicy" in KINDS_BY_NAME
        self.clusters[cluster].apply(objects.put("AuthorizationPolicy", tree))

    def delete_policy(self, cluster: str, app: str) -> None:
        """Delete it."""
        self._policies[cluster].discard(app)
        self._log(cluster, f"delete policy for {app}")
        self.clusters[cluster].apply(objects.gone("AuthorizationPolicy", "shop", f"deny-{app}"))

    def policies(self, cluster: str) -> list[str]:
        """Services that have one."""
        return sorted(self._policies[cluster])

    # -- the observer's side -----------------------------------------------------------------------------

    def before(self, client: SimZtunnel, response: Any) -> None:
        """`Observer.before`."""
        self._guard(lambda: self.validators.before(client, response))

    def after(self, client: SimZtunnel, response: Any) -> None:
        """`Observer.after`."""
        self._guard(lambda: self.validators.after(client, response))

    def fail(self, failure: BaseException) -> None:
        """The first violation counts; `pass_time` raises it."""
        if self.failure is None:
            self.history.now = self.loop.time()
            self.history.note("violation", str(failure))
            self.failure = failure

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

    def _delivered(self, source: str, target: str, method: str, message: bytes, answer: bool) -> None:
        self._guard(lambda: self.validators.delivered(source, target, method, message, answer))

    def _sent(self, source: str, target: str, method: str, message: bytes, answer: bool) -> None:
        self._guard(lambda: self.validators.sent(source, target, method, message, answer))

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
        return wrong

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._guard(lambda: self.validators.look(self.loop.time(), self.ztunnels))

    def _write(self, cluster: str, service: Service) -> None:
        self.truth.generations[service.name] = self.truth.generations.get(service.name, 0) + 1
        service.generation = self.truth.generations[service.name]
        self._log(cluster, f"write Service {service.name}: {service.scope}, generation {service.generation}")
        self.clusters[cluster].apply(
            objects.service(
                service.name, _LABELS.get(service.scope, {}), ports=(80, 8000 + service.generation)
            )
        )
        self.truth.touch(cluster, [service.name], self.loop.time())

    def _delete_pod(self, cluster: str, name: str, pod: str) -> None:
        self.truth.services[cluster][name].pods.remove(pod)
        self.clusters[cluster].apply(objects.gone("Pod", "shop", pod))
        self.truth.pod_gone(cluster, pod, self.loop.time())
        self.validators.expect(cluster, pod, present=False, now=self.loop.time())

    def _connect(self, name: str, kind: str = "zt") -> Any:
        client = f"{kind}-{name}"
        cluster = self.clusters[name]
        for replica in cluster.replicas:
            for source, target in ((client, replica.name), (replica.name, client)):
                self.fabric.link(source, target).latency = (0.0001, 0.002)
        self.fabric.keepalive[client] = _KEEPALIVE
        host = Host(self.fabric, client)
        return lambda: SimChannel(host, f"{cluster.local}:{XDS_PORT}")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.fail(Violation(NO_ERRORS, f"a ztunnel failed: {task.exception()!r}"))

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fail(Violation(NO_ERRORS, f"{context.get('message')}: {context.get('exception')!r}"))

    def _log(self, where: str, what: str) -> None:
        self.history.now = self.loop.time()
        self.history.note(where, what)


def _compare(what: str, expected: dict[str, str], found: dict[str, str]) -> list[str]:
    if expected == found:
        return []
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    differing = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    return [f"{what} wrong: lacks {missing}, has too much {extra}, differs in {differing}"]


@contextmanager
def watched_logs(world: World) -> Iterator[None]:
    """Errors that peerd logs are violations; nothing is printed."""
    before = structlog.get_config()

    def see(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in {"error", "exception", "critical"}:
            world.fail(Violation(NO_ERRORS, f"logged: {dict(event)}"))
        raise structlog.DropEvent

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.fail(Violation(NO_ERRORS, f"logged: {record.getMessage()} {record.exc_info}"))

    handler = Handler(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    structlog.configure(processors=[see], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)
        root.removeHandler(handler)
