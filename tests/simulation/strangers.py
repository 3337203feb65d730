"""Clients that break the protocol, each in its own way, and what they must be told for it.

Nobody else may notice them: that the other guarantees hold meanwhile is checked anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from peerd.encode.peering import decode_peer_info
from peerd.limits import ACK_OVERDUE_S, NAMES_PER_STREAM, PEER_METADATA_CHARACTERS, TYPES_PER_STREAM
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD, FEDERATED_SERVICE, PEER_INFO
from peerd.model.wire import field
from peerd.protocol.envelope import Node, delta_request, parse_delta_response
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, SYNC_NAME, Hello, decode_sync, offer
from peerd.transport.base import PeerCertificate, StatusCode, StreamClosed
from tests.simulation.cluster import IDENTITY
from tests.simulation.guarantees import REFUSAL
from tests.simulation.history import History, Violation
from tests.simulation.loop import EPOCH
from tests.simulation.network import Host, SimChannel
from tests.simulation.replica import PEER_PORT, XDS_PORT, Replica
from tests.simulation.streams import SimStream

_SILENT_SECONDS = 45.0
_LOOKS_SECONDS = 20.0  # how often an open stream is looked at, and some

_GARBAGE = b"\xff\xff\xff\xff"
_NODE = Node("ztunnel~10.0.0.9~stranger.istio-system~x")
_HELLO = Hello("stranger", "stranger-1", "", "none").metadata()

Act = Callable[[SimStream], Awaitable[None]]


@dataclass(frozen=True)
class Stranger:
    """What it does on a stream, and the status that ends it, within so many seconds; None: it goes on."""

    name: str
    port: int
    act: Act
    told: StatusCode | None
    within: float = 5.0
    method: str = DELTA_METHOD
    metadata: Mapping[str, str] | None = None
    identity: str = IDENTITY
    costly: bool = False  # too much for every history; the gauntlet has it


def _sends(*messages: bytes) -> Act:
    async def act(stream: SimStream) -> None:
        for message in messages:
            await stream.send(message)

    return act


async def _answers_nothing(stream: SimStream) -> None:
    await stream.send(delta_request(AUTHORIZATION, node=_NODE))
    await stream.send(delta_request(ADDRESS))


async def _refuses_all(stream: SimStream) -> None:
    """NACKs, stale nonces, types nobody knows: a stream survives all that."""
    await stream.send(delta_request(AUTHORIZATION, node=_NODE))
    await stream.send(delta_request("type.googleapis.com/of.tomorrow"))
    unknown = False
    for _ in range(2):
        message = await stream.receive()
        assert message is not None
        response = parse_delta_response(message)
        unknown = unknown or response.type_url.endswith("tomorrow")
        await stream.send(delta_request(response.type_url, nonce="stale"))
        await stream.send(delta_request(response.type_url, nonce=response.nonce, error="shop/none: no; more"))
    if not unknown:
        raise Violation(REFUSAL, "a client that asked for an unknown type was not answered")


async def _settled(stream: SimStream, type_url: str) -> tuple[str, bytes]:
    """Answer everything until a `@sync` of the type comes: its digest, and the last resource before it."""
    payload = b""
    while (message := await stream.receive()) is not None:
        response = parse_delta_response(message)
        await stream.send(delta_request(response.type_url, nonce=response.nonce))
        for resource in response.resources:
            if resource.name == SYNC_NAME and response.type_url == type_url:
                return decode_sync(resource.payload).digest, payload
            payload = resource.payload
    raise StreamClosed(StatusCode.OK)


async def _begins_again(stream: SimStream) -> None:
    """In every way, in every state: a peer may ask for a type anew whenever it likes."""

    def ask(versions: Mapping[str, str]) -> bytes:
        return delta_request(FEDERATED_SERVICE, subscribe=("*",), versions=versions)

    await stream.send(delta_request(PEER_INFO, subscribe=("*",), node=_NODE))
    _, payload = await _settled(stream, PEER_INFO)
    await stream.send(ask({}))
    digest, _ = await _settled(stream, FEDERATED_SERVICE)
    lineage = decode_peer_info(payload).lineage
    ways = ({}, {"shop/none": "1"}, offer(lineage, digest), offer(lineage, "another"))
    for first in ways:
        for second in ways:
            stream.burst([ask(first), ask(second)])
            await _settled(stream, FEDERATED_SERVICE)
            if first is ways[-1]:  # it is asked for its versions, and begins again instead
                await stream.send(ask(first))
                await _settled(stream, FEDERATED_SERVICE)
                await stream.send(ask(second))
                await _settled(stream, FEDERATED_SERVICE)


_TOO_MANY_TYPES = int(TYPES_PER_STREAM.value) + 1
_HELD = b"\x0a\x09x"  # a map entry that ends too early

STRANGERS = (
    Stranger("garbage", XDS_PORT, _sends(_GARBAGE), StatusCode.INVALID_ARGUMENT),
    Stranger("no type", XDS_PORT, _sends(delta_request("", node=_NODE)), StatusCode.INVALID_ARGUMENT),
    Stranger(
        "torn versions",
        XDS_PORT,
        _sends(delta_request(AUTHORIZATION, node=_NODE), delta_request(ADDRESS) + field(5, _HELD)),
        StatusCode.INVALID_ARGUMENT,
    ),
    Stranger(
        "many types",
        XDS_PORT,
        _sends(*(delta_request(f"type.googleapis.com/{n}", node=_NODE) for n in range(_TOO_MANY_TYPES))),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    Stranger(
        "many names",
        XDS_PORT,
        _sends(
            delta_request(ADDRESS, subscribe=("*",), unsubscribe=("*",), node=_NODE),
            delta_request(ADDRESS, subscribe=[f"a/{n}" for n in range(int(NAMES_PER_STREAM.value) + 1)]),
        ),
        StatusCode.RESOURCE_EXHAUSTED,
        costly=True,
    ),
    Stranger(
        "no answers", XDS_PORT, _answers_nothing, StatusCode.ABORTED, ACK_OVERDUE_S.value + _LOOKS_SECONDS
    ),
    Stranger("refuses all", XDS_PORT, _refuses_all, None),
    Stranger("no metadata", PEER_PORT, _sends(), StatusCode.INVALID_ARGUMENT, metadata={}),
    Stranger(
        "long metadata",
        PEER_PORT,
        _sends(),
        StatusCode.INVALID_ARGUMENT,
        metadata={**_HELLO, "peering-cluster": "x" * (int(PEER_METADATA_CHARACTERS.value) + 1)},
    ),
    Stranger(
        "wrong identity",
        PEER_PORT,
        _sends(),
        StatusCode.PERMISSION_DENIED,
        identity="spiffe://evil/ns/a/sa/b",
    ),
    Stranger(
        "of another version",
        PEER_PORT,
        _sends(),
        StatusCode.FAILED_PRECONDITION,
        metadata={**_HELLO, "peering-versions": "99"},
    ),
    Stranger("begins again", PEER_PORT, _begins_again, None, within=15.0),
    Stranger("garbage to peers", PEER_PORT, _sends(_GARBAGE), StatusCode.INVALID_ARGUMENT),
    Stranger(
        "bad heartbeat", PEER_PORT, _sends(_GARBAGE), StatusCode.INVALID_ARGUMENT, method=HEARTBEAT_METHOD
    ),
    Stranger(
        "silent peer",
        PEER_PORT,
        _sends(),
        StatusCode.UNAVAILABLE,
        _SILENT_SECONDS + _LOOKS_SECONDS,
    ),
)


async def come(stranger: Stranger, replica: Replica, random: Random, network: Host, history: History) -> None:
    """Let *stranger* do it, and count that. Raises Violation."""
    if await visit(stranger, replica, random, network):
        history.checks[REFUSAL] += 1


async def visit(stranger: Stranger, replica: Replica, random: Random, network: Host) -> bool:
    """Let *stranger* do it to *replica*; whether that could be judged.

    Raises:
        Violation: it was not told what it must be.
    """
    began = replica.loop.time()
    key = f"{random.getrandbits(64):x}"
    network.certificate = PeerCertificate((stranger.identity,), key, EPOCH + 1e9)
    channel = SimChannel(network, f"{replica.name}:{stranger.port}")
    hello = Hello(network.name, network.name, "", "none").metadata()
    metadata = hello if stranger.metadata is None else stranger.metadata
    told: StatusCode | None = None
    acted = False
    try:
        async with asyncio.timeout(stranger.within):
            stream = await channel.open(stranger.method, metadata if stranger.port == PEER_PORT else None)
            await stranger.act(stream)
            acted = True
            while await stream.receive() is not None:
                pass
            told = StatusCode.OK
    except TimeoutError:
        pass
    except StreamClosed as closed:
        told = closed.code
    finally:
        await channel.close()
    undisturbed = max(replica.disturbed_at, replica.ready_at, replica.cluster.placed_at) < began
    if not (replica.running and undisturbed):
        return False
    if told is not stranger.told or (told is None and not acted):
        raise Violation(
            REFUSAL,
            f"{stranger.name}: {replica.name} must tell it {_name(stranger.told)}, and told it {_name(told)}",
        )
    return True


def _name(code: StatusCode | None) -> str:
    return "nothing" if code is None else code.name
