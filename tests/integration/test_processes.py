"""`peerd serve` processes that are killed or paused: no client is ever told that something is gone."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerd.ca import authority
from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.ztunnel import Ztunnel
from tests.support.peerds import free_ports

SERVE = [sys.executable, "-m", "peerd.cli.main", "serve"]
STALE_AFTER = 45.0  # the protocol's; there is no setting for it
NAME = "shop/web.shop.mesh.internal"
OBJECTS = """\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: %(name)s-net}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {solo.io/service-scope: global}}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: node, serviceAccountName: web}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-%(other)s
  namespace: istio-system
  labels: {topology.istio.io/network: %(other)s-net, topology.istio.io/cluster: %(other)s}
spec:
  gatewayClassName: istio-remote
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners:
    - {name: cross-network, port: 15008, protocol: HBONE, tls: {mode: Passthrough}}
    - {name: xds-tls, port: %(port)d, protocol: TLS, tls: {mode: Passthrough}}
"""


class Pair:
    """East and west, each with a process of its own, and a client of east's."""

    def __init__(self, root: Path) -> None:
        made = authority.make_root("test", time.time())
        authority.write_new(root / "certs", authority.root_files(made))
        ports = iter(free_ports(8))
        kinds = ("xds", "peer", "http", "plaintext")
        self.east, self.west = (
            self._cluster(name, root, dict(zip(kinds, ports, strict=False)), made)
            for name in ("east", "west")
        )
        for cluster, other in ((self.east, self.west), (self.west, self.east)):
            text = OBJECTS % {"name": cluster.name, "other": other.name, "port": other.ports["peer"]}
            (cluster.manifests / "objects.yaml").write_text(text)
        self.client = Ztunnel(
            "east",
            f"127.0.0.1:{self.east.ports['xds']}",
            (root / "certs" / "root-cert.pem").read_bytes(),
            self.east.token,
        )

    @staticmethod
    def _cluster(name: str, root: Path, ports: dict[str, int], made: authority.Issuer) -> Cluster:
        authority.write_new(root / "certs" / name, authority.make_cluster_ca(made, name, time.time()))
        (root / name / "manifests").mkdir(parents=True)
        return Cluster(name, root / name, root / "certs" / name, ports, SERVE)

    async def peer_is(self, *states: str, seconds: float = 30.0) -> None:
        """Wait until east says so of west."""
        state = ""
        async with asyncio.timeout(seconds):
            while state not in states:
                peers = await self.east.debug("peers")  # none before dialling begins
                state = peers[0]["state"] if peers else ""
                await asyncio.sleep(0.1)

    async def connect(self) -> None:
        """As ztunnel: again and again, with all that it holds."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await self.client.connect(10)
                except DemoError:
                    await asyncio.sleep(0.1)

    def nothing_was_removed(self) -> None:
        assert [message for message in self.client.messages if message.removed] == []
        assert len(self.client.remote(NAME)) == 1
        assert len(self.client.endpoints(NAME)) == 2


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    for cluster in (pair.east, pair.west):
        await cluster.start()
    try:
        for cluster in (pair.east, pair.west):
            await cluster.until_ready(30)
        await pair.peer_is("live")
        await pair.connect()
        await pair.client.until(lambda: len(pair.client.remote(NAME)) == 1, 20, "west's endpoints")
        pair.nothing_was_removed()
        yield pair
    finally:
        await pair.client.close()
        for cluster in (pair.east, pair.west):
            await cluster.stop()


async def killed(cluster: Cluster) -> None:
    """SIGKILL, and the end of the process."""
    os.killpg(cluster.pid, signal.SIGKILL)
    assert await cluster.stop() == -signal.SIGKILL


async def test_a_killed_peer_takes_nothing_with_it(pair: Pair) -> None:
    """Nor does its return: everything it says again is what was held."""
    await killed(pair.west)
    await pair.peer_is("connecting")
    pair.nothing_was_removed()
    await pair.west.start()
    await pair.peer_is("live", seconds=60)
    pair.nothing_was_removed()


async def test_our_own_kill_takes_nothing_from_clients_even_with_the_peer_away(pair: Pair) -> None:
    """A client that comes back with what it holds is told of no removal: imports were kept (D13, D22)."""
    await asyncio.sleep(6)  # what was imported is on disk 5 s later at the latest: a promise of seconds
    await killed(pair.west)
    await killed(pair.east)
    await pair.east.start()
    await pair.east.until_ready(30)
    await pair.connect()
    pair.nothing_was_removed()
    await pair.west.start()
    await pair.peer_is("live", seconds=60)
    pair.nothing_was_removed()


@pytest.mark.slow
async def test_a_peer_that_is_paused_longer_than_the_heartbeat_grows_stale_and_recovers(pair: Pair) -> None:
    """SIGSTOP: its connections stay open and say nothing. SIGCONT: they are made anew."""
    os.killpg(pair.west.pid, signal.SIGSTOP)
    try:
        await pair.peer_is("stale", seconds=STALE_AFTER + 30)
        pair.nothing_was_removed()
    finally:
        os.killpg(pair.west.pid, signal.SIGCONT)
    await pair.peer_is("live", seconds=60)
    pair.nothing_was_removed()


@pytest.mark.slow
async def test_our_own_pause_longer_than_the_heartbeat_removes_nothing(pair: Pair) -> None:
    """Time passed for everybody but us."""
    os.killpg(pair.east.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STALE_AFTER + 5)
    finally:
        os.killpg(pair.east.pid, signal.SIGCONT)
    await pair.peer_is("live", seconds=60)
    if pair.client.ended:
        await pair.connect()
    pair.nothing_was_removed()
