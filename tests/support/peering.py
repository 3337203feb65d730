"""The whole peering part of a cluster in this process, on real sockets and real TLS."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from peerd.model.address import Locality, Port
from peerd.model.changes import Change, ImportChange, ImportedWorkloadChange, PeerChange
from peerd.model.clock import Clock
from peerd.model.federation import Capacity, FederatedPort, FederatedService, PeerInfo, RemotePeer
from peerd.model.identity import parse_spiffe_id
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload
from peerd.peering.dialer import Dialer
from peerd.peering.importer import Importer
from peerd.peering.keeper import Keeper
from peerd.peering.peers import PeerSnapshot, PeerTable
from peerd.peering.validation import LocalCluster
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_wire import Hello
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.peer_acceptance import Acceptance
from peerd.serve.peer_places import PeerPlaces
from peerd.serve.peers import PeerService
from peerd.transport.base import Channel
from peerd.transport.http2 import Http2Channel, Http2Server, split_address
from peerd.transport.tls import TlsMaterial
from tests.support.mesh_certs import PEERD, Authority


class SystemClock:
    """The real clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class TestTls:
    """TLS material that a test may exchange while it is in use."""

    __test__ = False

    def __init__(self, material: TlsMaterial) -> None:
        self.material = material

    def current(self) -> TlsMaterial:
        return self.material


def service(
    name: str, healthy: int = 1, *, namespace: str = "shop", network: str = "net", **fields: object
) -> FederatedService:
    """A summary as derivation makes them; *fields* replace what it says."""
    made = FederatedService(
        name=name,
        namespace=namespace,
        global_host=f"{name}.{namespace}.mesh.internal",
        local_host=f"{name}.{namespace}.svc.cluster.local",
        ports=(FederatedPort(80, "http"),),
        identities=(f"spiffe://cluster.local/ns/{namespace}/sa/{name}",),
        capacity=(Capacity(network, Locality("r", "z", ""), healthy),) if healthy else (),
        created="2026-01-01T00:00:00Z",
    )
    return msgspec.structs.replace(made, **fields)  # type: ignore[arg-type]


def workload(
    cluster: str, number: int, *services: str, network: str = "", namespace: str = "shop", **fields: object
) -> Workload:
    """A Pod of *cluster* as derivation exports it; *services* default to `reviews`."""
    name = f"pod-{number}"
    made = Workload(
        uid=f"{cluster}//Pod/{namespace}/{name}",
        name=name,
        namespace=namespace,
        addresses=(bytes([10, 1, number >> 8, number & 255]),),
        network=network or f"{cluster}-net",
        tunnel_protocol=TunnelProtocol.HBONE,
        service_account="reviews",
        cluster_id=cluster,
        services=tuple(
            ServicePorts(f"{namespace}/{each}.{namespace}.mesh.internal", (Port(80, 8080),))
            for each in services or ("reviews",)
        ),
    )
    return msgspec.structs.replace(made, **fields)  # type: ignore[arg-type]


class PeeringCluster:
    """One cluster. `imports` and `views` are what derivation would hold."""

    def __init__(
        self,
        name: str,
        authority: Authority,
        *,
        lineage: str = "",
        keeper: Keeper | None = None,
        instance: str = "",
        clock: Clock | None = None,
        connect: Callable[[str, int], Channel] | None = None,
        rules: HeartbeatRules | None = None,
        derived: Callable[[], Awaitable[None]] | None = None,
        registry: ConnectionRegistry | None = None,
    ) -> None:
        self.name = name
        self.authority = authority
        self.clock = clock or SystemClock()
        self.lineage = lineage or str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.tls = TestTls(authority.leaf())
        self.imports: dict[ObjectKey, dict[str, FederatedService]] = {}
        self.workloads: dict[ObjectKey, dict[str, Workload]] = {}
        self.views: dict[ObjectKey, object] = {}
        self.changes: list[Change] = []
        self.moved = asyncio.Event()
        self.info = PeerInfo(name, f"{name}-net", "cluster.local", self.lineage, version="test")
        local = LocalCluster(name, "istio-system", self.lineage)
        self.importer = Importer(local, self._changed, keeper, rules)
        self.table = PeerTable(self.importer, self.clock, lambda _key: self.moved.set())
        self.acceptance = Acceptance(parse_spiffe_id(PEERD), name)
        self.epoch = f"{random.getrandbits(48):012x}"  # as long as a real one
        self.places = PeerPlaces()
        self.service = PeerService(
            acceptance=self.acceptance,
            clock=self.clock,
            epoch=self.epoch,
            lineage=self.lineage,
            registry=registry,
            places=self.places,
            rules=rules,
        )
        self.dialer = Dialer(
            hello=Hello(name, instance or f"peerd-{name}", software="test"),
            namespace="istio-system",
            connect=connect or self.connect,
            importer=self.importer,
            table=self.table,
            clock=self.clock,
            source=random.Random(7),
            rules=rules,
            derived=derived,
        )
        self.address = ""
        self._server: Http2Server | None = None

    def connect(self, host: str, port: int) -> Channel:
        return Http2Channel(host, port, tls=self.tls, connect_timeout=2.0)

    def export(self, *changes: tuple[str, Workload | None]) -> None:
        """Announce endpoints to peers of our network, whatever their segment."""
        for same_segment in (False, True):
            self.service.commit_workloads(changes, same_segment=same_segment)

    async def start(self, *services: FederatedService, synced: bool = True) -> None:
        self.service.commit([(s.resource_name, s) for s in services])
        self.service.commit_info(self.info)
        self.importer.join(self.info.network)
        self.dialer.join("", self.info.network)
        if synced:
            self.service.sources_synced()
        await self.listen()
        self.dialer.start()

    async def listen(self, address: str = "127.0.0.1:0") -> None:
        self._server = Http2Server(address, self.service.handlers(), tls=self.tls)
        self.address = await self._server.start()

    async def hang_up(self) -> None:
        """The process dies as far as others can see."""
        assert self._server is not None
        await self._server.close(0)

    async def stop(self) -> None:
        await self.dialer.close()
        if self._server is not None:
            self.service.drain()
            await self._server.close(1.0)
            await handshakes_over(self._server)

    def gateway(self, other: "PeeringCluster | str", **fields: object) -> RemotePeer:
        """An istio-remote Gateway of ours that leads to *other* (or to an address)."""
        if isinstance(other, PeeringCluster):
            host, port = split_address(other.address)
            name, network = other.name, other.info.network
        else:
            host, port = split_address(other)
            name, network = "", ""
        remote = RemotePeer(
            key=ObjectKey("istio-system", f"peer-{name or 'x'}"),
            cluster=name,
            network=network,
            addresses=(host,),
            port=port,
            trust_domain="cluster.local",
            namespace="istio-system",
            service_account="peerd",
        )
        return msgspec.structs.replace(remote, **fields)  # type: ignore[arg-type]

    def link(self, other: "PeeringCluster | str", **fields: object) -> ObjectKey:
        remote = self.gateway(other, **fields)
        self.dialer.configure([(remote.key, remote)])
        return remote.key

    def row(self, key: ObjectKey) -> PeerSnapshot:
        return next(row for row in self.table.snapshot() if row.key == key)

    async def until(self, condition: Callable[[], bool], what: str = "", seconds: float = 30.0) -> None:
        """Wait until *condition*, checked whenever this cluster's imports or peers change."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self.moved.clear()
                    await self.moved.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {seconds} s: {what or condition}; {self.table.snapshot()}"
            ) from None

    def _changed(self, changes: Sequence[Change]) -> None:
        self.changes += changes
        for change in changes:
            match change:
                case ImportChange(peer, name, None):
                    self.imports.get(peer, {}).pop(name, None)
                case ImportChange(peer, name, imported):
                    self.imports.setdefault(peer, {})[name] = imported
                case ImportedWorkloadChange(peer, uid, None):
                    self.workloads.get(peer, {}).pop(uid, None)
                case ImportedWorkloadChange(peer, uid, found):
                    self.workloads.setdefault(peer, {})[uid] = found
                case PeerChange(peer, view):
                    self.views[peer] = view
        self.moved.set()


def renamed(info: PeerInfo, **fields: object) -> PeerInfo:
    """*info* with other fields."""
    return msgspec.structs.replace(info, **fields)  # type: ignore[arg-type]


async def handshakes_over(server: Http2Server) -> None:
    """Handshakes that were cut off are noticed and their sockets closed: asyncio alone counts them."""
    listener = server._server
    for _ in range(3000):
        if not getattr(listener, "_active_count", 0):
            return
        await asyncio.sleep(0.01)
