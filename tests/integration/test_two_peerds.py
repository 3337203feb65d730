"""Two whole peerds, peered over mutual TLS: what a ztunnel of one is told of a service of the other."""

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.address import NetworkAddress
from peerd.model.workload import TunnelProtocol, Workload
from peerd.protocol.peer_state import PeerState
from peerd.sources.base import Sink, SourceError
from tests.support.peerds import PATIENCE, Cluster, told
from tests.support.ports import unused_ports

HOST = "reviews.shop.mesh.internal"
NAME = f"shop/{HOST}"
POOLS = (ip_network("240.64.0.0/10"), ip_network("fdf0:6d65:7368::/48"))
IDENTITY = "spiffe://cluster.local/ns/shop/sa/reviews"


@pytest.fixture
async def clusters(tmp_path, certificates):
    """East with a local `web`, west with a global `reviews` of four Pods, linked; neither is started."""
    ports = unused_ports(2)
    east = Cluster("east", tmp_path / "east", certificates, ports[0])
    west = Cluster("west", tmp_path / "west", certificates, ports[1])
    east.service("web", 1, everywhere=False, first=90)
    west.service("reviews", 4)
    east.link("west", west.peer_port)
    west.link("east", east.peer_port)
    yield east, west
    await east.close()
    await west.close()


async def peered(clusters) -> tuple[Cluster, Cluster, Ztunnel]:
    """Both started and in sync, and a ztunnel of east that was told of reviews."""
    east, west = clusters
    await east.start()
    await west.start()
    await east.until_peer("west", lambda peer: peer.status.state is PeerState.LIVE)
    await west.until_peer("east", lambda peer: peer.status.state is PeerState.LIVE)
    client = await east.ztunnel()
    await client.until(lambda: capacity(client) == 4 and NAME in client.services, PATIENCE, "reviews")
    return east, west, client


def remote(client: Ztunnel) -> list[Workload]:
    return client.remote(NAME)


def capacity(client: Ztunnel) -> int:
    return sum(1 if each.capacity is None else each.capacity for each in remote(client))


def held(client: Ztunnel) -> tuple[object, ...]:
    return client.services.get(NAME), remote(client)


async def settled(cluster: Cluster) -> None:
    """All that came in has been derived and published."""
    assert cluster.peerd is not None
    await cluster.peerd.derived()
    cluster.peerd.ads.window.publish()


async def test_a_service_that_only_a_peer_has_is_told_whole(clusters):
    """Name, VIPs, port and identities in the Service; capacity, network and gateway in its one endpoint."""
    east, _, client = await peered(clusters)
    service = client.services[NAME]
    assert service.hostname == HOST
    vips = [ip_address(each.address) for each in service.addresses]
    assert sorted(vip.version for vip in vips) == [4, 6]
    assert all(any(vip in pool for pool in POOLS) for vip in vips)
    assert [port.service_port for port in service.ports] == [80]
    assert service.subject_alt_names == (IDENTITY,)
    (endpoint,) = remote(client)
    assert endpoint.capacity == 4
    assert endpoint.addresses == ()
    assert endpoint.network == "west-net"
    assert endpoint.tunnel_protocol is TunnelProtocol.HBONE
    gateway = endpoint.network_gateway
    assert gateway is not None
    assert gateway.destination == NetworkAddress("west-net", bytes((127, 0, 0, 1)))
    assert gateway.hbone_mtls_port == 15008
    assert {"web.shop.svc.cluster.local"} < {each.hostname for each in client.services.values()}
    assert not [uid for uid in client.workloads if uid.startswith("west//Pod")]
    assert east.peerd is not None
    assert east.peerd.problems.present() == ()


async def test_who_answers_at_the_peers_gateway_is_told(clusters):
    """ztunnel checks the outer tunnel's identity against this workload, or does not connect."""
    _, _, client = await peered(clusters)
    gateways = [each for each in client.workloads.values() if each.addresses == (bytes((127, 0, 0, 1)),)]
    assert {(each.network, each.namespace, each.service_account) for each in gateways} == {
        ("west-net", "istio-system", "istio-eastwest")
    }


async def test_scaling_in_a_peer_arrives(clusters):
    """From four to two is announced at once (D20), with nothing else moved in the ztunnel."""
    _, west, client = await peered(clusters)
    seen = len(client.messages)
    service = client.services[NAME]
    west.service("reviews", 2)
    await client.until(lambda: capacity(client) == 2, PATIENCE, "capacity 2")
    assert client.services[NAME] == service
    assert told(client, seen) == 1


async def test_a_service_deleted_in_a_peer_is_gone(clusters):
    """Service and endpoint both, while the peer is there to say so."""
    _, west, client = await peered(clusters)
    west.delete("reviews")
    await client.until(lambda: NAME not in client.services and not remote(client), PATIENCE, "the removal")


async def test_a_lost_peer_loses_nothing_and_its_return_moves_nothing(clusters):
    """D18: resumed by digest, in less than a KiB each way; no ztunnel hears of any of it."""
    east, west, client = await peered(clusters)
    seen, before = len(client.messages), held(client)
    first = east.peer("west").traffic
    await west.stop()
    await east.until_peer("west", lambda peer: not peer.connected)
    await settled(east)
    assert held(await east.ztunnel()) == before
    await west.start()
    back = await east.until_peer("west", lambda peer: peer.status.state is PeerState.LIVE)
    assert back.traffic.epoch != first.epoch
    assert back.traffic.received_bytes <= 1024
    assert back.traffic.sent_bytes <= 1024
    await settled(east)
    assert held(client) == before
    assert told(client, seen) == 0


async def test_a_restart_alone_serves_the_imports_from_the_state_directory(clusters):
    """West is down: a new ztunnel is told all of it, a resuming one nothing, VIPs included."""
    east, west, client = await peered(clusters)
    before = held(client)
    await west.stop()
    await east.until_peer("west", lambda peer: not peer.connected)
    await east.stop()
    await east.start()
    assert held(await east.ztunnel()) == before
    resumed = await east.ztunnel(client)
    assert told(resumed) == 0
    assert held(resumed) == before


async def test_a_restart_alone_withholds_nothing_of_our_own(clusters):
    """What changed here while peerd was down is told at once, whoever is missing (D13)."""
    east, west, client = await peered(clusters)
    before = held(client)
    await west.stop()
    await east.stop()
    east.delete("web")
    await east.start()
    resumed = await east.ztunnel(client)
    assert "east//Pod/shop/web-90" not in resumed.workloads
    assert "shop/web.shop.svc.cluster.local" not in resumed.services
    assert held(resumed) == before


async def test_a_restart_without_state_takes_nothing_from_a_ztunnel_that_resumes(clusters):
    """Nothing was kept, west is down: removals wait for it (D13), and then the same VIP comes back."""
    east, west, client = await peered(clusters)
    before = held(client)
    await west.stop()
    await east.stop()
    east.state = east.root / "empty"
    await east.start()
    assert held(await east.ztunnel()) == (None, [])
    resumed = await east.ztunnel(client)
    assert held(resumed) == before
    await west.start()
    await east.until_peer("west", lambda peer: peer.status.state is PeerState.LIVE)
    fresh = await east.ztunnel()
    await fresh.until(lambda: held(fresh) == before, PATIENCE, "the same again")
    assert held(resumed) == before
    assert not any(each.removed for each in resumed.messages)


async def test_what_was_withheld_is_told_once_the_peer_has_spoken(clusters):
    """The other half of D13: west has dropped reviews meanwhile, and says so by its first sync."""
    east, west, client = await peered(clusters)
    await west.stop()
    await east.stop()
    east.state = east.root / "empty"
    west.delete("reviews")
    await east.start()
    resumed = await east.ztunnel(client)
    assert NAME in resumed.services
    await west.start()
    await resumed.until(lambda: held(resumed) == (None, []), PATIENCE, "the removal that was withheld")


async def test_a_gateway_deleted_while_peerd_was_down_takes_its_imports_along(clusters):
    """There is no peer left that could own them, so nothing is withheld."""
    east, west, client = await peered(clusters)
    await west.stop()
    await east.stop()
    east.delete("peer-west")
    await east.start()
    resumed = await east.ztunnel(client)
    await resumed.until(lambda: held(resumed) == (None, []), PATIENCE, "the removal")


async def test_unreachable_peers_and_an_empty_state_directory_delay_nothing(clusters):
    """D22: ready, and our own objects served, while the dial still goes on."""
    east, _ = clusters
    await east.start()
    client = await east.ztunnel()
    assert "east//Pod/shop/web-90" in client.workloads
    row = await east.until_peer("west", lambda peer: bool(peer.status.last_error))
    assert not row.connected
    assert east.peerd is not None
    assert east.peerd.snapshot().not_ready == ""


async def test_a_peer_of_another_network_than_its_gateway_says_is_refused(clusters):
    """The message names label, both values and the object's fix; an edit of the manifest mends it."""
    east, west = clusters
    east.link("west", west.peer_port, network="elsewhere")
    await east.start()
    await west.start()
    row = await east.until_peer("west", lambda peer: peer.status.state is PeerState.REFUSED)
    assert "topology.istio.io/network says 'elsewhere'" in row.status.last_error
    assert "west-net" in row.status.last_error
    client = await east.ztunnel()
    assert NAME not in client.services
    east.link("west", west.peer_port)
    await client.until(lambda: capacity(client) == 4, PATIENCE, "reviews, once the label is right")


async def test_both_have_it_and_each_tells_the_other(clusters):
    """A local endpoint and a remote one stand behind one name; the ClusterIP name stays local."""
    east, west = clusters
    east.service("reviews", 1, first=50)
    await east.start()
    await west.start()
    client, other = await east.ztunnel(), await west.ztunnel()
    await client.until(lambda: capacity(client) == 4, PATIENCE, "west's in east")
    await other.until(lambda: capacity(other) == 1, PATIENCE, "east's in west")
    addressed = [each.uid for each in client.endpoints(NAME) if each.addresses]
    assert addressed == ["east//Pod/shop/reviews-50"]
    local = client.endpoints("shop/reviews.shop.svc.cluster.local")
    assert [each.uid for each in local] == addressed


async def test_a_part_that_fails_while_others_still_start_ends_peerd(clusters, tmp_path):
    """A source that cannot work at all is told by `finished`, however early it failed."""

    class Broken:
        async def run(self, _sink: Sink) -> None:
            raise SourceError("no such directory")

    east, _ = clusters
    peerd = Peerd(east.config(), Parts(Broken()))
    try:
        await peerd.start()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(SourceError, match="no such directory"):
                await peerd.finished()
    finally:
        await peerd.stop(0)
