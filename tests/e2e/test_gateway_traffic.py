"""Requests from cluster to cluster, through real Envoys that peerd configures, to the right Pod and back."""

import asyncio
import contextlib
import itertools

import pytest

from peerd.cli.demo.hbone import Caller
from peerd.cli.demo.pipes import HboneError, RefusedError
from peerd.model.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from peerd.observe import debug
from peerd.protocol.peer_state import PeerState
from peerd.transport.listening import stop_listening
from tests.support.gateways import (
    GATEWAY_IDENTITY,
    HBONE_PORT,
    PEERS_PORT,
    GatewayCluster,
    GatewayReplica,
)
from tests.support.peerds import PATIENCE
from tests.support.ports import address_block

HOST = "reviews.shop.mesh.internal"


@pytest.fixture
async def clusters(tmp_path, certificates):
    """East, west and north, none started."""
    made = [
        GatewayCluster(name, tmp_path / name, certificates, address_block())
        for name in ("east", "west", "north")
    ]
    yield made
    for cluster in made:
        await cluster.close()


async def joined(east: GatewayCluster, *others: GatewayCluster) -> None:
    """Every cluster started with one replica, linked with east through the gateways, and in sync."""
    for cluster in (east, *others):
        cluster.own_gateway(1)
        await cluster.start()
        await cluster.replica(1)
    for other in others:
        east.link_through(other, 1)
        other.link_through(east, 1)
    for other in others:
        await east.until_peer(other.name, lambda peer: peer.status.state is PeerState.LIVE)
        await other.until_peer("east", lambda peer: peer.status.state is PeerState.LIVE)
    await east.connect()


async def until_capacity(east: GatewayCluster, count: int) -> None:
    """East's ztunnel knows so many healthy endpoints behind gateways."""
    client = east.discovery
    assert client is not None

    def capacity() -> int:
        remote = client.remote(f"shop/{HOST}")
        return sum(1 if each.capacity is None else each.capacity for each in remote)

    await client.until(lambda: capacity() == count, PATIENCE, f"capacity {count}")


async def until_answered(east: GatewayCluster, by: str, host: str = HOST) -> str:
    """The answer that begins with *by*; others, and refusals, are what was before."""
    last = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while not last.startswith(by):
                try:
                    last = await east.request(host)
                except HboneError as error:
                    last = f"error: {error}"
    except TimeoutError:
        raise AssertionError(f"{host} is not answered by {by}: {last}") from None
    return last


async def test_a_request_arrives_at_the_right_pod_and_the_answer_returns(clusters):
    """East asks for a service that only west has; identities hold at both tunnels, and the log names all."""
    east, west, _ = clusters
    await west.deploy("reviews", 10, 11)
    await west.deploy("ratings", 20, everywhere=False)
    await joined(east, west)
    await until_capacity(east, 2)

    answers = {await east.request(HOST) for _ in range(6)}

    assert answers == {f"west {west.block}.{number} hello" for number in (10, 11)}
    authority, caller, network = west.receivers[f"{west.block}.10"].served[0]
    assert (authority, network) == (f"{HOST}:80", "east-net")
    assert caller == "spiffe://cluster.local/ns/web/sa/front"
    gateway = west.replicas[0]
    entry = (await gateway.until_logged(6, route="exported", code=200))[0]
    assert entry["src.identity"] == "spiffe://cluster.local/ns/web/sa/front"
    assert entry["dst.service"] == f"{HOST}:80"
    assert str(entry["dst.hbone_addr"]).startswith(west.block)
    assert int(str(entry["bytes_sent"])) > 0 < int(str(entry["bytes_recv"]))
    assert "envoy_http_downstream_rq_total" in gateway.stats()
    # What proxy-status is made of has a row for it, with Envoy's types (D38).
    assert west.peerd is not None
    rows = {each["proxy"]: each for each in debug.syncz(west.peerd.snapshot())}
    row = rows[f"gateway-{gateway.address}.istio-system"]
    assert {url: each["status"] for url, each in row["resources"].items()} == dict.fromkeys(
        (CLUSTER, ENDPOINT, LISTENER, ROUTE), "SYNCED"
    )


async def test_scaled_to_zero_and_back(clusters):
    """No Pod: ztunnel itself has nowhere to send; whoever asks the gateway none the less is told 503."""
    east, west, _ = clusters
    await west.deploy("reviews", 10)
    await joined(east, west)
    await until_capacity(east, 1)
    await until_answered(east, "west")

    await west.deploy("reviews")
    await until_capacity(east, 0)

    gateway = west.replicas[0]
    caller = Caller(gateway.hbone, east.front, GATEWAY_IDENTITY, "east-net")
    with pytest.raises(RefusedError) as refused:
        await caller.request(f"{HOST}:80", ("spiffe://cluster.local/ns/shop/sa/reviews",), b"")
    assert refused.value.status == 503
    await gateway.until_logged(code=503, flags="UH", reason="no_healthy_upstream")
    await caller.close()

    await west.deploy("reviews", 11)
    await until_capacity(east, 1)
    assert await until_answered(east, "west") == f"west {west.block}.11 hello"


async def test_a_service_moves_to_a_third_cluster_and_fails_over_to_it(clusters):
    """West serves, north joins, west goes: east is answered by whoever is there."""
    east, west, north = clusters
    await west.deploy("reviews", 10)
    await north.deploy("reviews", 10, 11)
    await joined(east, west, north)
    await until_capacity(east, 3)

    seen = {(await east.request(HOST)).split()[0] for _ in range(30)}
    assert seen == {"west", "north"}

    await west.deploy("reviews")
    await until_capacity(east, 2)
    assert {(await east.request(HOST)).split()[0] for _ in range(6)} == {"north"}

    await north.deploy("reviews")
    await until_capacity(east, 0)
    await west.deploy("reviews", 12, 13)
    await until_capacity(east, 2)
    assert {(await east.request(HOST)).split()[0] for _ in range(6)} == {"west"}


async def test_a_pod_that_died_unnoticed_costs_no_request(clusters):
    """Nothing listens where the control plane still sees a Pod: the gateway tries the next one."""
    east, west, _ = clusters
    await west.deploy("reviews", 10, 11, 12)
    await joined(east, west)
    await until_capacity(east, 3)
    await until_answered(east, "west")
    await west.receivers[f"{west.block}.10"].stop()

    answers = [await east.request(HOST) for _ in range(30)]

    assert {answer.split()[1] for answer in answers} == {f"{west.block}.11", f"{west.block}.12"}
    await west.replicas[0].until_logged(31, route="exported", code=200)
    retried = [entry for entry in west.replicas[0].entries() if entry.get("attempts", 1) != 1]
    assert retried
    assert "outlier_detection_ejections_active" in west.replicas[0].stats()


async def test_one_of_two_replicas_drains_under_load_and_no_request_fails(clusters):
    """A hundred requests a second through a load balancer that probes; a replica is told to end meanwhile."""
    east, west, _ = clusters
    await west.deploy("reviews", 10, 11, 12)
    west.own_gateway(1, 2, 9)
    await west.start()
    # Long enough for a balancer that shares a busy machine to notice, and for what is under way to end.
    drain = {"drain-notice-seconds": "5", "drain-seconds": "20"}
    replicas = [await west.replica(number, **drain) for number in (1, 2)]
    balancer = LoadBalancer(f"{west.block}.9", replicas)
    await balancer.start()
    east.own_gateway(1)
    await east.start()
    east.link_through(west, 9)
    await east.until_peer("west", lambda peer: peer.status.state is PeerState.LIVE)
    await east.connect()
    await until_capacity(east, 3)
    load = Load(east)
    try:
        await load.until(100)
        assert min(balancer.connections.values()) > 0
        before = load.done
        code = await replicas[0].stop()
        await load.until(before + 100)
        assert load.failed == [], "draining costs no request"
        # And a Pod goes the hard way: what it was just serving is counted, nothing else may fail.
        victim = west.receivers[f"{west.block}.12"]
        await victim.stop()
        await load.until(load.done + 100)
    finally:
        await load.stop()
        await balancer.stop()
    assert code == 0
    assert load.done >= 300
    assert len(load.failed) <= victim.cut, load.failed


class Load:
    """Requests at a steady rate, whatever becomes of them; a machine that cannot keep up has fewer."""

    def __init__(self, cluster: GatewayCluster, rate: float = 100.0) -> None:
        self._cluster = cluster
        self._rate = rate
        self._nodes = itertools.cycle(range(4))
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.done = 0
        self.failed: list[str] = []
        self._ticking = asyncio.ensure_future(self._tick())

    async def until(self, count: int) -> None:
        """Wait for so many to have ended."""
        async with asyncio.timeout(3 * PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.done >= count)

    async def stop(self) -> None:
        """Ask no more, and wait for what was asked."""
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.gather(*self._tasks)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._tasks) < 64)
            task = asyncio.ensure_future(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _one(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._cluster.request(HOST, node=next(self._nodes))
            if not answer.startswith("west"):
                self.failed.append(answer)
        except (HboneError, OSError, TimeoutError) as error:
            self.failed.append(repr(error))
        self.done += 1
        async with self._changed:
            self._changed.notify_all()


class LoadBalancer:
    """What stands before the replicas of a gateway: TCP to those that answer their probe, in turn."""

    def __init__(self, address: str, replicas: list[GatewayReplica]) -> None:
        self._address = address
        self._replicas = replicas
        self._ready = list(replicas)
        self._turn = {port: itertools.count() for port in (HBONE_PORT, PEERS_PORT)}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.connections = {replica.address: 0 for replica in replicas}
        self._probing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on the ports of the gateway."""
        for port in (HBONE_PORT, PEERS_PORT):
            self._servers.append(await asyncio.start_server(self._handler(port), self._address, port))
        self._probing = asyncio.ensure_future(self._probe())

    async def stop(self) -> None:
        """End everything."""
        for server in self._servers:
            await stop_listening(server)
        self._stopped = True
        tasks = [*self._tasks, *([self._probing] if self._probing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self) -> None:
        while True:
            states = await asyncio.gather(*(asyncio.to_thread(each.status) for each in self._replicas))
            self._ready = [each for each, state in zip(self._replicas, states, strict=True) if state == 200]
            await asyncio.sleep(0.1)

    def _handler(self, port):
        async def handle(reader, writer) -> None:
            open_ends = [writer]
            try:
                replica = self._ready[next(self._turn[port]) % len(self._ready)]
                if port == HBONE_PORT:
                    self.connections[replica.address] += 1
                there, here = await asyncio.open_connection(replica.address, port)
                open_ends.append(here)
                await asyncio.gather(self._copy(reader, here), self._copy(there, writer))
            except OSError:
                pass
            finally:
                for each in open_ends:
                    each.close()
                for each in open_ends:
                    with contextlib.suppress(OSError):
                        await each.wait_closed()

        def accept(reader, writer) -> None:
            if self._stopped:
                writer.transport.abort()
                return
            task = asyncio.ensure_future(handle(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(lambda _: writer.transport.abort())

        return accept

    @staticmethod
    async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError, NotImplementedError):
            target.write_eof()
