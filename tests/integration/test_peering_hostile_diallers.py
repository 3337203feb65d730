"""Malformed and hostile control planes that dial us: each told why, none kept, and an honest one goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from peerd.limits import NAMES_PER_STREAM, PEER_METADATA_CHARACTERS, PEER_REST_S, hits
from peerd.model.types import DELTA_METHOD, FEDERATED_SERVICE, PEER_INFO
from peerd.protocol.envelope import delta_request
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_state import PeerState
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, encode_heartbeat
from peerd.transport.base import Channel, ClientStream, StatusCode, StreamClosed
from peerd.transport.http2 import split_address
from tests.support.hostile import healthy
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service
from tests.support.stepping import SteppedTime

Dialled = tuple[PeeringCluster, PeeringCluster, PeeringCluster]


@pytest.fixture
async def clusters() -> AsyncIterator[Dialled]:
    """West, which is dialled; east, which does so honestly; and whoever else has a certificate."""
    root = Authority("root")
    west, east, other = (PeeringCluster(name, Authority(name, root)) for name in ("west", "east", "other"))
    await west.start(service("reviews", 3))
    await east.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    yield west, east, other
    for cluster in (east, west):
        await cluster.stop()


async def dial(west: PeeringCluster, other: PeeringCluster, hello: Hello) -> tuple[Channel, ClientStream]:
    channel = other.connect(*split_address(west.address))
    return channel, await channel.open(DELTA_METHOD, hello.metadata())


async def end_of(stream: ClientStream) -> StreamClosed:
    """How the far end ended it."""
    try:
        async with asyncio.timeout(60):
            while await stream.receive() is not None:
                pass
    except StreamClosed as closed:
        return closed
    raise AssertionError("it ended with OK")


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (b"\xff" * 100, StatusCode.INVALID_ARGUMENT, "not a DeltaDiscoveryRequest"),
        (delta_request(""), StatusCode.INVALID_ARGUMENT, "without type_url"),
        (b"\0" * (5 << 20), StatusCode.RESOURCE_EXHAUSTED, "over the limit of 4194304"),
        (
            delta_request(FEDERATED_SERVICE, subscribe=tuple(f"shop/s{n}" for n in range(50_001))),
            StatusCode.RESOURCE_EXHAUSTED,
            "50001 names in one request, the limit is 50000; subscribe to the wildcard instead",
        ),
    ],
    ids=["rubbish", "no-type", "huge-message", "names-without-end"],
)
async def test_a_dialler_that_breaks_the_protocol_is_told_why(
    clusters: Dialled, message: bytes, code: StatusCode, words: str
) -> None:
    west, east, other = clusters
    channel, stream = await dial(west, other, Hello("other", "one"))
    with suppress(StreamClosed):  # a large one is refused before it has gone
        await stream.send(message)
    closed = await end_of(stream)
    assert (closed.code, words in closed.message) == (code, True), closed.message
    await channel.close()
    assert [peer.cluster for peer in west.service.inbound()] == ["east"]
    await healthy(east, west)
    assert NAMES_PER_STREAM.value == 50_000


async def test_a_dialler_with_endless_names_of_its_own_is_told_which(clusters: Dialled) -> None:
    west, east, other = clusters
    before = hits(PEER_METADATA_CHARACTERS)
    channel, stream = await dial(west, other, Hello("x" * 20_000, "one"))
    closed = await end_of(stream)
    assert closed.code is StatusCode.INVALID_ARGUMENT
    assert "longer than 253" in closed.message
    assert hits(PEER_METADATA_CHARACTERS) == before + 1
    await channel.close()
    await healthy(east, west)


async def test_a_dialler_that_never_acknowledges_is_cut_off_while_its_heart_still_beats() -> None:
    """After 90 s, counted from the end of the write; it was sent one response and no more."""
    root, clock = Authority("root"), SteppedTime()
    rules = HeartbeatRules(PEER_REST_S.value / 4, PEER_REST_S.value / 2)
    west = PeeringCluster("west", Authority("west", root), clock=clock, rules=rules)
    other = PeeringCluster("other", Authority("other", root))
    await west.start(service("reviews", 3))
    hello = Hello("other", "one")
    channel, stream = await dial(west, other, hello)
    await stream.send(delta_request(PEER_INFO, subscribe=("*",)))
    beats = await channel.open(HEARTBEAT_METHOD, hello.metadata())
    assert await stream.receive() is not None
    ended = asyncio.ensure_future(end_of(stream))
    before = hits(PEER_REST_S)
    beat = 0
    while not ended.done():
        beat += 1
        assert beat < 20, "it is still served"
        await beats.send(encode_heartbeat(beat))
        await beats.receive()
        await clock.advance(rules.interval)
        west.service.commit([("shop/reviews", service("reviews", 3 + beat))])  # a change wakes the stream
        await asyncio.wait({ended}, timeout=0.05 if clock.monotonic() < PEER_REST_S.value else 30)
    closed = ended.result()
    assert closed.code is StatusCode.ABORTED
    assert "no ACK of" in closed.message
    assert beat >= PEER_REST_S.value / rules.interval
    assert hits(PEER_REST_S) == before + 1
    await channel.close()
    await west.stop()


async def test_a_dialler_that_flaps_leaves_nothing_behind(clusters: Dialled) -> None:
    """A hundred connections, each cut the moment it is asked for everything."""
    west, east, other = clusters

    async def flap(number: int) -> None:
        channel, stream = await dial(west, other, Hello("other", f"one-{number % 3}"))
        await stream.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
        await channel.close()

    for _ in range(10):
        await asyncio.gather(*(flap(number) for number in range(10)))
    await healthy(east, west)
    async with asyncio.timeout(60):
        while [peer.cluster for peer in west.service.inbound()] != ["east"]:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)
    key = east.gateway(west).key
    assert east.row(key).attempts == 0, "the honest one never lost its stream"
