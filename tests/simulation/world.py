"""Clusters, ztunnels and a network in one loop, and the means to change them: what operators work on."""

import asyncio
import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import structlog

from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.types import ADDRESS, AUTHORIZATION
from tests.simulation.cluster import SimCluster
from tests.simulation.history import History, Violation
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Fabric
from tests.simulation.oracle import Oracle, gateway_key
from tests.simulation.truth import GLOBAL, TAKEOVER, Service, Truth
from tests.simulation.validators import LIVENESS, NO_ERRORS, Validators
from tests.simulation.ztunnel import SimZtunnel
from tests.support import clusters as objects

LIVENESS_SECONDS = 240.0
"""Within this after the last fault every view equals what the sources imply: the longest redial (60 s), the
longest silence before a dead stream is given up (45 s), summaries held steady (30 s), and some."""

_KEEPALIVE = 40.0  # seconds until a ztunnel's HTTP/2 pings find that its peerd's node lost power
_LATENCY = (0.0005, 0.08)
_LABELS = {GLOBAL: {"solo.io/service-scope": "global"}, TAKEOVER: {"istio.io/global": "true"}}


class World:
    """One run's everything.

    Args:
        seed: of all randomness.
        root: a directory for state directories.
        ca: a CA directory.
        names: the clusters.
        ztunnels: how many for each.
    """

    def __init__(self, seed: str, root: Path, ca: Path, names: tuple[str, ...], ztunnels: int = 1) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.history = History()
        self.truth = Truth(names)
        self.clusters: dict[str, SimCluster] = {}
        self.validators = Validators(self.history, self.truth, self.clusters)
        self.fabric = Fabric(Random(f"{seed}/network"), _LATENCY, self._delivered)
        for number, name in enumerate(names, 1):
            self.clusters[name] = SimCluster(
                name,
                f"192.0.2.{number}",
                fabric=self.fabric,
                loop=loop,
                root=root,
                ca=ca,
                seed=seed,
                prepare=self._prepare,
            )
            self.clusters[name].apply(
                objects.system(f"{name}-net"),
                objects.namespace("shop"),
                objects.node("node-1", name, f"{name}-a"),
            )
        for name in names:
            self.validators.announced[name] = []
        self.ztunnels = [
            SimZtunnel(f"zt-{name}-{each}", name, self._connect(name, each), self)
            for name in names
            for each in range(ztunnels)
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
        await asyncio.gather(*(cluster.start() for cluster in self.clusters.values()))
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
        for cluster in self.clusters.values():
            await cluster.crash(silently=True)

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
        fresh = SimZtunnel(client.name, client.cluster, client._connect, self)
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
        self.validators.quiet_at = self.loop.time()
        self.validators.armed = True
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
        self.truth.expired.discard((viewer, peer))
        self.validators.expiry[viewer, peer] = expire_after
        self.clusters[viewer].apply(
            objects.remote_gateway(
                f"peer-{peer}",
                f"{peer}-net",
                self.clusters[peer].address,
                labels={"topology.istio.io/cluster": peer},
                annotations={"peering.peerd.io/expire-after": str(expire_after)},
            )
        )
        self.truth.touch_peer(viewer, peer, self.loop.time())

    def unlink(self, viewer: str, peer: str) -> None:
        """Delete it."""
        self._log(viewer, f"unlink {peer}")
        self.truth.links[viewer].discard(peer)
        self.clusters[viewer].apply(objects.gone("Gateway", "istio-system", gateway_key(peer).name))
        self.truth.touch_peer(viewer, peer, self.loop.time())

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

    def _prepare(self, cluster: SimCluster, peerd: Any) -> None:
        self.validators.watch(cluster, peerd, self._guard)
        self._watching.append(asyncio.get_running_loop().create_task(self._finished(cluster, peerd)))

    async def _finished(self, cluster: SimCluster, peerd: Any) -> None:
        while not peerd._tasks:  # noqa: ASYNC110 (it has no event for it)
            await asyncio.sleep(0.01)
        try:
            await peerd.finished()
        except asyncio.CancelledError:
            if cluster.peerd is peerd:
                raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a bug of ours)
            self.fail(Violation(NO_ERRORS, f"a part of {cluster.name} failed: {error!r}"))

    def _delivered(self, source: str, target: str, method: str, message: bytes, answer: bool) -> None:
        self._guard(lambda: self.validators.delivered(source, target, method, message, answer))

    def _different(self, oracle: Oracle) -> list[str]:
        wrong: list[str] = []
        for name, cluster in self.clusters.items():
            if cluster.peerd is None:
                wrong.append(f"{name} does not run")
                continue
            expected, served = oracle.versions(name), cluster.versions()
            for type_url in (ADDRESS, AUTHORIZATION):
                wrong += _compare(f"{name} serves", expected[type_url], served[type_url])
                for client in self.ztunnels:
                    if client.cluster == name:
                        wrong += _compare(
                            f"{client.name} holds", expected[type_url], client.versions(type_url)
                        )
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

    def _connect(self, name: str, each: int) -> Any:
        client = f"zt-{name}-{each}"
        for source, target in ((client, name), (name, client)):
            self.fabric.link(source, target).latency = (0.0001, 0.002)
        self.fabric.keepalive[client] = _KEEPALIVE
        return self.clusters[name].connect(client)

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
