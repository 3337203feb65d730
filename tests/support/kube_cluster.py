"""Whole clusters on real API servers: peerd processes with the shipped rights, and ztunnel-like clients.

    east = KubeCluster("east", api_server, tmp_path / "east", root)     # *root*: peerd.ca.authority.Issuer
    await east.prepare()                          # roles, network, CA, a ztunnel's Pod, a port for peers
    east.link(west)                               # an istio-remote Gateway
    replica = await east.start("east-0")          # one `peerd serve`, ready
    client = await east.client(replica)           # connected; has services, workloads, messages
    ...
    await east.close()

Objects are written with `east.api.admin`, which may do anything; peerd runs as its own account. Replicas are
reached by peers through one port, as through a Service.
"""

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peerd.ca import authority
from peerd.cli.demo.cluster import Cluster
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.ztunnel import Ztunnel
from tests.support import rbac
from tests.support.apiserver import ApiServer
from tests.support.balancer import Balancer
from tests.support.ports import unused_ports

SERVE = (sys.executable, "-m", "peerd.cli.main", "serve")
SYSTEM = "istio-system"
NODE = "node-1"
AUDIENCE = "istio-ca"
BUSY = 3.0  # times as long as is written at each place may take on a machine that does much else
Tree = dict[str, Any]


class Replica(Cluster):
    """One `peerd serve` process of a cluster."""

    def __init__(self, cluster: "KubeCluster", name: str, flags: tuple[str, ...]) -> None:
        kinds = ("xds", "peer", "http", "plaintext")
        root = cluster.root / name
        root.mkdir(parents=True, exist_ok=True)
        command = ("env", f"POD_NAME={name}", *SERVE)
        super().__init__(name, root, root, dict(zip(kinds, unused_ports(4), strict=True)), command)
        self._cluster = cluster
        self._flags = flags

    def arguments(self) -> list[str]:
        """`Cluster.arguments`."""
        return [
            f"--source=kube:{self._cluster.kubeconfig}",
            f"--cluster-id={self._cluster.name}",
            f"--xds-addr=127.0.0.1:{self.ports['xds']}",
            f"--peer-addr=127.0.0.1:{self.ports['peer']}",
            f"--http-addr=127.0.0.1:{self.ports['http']}",
            f"--state-dir={self.root / 'state'}",
            "--log-format=json",
            *self._flags,
        ]

    def token(self) -> str:
        """`Cluster.token`: of the cluster's ztunnel."""
        return self._cluster.ztunnel_token()

    def operator_token(self) -> str:
        """`Cluster.operator_token`."""
        return self._cluster.operator_token

    async def kill(self) -> None:
        """SIGKILL, and the end of the process."""
        os.killpg(self.pid, signal.SIGKILL)
        assert await self.stop() == -signal.SIGKILL


class KubeCluster:
    """One cluster: an API server, and what runs in it.

    Args:
        name: the cluster id; its network is `<name>-net`.
        api: its API server, running, with nothing in it.
        root: a directory of its own.
        issuer: the mesh's root; None: peerd makes a CA of its own, which no peer trusts.
        flags: further flags of `peerd serve`.
        ca_files: further files of the Secret `cacerts`, such as `ca-crl.pem`.
    """

    def __init__(
        self,
        name: str,
        api: ApiServer,
        root: Path,
        issuer: authority.Issuer | None,
        *,
        flags: tuple[str, ...] = (),
        ca_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.name = name
        self.api = api
        self.root = root
        self.replicas: dict[str, Replica] = {}
        self.operator_token = ""
        self._issuer = issuer
        self._flags = flags
        self._ca_files = dict(ca_files or {})
        self._balancer = Balancer()
        self._ways: dict[str, Balancer] = {}  # to each replica that has clients
        self._ztunnel: Tree = {}
        self._clients: list[Ztunnel] = []

    @property
    def peer_port(self) -> int:
        """Where its peers dial."""
        return self._balancer.port

    async def prepare(self) -> None:
        """Everything that is there before peerd starts."""
        self.root.mkdir(parents=True, exist_ok=True)
        await self._balancer.start()
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        admin = self.api.admin
        self.kubeconfig = rbac.install(self.api)
        labels = {"topology.istio.io/network": f"{self.name}-net"}
        admin.patch(namespace(SYSTEM), {"metadata": {"labels": labels}})
        if self._issuer is not None:
            files = authority.make_cluster_ca(self._issuer, self.name, time.time()) | self._ca_files
            data = {file: base64.b64encode(text).decode() for file, text in files.items()}
            admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": _meta("cacerts"), "data": data})
        admin.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/region": self.name}},
            }
        )
        self._ztunnel = admin.create(pod("ztunnel-1", SYSTEM, "ztunnel", "10.244.0.250"))
        self.operator_token = self.api.token(SYSTEM, "default", audiences=[AUDIENCE])

    def ztunnel_token(self) -> str:
        """A new token of the ztunnel on the only node, bound to its Pod."""
        return self.api.token(SYSTEM, "ztunnel", audiences=[AUDIENCE], pod=self._ztunnel)

    def roots(self) -> bytes:
        """What ztunnel mounts: the root ConfigMap of its namespace, which peerd wrote."""
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta("istio-ca-root-cert")}
        found = self.api.admin.get(manifest)
        assert found is not None, "there is no ConfigMap istio-ca-root-cert"
        return str(found["data"]["root-cert.pem"]).encode()

    # -- objects -----------------------------------------------------------------------------------------

    def gateway(self, other: "KubeCluster", *, hbone: int = 15008) -> Tree:
        """The istio-remote Gateway that leads to *other*, whose own gateway is at port *hbone*."""
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {
                **_meta(f"peer-{other.name}"),
                "labels": {
                    "topology.istio.io/network": f"{other.name}-net",
                    "topology.istio.io/cluster": other.name,
                },
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
                "listeners": [
                    _listener("cross-network", hbone, "HBONE"),
                    _listener("xds-tls", other.peer_port, "TLS"),
                ],
            },
        }

    def link(self, other: "KubeCluster", *, hbone: int = 15008) -> Tree:
        """Create that Gateway; returns it."""
        return self.api.admin.create(self.gateway(other, hbone=hbone))

    def service(self, name: str, ip: str, pods: int, *, labels: Mapping[str, str] | None = None) -> Tree:
        """Service `shop/<name>` with so many ready Pods in the mesh; returns the Service."""
        admin = self.api.admin
        if admin.get(namespace("shop")) is None:
            admin.create(namespace("shop"))
        made = admin.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {**_meta(name, "shop"), "labels": dict(labels or {})},
                "spec": {
                    "clusterIP": f"10.96.{ip}",
                    "selector": {"app": name},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                },
            }
        )
        for number in range(1, pods + 1):
            admin.create(pod(f"{name}-{number}", "shop", name, f"10.244.{ip.rpartition('.')[2]}.{number}"))
        return made

    # -- processes ---------------------------------------------------------------------------------------

    async def start(self, name: str, *, seconds: float = 30.0) -> Replica:
        """Start a replica, new or stopped before, and wait until it is ready."""
        replica = self.replicas.get(name)
        if replica is None:
            replica = self.replicas[name] = Replica(self, name, self._flags)
            self._balancer.ports.append(replica.ports["peer"])
        await replica.start()
        await replica.until_ready(seconds * BUSY)
        return replica

    async def client(self, replica: Replica, *, seconds: float = 20.0) -> Ztunnel:
        """A ztunnel-like client of one replica, connected over TLS with a real token."""
        roots = await self.until(lambda: asyncio.to_thread(self.roots), seconds, "the root ConfigMap")
        way = self._ways.get(replica.name)
        if way is None:
            way = self._ways[replica.name] = Balancer([replica.ports["xds"]])
            await way.start()
        client = Ztunnel(self.name, f"127.0.0.1:{way.port}", roots, self.ztunnel_token)
        self._clients.append(client)
        await client.connect(seconds * BUSY)
        return client

    async def reconnect(self, client: Ztunnel, *, seconds: float = 20.0) -> None:
        """As ztunnel does: again and again, with all that it holds."""
        async with asyncio.timeout(seconds * BUSY):
            while True:
                try:
                    await client.connect(seconds * BUSY)
                except DemoError:
                    await asyncio.sleep(0.1)
                else:
                    return

    def forward(self, dead: Replica, other: Replica) -> None:
        """Clients of *dead* that connect again get to *other*, as through a Service."""
        self._ways[dead.name].ports = [other.ports["xds"]]

    async def until(self, look: Callable[[], Any], seconds: float, what: str) -> Any:
        """What *look*, awaitable or not, gives once it is true; what asserts or finds nothing: not yet."""
        last: object = None
        seconds *= BUSY
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                last = look()
                if asyncio.iscoroutine(last):
                    last = await last
            except (AssertionError, LookupError) as error:
                last, found = error, False
            else:
                found = bool(last)
            if found:
                return last
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.name}: not within {seconds:.0f} s: {what}; last seen: {last!r}")

    async def close(self) -> None:
        """Stop everything but the API server."""
        for client in self._clients:
            await client.close()
        for replica in self.replicas.values():
            if replica.pid:
                await replica.stop()
        for each in (self._balancer, *self._ways.values()):
            await each.close()


def namespace(name: str) -> Tree:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(name: str, where: str, account: str, ip: str) -> Tree:
    """A ready Pod in the mesh, on the only node; its Service selects it by its account's name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **_meta(name, where),
            "labels": {"app": account},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": account,
            "containers": [{"name": "app", "image": "app"}],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _meta(name: str, where: str = SYSTEM) -> Tree:
    return {"name": name, "namespace": where}


def _listener(name: str, port: int, protocol: str) -> Tree:
    return {"name": name, "port": port, "protocol": protocol, "tls": {"mode": "Passthrough"}}
