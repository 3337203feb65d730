"""What a peerd is built from that the outside world decides: time, chance, disk, network, objects.

`peerd serve` uses the real ones, the simulation its own, and everything between is the same.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random, SystemRandom
from time import monotonic, time
from typing import TYPE_CHECKING, Protocol

from peerd.model.clock import Clock
from peerd.sources.base import Source
from peerd.state.disk import Disk
from peerd.transport.base import Channel, Handler, Server
from peerd.transport.tls import TlsSource

if TYPE_CHECKING:
    from peerd.app.kube import Kube


class Network(Protocol):
    """Listeners and connections."""

    def listen(self, address: str, handlers: Mapping[str, Handler], tls: TlsSource | None) -> Server:
        """A server for ztunnels and command lines; it asks nobody for a certificate."""
        ...

    def prepare_peers(self) -> None:
        """Get ready for the next two; called off the event loop, for it may take a while."""
        ...

    def listen_peers(self, address: str, handlers: Mapping[str, Handler], tls: TlsSource) -> Server:
        """A server that demands a client certificate."""
        ...

    def connect(self, host: str, port: int, tls: TlsSource) -> Channel:
        """A connection to a peer."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        """`Clock.time`."""
        return time()

    def monotonic(self) -> float:
        """`Clock.monotonic`."""
        return monotonic()


class SystemNetwork:
    """grpc.aio for ztunnels, Python's TLS for peers (decision D2)."""

    def listen(self, address: str, handlers: Mapping[str, Handler], tls: TlsSource | None) -> Server:
        """`Network.listen`."""
        from peerd.transport.grpcaio import GrpcServer  # grpc is the dearest import; late and only here

        return GrpcServer(address, handlers, tls=tls)

    def prepare_peers(self) -> None:
        """Import what only peers need: to be ready without it is a fifth faster."""
        for name in ("peerd.transport.http2", "peerd.peering.dialer", "peerd.serve.peers"):
            importlib.import_module(name)

    def listen_peers(self, address: str, handlers: Mapping[str, Handler], tls: TlsSource) -> Server:
        """`Network.listen_peers`."""
        from peerd.transport.http2 import Http2Server

        return Http2Server(address, handlers, tls=tls)

    def connect(self, host: str, port: int, tls: TlsSource) -> Channel:
        """`Network.connect`."""
        from peerd.transport.http2 import Http2Channel

        return Http2Channel(host, port, tls=tls)


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world of one peerd. `kube` is None where objects do not come from an API server."""

    source: Source
    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=SystemRandom)
    network: Network = field(default_factory=SystemNetwork)
    resolve: Callable[[str], Awaitable[list[str]]] | None = None  # None: the system's resolver
    kube: "Kube | None" = None
    disk: Disk = field(default_factory=Disk)
