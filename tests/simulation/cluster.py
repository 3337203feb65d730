"""One simulated cluster: its objects, where it is reached, and the replicas of peerd that run on it."""

import shutil
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from peerd.app.peerd import Peerd
from peerd.model.changes import ObjectChange
from peerd.model.kube.meta import ObjectKey
from peerd.transport.base import PeerCertificate
from tests.simulation.loop import EPOCH, VirtualLoop
from tests.simulation.network import Fabric
from tests.simulation.replica import PEER_PORT, Replica

IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/peerd"


class SimCluster:
    """A cluster.

    Args:
        name: the cluster id.
        address: its gateway's, which others dial; all replicas are behind it.
        network: its name.
        replicas: how many peerds there are.
        root: where state directories are.
        ca: a CA directory (the network replaces TLS, so one does for all).
        prepare: called with each new Peerd before it starts, to watch it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        network: str,
        replicas: int,
        fabric: Fabric,
        loop: VirtualLoop,
        root: Path,
        ca: Path,
        seed: str,
        prepare: Callable[[Replica, Peerd], None],
    ) -> None:
        self.name = name
        self.address = address
        self.loop = loop
        self.objects: dict[tuple[str, ObjectKey], ObjectChange] = {}
        self.network = network
        self.placed_at = 0.0  # when its network or segment last changed: streams of peers are made anew
        self.gateway = False  # its peerds serve an east-west gateway of it
        self.older = False  # it runs the first version, which knows fewer types
        self.identity = IDENTITY
        self._seed = seed
        self._fabric = fabric
        self._issuers = 0
        self.replicas = [
            Replica(
                name if number == 1 else f"{name}-{number}",
                self,
                fabric=fabric,
                loop=loop,
                state=root / f"{name}-{number}",
                ca=ca,
                seed=seed,
                prepare=prepare,
            )
            for number in range(1, replicas + 1)
        ]
        hosts = [each.name for each in self.replicas]
        fabric.names[address] = fabric.names[self.local] = hosts
        self.new_lineage()

    @property
    def local(self) -> str:
        """What ztunnels dial."""
        return f"peerd.{self.name}"

    def apply(self, *changes: ObjectChange) -> None:
        """Put or delete objects."""
        for change in changes:
            if change.object is None:
                self.objects.pop((change.kind, change.key), None)
            else:
                self.objects[change.kind, change.key] = change
        for replica in self.replicas:
            replica.changed(changes)

    def move(self, address: str) -> None:
        """The load balancer before the gateway gets another address; the old one leads nowhere."""
        self._fabric.names[address] = self._fabric.names.pop(self.address)
        self.address = address

    def inherit(self, address: str) -> None:
        """One more address leads to the load balancer before the gateway."""
        self._fabric.names[address] = self._fabric.names[self.address]

    def new_lineage(self) -> None:
        """State directories that hold nothing but a lineage nobody has seen."""
        self._issuers += 1
        made = uuid.UUID(bytes=sha256(f"{self._seed}/{self.name}/{self._issuers}".encode()).digest()[:16])
        for number, replica in enumerate(self.replicas):
            shutil.rmtree(replica.state, ignore_errors=True)
            replica.disk.replace()
            replica.state.mkdir(parents=True)
            (replica.state / "lineage").write_text(f"{made}\n")
            (replica.state / "replica").write_text(f"{uuid.UUID(int=made.int ^ (number + 1 << 96))}\n")
            replica.forgot.append(self.loop.time())

    def new_issuer(self) -> None:
        """The CA that issues the control plane's certificate is replaced."""
        self._issuers += 1
        self.show(self.identity)

    def show(self, identity: str) -> None:
        """From now on the control plane's certificate is of *identity*."""
        self.identity = identity
        for replica in self.replicas:
            if replica.host is not None:
                replica.host.certificate = self.certificate()
            server = self._fabric.servers.get(f"{replica.name}:{PEER_PORT}")
            if server is not None:
                server.certificate = self.certificate()

    def certificate(self) -> PeerCertificate:
        """What the control plane shows to peers."""
        key = sha256(f"{self.name}/{self._issuers}".encode()).hexdigest()
        return PeerCertificate((self.identity,), key, EPOCH + 1e9)
