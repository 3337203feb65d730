"""A client of a scenario's own making: it asks what it is told to ask, and answers only where it is to."""

import asyncio

from peerd.model.types import DELTA_METHOD
from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_response
from peerd.protocol.peer_wire import Hello
from peerd.protocol.server import DeltaServer
from peerd.protocol.subscription import TypeStatus
from peerd.transport.base import PeerCertificate, StreamClosed
from tests.simulation.cluster import IDENTITY
from tests.simulation.loop import EPOCH
from tests.simulation.network import Host, SimChannel
from tests.simulation.replica import PEER_PORT, XDS_PORT, Replica
from tests.simulation.streams import SimStream
from tests.simulation.world import World


class Probe:
    """`got` is what came, `ended` how the stream ended, None while it is open.

    Args:
        world: where it is.
        replica: whom it asks.
        name: its own.
        peer: whether it comes as another control plane.
        answers: whether it ACKs what it is sent.
        reads: whether it takes anything from its stream.
    """

    def __init__(
        self,
        world: World,
        replica: Replica,
        name: str,
        *,
        peer: bool = False,
        answers: bool = True,
        reads: bool = True,
    ) -> None:
        host = Host(world.fabric, name, certificate=PeerCertificate((IDENTITY,), name, EPOCH + 1e9))
        self._replica = replica
        self._channel = SimChannel(host, f"{replica.name}:{PEER_PORT if peer else XDS_PORT}")
        self._hello = Hello(name, name, "", "none").metadata() if peer else None
        self._node = Node(f"ztunnel~10.0.0.9~{name}.istio-system~x")
        self._answers, self._reads = answers, reads
        self._stream: SimStream | None = None
        self._listening: asyncio.Task[None] | None = None
        self.got: list[DeltaResponse] = []
        self.ended: StreamClosed | None = None

    async def ask(self, type_url: str, **request: object) -> None:
        """Send a request; arguments as `delta_request` has them. The first one opens the stream."""
        first = self._stream is None
        if self._stream is None:
            self._stream = await self._channel.open(DELTA_METHOD, self._hello)
            if self._reads:
                self._listening = asyncio.ensure_future(self._listen(self._stream))
        node = self._node if first else None
        await self._stream.send(delta_request(type_url, node=node, **request))  # type: ignore[arg-type]

    def of(self, type_url: str) -> list[DeltaResponse]:
        """What came of one type."""
        return [each for each in self.got if each.type_url == type_url]

    def status(self, type_url: str) -> TypeStatus:
        """What peerd's status pages say of the stream."""
        (found,) = (each for each in self.machine.statuses() if each.type_url == type_url)
        return found

    @property
    def machine(self) -> DeltaServer:
        """The far end."""
        assert self._replica.peerd is not None
        streams = self._replica.peerd.ads._streams
        (found,) = (each.machine for each in streams if each.machine.node.id == self._node.id)
        return found

    async def close(self) -> None:
        """Go away."""
        await self._channel.close()
        if self._listening is not None:
            await self._listening

    async def _listen(self, stream: SimStream) -> None:
        try:
            while (message := await stream.receive()) is not None:
                response = parse_delta_response(message)
                self.got.append(response)
                if self._answers:
                    await stream.send(delta_request(response.type_url, nonce=response.nonce))
        except StreamClosed as closed:
            self.ended = closed
