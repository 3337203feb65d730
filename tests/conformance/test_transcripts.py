"""What went over a real connection between ztunnel or istioctl and istiod, replayed against peerd.

`transcripts/*.json` are recordings of both directions. The client's bytes are sent as they are, but for the
nonces and versions, which are peerd's own; peerd's answers must mean what istiod's did.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.derive.world import World
from peerd.encode.address import encode_address
from peerd.encode.policy import encode_policy
from peerd.model.mesh import Settings
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION, DEBUG_SYNCZ, DELTA_METHOD, STATE_OF_THE_WORLD_METHOD
from peerd.model.wire import map_entry
from peerd.protocol.debug import parse_debug_request
from peerd.protocol.envelope import DeltaResponse
from peerd.transport.base import ClientStream
from tests.support.ads import SOON, RunningAds, receive, running_ads, stream_to
from tests.support.delta import drop, put, resource
from tests.support.golden import input_of

RECORDED = Path(__file__).parent / "transcripts"
# Of the recorded world, but not of its objects: the API server's own Service, and a Gateway whose address is
# in its spec only (decision D7 takes it, istiod waits for a status).
KUBERNETES = "default/kubernetes.default.svc.cluster.local"
SPEC_ADDRESS = "NetworkGateway/net5/198.51.100.5/15008"


def recording(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def client_messages(name: str, stream: int) -> list[discovery.DeltaDiscoveryRequest]:
    return [
        discovery.DeltaDiscoveryRequest.FromString(base64.b64decode(entry["bytes"]))
        for entry in recording(name)
        if entry["stream"] == stream and entry["from"] == "client"
    ]


def server_messages(name: str, stream: int) -> list[discovery.DeltaDiscoveryResponse]:
    return [
        discovery.DeltaDiscoveryResponse.FromString(base64.b64decode(entry["bytes"]))
        for entry in recording(name)
        if entry["stream"] == stream and entry["from"] == "server"
    ]


def world() -> list[ResourceChange]:
    """The cases `networks` and `authorization-basic` together, derived and encoded by peerd."""
    derived = World(Settings())
    derived.apply([*input_of("networks"), *input_of("authorization-basic")])
    assert derived.work()
    commit = derived.commit()
    return [
        *(ResourceChange(AUTHORIZATION, n, encode_policy(r) if r else None) for n, r in commit.policies),
        *(ResourceChange(ADDRESS, n, encode_address(r) if r else None) for n, r in commit.addresses),
    ]


async def replay(
    stream: ClientStream, request: discovery.DeltaDiscoveryRequest, nonce: str = "", versions: Any = None
) -> None:
    """Send a recorded request with peerd's nonce and versions in place of istiod's."""
    sent = discovery.DeltaDiscoveryRequest()
    sent.CopyFrom(request)
    if sent.response_nonce:
        sent.response_nonce = nonce
    if versions is not None:
        del sent.initial_resource_versions[:]
        sent.initial_resource_versions.extend(map_entry(n, v) for n, v in versions.items())
    await stream.send(sent.SerializeToString())


async def next_of(stream: ClientStream, type_url: str) -> DeltaResponse:
    response = await asyncio.wait_for(receive(stream), SOON)
    assert response.type_url == type_url
    return response


def names(response: DeltaResponse) -> set[str]:
    return {each.name for each in response.resources}


def recorded_names(response: discovery.DeltaDiscoveryResponse) -> set[str]:
    return {each.name for each in response.resources} - {KUBERNETES}


async def nothing_more(ads: RunningAds) -> None:
    """Nothing is pushed for longer than a window and a push take."""
    await asyncio.sleep(0.3)  # a push is counted once it is written, and may be received before that
    before = sum(ads.registry.pushes.values())
    await asyncio.sleep(0.1)
    assert sum(ads.registry.pushes.values()) == before


async def status(ads: RunningAds) -> dict[str, Any]:
    """The one connection's types, by URL."""
    (connection,) = ads.registry
    return {view.type_url: view for view in connection.views()}


async def until(condition: Any) -> None:
    """Wait for what the server does a moment after the client's last message."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 (the server's state has no event a test could await)
            await asyncio.sleep(0.005)


async def test_wildcard_a_ztunnel_connects_is_updated_refuses_and_reconnects() -> None:
    """`ztunnel-wildcard.json`, its four streams, each client message in its turn."""
    name = "ztunnel-wildcard"
    recorded = server_messages(name, 1)
    async with running_ads(world()) as ads:
        held: dict[str, dict[str, str]] = {ADDRESS: {}, AUTHORIZATION: {}}

        def take(response: DeltaResponse, refused: set[str] = frozenset()) -> None:
            for each in response.resources:
                if each.name not in refused:
                    held[response.type_url][each.name] = each.version
            for gone in response.removed:
                held[response.type_url].pop(gone, None)

        async with stream_to(ads.address, DELTA_METHOD) as stream:
            address, authorization, ack_address, ack_authorization, *acks, nack, _unknown = client_messages(
                name, 1
            )
            await replay(stream, address)
            await replay(stream, authorization)
            # Both first answers, whole; policies first (decision D8), istiod sends them second.
            policies = await next_of(stream, AUTHORIZATION)
            addresses = await next_of(stream, ADDRESS)
            assert names(policies) == recorded_names(recorded[1])
            assert names(addresses) == recorded_names(recorded[0]) | {SPEC_ADDRESS}
            assert not policies.removed
            assert not addresses.removed
            payloads = {each.name: each.resource.value for each in recorded[1].resources}
            for each in policies.resources:
                assert each.payload == payloads[each.name]
                assert each.version, "istiod gives policies none and sends them all again at every reconnect"
            payloads = {each.name: each.resource.value for each in recorded[0].resources}
            versions = {each.name: each.version for each in recorded[0].resources}
            same = [each.name for each in addresses.resources if each.payload == payloads.get(each.name)]
            assert len(same) >= 8
            assert all(
                each.version == versions[each.name] for each in addresses.resources if each.name in same
            )
            await replay(stream, ack_address, addresses.nonce)
            await replay(stream, ack_authorization, policies.nonce)
            take(addresses)
            take(policies)

            # Two Pods come, one goes: each alone in its response.
            for entry, ack in zip(recorded[2:5], acks, strict=True):
                injected = [put(each.name, each.resource.value) for each in entry.resources]
                ads.commit([*injected, *(drop(gone) for gone in entry.removed_resources)])
                response = await next_of(stream, ADDRESS)
                assert names(response) == recorded_names(entry)
                assert list(response.removed) == list(entry.removed_resources)
                await replay(stream, ack, response.nonce)
                take(response)

            # One good resource and two that ztunnel refuses, put behind the validator.
            bad = recorded[5]
            injected = [put(each.name, each.resource.value) for each in bad.resources]
            ads.commit([*injected, *(drop(gone) for gone in bad.removed_resources)])
            response = await next_of(stream, ADDRESS)
            assert names(response) == recorded_names(bad)
            await replay(stream, nack, response.nonce)
            refused = {"Kubernetes//Pod/nets/inj-badd", "Kubernetes//Pod/nets/inj-tunn"}
            take(response, refused)
            await until(lambda: next(iter(ads.registry)).views()[1].rejected)
            view = (await status(ads))[ADDRESS]
            assert dict(view.rejected) == {
                "Kubernetes//Pod/nets/inj-badd": "failed to parse address, had 3 bytes",
                "Kubernetes//Pod/nets/inj-tunn": "unknown enum:"
                " unsupported tunnel protocol: legacy istio mtls",
            }
            assert view.error == nack.error_detail.message
            await nothing_more(ads)  # no loop

            # Later updates flow, and take the rejection with them.
            ads.commit([drop(gone) for gone in refused])
            response = await next_of(stream, ADDRESS)
            assert set(response.removed) == refused
            await replay(stream, acks[0], response.nonce)
            take(response)
            await until(lambda: not next(iter(ads.registry)).views()[1].rejected)

        # Stream 2: what peerd no longer has is removed, what came meanwhile is sent, nothing else.
        ads.publish([drop("Kubernetes//Pod/nets/inj-good"), put("Kubernetes//Pod/nets/new-2", b"again")])
        async with stream_to(ads.address, DELTA_METHOD) as stream:
            address, authorization, ack_address, ack_authorization = client_messages(name, 2)
            await replay(stream, address, versions=held[ADDRESS])
            await replay(stream, authorization, versions=held[AUTHORIZATION])
            policies = await next_of(stream, AUTHORIZATION)
            addresses = await next_of(stream, ADDRESS)
            assert names(addresses) == recorded_names(server_messages(name, 2)[0])
            assert list(addresses.removed) == list(server_messages(name, 2)[0].removed_resources)
            assert not policies.resources, "istiod sends all eleven again"
            await replay(stream, ack_address, addresses.nonce)
            await replay(stream, ack_authorization, policies.nonce)
            take(addresses)

        # Stream 3: in step, so that both first answers are empty; then one removal.
        async with stream_to(ads.address, DELTA_METHOD) as stream:
            address, authorization, ack_address, ack_authorization, ack = client_messages(name, 3)
            await replay(stream, address, versions=held[ADDRESS])
            await replay(stream, authorization, versions=held[AUTHORIZATION])
            for type_url in (AUTHORIZATION, ADDRESS):
                response = await next_of(stream, type_url)
                assert not response.resources
                assert not response.removed
                await replay(
                    stream, ack_address if type_url == ADDRESS else ack_authorization, response.nonce
                )
            ads.commit([drop("Kubernetes//Pod/nets/new-2")])
            response = await next_of(stream, ADDRESS)
            assert list(response.removed) == list(server_messages(name, 3)[2].removed_resources)
            await replay(stream, ack, response.nonce)
            take(response)

        # Stream 4: in step again.
        async with stream_to(ads.address, DELTA_METHOD) as stream:
            address, authorization, *_ = client_messages(name, 4)
            await replay(stream, address, versions=held[ADDRESS])
            await replay(stream, authorization, versions=held[AUTHORIZATION])
            for type_url in (AUTHORIZATION, ADDRESS):
                response = await next_of(stream, type_url)
                assert not response.resources
                assert not response.removed


async def test_wildcard_the_empty_versions_of_older_ztunnels_move_everything_and_remove_what_is_gone() -> (
    None
):
    """Up to 1.30 ztunnel names what it holds without versions (wire-contract §1.4)."""
    async with running_ads(world()) as ads, stream_to(ads.address, DELTA_METHOD) as stream:
        address, authorization, *_ = client_messages("ztunnel-wildcard", 2)
        everything = set(ads.store.collection(ADDRESS).names())
        await replay(stream, address, versions=dict.fromkeys([*everything, "gone//Pod/a/b"], ""))
        await replay(stream, authorization)  # recorded with empty versions
        policies = await next_of(stream, AUTHORIZATION)
        assert names(policies) == recorded_names(server_messages("ztunnel-wildcard", 2)[1])
        addresses = await next_of(stream, ADDRESS)
        assert names(addresses) == everything
        assert addresses.removed == ("gone//Pod/a/b",)


async def test_on_demand_a_ztunnel_asks_for_what_it_needs() -> None:
    """`ztunnel-on-demand.json`: the node's own Pods, a look-up by VIP, and twice one that finds nothing."""
    name = "ztunnel-on-demand"
    recorded = server_messages(name, 1)
    async with running_ads(world()) as ads, stream_to(ads.address, DELTA_METHOD) as stream:
        address, authorization, ack_own, ack_authorization, by_vip, ack, absent, ack_absent, again = (
            client_messages(name, 1)
        )
        await replay(stream, address)
        await replay(stream, authorization)
        policies = await next_of(stream, AUTHORIZATION)
        own = await next_of(stream, ADDRESS)
        assert names(policies) == recorded_names(recorded[1])
        assert names(own) == recorded_names(recorded[0])
        aliases = {each.name: tuple(each.aliases) for each in recorded[0].resources}
        assert {each.name: each.aliases for each in own.resources} == aliases
        assert not own.removed
        await replay(stream, ack_own, own.nonce)
        await replay(stream, ack_authorization, policies.nonce)

        await replay(stream, by_vip)
        found = await next_of(stream, ADDRESS)
        # istiod repeats the node's own Pod; peerd need not, the client holds it.
        assert recorded_names(recorded[2]) - names(own) == names(found)
        service = next(each for each in found.resources if each.name == "nets/s.nets.svc.cluster.local")
        assert service.aliases == ("net1/10.96.15.1",)
        # With istiod this look-up hangs; the key among the removals is what releases it (decision D12).
        assert found.removed == ("net1/10.96.15.1",)
        await replay(stream, ack, found.nonce)

        for request in (absent, again):
            await replay(stream, request)
            missing = await next_of(stream, ADDRESS)
            assert not missing.resources
            assert missing.removed == ("net1/10.77.77.77",)
            await replay(stream, ack_absent, missing.nonce)

        # Remembered: it is sent once it appears, and changes of what was asked for follow.
        ads.commit([put("late", b"1", aliases=("net1/10.77.77.77",))])
        assert names(await next_of(stream, ADDRESS)) == {"late"}
        ads.commit([put("elsewhere", b"1", aliases=("net1/10.1.2.3",))])
        await nothing_more(ads)
        ads.commit([put("late", b"2", aliases=("net1/10.77.77.77",))])
        assert names(await next_of(stream, ADDRESS)) == {"late"}


async def test_istioctl_reads_syncz_as_from_istiod() -> None:
    """`istioctl.json`: `proxy-status`, `-v 1` and `-o json` each send the same one request."""
    entries = recording("istioctl")
    requests = [base64.b64decode(e["bytes"]) for e in entries if e["from"] == "client"]
    answers = [e["decoded"] for e in entries if e["from"] == "server"]
    async with running_ads(world()) as ads, stream_to(ads.address, DELTA_METHOD) as ztunnel:
        address, authorization, ack_address, ack_authorization, *_ = client_messages("ztunnel-wildcard", 1)
        await replay(ztunnel, address)
        await replay(ztunnel, authorization)
        await replay(ztunnel, ack_authorization, (await next_of(ztunnel, AUTHORIZATION)).nonce)
        await replay(ztunnel, ack_address, (await next_of(ztunnel, ADDRESS)).nonce)
        await until(lambda: all(v.acked for v in next(iter(ads.registry)).views()))
        for request, expected in zip(requests[:3], answers, strict=True):
            assert parse_debug_request(request).type_url == DEBUG_SYNCZ
            async with stream_to(ads.address, STATE_OF_THE_WORLD_METHOD) as stream:
                await stream.send(request)
                answer = discovery.DiscoveryResponse.FromString(await stream.receive() or b"")
                await stream.half_close()
                assert await stream.receive() is None
            assert answer.type_url == expected["type_url"]
            theirs, ours = json.loads(expected["control_plane"]), json.loads(answer.control_plane.identifier)
            assert ours.keys() == theirs.keys()
            assert ours["Info"].keys() == theirs["Info"].keys()
            assert ours["ID"] == "peerd-0"
            rows = []
            for each in answer.resources:
                assert each.type_url == "type.googleapis.com/envoy.service.status.v3.ClientConfig"
                config = discovery.ClientConfig.FromString(each.value)
                rows.append(json_format.MessageToDict(config, preserving_proto_field_name=True))
            assert all(config.pop("last_updated") for row in rows for config in row["generic_xds_configs"])
            for row in expected["resources"]:
                for config in row["generic_xds_configs"]:
                    config.pop("last_updated", None)
            assert rows == expected["resources"]


async def test_istioctl_internal_debug_is_answered_where_it_is_allowed() -> None:
    """`x internal-debug syncz`: one Any with the HTTP page's body; istiod refused the anonymous caller."""
    request = [base64.b64decode(e["bytes"]) for e in recording("istioctl") if e["from"] == "client"][3]
    async with running_ads(world()) as ads, stream_to(ads.address, STATE_OF_THE_WORLD_METHOD) as stream:
        await stream.send(request)
        answer = discovery.DiscoveryResponse.FromString(await stream.receive() or b"")
        assert [each.type_url for each in answer.resources] == ["istio.io/debug"]
        assert json.loads(answer.resources[0].value) == []


def test_versions_of_opaque_test_resources_are_content_hashes() -> None:
    """What the replays above inject behind the validator is versioned like all else."""
    assert resource("a", b"1").version == resource("b", b"1").version != resource("a", b"2").version
