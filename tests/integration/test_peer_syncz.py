"""istioctl sees peers beside ztunnels (decision D19): one answer, with the types of the peering protocol."""

import asyncio

from google.protobuf import json_format

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.model.types import ADDRESS, DEBUG_SYNCZ, DELTA_METHOD, STATE_OF_THE_WORLD_METHOD
from peerd.protocol.envelope import Node, delta_request
from peerd.protocol.peer_state import PeerState
from tests.support.ads import running_ads, stream_to
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service


def all_acked(west: PeeringCluster) -> bool:
    (peer,) = west.service.inbound()
    return all(status.sent and status.sent == status.acked for status in peer.types)


async def test_syncz_names_each_peer_that_is_served_and_what_it_has_of_each_type() -> None:
    root = Authority("root")
    async with running_ads() as ads, stream_to(ads.address, DELTA_METHOD) as ztunnel:
        node = Node("ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local", "", {})
        await ztunnel.send(delta_request(ADDRESS, subscribe=("*",), node=node))
        await ztunnel.receive()
        west = PeeringCluster("west", Authority("west", root), registry=ads.registry)
        east = PeeringCluster("east", Authority("east", root), instance="peerd-0123abcd")
        await west.start(service("reviews", 3))
        await east.start()
        key = east.link(west)
        await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
        async with asyncio.timeout(60):
            while not all_acked(west):  # noqa: ASYNC110 (its ACKs are on their way, and nobody tells)
                await asyncio.sleep(0.01)
        async with stream_to(ads.address, STATE_OF_THE_WORLD_METHOD) as stream:
            await stream.send(discovery.DiscoveryRequest(type_url=DEBUG_SYNCZ).SerializeToString())
            answer = discovery.DiscoveryResponse.FromString(await stream.receive() or b"")
        rows = {}
        for each in answer.resources:
            row = json_format.MessageToDict(
                discovery.ClientConfig.FromString(each.value), preserving_proto_field_name=True
            )
            rows[row["node"]["id"]] = row
        assert rows.keys() == {"z.istio-system", "peerd-0123abcd.istio-system"}
        peer, proxy = rows["peerd-0123abcd.istio-system"], rows["z.istio-system"]
        assert peer["node"]["metadata"]["CLUSTER_ID"] == "east"
        configs = {each["type_url"]: each for each in peer["generic_xds_configs"]}
        assert configs.keys() == {"FSDS", "SGDS", ADDRESS}
        for config in configs.values():
            assert config["config_status"] == "SYNCED"
            assert config.keys() == proxy["generic_xds_configs"][0].keys(), "the fields of a ztunnel's row"
        await east.stop()
        await west.stop()
