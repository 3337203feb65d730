"""Two clusters' peering over real sockets and mutual TLS."""

from collections.abc import AsyncIterator

import pytest

from peerd.protocol.peer_state import PeerState
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service


@pytest.fixture
async def pair() -> AsyncIterator[tuple[PeeringCluster, PeeringCluster]]:
    root = Authority("root")
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start(service("reviews", 3), service("ratings"))
    yield east, west
    await east.stop()
    await west.stop()


async def test_a_dialled_peers_services_arrive_under_its_gateway(pair) -> None:
    east, west = pair
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert east.imports == {key: {s.resource_name: s for s in (service("reviews", 3), service("ratings"))}}
    assert east.row(key).counts.info == west.info
