"""What is served to peers: how many at once, and in how large pieces."""

import asyncio

import pytest

from peerd.limits import PEER_FRAME_BYTES, PEERS_INBOUND, hits
from peerd.model.federation import PeerInfo
from peerd.model.identity import parse_spiffe_id
from peerd.model.types import DELTA_METHOD, FEDERATED_SERVICE
from peerd.protocol.envelope import delta_request, parse_delta_response
from peerd.protocol.peer_wire import Hello
from peerd.serve.peer_acceptance import Acceptance
from peerd.serve.peers import PeerService
from peerd.transport.base import ClientStream, PeerCertificate, StatusCode, StreamClosed
from peerd.transport.memory import MemoryNetwork, MemoryServer
from tests.support.mesh_certs import PEERD
from tests.support.peering import SystemClock, service

CERTIFICATE = PeerCertificate((PEERD,), "0" * 64, 2e9)


class West:
    """A cluster that serves peers, over the in-memory transport."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        accepted = Acceptance(parse_spiffe_id(PEERD), "west")
        self.service = PeerService(acceptance=accepted, clock=SystemClock(), epoch="e", lineage="lineage")
        self.service.commit_info(PeerInfo("west", "west-net", "cluster.local", "lineage"))
        self.service.sources_synced()
        self.server = MemoryServer(self.network, "west", self.service.handlers(), certificate=CERTIFICATE)

    async def dial(self, instance: str) -> ClientStream:
        """A stream of one of east's instances, which asks for every service."""
        channel = self.network.channel("west", certificate=CERTIFICATE)
        stream = await channel.open(DELTA_METHOD, Hello("east", instance).metadata())
        await stream.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
        return stream

    def served(self) -> list[str]:
        return [peer.instance for peer in self.service.inbound()]


@pytest.fixture
async def west():
    made = West()
    await made.server.start()
    yield made
    await made.server.close(0)


async def test_a_peer_beyond_the_limit_is_refused_in_words_and_let_in_when_another_goes(west, monkeypatch):
    """PEERS_INBOUND: those that are served stay."""
    monkeypatch.setattr("peerd.serve.peers.PEERS_INBOUND", PEERS_INBOUND._replace(value=2))
    before = hits(PEERS_INBOUND)
    first, second = [await west.dial(name) for name in ("first", "second")]
    assert await first.receive()
    assert await second.receive()
    with pytest.raises(StreamClosed, match="2 peers are being served") as refused:
        await (await west.dial("third")).receive()
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert hits(PEERS_INBOUND) == before + 1
    assert west.served() == ["first", "second"]
    await first.cancel()
    async with asyncio.timeout(30):
        while west.served() != ["second"]:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0)
    assert await (await west.dial("third")).receive()


async def test_a_large_answer_is_cut_into_messages(west):
    """PEER_FRAME_BYTES: the next one is sent once the last was answered, and nothing is left out."""
    identities = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 50}{n}" for n in range(100))
    names = [f"s{number}" for number in range(300)]
    exports = [service(name, identities=identities) for name in names]
    west.service.commit([(each.resource_name, each) for each in exports])
    stream = await west.dial("one")
    sizes, told = [], set()
    while len(told) < len(names):
        message = await stream.receive() or b""
        response = parse_delta_response(message)
        sizes.append(len(message))
        told |= {each.name for each in response.resources if each.name.startswith("shop/")}
        await stream.send(delta_request(FEDERATED_SERVICE, nonce=response.nonce))
    assert told == {f"shop/{name}" for name in names}
    assert sum(sizes) > 2 * PEER_FRAME_BYTES.value
    assert max(sizes) < 1.1 * PEER_FRAME_BYTES.value
