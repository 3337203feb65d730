"""Fake peers for `bench.peering`: many clusters in one process, each with its own CA and address."""

import asyncio
import logging
import random
import time
from pathlib import Path

import structlog

from bench._processes import Command, serve, usage
from peerd.app.parts import SystemClock
from peerd.ca import pem
from peerd.ca.authority import load_root, make_cluster_ca
from peerd.ca.bundle import parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.model.address import Locality
from peerd.model.federation import Capacity, FederatedPort, FederatedService, PeerInfo
from peerd.model.identity import parse_spiffe_id
from peerd.model.steps import whole
from peerd.model.types import DELTA_METHOD
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_session import Held, PeerSession
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, encode_heartbeat
from peerd.serve.peer_acceptance import Acceptance
from peerd.serve.peers import PeerService
from peerd.transport.base import ClientStream, StreamClosed
from peerd.transport.http2 import Http2Channel, Http2Server
from peerd.transport.tls import FixedTls, TlsMaterial

IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/peerd"
PORT = 15012


def address(number: int) -> str:
    """A loopback address per peer."""
    return f"127.20.{number >> 8}.{number & 255}"


def tls(root: Path, cluster: str, clock: float | None = None) -> FixedTls:
    """A cluster's CA and its control plane's certificate, made when its *clock* said so (Unix seconds)."""
    issuer = load_root(root)
    now = time.time()
    files = make_cluster_ca(issuer, cluster, now)
    bundle = parse_bundle(files, root, now)
    own = identity_certificate(bundle, IDENTITY, now if clock is None else clock)
    roots = pem.write_certificates(issuer.certificate)
    return FixedTls(TlsMaterial(own.certificate_chain, own.private_key, roots))


def service(cluster: int, name: str, healthy: int) -> FederatedService:
    """One summary."""
    return FederatedService(
        name=name,
        namespace="bench",
        global_host=f"{name}.bench.mesh.internal",
        local_host=f"{name}.bench.svc.cluster.local",
        ports=(FederatedPort(80, "http"),),
        identities=(f"spiffe://cluster.local/ns/bench/sa/{name}",),
        capacity=(Capacity(f"net-{cluster}", Locality("r", f"z-{cluster % 3}", ""), healthy),),
        created="2026-01-01T00:00:00Z",
    )


class Peers:
    """The helper's state."""

    def __init__(self) -> None:
        self.services: list[PeerService] = []
        self.names: list[list[str]] = []
        self.held: list[object] = []

    async def handle(self, command: Command) -> Command:
        """One command."""
        match command["op"]:
            case "serve":
                root = Path(command["root"])
                await self.serve(root, command["peers"], command["names"], distinct=command["distinct"])
                return {}
            case "change":
                rate, seconds, seed = command["rate"], command["seconds"], command["seed"]
                return {"sent": await self.change(rate, seconds, seed, command.get("first", 10))}
            case "dial":
                await self.dial(Path(command["root"]), command["peers"], command["port"])
                return {}
            case _:
                return usage()

    async def serve(self, root: Path, peers: int, names: int, *, distinct: bool) -> None:
        """Serve *peers* clusters with *names* services each."""
        for number in range(peers):
            acceptance = Acceptance(parse_spiffe_id(IDENTITY), f"c{number}")
            made = PeerService(
                acceptance=acceptance, clock=SystemClock(), epoch=f"e{number}", lineage=f"lineage-{number}"
            )
            own = [f"s{number}-{k}" if distinct else f"s{k}" for k in range(names)]
            made.commit([(f"bench/{name}", service(number, name, 3)) for name in own])
            made.commit_info(PeerInfo(f"c{number}", f"net-{number}", "cluster.local", f"lineage-{number}"))
            made.sources_synced()
            server = Http2Server(f"{address(number)}:{PORT}", made.handlers(), tls=tls(root, f"c{number}"))
            await server.start()
            self.services.append(made)
            self.names.append(own)
            self.held.append(server)

    async def change(
        self, rate: int, seconds: float, seed: int, first: int
    ) -> list[tuple[int, str, int, float]]:
        """Commit *rate* changes a second: (peer, name, healthy, monotonic time) of each.

        Their capacities are counted from *first* on, so that no two changes are alike.
        """
        source = random.Random(seed)
        sent = []
        start = time.monotonic()
        for count in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + count / rate - time.monotonic()))
            peer = source.randrange(len(self.services))
            name = source.choice(self.names[peer])
            sent.append((peer, name, first + count, time.monotonic()))
            self.services[peer].commit([(f"bench/{name}", service(peer, name, first + count))])
        return sent

    async def dial(self, root: Path, peers: int, port: int) -> None:
        """Hold *peers* connections to the peerd under test, each in sync's first step, with heartbeats."""
        for number in range(peers):
            channel = Http2Channel("127.0.0.1", port, tls=tls(root, f"in{number}"))
            hello = Hello(f"in{number}", "one")
            stream = await _open(channel, hello)
            session = PeerSession(hello, "istio-system", Held())
            for request in session.open():
                await stream.send(request)
            beats = await channel.open(HEARTBEAT_METHOD, hello.metadata())
            self.held += [
                asyncio.ensure_future(self._follow(stream, session)),
                asyncio.ensure_future(self._beat(beats)),
            ]

    @staticmethod
    async def _follow(stream: ClientStream, session: PeerSession) -> None:
        while (message := await stream.receive()) is not None:
            for request in session.settle(whole(session.receive(message)), {}).requests:
                await stream.send(request)

    @staticmethod
    async def _beat(beats: ClientStream) -> None:
        sequence = 0
        while True:
            sequence += 1
            await beats.send(encode_heartbeat(sequence))
            await beats.receive()
            await asyncio.sleep(HeartbeatRules().interval)


async def _open(channel: Http2Channel, hello: Hello) -> ClientStream:
    """A data stream; the peer port opens a moment after `/ready`."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return await channel.open(DELTA_METHOD, hello.metadata())
        except StreamClosed:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    # Answers go to standard output, so nothing else may.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    serve(Peers().handle)
