"""A network in one process: latency, bandwidth, cuts in one way or both, connections that break or vanish.

`Fabric` is all of it; `Host` is one machine's view and the `peerd.app.parts.Network` that a peerd is given.
Connections and streams are in streams.py.
TLS is replaced by its outcome: each host shows the certificate that its cluster's CA would have issued.
"""

import asyncio
from collections.abc import Mapping
from random import Random

from peerd.transport.base import Handler, PeerCertificate, StatusCode, StreamClosed
from peerd.transport.tls import TlsSource
from tests.simulation.loop import Process, context_of
from tests.simulation.streams import MAX_MESSAGE, NEUTRAL, Connection, Link, SimStream, Tamperer, Told, answer

_CONNECT_SECONDS = 10.0  # after which a connection that nobody answers is given up


class Fabric:
    """Hosts, links between them, and every open connection.

    Args:
        random: chooses latencies.
        latency: least and most seconds one way, where a link is not given another.
        delivered: told of each message that arrives.
        sent: the same of each message that goes out, whether or not it arrives.
    """

    def __init__(
        self,
        random: Random,
        latency: tuple[float, float] = (0.0, 0.0),
        delivered: Told | None = None,
        sent: Told | None = None,
    ) -> None:
        self.random = random
        self.latency = latency
        self.delivered = delivered
        self.sent = sent
        self.servers: dict[str, SimServer] = {}
        self.names: dict[str, list[str]] = {}  # addresses of load balancers -> the hosts behind them
        self.silent: set[str] = set()  # addresses that swallow whatever is sent there
        self.connections: dict[Connection, None] = {}
        # From an answering host to another: what becomes of a message, by its method path.
        self.tampered: dict[tuple[str, str], Tamperer] = {}
        self.keepalive: dict[str, float] = {}  # hosts whose pings find a dead far end, and after how long
        self._links: dict[tuple[str, str], Link] = {}

    def link(self, source: str, target: str) -> Link:
        """The direction from host *source* to host *target*."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link((0.0, 0.0) if source == target else self.latency)
        return found

    def route(self, address: str) -> tuple[str, "SimServer | None"]:
        """Where a connection to `address:port` goes: the host, and who listens there."""
        name, _, port = address.rpartition(":")
        hosts = self.names.get(name, [name])
        alive = [each for each in hosts if f"{each}:{port}" in self.servers]
        host = (alive or hosts)[0] if len(alive) < 2 else self.random.choice(alive)
        return host, self.servers.get(f"{host}:{port}")

    def between(self, one: str, other: str) -> list["Connection"]:
        """Open connections between two hosts, whoever dialled."""
        return [each for each in self.connections if {each.client, each.server} == {one, other}]

    def of(self, host: str) -> list["Connection"]:
        """Open connections of a host."""
        return [each for each in self.connections if host in {each.client, each.server}]

    def host_died(self, host: str, *, silently: bool) -> None:
        """A host's process is gone: far ends are told, or with *silently* learn nothing."""
        for name in [name for name, server in self.servers.items() if server.host == host]:
            del self.servers[name]
        for connection in self.of(host):
            connection.vanish(host)
            other = connection.other(host)
            if not silently:
                connection.vanish(other, after=True)
            elif other in self.keepalive:
                asyncio.get_running_loop().call_later(
                    self.keepalive[other], connection.vanish, other, context=NEUTRAL
                )


class Host:
    """`peerd.app.parts.Network` of one process. Addresses are `host:port`; the host's own name fits any."""

    def __init__(
        self,
        fabric: Fabric,
        name: str,
        process: Process | None = None,
        certificate: PeerCertificate | None = None,
    ) -> None:
        self.fabric = fabric
        self.name = name
        self.process = process
        self.certificate = certificate

    def listen(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        tls: TlsSource | None,  # noqa: ARG002
        max_message: int = MAX_MESSAGE,
    ) -> "SimServer":
        """Asks nobody for a certificate."""
        return SimServer(self, address, handlers, mutual=False, max_message=max_message)

    def prepare_peers(self) -> None:
        """Nothing has to be imported."""

    def listen_peers(
        self,
        address: str,
        handlers: Mapping[str, Handler],
        tls: TlsSource,  # noqa: ARG002
    ) -> "SimServer":
        """Shows a certificate and sees the caller's."""
        return SimServer(self, address, handlers, mutual=True)

    def connect(
        self,
        host: str,
        port: int,
        tls: TlsSource | None = None,  # noqa: ARG002
    ) -> "SimChannel":
        """A connection, made when the first stream is opened."""
        return SimChannel(self, f"{host}:{port}")


class SimServer:
    """`peerd.transport.base.Server`."""

    def __init__(
        self,
        at: Host,
        address: str,
        handlers: Mapping[str, Handler],
        *,
        mutual: bool,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.host = at.name
        self.process = at.process
        self.certificate = at.certificate if mutual else None
        self.mutual = mutual
        self.max_message = max_message
        self._fabric = at.fabric
        self.address = address
        self._handlers = dict(handlers)
        self._running: dict[asyncio.Task[None], SimStream] = {}
        self._open = False

    async def start(self) -> str:
        """Listen; raises OSError where the address is taken."""
        if self.address in self._fabric.servers:
            raise OSError(98, "the address is taken")
        self._fabric.servers[self.address] = self
        self._open = True
        return self.address

    async def close(self, grace: float) -> None:
        """Rule 8."""
        if not self._open:
            return
        self._open = False
        if self._fabric.servers.get(self.address) is self:
            del self._fabric.servers[self.address]
        if self._running and grace > 0:
            await asyncio.wait(list(self._running), timeout=grace)
        for task, stream in list(self._running.items()):
            stream.finish(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    def accept(self, stream: "SimStream") -> None:
        """A stream arrived: run its handler as a part of this server's process."""
        handler = self._handlers.get(stream.method)
        if not self._open or (self.process is not None and self.process.dead):
            stream.finish(StreamClosed(StatusCode.UNAVAILABLE, "the server has stopped"))
        elif handler is None:
            stream.finish(StreamClosed(StatusCode.UNIMPLEMENTED, f"unknown method {stream.method}"))
        else:
            task = asyncio.get_running_loop().create_task(
                answer(handler, stream, stream.finish), context=context_of(self.process)
            )
            self._running[task] = stream
            task.add_done_callback(lambda done: self._running.pop(done, None), context=NEUTRAL)


class SimChannel:
    """`peerd.transport.base.Channel`."""

    def __init__(self, at: Host, address: str, max_message: int = MAX_MESSAGE) -> None:
        self._at = at
        self._address = address
        self._max_message = max_message
        self._connection: Connection | None = None
        self._server: SimServer | None = None

    @property
    def host(self) -> str:
        """Where the connection leads, empty while there is none."""
        return "" if self._connection is None else self._connection.server

    async def open(self, method: str, metadata: Mapping[str, str] | None = None) -> "SimStream":
        """Open a stream, over a new connection where there is none."""
        if self._connection is None or not self._connection.usable:
            await self._connect()
        connection, server = self._connection, self._server
        assert connection is not None
        assert server is not None
        fabric, here = self._at.fabric, self._at
        sent = {k.lower(): v for k, v in (metadata or {}).items() if not k.lower().endswith("-bin")}
        client = SimStream(fabric, connection, here.name, method=method, metadata=sent)
        client.certificate, client.most = server.certificate, server.max_message
        far = SimStream(fabric, connection, server.host, method=method, metadata=sent)
        far.certificate, far.most = (here.certificate if server.mutual else None), self._max_message
        far.answering = True
        client.join(far, self._address)
        far.join(client, f"{here.name}:40000")
        connection.streams += [client, far]
        client.post(0, lambda: server.accept(far))
        return client

    async def _connect(self) -> None:
        fabric, here = self._at.fabric, self._at.name
        there, server = fabric.route(self._address)
        forth, back = fabric.link(here, there), fabric.link(there, here)
        if forth.cut or back.cut or there in fabric.silent:
            await asyncio.sleep(_CONNECT_SECONDS)
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: timed out")
        now = asyncio.get_running_loop().time()
        answered = back.due(64, forth.due(64, now, fabric.random), fabric.random)
        if answered > now:
            await asyncio.sleep(answered - now)
        if forth.cut or back.cut:
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: timed out")
        if (
            server is None
            or fabric.servers.get(server.address) is not server
            or (server.process is not None and server.process.dead)
        ):
            raise StreamClosed(StatusCode.UNAVAILABLE, f"{self._address} cannot be reached: nobody listens")
        self._server = server
        self._connection = Connection(fabric, here, server.host, self._address.rpartition(":")[0])

    async def close(self) -> None:
        """End all streams and the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for stream in list(connection.streams):
            if not stream.answering:
                await stream.cancel()
        connection.vanish(connection.client)
        connection.vanish(connection.server, after=True)
