"""A client that follows a peerd as ztunnel does: wildcard, an ACK for all, a new stream for a lost one."""

import asyncio
import sys
import time

from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node
from peerd.transport.base import StreamClosed
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions


class Ztunnel:
    """Over the plaintext listener on 127.0.0.1. `take` is what a benchmark makes of it."""

    def __init__(self, port: int) -> None:
        options = GrpcOptions(max_message=200 << 20)  # as ztunnel's
        self._channel = GrpcChannel(f"127.0.0.1:{port}", options=options)
        self.resumed = 0
        """Streams after the first one; a peerd that serves well needs none."""
        self.changed = asyncio.Event()
        """Set after each response."""

    def take(self, response: DeltaResponse, now: float) -> None:
        """A response of Addresses, received *now* (monotonic seconds) and ACKed."""
        raise NotImplementedError

    async def run(self) -> None:
        """Follow until cancelled."""
        node = Node("ztunnel~127.0.0.1~bench.bench~bench.svc.cluster.local", "", {})
        client = DeltaClient((ADDRESS, AUTHORIZATION), node)
        while True:
            try:
                await self._stream(client)
            except StreamClosed as closed:
                print(f"the ztunnel's stream ended: {closed.code.name}: {closed.message}", file=sys.stderr)
            self.resumed += 1
            await asyncio.sleep(0.1)

    async def _stream(self, client: DeltaClient) -> None:
        stream = await self._channel.open(DELTA_METHOD)
        for request in client.start():
            await stream.send(request)
        while (message := await stream.receive()) is not None:
            now = time.monotonic()
            response = client.receive(message)
            await stream.send(client.accept(response))
            if response.type_url == ADDRESS:
                self.take(response, now)
            self.changed.set()
