"""A data stream that nobody reads for a minute: heartbeats keep the peer live, in real time (D17)."""

import asyncio

from peerd.limits import PEER_REST_S
from peerd.model.types import DELTA_METHOD, FEDERATED_SERVICE
from peerd.protocol.envelope import delta_request, parse_delta_response
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, decode_heartbeat, encode_heartbeat
from peerd.transport.http2 import split_address
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service

UNREAD = 60.0


async def test_for_60_seconds_nobody_reads_and_the_peer_is_live_then_all_of_it_is_there() -> None:
    """With the intervals that clusters use. It is more than the silence that ends a peer."""
    rules = HeartbeatRules()
    assert rules.stale_after < UNREAD < PEER_REST_S.value
    root = Authority("root")
    west, east = (PeeringCluster(name, Authority(name, root)) for name in ("west", "east"))
    fat = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 50}{n}" for n in range(100))
    exports = [service(f"s{number}", identities=fat) for number in range(400)]  # 3 MiB: three windows
    await west.start(*exports)
    channel = east.connect(*split_address(west.address))
    metadata = Hello("east", "lazy").metadata()
    stream = await channel.open(DELTA_METHOD, metadata)
    await stream.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
    beats = await channel.open(HEARTBEAT_METHOD, metadata)
    loop = asyncio.get_running_loop()
    end = loop.time() + UNREAD
    sequence = 0
    while loop.time() < end:
        sequence += 1
        await beats.send(encode_heartbeat(sequence))
        async with asyncio.timeout(rules.interval):
            assert decode_heartbeat(await beats.receive() or b"") == sequence
        (peer,) = west.service.inbound()
        assert peer.last_heartbeat > 0
        await asyncio.sleep(min(rules.interval, max(0.0, end - loop.time())))  # time itself is what is tested
    names: set[str] = set()
    async with asyncio.timeout(30):
        while len(names) < len(exports):
            response = parse_delta_response(await stream.receive() or b"")
            names.update(each.name for each in response.resources if each.name.startswith("shop/"))
            await stream.send(delta_request(FEDERATED_SERVICE, nonce=response.nonce))
    assert [peer.instance for peer in west.service.inbound()] == ["lazy"]
    await channel.close()
    await west.stop()
    await east.stop()
