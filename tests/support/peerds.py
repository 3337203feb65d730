"""Whole peerds in this process: manifests in a directory, certificates as `peerd certs` makes, real sockets.

Nothing but loopback is ever dialled: the only addresses that these manifests give to peers are 127.0.0.1.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.ca import authority, tokens
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.config import ServeConfig
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS
from peerd.peering.peers import PeerSnapshot
from peerd.sources.directory import DirectorySource
from tests.support import manifests

PATIENCE = 60.0  # seconds after which a thing has not happened; nothing waits that long to succeed

_SYSTEM = """\
apiVersion: v1
kind: Namespace
metadata: {{name: istio-system, labels: {{topology.istio.io/network: {cluster}-net}}}}
---
apiVersion: v1
kind: Node
metadata:
  name: node-1
  labels: {{topology.kubernetes.io/region: {cluster}, topology.kubernetes.io/zone: {cluster}-a}}
status:
  addresses: [{{type: InternalIP, address: 172.18.0.1}}]
"""


class Cluster:
    """One cluster: its directory outlives its peerds, `start` begins the next one.

    Args:
        name: the cluster id; its network is `<name>-net`.
        root: a directory of its own.
        certificates: the directory of the root, with a CA directory for each cluster below it.
        peer_port: where it serves peers.
    """

    def __init__(self, name: str, root: Path, certificates: Path, peer_port: int) -> None:
        self.name = name
        self.root = root
        self.peer_port = peer_port
        self.manifests = root / "manifests"
        self.manifests.mkdir(parents=True)
        self.peerd: Peerd | None = None
        self.bound: dict[str, str] = {}
        self.state = root / "state"
        self._certificates = certificates
        self._issuer = tokens.make_issuer()
        self._clients: list[Ztunnel] = []
        authority.write_new(root / "tokens", tokens.issuer_files(self._issuer))
        self.write("system", _SYSTEM.format(cluster=name))

    # -- objects -----------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> None:
        """Put one manifest, as an editor does: whole, by rename."""
        draft = self.manifests / f".{name}"
        draft.write_text(text, "utf-8")
        draft.rename(self.manifests / f"{name}.yaml")

    def delete(self, name: str) -> None:
        """Delete one manifest."""
        (self.manifests / f"{name}.yaml").unlink()

    def link(self, other: str, port: int, network: str = "") -> None:
        """An istio-remote Gateway that leads to *other* on *port*."""
        text = manifests.remote_gateway(other, ["127.0.0.1"], port, network=network)
        self.write(f"peer-{other}", text)

    def service(self, name: str, pods: int, *, everywhere: bool = True, first: int = 1) -> None:
        """Service `shop/<name>` with so many ready Pods; *everywhere*: global."""
        numbers = range(first, first + pods)
        objects = [manifests.service(name, first, everywhere=everywhere)]
        objects += [manifests.pod(name, number, f"10.244.0.{number}") for number in numbers]
        self.write(name, "---\n".join(objects))

    # -- processes ---------------------------------------------------------------------------------------

    def config(self) -> ServeConfig:
        """The settings of its peerds."""
        return ServeConfig(
            source=f"dir:{self.manifests}",
            ca_dir=str(self._certificates / self.name),
            state_dir=str(self.state),
            cluster_id=self.name,
            trust_domain="cluster.local",
            xds_addr="127.0.0.1:0",
            peer_addr=f"127.0.0.1:{self.peer_port}",
            http_addr="127.0.0.1:0",
            jwks_file=str(self.root / "tokens" / "jwks.json"),
            token_issuer=tokens.ISSUER,
        )

    async def start(self) -> None:
        """Start a peerd and wait until it is ready."""
        self.peerd = Peerd(self.config(), Parts(DirectorySource(self.manifests)))
        self.bound = await self.peerd.start()
        async with asyncio.timeout(PATIENCE):
            await self.peerd.ready()

    async def stop(self) -> None:
        """Stop it; its clients' streams end."""
        peerd, self.peerd = self.peerd, None
        if peerd is not None:
            await peerd.stop(0)

    async def close(self) -> None:
        """Everything, at a test's end."""
        for client in self._clients:
            await client.close()
        await self.stop()

    # -- who looks ---------------------------------------------------------------------------------------

    async def ztunnel(self, before: Ztunnel | None = None) -> Ztunnel:
        """A connected ztunnel that has both first answers; one that holds what *before* held."""
        roots = (self._certificates / "root-cert.pem").read_bytes()
        client = Ztunnel(self.name, self.bound["--xds-addr"], roots, self._token)
        self._clients.append(client)
        if before is not None:
            client._machine = before._machine
            client.services, client.workloads = dict(before.services), dict(before.workloads)
            client.policies = dict(before.policies)
        await client.connect(PATIENCE)
        return client

    def peer(self, other: str) -> PeerSnapshot:
        """What it knows of its peer."""
        assert self.peerd is not None
        key = ObjectKey("istio-system", f"peer-{other}")
        return next(row for row in self.peerd.federation.table.snapshot() if row.key == key)

    async def until_peer(self, other: str, condition: Callable[[PeerSnapshot], bool]) -> PeerSnapshot:
        """What it knows of its peer, once that is so."""
        last: PeerSnapshot | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    assert self.peerd is not None
                    if any(row.key.name == f"peer-{other}" for row in self.peerd.federation.table.snapshot()):
                        last = self.peer(other)
                        if condition(last):
                            return last
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.name}'s peer {other} is not so: {last}") from None

    def _token(self) -> str:
        return tokens.service_account_token(
            self._issuer, "istio-system", "ztunnel", time.time(), pod_name="ztunnel-1", pod_uid="uid-1"
        )


def told(client: Ztunnel, since: int = 0) -> int:
    """How many Address resources and removals a ztunnel was sent, from its message *since* on."""
    return sum(each.resources + each.removed for each in client.messages[since:] if each.type_url == ADDRESS)
