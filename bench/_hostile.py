"""Hostile peers for `bench.hostile`: one of a kind at a time, as fast as it can be."""

import asyncio
import itertools
import logging
from pathlib import Path

import structlog

from bench._peers import PORT, tls
from bench._processes import Command, serve, usage
from peerd.encode.address import encode_address
from peerd.encode.peering import encode_federated_service
from peerd.limits import PEER_RESOURCES, PEER_WORKLOADS
from peerd.model.types import ADDRESS, DELTA_METHOD, FEDERATED_SERVICE, SEGMENT
from peerd.protocol.envelope import delta_request
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, encode_heartbeat
from peerd.transport.base import ClientStream, Handler, StatusCode, Stream, StreamClosed
from peerd.transport.http2 import Http2Channel, Http2Server
from peerd.transport.tls import FixedTls
from tests.support.hostile import INFO, Behaviour, Hostile, exporting, summaries
from tests.support.peering import renamed, service, workload

HOST = "127.21.0.1"
NETWORK = "bench"  # that of the peerd under test, so that Pods are believed
FLAPS = 100  # a second
_INFO = renamed(INFO, network=NETWORK)
_PART = 2_000  # resources a message


async def wrong_type(peer: Hostile) -> None:
    await peer.introduce(_INFO)
    await peer.say("type.googleapis.com/envoy.config.cluster.v3.Cluster")
    await peer.idle()


async def same_name_twice(peer: Hostile) -> None:
    await peer.introduce(_INFO)
    await peer.say(FEDERATED_SERVICE, *[encode_federated_service(service("twice")).frame] * 2)
    await peer.idle()


async def after_its_end(peer: Hostile) -> None:
    """Goodbye, and the whole of a sync."""
    await peer.introduce(_INFO)
    peer.stream.finish(StatusCode.OK, "")  # type: ignore[attr-defined]
    await _flood(peer, FEDERATED_SERVICE, encode_federated_service(service("s0000000")).frame, 1_000_000)


async def huge_names(peer: Hostile) -> None:
    """30 kB each, a hundred a message, for ever."""
    await peer.introduce(_INFO)
    frame = encode_federated_service(service("x" * 30_000 + "0000000")).frame
    for _ in itertools.count():
        await _flood(peer, FEDERATED_SERVICE, frame, 1_000_000, part=100)


async def million_resources(peer: Hostile) -> None:
    await peer.introduce(_INFO)
    await _flood(peer, FEDERATED_SERVICE, encode_federated_service(service("s0000000")).frame, 1_000_000)


async def million_pods(peer: Hostile) -> None:
    await peer.introduce(_INFO)
    like = workload("hostile", 1, network=NETWORK)
    like = renamed(like, uid="hostile//Pod/shop/p0000000", name="p0000000")
    await _flood(peer, ADDRESS, encode_address(like).frame, 1_000_000)


async def flood_of_changes(peer: Hostile) -> None:
    """In sync first, so that its rate counts."""
    await peer.introduce(_INFO)
    await peer.nothing_of(SEGMENT, ADDRESS, FEDERATED_SERVICE)
    either = [[each.frame for each in summaries(*(service(f"s{n}", k) for n in range(100)))] for k in (1, 2)]
    for frames in itertools.cycle(either):
        await peer.say(FEDERATED_SERVICE, *frames)


async def _flood(peer: Hostile, type_url: str, frame: bytes, count: int, *, part: int = _PART) -> None:
    """*count* resources like *frame*, with other numbers for its seven zeros."""
    for start in range(0, count, part):
        numbers = range(start, min(count, start + part))
        await peer.say(type_url, *(frame.replace(b"0000000", b"%07d" % number) for number in numbers))


async def large(peer: Hostile) -> None:
    """An honest one, as large as peers may be, in sync: what is measured is how it goes."""
    await peer.introduce(_INFO)
    await peer.nothing_of(SEGMENT)
    names = [f"s{number}" for number in range(PEER_RESOURCES.value)]
    await peer.export(FEDERATED_SERVICE, *summaries(*(service(name, network=NETWORK) for name in names)))
    pods = range(PEER_WORKLOADS.value)
    await peer.export(
        ADDRESS,
        *(encode_address(workload("hostile", n, names[n % len(names)], network=NETWORK)) for n in pods),
    )
    await peer.idle()


_FOREIGN = ("spiffe://other.local/ns/a/sa/b",)
DIALLED: dict[str, Behaviour] = {
    "wrong-type": wrong_type,
    "huge-names": huge_names,
    "million-resources": million_resources,
    "million-pods": million_pods,
    "after-its-end": after_its_end,
    "same-name-twice": same_name_twice,
    "clock-of-1970": Hostile.idle,
    "foreign-identities": exporting(
        *(service(f"s{number}", identities=_FOREIGN) for number in range(20_000)), info=_INFO
    ),
    "system-namespace": exporting(
        *(service(f"s{number}", namespace="istio-system") for number in range(20_000)), info=_INFO
    ),
    "flood-of-changes": flood_of_changes,
    "unlinked": large,
}


class Peers:
    """The helper's state."""

    def __init__(self) -> None:
        self._server: Http2Server | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._met = asyncio.Event()
        self._count = 0

    async def handle(self, command: Command) -> Command:
        """One command."""
        match command["op"]:
            case "begin":
                await self.begin(Path(command["root"]), command["kind"], command["port"])
            case "met":
                async with asyncio.timeout(30):
                    await self._met.wait()
            case "end":
                await self.end()
                return {"count": self._count}
            case _:
                return usage()
        return {}

    async def begin(self, root: Path, kind: str, port: int) -> None:
        """Be a peer of that *kind* from now on: one that is dialled, or one that dials *port*."""
        self._count = 0
        self._met.clear()
        of_1970 = kind == "clock-of-1970"
        own = tls(root, "hostile", 86_400.0 if of_1970 else None)
        if kind in DIALLED:
            if of_1970:
                self._met.set()  # nobody gets as far as a stream
            handlers = {DELTA_METHOD: self._serving(DIALLED[kind]), HEARTBEAT_METHOD: _echo}
            self._server = Http2Server(f"{HOST}:{PORT}", handlers, tls=own)
            await self._server.start()
        else:
            dial = self._flap if kind == "flaps" else self._never_ack
            self._dialling = asyncio.ensure_future(dial(port, own))

    async def end(self) -> None:
        """Be none any more."""
        if self._server is not None:
            await self._server.close(0)
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        self._server = self._dialling = None

    def _seen(self) -> None:
        self._count += 1
        self._met.set()

    def _serving(self, behave: Behaviour) -> Handler:
        async def data(stream: Stream) -> None:
            self._seen()
            peer = Hostile(stream)
            reading = asyncio.ensure_future(peer.read())
            try:
                await behave(peer)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

        return data

    async def _flap(self, port: int, own: FixedTls) -> None:
        """A connection and a stream, a hundred times a second, each dropped at once."""
        loop, flaps = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        start = loop.time()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, start + number / FLAPS - loop.time()))
            flap = asyncio.ensure_future(self._once(port, own))
            flaps.add(flap)
            flap.add_done_callback(flaps.discard)

    async def _once(self, port: int, own: FixedTls) -> None:
        channel = Http2Channel("127.0.0.1", port, tls=own)
        try:
            await _subscribed(channel)
            self._seen()
        except StreamClosed:
            pass
        await channel.close()

    async def _never_ack(self, port: int, own: FixedTls) -> None:
        """Beats, reads, asks for everything, and again when it is cut off."""
        while True:
            channel = Http2Channel("127.0.0.1", port, tls=own)
            try:
                stream = await _subscribed(channel)
                beats = await channel.open(HEARTBEAT_METHOD, Hello("hostile", "one").metadata())
                self._seen()
                for number in itertools.count(1):
                    await beats.send(encode_heartbeat(number))
                    await beats.receive()
                    async with asyncio.timeout(1.0):
                        await stream.receive()
            except (StreamClosed, TimeoutError):
                await channel.close()


async def _subscribed(channel: Http2Channel) -> ClientStream:
    stream = await channel.open(DELTA_METHOD, Hello("hostile", "one").metadata())
    await stream.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
    return stream


async def _echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    serve(Peers().handle)
