"""`peerd serve` processes that are killed or paused: no client is ever told that something is gone."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from peerd.ca import authority
from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.ztunnel import Ztunnel
from tests.support.ports import unused_ports

SERVE = [sys.executable, "-m", "peerd.cli.main", "serve"]
HEARTBEAT = 2  # seconds; the default of 15 would take minutes to miss
STALE_AFTER = 3.0 * HEARTBEAT
DISK = 256  # KiB
# A state directory on a disk of its own, seen by this process only.
SMALL_DISK = ["unshare", "-m", "sh", "-c"]
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


POD = """\
---
apiVersion: v1
kind: Pod
metadata:
  name: web-%(number)d
  namespace: shop
  labels: {app: web}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: node, serviceAccountName: %(account)s}
status: {phase: Running, podIP: 10.0.1.%(number)d, conditions: [{type: Ready, status: "True"}]}
"""


class Pair:
    """East and west, each with a process of its own, and a client of east's."""

    def __init__(self, root: Path, *, small_disk: bool = False) -> None:
        made = authority.make_root("test", time.time())
        authority.write_new(root / "certs", authority.root_files(made))
        ports = iter(unused_ports(10))
        kinds = ("xds", "peer", "http", "plaintext", "gateway")
        self.east, self.west = (
            self._cluster(
                name,
                root,
                dict(zip(kinds, ports, strict=False)),
                made,
                on_small_disk(root / name / "state") if small_disk and name == "east" else SERVE,
            )
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
    def _cluster(
        name: str, root: Path, ports: dict[str, int], made: authority.Issuer, command: list[str]
    ) -> Cluster:
        authority.write_new(root / "certs" / name, authority.make_cluster_ca(made, name, time.time()))
        (root / name / "manifests").mkdir(parents=True)
        return Cluster(name, root / name, root / "certs" / name, ports, command)

    async def live(self) -> None:
        """Start both, link them, and connect the client."""
        for cluster in (self.east, self.west):
            await cluster.start()
        for cluster in (self.east, self.west):
            await cluster.until_ready(60)
        await self.peer_is("live")
        await self.connect()
        await self.client.until(lambda: len(self.client.remote(NAME)) == 1, 60, "west's endpoints")
        self.nothing_was_removed()

    async def close(self) -> None:
        """End everything."""
        await self.client.close()
        for cluster in (self.east, self.west):
            await cluster.stop()

    async def peer_is(self, *states: str, seconds: float = 60.0) -> None:
        """Wait until east says so of west."""
        state = ""
        async with asyncio.timeout(seconds):
            while state not in states:
                peers = await self.east.debug("peers")  # none before dialling begins
                state = peers[0]["state"] if peers else ""
                await asyncio.sleep(0.1)

    async def connect(self) -> None:
        """As ztunnel: again and again, with all that it holds."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.client.connect(30)
                except DemoError:
                    await asyncio.sleep(0.1)

    def nothing_was_removed(self) -> None:
        assert [message for message in self.client.messages if message.removed] == []
        assert len(self.client.remote(NAME)) == 1
        assert len(self.client.endpoints(NAME)) == 2


def on_small_disk(state: Path) -> list[str]:
    """`SERVE` with a tmpfs of `DISK` KiB as its state directory, in a mount namespace of the process."""
    state.mkdir(mode=0o700, parents=True)
    script = f'mount -t tmpfs -o mode=0700,size={DISK}k tmpfs {state} && exec "$0" "$@"'
    return [*SMALL_DISK, script, *SERVE]


@pytest.fixture
async def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setenv("PEERD_HEARTBEAT_SECONDS", str(HEARTBEAT))
    pair = Pair(tmp_path)
    try:
        await pair.live()
        yield pair
    finally:
        await pair.close()


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
    kept = pair.east.root / "state" / "imports"
    await said(pair.east, "imports", lambda: b"shop/web" in kept.read_bytes())
    await killed(pair.west)
    await killed(pair.east)
    await pair.east.start()
    await pair.east.until_ready(60)
    await pair.connect()
    pair.nothing_was_removed()
    await pair.west.start()
    await pair.peer_is("live", seconds=60)
    pair.nothing_was_removed()


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


async def test_our_own_pause_longer_than_the_heartbeat_removes_nothing(pair: Pair) -> None:
    """Time passed for everybody but us."""
    os.killpg(pair.east.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STALE_AFTER + HEARTBEAT)  # real time is what is tested
    finally:
        os.killpg(pair.east.pid, signal.SIGCONT)
    await pair.peer_is("live", seconds=60)
    if pair.client.ended:
        await pair.connect()
    pair.nothing_was_removed()


def can_mount() -> bool:
    """Whether this machine lets a process have a mount of its own."""
    try:
        mount = [*SMALL_DISK, "mount -t tmpfs tmpfs /mnt"]
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_mount(), reason="a disk of its own takes a mount namespace")
async def test_a_full_disk_costs_nothing_but_what_a_restart_would_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports go on in memory, it is said once, and written as soon as there is room."""
    monkeypatch.setenv("PEERD_HEARTBEAT_SECONDS", str(HEARTBEAT))
    pair = Pair(tmp_path, small_disk=True)
    east, west = pair.east, pair.west
    try:
        await pair.live()
        state = Path(f"/proc/{east.pid}/root{east.root}/state")
        await said(east, "imports", lambda: b"shop/web" in (state / "imports").read_bytes())
        fill(state / "filler")
        objects = west.manifests / "objects.yaml"
        # Their summary takes more than the block that the journal's file ends in.
        more = "".join(POD % {"number": number, "account": f"{'x' * 100}-{number}"} for number in range(50))
        objects.write_text(objects.read_text() + more)
        told = f"spiffe://cluster.local/ns/shop/sa/{'x' * 100}-49"
        await pair.client.until(lambda: told in identities(pair), 60, "what changed while the disk was full")
        await said(east, "the full disk", lambda: "imports_not_kept" in east.log.read_text())
        pair.nothing_was_removed()
        assert told.encode() not in (state / "imports").read_bytes()
        (state / "filler").unlink()
        await said(east, "the room", lambda: told.encode() in (state / "imports").read_bytes())
        log = east.log.read_text()
        assert (log.count("imports_not_kept"), log.count("imports_kept_again")) == (1, 1)
        assert "No space left on device" in log
        assert "Traceback" not in log
        await pair.peer_is("live")
        pair.nothing_was_removed()
    finally:
        await pair.close()


def fill(path: Path) -> None:
    """Take what is left of a disk, to the last byte."""
    with path.open("wb", buffering=0) as filler:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"\0" * size):
                    pass


def identities(pair: Pair) -> tuple[str, ...]:
    """Whom the client would take for the global service."""
    return pair.client.services[NAME].subject_alt_names


async def said(cluster: Cluster, what: str, happened: Callable[[], bool]) -> None:
    """Wait for something that only files tell."""
    try:
        async with asyncio.timeout(60):
            while not happened():
                cluster.check_running()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within 60 s: {what}{cluster.last_words()}") from None
