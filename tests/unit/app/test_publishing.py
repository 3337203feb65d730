"""Status and Events of a cluster with several replicas, whatever its API server does: one tells the truth."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from peerd.app.publishing import Publishing
from peerd.derive.commit import Commit
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.config import ServeConfig
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.federation import FederatedName, Freshness, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.peering.importer import ImportCounts
from peerd.peering.peers import PeerSnapshot
from peerd.protocol.peer_state import PeerState, PeerStatus
from peerd.sources.kubernetes import KubernetesSource
from tests.simulation.loop import SimClock
from tests.support.fake_apiserver import FakeApiServer, kinds
from tests.support.fake_apiserver.storage import Definition
from tests.support.virtual import virtual

WEST = ObjectKey("istio-system", "west")
EVENT = Definition("", "v1", "events", "CoreEvent")
CONNECTED = "gloo.solo.io/PeerConnected"
FEDERATED = "peering.peerd.io/Federated"
GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"namespace": "istio-system", "name": "west", "generation": 1},
    "spec": {"gatewayClassName": "istio-remote", "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}]},
}
NAME = FederatedName("shop/web", "web.shop.mesh.internal", True, ("west",), 1)
KEY = "shop/web.shop.mesh.internal"


class Peers:
    """The dialler's table, of one peer."""

    def __init__(self) -> None:
        self.state = PeerState.LIVE
        self.error = ""
        self.freshness = Freshness.FRESH

    def row(self, key: ObjectKey) -> PeerSnapshot | None:
        if key != WEST:
            return None
        remote = RemotePeer(
            WEST, "west", "west-net", ("192.0.2.1",), 15012, "cluster.local", "istio-system", "peerd"
        )
        counts = ImportCounts(services=1, synced=True, last_heartbeat=1.0, freshness=self.freshness)
        return PeerSnapshot(WEST, remote, PeerStatus(self.state, 0.0, self.error), counts)

    def snapshot(self) -> tuple[PeerSnapshot, ...]:
        found = self.row(WEST)
        return () if found is None else (found,)


class Replica:
    """One process: a source, and publishing behind it."""

    def __init__(self, server: FakeApiServer, seed: int) -> None:
        transport, random = server.transport(), Random(seed)
        config = ServeConfig(source="kube", state_dir="", cluster_id="east")
        self.peers = Peers()
        self.publishing = Publishing(
            config,
            transport,
            clock=SimClock(asyncio.get_running_loop()),  # type: ignore[arg-type]
            source=random,
        )
        self.publishing.follow(self.peers)  # type: ignore[arg-type]
        self._source = KubernetesSource(transport, system_namespace="istio-system", random=random)
        self._tasks: list[asyncio.Task[Any]] = []

    # -- `peerd.sources.base.Sink`

    def apply(self, changes: list[ObjectChange]) -> None:
        self.publishing.applied(changes)

    def own(self, changes: list[OwnChange]) -> None:
        raise AssertionError(f"nothing was generated: {changes}")

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        pass

    def synced(self) -> None:
        self.publishing.settle()

    # -- life

    def start(self) -> None:
        parts = (self.publishing.run(), self.publishing.writer.run(), self._source.run(self))
        self._tasks = [asyncio.ensure_future(each) for each in parts]

    async def kill(self) -> None:
        """Nothing is released."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def writes(self) -> bool:
        return self.publishing.view().writes

    def lose(self, error: str) -> None:
        self.peers.state, self.peers.error = PeerState.CONNECTING, error
        self.publishing.peer_changed(WEST)


class Rig:
    """Some replicas on one server."""

    def __init__(self, replicas: int = 2) -> None:
        self.server = kinds.cluster()
        self.server.define(EVENT)
        self.server.put(GATEWAY)
        self.server.put(kinds.service("web"))
        self.replicas = [Replica(self.server, seed) for seed in range(replicas)]

    def commit(self, **fields: Any) -> None:
        for each in self.replicas:
            each.publishing.committed(Commit(1, network="east-net", **fields))

    @property
    def writer(self) -> Replica:
        (found,) = [each for each in self.replicas if each.writes]
        return found

    def conditions(self, kind: str, namespace: str, name: str) -> dict[str, str]:
        status = self.server.objects(kind)[namespace, name].get("status", {})
        return {each["type"]: f"{each['status']}, {each['reason']}" for each in status.get("conditions", [])}

    def events(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for _, tree in self.server.storage.items(EVENT.name):
            found[tree["reason"]] += tree["count"]
        return found

    def writes(self) -> int:
        return sum(
            method in {"PATCH", "PUT", "POST", "DELETE"} and "/leases" not in path
            for method, path, _ in self.server.requests
        )


@asynccontextmanager
async def running(replicas: int = 2) -> AsyncIterator[Rig]:
    rig = Rig(replicas)
    rig.commit(federation=((KEY, NAME),))
    for each in rig.replicas:
        each.start()
    try:
        yield rig
    finally:
        for each in rig.replicas:
            await each.kill()


@virtual
async def test_one_of_three_replicas_says_it() -> None:
    """Conditions and Events are there once; the others have nothing to write when they hear of it."""
    async with running(3) as rig:
        await asyncio.sleep(5)
        assert rig.conditions("Gateway", "istio-system", "west")[CONNECTED] == "True, Connected"
        assert rig.conditions("Service", "shop", "web")[FEDERATED] == "True, Exported"
        assert rig.events() == {"PeerConnected": 1, "PeerSynced": 1, "Federated": 1}
        before = rig.writes()
        assert rig.writer
        await asyncio.sleep(600)
        assert rig.writes() == before


@virtual
async def test_a_killed_writer_is_replaced_and_what_changed_is_written() -> None:
    """Within 20 s; what the other one finds as it is wanted is not written again."""
    async with running() as rig:
        await asyncio.sleep(30)
        dead = rig.writer
        (other,) = [each for each in rig.replicas if each is not dead]
        await dead.kill()
        before = rig.writes()
        other.lose("connection reset")
        await asyncio.sleep(20)
        assert rig.conditions("Gateway", "istio-system", "west")[CONNECTED] == "False, Unreachable"
        assert rig.events()["PeerUnreachable"] == 1
        assert rig.writes() - before == 2  # the status and the Event


@virtual
async def test_a_stopped_writer_lets_go() -> None:
    """Another one writes after a look or two."""
    async with running() as rig:
        await asyncio.sleep(30)
        first = rig.writer
        await first.kill()
        await first.publishing.close()
        rig.replicas.remove(first)
        await asyncio.sleep(4)
        assert rig.writer is not first


@virtual
async def test_an_outage_of_the_api_server_delays_and_loses_nothing() -> None:
    """Five minutes away; what changed meanwhile is written afterwards, once."""
    async with running() as rig:
        await asyncio.sleep(30)
        before = rig.writes()
        rig.server.stop()
        for number in range(30):
            for each in rig.replicas:
                each.lose(f"attempt {number}")
            await asyncio.sleep(10)
        rig.server.start()
        mark = len(rig.server.requests)
        await asyncio.sleep(90)
        assert rig.conditions("Gateway", "istio-system", "west")[CONNECTED] == "False, Unreachable"
        patched = [path for method, path, _ in rig.server.requests[mark:] if method == "PATCH"]
        assert 1 <= len(patched) <= 4
        assert rig.writes() >= before
        assert rig.writer


@virtual
async def test_a_problem_without_a_status_to_show_it_is_an_event() -> None:
    """Once, though both replicas know; mended and made again within minutes, it is not repeated."""
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "odd"},
        "spec": {},
    }
    told = Diagnostic("AuthorizationPolicy/shop/odd", "spec.rules", "is odd", "mend it", Severity.WARNING)
    async with running() as rig:
        rig.server.put(policy)
        await asyncio.sleep(30)
        for _ in range(3):
            for each in rig.replicas:
                each.publishing.problem("derive/a", (), (told,))
            await asyncio.sleep(5)
            for each in rig.replicas:
                each.publishing.problem("derive/a", (told,), ())
            await asyncio.sleep(5)
        assert rig.events()["NotAsMeant"] == 1
        (event,) = [
            tree for _, tree in rig.server.storage.items(EVENT.name) if tree["reason"] == "NotAsMeant"
        ]
        assert event["message"] == "spec.rules: is odd; mend it"
        assert event["involvedObject"]["kind"] == "AuthorizationPolicy"


@virtual
async def test_a_silent_peer_is_named_on_the_services_it_serves() -> None:
    """After a few seconds, for a restart finds everybody silent; heard of again, it is named no more."""
    async with running() as rig:
        await asyncio.sleep(30)
        for each in rig.replicas:
            each.peers.state, each.peers.freshness = PeerState.STALE, Freshness.STALE
            each.publishing.peer_changed(WEST)
        await asyncio.sleep(3)
        assert "(stale)" not in str(rig.server.objects("Service"))
        await asyncio.sleep(5)
        assert "west (stale)" in str(rig.server.objects("Service"))
        assert rig.conditions("Gateway", "istio-system", "west")[CONNECTED] == "False, Stale"
        for each in rig.replicas:
            each.peers.state, each.peers.freshness = PeerState.LIVE, Freshness.FRESH
            each.publishing.peer_changed(WEST)
        await asyncio.sleep(15)
        assert "(stale)" not in str(rig.server.objects("Service"))


@virtual
async def test_a_slow_start_calls_nobody_stale_before_it_has_dialled() -> None:
    """What a restart restored is stale; that the API server was away for a minute is not the peer's fault."""
    async with running(1) as rig:
        await asyncio.sleep(30)
        (first,) = rig.replicas
        await first.kill()
        rig.server.stop()
        again = Replica(rig.server, 7)
        again.publishing.committed(Commit(1, network="east-net", federation=((KEY, NAME),)))
        again.peers.state, again.peers.freshness = PeerState.STALE, Freshness.STALE
        again.publishing.peer_changed(WEST)
        rig.replicas[:] = [again]
        again.start()
        await asyncio.sleep(60)
        rig.server.start()
        before = rig.writes()
        while not again.publishing._settled:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.1)
        await asyncio.sleep(4)
        again.peers.state, again.peers.freshness = PeerState.LIVE, Freshness.FRESH
        again.publishing.peer_changed(WEST)
        await asyncio.sleep(60)
        assert again.writes
        assert rig.writes() == before


@virtual
async def test_a_server_that_forgot_everything_is_told_again() -> None:
    """The objects are new ones, without a status: it is written as to any new object."""
    async with running(1) as rig:
        await asyncio.sleep(30)
        rig.server.delete("Gateway", "istio-system", "west")
        await asyncio.sleep(5)
        rig.server.put(GATEWAY)
        await asyncio.sleep(15)
        assert rig.conditions("Gateway", "istio-system", "west")[CONNECTED] == "True, Connected"
