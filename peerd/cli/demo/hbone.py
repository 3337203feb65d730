"""HBONE's two ends in small: what ztunnels do for a request through a gateway (wire-contract §3.4, §3.5).

The caller opens an outer tunnel to the gateway and an inner one inside it, each with mutual TLS; the receiver
is a Pod's ztunnel, with the application behind it. For the demo, and for tests.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection

from peerd.cli.demo.pipes import HboneError, Http2, Pipe, SocketPipe, TlsPipe, Tunnel
from peerd.transport.listening import stop_listening
from peerd.transport.tls import FixedTls, TlsMaterial, client_context, server_context


async def tunnel_through(pipe: Pipe, material: TlsMaterial, expected: Collection[str], name: str) -> Http2:
    """Mutual TLS and HTTP/2 as the calling end, over *pipe*; *expected* are SPIFFE URIs that may answer.

    Raises:
        HboneError: no TLS, or somebody else answers.
    """
    tls = TlsPipe(pipe, client_context(material), material, server=False)
    try:
        await tls.handshake()
        _check(tls.uris, expected, name)
        http = Http2(tls, client=True, name=name)
        await http.begin()
    except BaseException:
        await tls.close()
        raise
    return http


def _check(uris: Collection[str], expected: Collection[str], name: str) -> None:
    if not set(uris) & set(expected):
        raise HboneError(f"{name} is {', '.join(uris)}, expected {' or '.join(sorted(expected))}")


class Caller:
    """A client's ztunnel: one outer connection to a gateway, an inner one for each request.

    Args:
        gateway: where the gateway's HBONE port is.
        material: the calling workload's certificate.
        gateway_identity: the SPIFFE URI that must answer there.
        network: the caller's network.
    """

    def __init__(
        self, gateway: tuple[str, int], material: TlsMaterial, gateway_identity: str, network: str
    ) -> None:
        self._gateway = gateway
        self._material = material
        self._identity = gateway_identity
        self._network = network
        self._outer: Http2 | None = None
        self._connecting = asyncio.Lock()

    @property
    def leaving(self) -> bool:
        """Whether the gateway has sent us away: open tunnels go on, the next one needs another connection."""
        return self._outer is not None and self._outer.leaving

    async def connect(self) -> None:
        """Open the outer connection. Raises HboneError, OSError."""
        pipe = SocketPipe(*await asyncio.open_connection(*self._gateway))
        self._outer = await tunnel_through(pipe, self._material, (self._identity,), "the gateway")

    async def request(self, authority: str, identities: Collection[str], payload: bytes) -> bytes:
        """Send *payload* to a service behind the gateway, and return all that it answers.

        *identities* are the service's, as the control plane told them.

        Raises:
            HboneError: it did not get there, or somebody else was there.
        """
        async with self._connecting:
            if self._outer is None:
                await self.connect()
        assert self._outer is not None  # noqa: S101 (just made)
        headers = {"baggage": f"k8s.cluster.name={self._network}"}
        outer = await self._outer.connect(authority, headers)
        inner = await tunnel_through(outer, self._material, identities, authority)
        try:
            tunnel = await inner.connect(authority, {"x-forwarded-network": self._network, **headers})
            await tunnel.write(payload)
            await tunnel.close()
            answer = bytearray()
            while data := await tunnel.read():
                answer += data
            return bytes(answer)
        finally:
            await inner.close()

    async def close(self) -> None:
        """End the outer connection."""
        if self._outer is not None:
            await self._outer.close()
            self._outer = None


Application = Callable[[bytes], bytes]


class Receiver:
    """A Pod's side: its ztunnel on port 15008, and the application behind it.

    Args:
        address: where it listens.
        material: the Pod's certificate.
        names: authorities that its control plane told it; others are refused with 404.
        application: answers a request.
    """

    def __init__(
        self,
        address: tuple[str, int],
        material: TlsMaterial,
        names: Collection[str],
        application: Application,
    ) -> None:
        self._address = address
        self._material = material
        self._names = names
        self._application = application
        self.refused: list[str] = []
        self._context = server_context(FixedTls(material), self.refused.append)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.cut = 0
        self.served: list[tuple[str, str, str]] = []

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._stopped = False
        self._server = await asyncio.start_server(self._accepted, *self._address)

    async def stop(self) -> None:
        """Listen no more, and end what is open, at once; `cut` counts what was."""
        if self._server is not None:
            await stop_listening(self._server)
            self._server = None
        self.cut += len(self._tasks)
        self._stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(2):  # what was aborted is closed
            await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopped:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._take(reader, writer))
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            writer.transport.abort()  # also where it was cancelled before its first step

        task.add_done_callback(done)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = TlsPipe(SocketPipe(reader, writer), self._context, self._material, server=True)
        try:
            await tls.handshake()
            http = Http2(tls, client=False)
            try:
                await http.begin(lambda tunnel: self._serve(tunnel, tls.uris))
                await http.finished()
            finally:
                await http.close()
        except (HboneError, OSError) as error:
            self.refused.append(str(error))
        finally:
            await tls.close()

    async def _serve(self, tunnel: Tunnel, caller: tuple[str, ...]) -> None:
        method = tunnel.headers.get(":method")
        if method != "CONNECT" or tunnel.authority not in self._names:
            await tunnel.accept(405 if method != "CONNECT" else 404)
            return
        await tunnel.accept()
        request = bytearray()
        with contextlib.suppress(HboneError, OSError):
            while data := await tunnel.read():
                request += data
            self.served.append((tunnel.authority, caller[0], tunnel.headers.get("x-forwarded-network", "")))
            await tunnel.write(self._application(bytes(request)))
            await tunnel.close()
