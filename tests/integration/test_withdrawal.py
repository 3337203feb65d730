"""A whole peerd takes back what came of a large peer in many small batches, and others come between them."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec
import pytest

from peerd.app.parts import Parts, SystemClock
from peerd.app.peerd import Peerd
from peerd.derive.commit import Commit
from peerd.encode.frame import decode_frame
from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.federation import FederatedService, PeerInfo
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey
from peerd.model.resource import Resource
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO
from peerd.peering.turn import TURN
from peerd.protocol.peer_subscription import Put
from peerd.sources.base import Sink
from tests.support.peering import service

LARGE, SMALL = ObjectKey("istio-system", "large"), ObjectKey("istio-system", "small")
MANY = 6 * TURN
PER_SERVICE = 2  # its Service, and the one workload behind the peer's gateway


class Source:
    """Tells what the test says."""

    def __init__(self) -> None:
        self.sink: Sink

    async def run(self, sink: Sink) -> None:
        self.sink = sink
        sink.apply([gateway(LARGE), gateway(SMALL)])
        sink.synced()
        await asyncio.Event().wait()


class Cluster:
    """One peerd that nobody answers, whose importer is fed by hand. `batches` are the addresses of each."""

    def __init__(self, peerd: Peerd, source: Source) -> None:
        self.peerd = peerd
        self.source = source
        self.importer = peerd.federation._importer
        self.batches: list[dict[str, object]] = []
        committed = peerd.federation.committed

        def see(commit: Commit) -> None:
            if commit.addresses:
                self.batches.append(dict(commit.addresses))
            committed(commit)

        peerd.federation.committed = see  # type: ignore[method-assign]

    async def feed(self, key: ObjectKey, *services: FederatedService) -> None:
        info = PeerInfo(key.name, f"{key.name}-net", "cluster.local", f"lineage-of-{key.name}")
        self.importer.take(key, PEER_INFO, [_put(encode_peer_info(info))])
        self.importer.heartbeat(key, time.time())
        made = [_put(encode_federated_service(each)) for each in services]
        assert self.importer.take(key, FEDERATED_SERVICE, made) == {}
        self.importer.synced(key)
        await self.quiet()

    async def quiet(self) -> None:
        async with asyncio.timeout(60):
            await self.peerd.derived()
            await self.peerd.ads.window.published()

    def served(self, peer: ObjectKey) -> int:
        names = self.peerd.store.collection(ADDRESS).names()
        return sum(1 for name in names if f".{peer.name}." in name)

    async def gone(self, peer: ObjectKey) -> None:
        await until(lambda: not self.served(peer) and not self.importer.holds(peer))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (parts of a whole peerd, which tell nobody)
            await asyncio.sleep(0)


def _put(made: Resource) -> Put:
    return Put(made.name, made.version, decode_frame(made.frame).payload)


def gateway(key: ObjectKey) -> ObjectChange:
    """Where nobody listens."""
    addresses = [{"type": "IPAddress", "value": "127.0.0.1"}]
    found = {
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {"topology.istio.io/network": f"{key.name}-net"},
        },
        "spec": {
            "gatewayClassName": "istio-remote",
            "addresses": addresses,
            "listeners": [
                {"name": "cross-network", "port": 15008, "protocol": "HBONE"},
                {"name": "xds-tls", "port": 1, "protocol": "TLS"},
            ],
        },
        "status": {"addresses": addresses},
    }
    return ObjectChange("Gateway", key, msgspec.convert(found, Gateway))


@pytest.fixture
async def cluster(tmp_path):
    source = Source()
    config = ServeConfig(
        source="dir:none",
        state_dir=str(tmp_path / "state"),
        cluster_id="home",
        xds_addr="127.0.0.1:0",
        peer_addr="127.0.0.1:0",
        http_addr="127.0.0.1:0",
    )
    peerd = Peerd(config, Parts(source, clock=SystemClock()))
    await peerd.start()
    async with asyncio.timeout(60):
        await peerd.ready()
    await until(lambda: peerd.federation._speaking is not None)
    cluster = Cluster(peerd, source)
    named = [service(f"s{number}-of-large", 3, network="large-net") for number in range(MANY)]
    await cluster.feed(LARGE, *named)
    await cluster.feed(SMALL, service("only", 3, network="small-net"))
    cluster.batches.clear()
    yield cluster
    await peerd.stop(0.1)


async def _healthy(cluster: Cluster, changes: list[int]) -> None:
    """The small peer's service changes whenever its last change has been derived."""
    while True:
        changes.append(len(changes) + 4)
        changed = service("only", changes[-1], network="small-net")
        cluster.importer.take(SMALL, FEDERATED_SERVICE, [_put(encode_federated_service(changed))])
        await cluster.peerd.pipeline.derived()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _beside(cluster: Cluster):
    """Everything in small batches, of which the other peer's changes have many; then nothing is left."""
    changes: list[int] = []
    healthy = asyncio.ensure_future(_healthy(cluster, changes))
    yield
    await cluster.gone(LARGE)
    healthy.cancel()
    await asyncio.gather(healthy, return_exceptions=True)
    await cluster.quiet()
    gone = [sum(1 for record in batch.values() if record is None) for batch in cluster.batches]
    assert sum(gone) >= MANY * PER_SERVICE
    assert max(gone) <= (TURN + 1) * PER_SERVICE
    withdrawn = [position for position, count in enumerate(gone) if count]
    others = [
        position
        for position, batch in enumerate(cluster.batches)
        if any(".small." in name for name in batch) and position < withdrawn[-1]
    ]
    assert len(others) >= MANY / TURN - 1, "the other peer's changes wait for one part at a time"
    assert changes
    assert cluster.served(SMALL) == 1


async def test_a_large_peer_is_unlinked_in_small_batches(cluster: Cluster) -> None:
    """Its own gateway, too, goes after all that leads through it."""
    async with _beside(cluster):
        cluster.source.sink.apply([ObjectChange("Gateway", LARGE, None)])
    its_gateway = "NetworkGateway/large-net/127.0.0.1/15008"
    last = next(batch for batch in reversed(cluster.batches) if its_gateway in batch)
    assert not any(".large." in name for name in last)
    assert cluster.peerd.federation.table.row(LARGE) is None


async def test_a_large_peer_that_is_linked_again_meanwhile_is_another_one(cluster: Cluster) -> None:
    """Nothing of the old one stays; the new one is dialled."""
    cluster.source.sink.apply([ObjectChange("Gateway", LARGE, None)])
    await until(lambda: cluster.importer.holds(LARGE) <= MANY - TURN)
    assert cluster.importer.holds(LARGE) > 0
    cluster.source.sink.apply([gateway(LARGE)])
    await cluster.gone(LARGE)
    await until(lambda: cluster.peerd.federation.table.row(LARGE) is not None)
    again = [service(f"s{number}-of-large", 3, network="large-net") for number in range(5)]
    await cluster.feed(LARGE, *again)
    assert cluster.served(LARGE) == 5


async def test_a_large_peer_expires_in_small_batches(cluster: Cluster) -> None:
    async with _beside(cluster):
        cluster.importer._peers[LARGE].last_heartbeat -= 90_000
    assert cluster.importer.counts(LARGE).freshness.value == "expired"
