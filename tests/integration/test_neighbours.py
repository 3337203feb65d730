"""Two whole peerds: a neighbour's Pods on one network, and a name that outlives Service and restart."""

import pytest

from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.workload import Workload
from peerd.protocol.peer_state import PeerState
from tests.support.peerds import PATIENCE, Cluster
from tests.support.ports import unused_ports

NAME = "shop/reviews.shop.mesh.internal"
LOCAL = "shop/reviews.shop.svc.cluster.local"
SYSTEM = """\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: shared}}
"""
TAKEOVER = """\
apiVersion: v1
kind: Service
metadata:
  name: reviews
  namespace: shop
  labels: {solo.io/service-takeover: "true"}
spec:
  clusterIP: 10.96.0.77
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""


@pytest.fixture
async def clusters(tmp_path, certificates):
    """East, and west with a global `reviews` of two Pods; not linked, not started."""
    ports = unused_ports(2)
    east = Cluster("east", tmp_path / "east", certificates, ports[0])
    west = Cluster("west", tmp_path / "west", certificates, ports[1])
    west.service("reviews", 2)
    yield east, west
    await east.close()
    await west.close()


async def linked(east: Cluster, west: Cluster, network: str = "") -> Ztunnel:
    """Both started, east in sync with west; a ztunnel of east."""
    east.link("west", west.peer_port, network)
    west.link("east", east.peer_port, network)
    await west.start()
    await east.start()
    await east.until_peer("west", lambda peer: peer.status.state is PeerState.LIVE)
    return await east.ztunnel()


def endpoints(client: Ztunnel, name: str) -> list[Workload]:
    return [each for each in client.workloads.values() if any(s.service == name for s in each.services)]


async def test_on_one_network_each_pod_of_the_neighbour_is_an_endpoint(clusters):
    """A replaced Pod is another endpoint, and none is reached through a gateway."""
    east, west = clusters
    east.write("system", SYSTEM)
    west.write("system", SYSTEM)
    client = await linked(east, west, "shared")
    await client.until(lambda: len(endpoints(client, NAME)) == 2, PATIENCE, "both Pods")
    assert {each.addresses for each in endpoints(client, NAME)} == {
        (bytes((10, 244, 0, 1)),),
        (bytes((10, 244, 0, 2)),),
    }
    assert {each.uid.rpartition(".")[0] for each in endpoints(client, NAME)} == {
        "autogenflat.west.shop.reviews-1",
        "autogenflat.west.shop.reviews-2",
    }
    west.service("reviews", 2, first=5)
    await client.until(
        lambda: {each.addresses[0][3] for each in endpoints(client, NAME)} == {5, 6}, PATIENCE, "the new ones"
    )


async def test_a_taken_over_name_outlives_its_service_and_a_restart_without_the_peer(clusters):
    """Recorded in the state directory (D23): its address is another than the Service had, and stays."""
    east, west = clusters
    east.write("reviews", TAKEOVER)
    client = await linked(east, west)
    await client.until(lambda: len(endpoints(client, LOCAL)) == 1, PATIENCE, "taken over")
    east.delete("reviews")
    await client.until(
        lambda: LOCAL in client.services and client.services[LOCAL].addresses[0].address[0] == 240,
        PATIENCE,
        "an address of its own",
    )
    await client.until(lambda: len(endpoints(client, LOCAL)) == 1, PATIENCE, "west's endpoints")
    address = client.services[LOCAL].addresses
    await west.stop()
    await east.stop()
    await east.start()
    again = await east.ztunnel()
    await again.until(lambda: len(endpoints(again, LOCAL)) == 1, PATIENCE, "after the restart")
    assert again.services[LOCAL].addresses == address
