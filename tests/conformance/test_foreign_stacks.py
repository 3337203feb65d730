"""Other people's gRPC and other people's protos speak to the server: what it says is Envoy's protocol.

grpcio's synchronous client with Envoy's own messages (`xds-protos`) and stubs, and grpclib with the same.
"""

import asyncio
import queue
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.status.v3 import csds_pb2
from google.protobuf import json_format

from peerd.model.types import ADDRESS, AUTHORIZATION, DEBUG_SYNCZ, DELTA_METHOD
from peerd.protocol.envelope import Node, delta_request, parse_delta_request
from tests.support.ads import RunningAds, running_ads
from tests.support.delta import drop, policy, put, resource

WORLD = [put("w", b"1", aliases=("n/10.0.0.1",), groups=("node/node-a",)), policy("ns/p", b"2")]


def first_request(type_url: str, **fields: Any) -> discovery_pb2.DeltaDiscoveryRequest:
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, **fields)
    request.node.id = "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local"
    request.node.metadata.update({"NAMESPACE": "istio-system", "NODE_NAME": "node-a"})
    return request


class SyncClient:
    """grpcio's blocking client, its requests fed from a queue."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._requests: queue.Queue[Any] = queue.Queue()
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._responses = stub.DeltaAggregatedResources(iter(self._requests.get, None), timeout=30)

    def send(self, request: Any) -> None:
        self._requests.put(request)

    async def receive(self) -> Any:
        return await asyncio.to_thread(next, self._responses)

    async def close(self) -> None:
        self._requests.put(None)
        await asyncio.to_thread(self._channel.close)


class GrpclibClient:
    """grpclib's client."""

    def __init__(self, address: str) -> None:
        from grpclib.client import Channel
        from grpclib.const import Cardinality

        host, _, port = address.rpartition(":")
        self._channel = Channel(host, int(port))
        self._context = self._channel.request(
            DELTA_METHOD,
            Cardinality.STREAM_STREAM,
            discovery_pb2.DeltaDiscoveryRequest,
            discovery_pb2.DeltaDiscoveryResponse,
            timeout=30,
        )
        self._stream: Any = None
        self._outgoing: list[Any] = []

    def send(self, request: Any) -> None:
        self._outgoing.append(request)

    async def receive(self) -> Any:
        if self._stream is None:
            self._stream = await self._context.__aenter__()
        for request in self._outgoing:
            await self._stream.send_message(request)
        self._outgoing = []
        return await self._stream.recv_message()

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.cancel()
        self._channel.close()


@pytest.fixture(params=[SyncClient, GrpclibClient])
def make_client(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_foreign_client_follows_changes_refuses_and_resumes(make_client: Any) -> None:
    async with running_ads(WORLD) as ads:
        client = make_client(ads.address)
        client.send(first_request(ADDRESS))
        client.send(first_request(AUTHORIZATION))
        policies, addresses = await client.receive(), await client.receive()
        assert (policies.type_url, [r.name for r in policies.resources]) == (AUTHORIZATION, ["ns/p"])
        assert (addresses.type_url, [r.name for r in addresses.resources]) == (ADDRESS, ["w"])
        (workload,) = addresses.resources
        assert workload.resource.type_url == ADDRESS
        assert workload.resource.value == b"1"
        assert workload.version == resource("w", b"1").version
        assert addresses.system_version_info.startswith("test/")
        for response in (policies, addresses):
            client.send(
                discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            )
        ads.commit([put("x", b"2"), drop("w")])
        update = await client.receive()
        assert ([r.name for r in update.resources], list(update.removed_resources)) == (["x"], ["w"])
        nack = discovery_pb2.DeltaDiscoveryRequest(type_url=ADDRESS, response_nonce=update.nonce)
        nack.error_detail.message = "x: refused"
        client.send(nack)
        ads.commit([put("y")])
        assert [r.name for r in (await client.receive()).resources] == ["y"]
        (connection,) = ads.registry
        assert connection.views()[1].rejected == (("x", "refused"),)
        await client.close()

        again = make_client(ads.address)
        versions = {name: resource(name, body).version for name, body in (("x", b"2"), ("y", b""))}
        again.send(
            first_request(AUTHORIZATION, initial_resource_versions={"ns/p": policies.resources[0].version})
        )
        again.send(first_request(ADDRESS, initial_resource_versions={**versions, "gone": "1"}))
        policies, addresses = await again.receive(), await again.receive()
        assert not policies.resources
        assert not addresses.resources
        assert list(addresses.removed_resources) == ["gone"]
        await again.close()


async def test_a_foreign_client_looks_up_on_demand(make_client: Any) -> None:
    async with running_ads(WORLD) as ads:
        client = make_client(ads.address)
        client.send(first_request(ADDRESS, resource_names_subscribe=["*"], resource_names_unsubscribe=["*"]))
        client.send(first_request(AUTHORIZATION))
        assert (await client.receive()).type_url == AUTHORIZATION
        assert [list(r.aliases) for r in (await client.receive()).resources] == [["n/10.0.0.1"]]
        client.send(
            discovery_pb2.DeltaDiscoveryRequest(type_url=ADDRESS, resource_names_subscribe=["n/10.0.0.1"])
        )
        found = await client.receive()
        assert ([r.name for r in found.resources], list(found.removed_resources)) == (["w"], ["n/10.0.0.1"])
        await client.close()


async def test_syncz_is_csds_s_client_config_to_envoy_s_protos() -> None:
    def ask(address: str) -> Any:
        with grpc.insecure_channel(address) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            request = discovery_pb2.DiscoveryRequest(type_url=DEBUG_SYNCZ)
            return next(iter(stub.StreamAggregatedResources(iter([request]), timeout=30)))

    async with running_ads(WORLD) as ads:
        client = SyncClient(ads.address)
        client.send(first_request(ADDRESS))
        client.send(first_request(AUTHORIZATION))
        await client.receive()
        await client.receive()
        await settled(ads)
        answer = await asyncio.to_thread(ask, ads.address)
        config = csds_pb2.ClientConfig.FromString(answer.resources[0].value)
        assert config.node.id == "z.istio-system"
        statuses = {each.type_url: each.config_status for each in config.generic_xds_configs}
        assert statuses == {ADDRESS: 3, AUTHORIZATION: 3}, "sent and not ACKed is STALE"
        await client.close()


async def settled(ads: RunningAds) -> None:
    async with asyncio.timeout(30):
        while sum(ads.registry.pushes.values()) < 2:  # noqa: ASYNC110 (a count of another task)
            await asyncio.sleep(0.005)


def test_our_requests_are_envoy_s_to_the_byte() -> None:
    """What our trimmed messages write, Envoy's read, and the other way round."""
    node = Node(
        "ztunnel~1.1.1.1~a.b~c", "cluster", {"NAMESPACE": "b", "NESTED": {"a": [1.0, True, None, "x"]}}
    )
    ours = delta_request(
        ADDRESS,
        nonce="n",
        subscribe=["a", "*"],
        unsubscribe=["b"],
        versions={"a": "1", "b": "", "ü": "x"},
        error="bad",
        node=node,
    )
    theirs = discovery_pb2.DeltaDiscoveryRequest.FromString(ours)
    assert dict(theirs.initial_resource_versions) == {"a": "1", "b": "", "ü": "x"}
    assert theirs.error_detail.message == "bad"
    assert json_format.MessageToDict(theirs.node.metadata) == node.metadata
    back = parse_delta_request(theirs.SerializeToString(deterministic=True))
    direct = parse_delta_request(ours)
    assert set(back.versions) == set(direct.versions)
    assert (back.node, back.error, back.subscribe) == (node, "bad", ("a", "*"))
