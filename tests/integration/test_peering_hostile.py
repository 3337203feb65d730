"""Malformed and hostile peers that we dial: each bounded, each named, and a healthy peer beside them goes on.

That it is not slowed either is a figure: `make bench NAME=hostile`.
"""

import asyncio
import datetime as dt

import msgspec
import pytest
from hyperframe.frame import DataFrame

from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.limits import PEER_CHANGES, PEER_NAME_CHARACTERS, PEER_REFUSED_BYTES, PEER_RESOURCES, hits
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.wire import field
from peerd.peering import backoff
from peerd.transport.base import StatusCode, StreamClosed
from tests.support.hostile import (
    INFO,
    Behaviour,
    Hostile,
    complete,
    east_with_healthy_peer,
    exporting,
    healthy,
    hostile,
    summaries,
    with_version,
)
from tests.support.mesh_certs import Authority
from tests.support.peering import service


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST", 0.2)
    monkeypatch.setattr(backoff, "FIRST", 0.05)


async def rubbish(peer: Hostile) -> None:
    await peer.stream.send(b"\xff" * 100)
    await peer.idle()


async def wrong_type(peer: Hostile) -> None:
    await peer.say("type.googleapis.com/envoy.config.cluster.v3.Cluster")
    await peer.idle()


async def huge_message(peer: Hostile) -> None:
    await peer.stream.send(b"\0" * (5 << 20))
    await peer.idle()


async def same_name_twice(peer: Hostile) -> None:
    await peer.introduce()
    frame = encode_federated_service(service("twice")).frame
    await peer.say(FEDERATED_SERVICE, frame, frame)
    await peer.idle()


async def wrong_digest(peer: Hostile) -> None:
    await peer.introduce()
    await peer.say(FEDERATED_SERVICE, complete({"never": "sent"}))
    await peer.idle()


async def becomes_another(peer: Hostile) -> None:
    await peer.introduce()
    other = encode_peer_info(msgspec.structs.replace(INFO, trust_domain="elsewhere.local"))
    await peer.say(PEER_INFO, other.frame)
    await peer.idle()


async def closes_at_once(peer: Hostile) -> None:
    raise StreamClosed(StatusCode.INTERNAL, "go away")


async def claims_to_be_us(peer: Hostile) -> None:
    resource = encode_peer_info(msgspec.structs.replace(INFO, cluster="east"))
    await peer.asked.get()
    await peer.say(PEER_INFO, resource.frame, complete({"self": resource.version}))
    await peer.idle()


async def no_name(peer: Hostile) -> None:
    await peer.introduce()
    await peer.say(FEDERATED_SERVICE, field(2, field(1, b"v1")))
    await peer.idle()


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (rubbish, "not a DeltaDiscoveryResponse"),
        (wrong_type, "envoy.config.cluster.v3.Cluster', which was not asked for"),
        (huge_message, "over the limit of 4194304"),
        (same_name_twice, "shop/twice twice in one response"),
        (wrong_digest, "does not add up"),
        (becomes_another, "elsewhere.local"),
        (closes_at_once, "go away"),
        (claims_to_be_us, "cluster ids must be unique"),
        (no_name, "a resource without a name"),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_cut_off_and_told_why(behave: Behaviour, words: str) -> None:
    async with east_with_healthy_peer() as (root, east, west), hostile(root, behave) as (address, _):
        key = east.link(address)
        await east.until(lambda: words in east.row(key).status.last_error, words)
        assert not east.imports.get(key)
        await healthy(east, west)


async def speaks_after_its_end(peer: Hostile) -> None:
    """Data on the stream whose end it has just announced."""
    await peer.introduce()
    wire = peer.stream._connection  # type: ignore[attr-defined]
    peer.stream.finish(StatusCode.OK, "")  # type: ignore[attr-defined]
    wire._transport.write(DataFrame(peer.stream.id, b"and another thing").serialize())  # type: ignore[attr-defined]
    await peer.idle()


async def test_what_a_peer_sends_after_its_end_is_dropped_and_the_end_is_no_error() -> None:
    """A status of OK is a graceful end, whatever follows; what the peer is told: test_http2_strangers.py."""
    async with east_with_healthy_peer() as (root, east, west), hostile(root, speaks_after_its_end) as found:
        key = east.link(found[0])
        await east.until(lambda: east.row(key).attempts >= 3)
        assert east.row(key).status.last_error == ""
        assert not east.imports.get(key)
        await healthy(east, west)


HUGE = "x" * 100_000


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (service("thief", identities=("spiffe://other.local/ns/a/sa/b",)), "outside the peer's trust domain"),
        (service("istiod", namespace="istio-system"), "system namespace"),
        (service(HUGE), "over quota: "),
        (service("host", global_host="bank.shop.mesh.internal"), "global_host is not"),
        (service("local", local_host="bank.shop.svc.cluster.local"), "local_host is not"),
        (service("alias", aliases=("bank.shop.svc.cluster.local",)), "lies in a domain"),
        (service("millions", 4_000_000), "not credible"),
    ],
    ids=["identity", "system-namespace", "huge-name", "global-host", "local-host", "alias", "capacity"],
)
async def test_what_a_peer_may_not_say_is_refused_by_name_and_the_rest_is_taken(bad, words: str) -> None:
    behave = exporting(service("good"), bad)
    async with east_with_healthy_peer() as (root, east, west), hostile(root, behave) as (address, streams):
        key = east.link(address)
        await east.until(lambda: "shop/good" in east.imports.get(key, {}))
        await asyncio.wait_for(streams[-1].refused.wait(), 60)
        ((name, reason),) = east.row(key).counts.refused
        assert name == bad.resource_name[: PEER_NAME_CHARACTERS.value]
        assert words in reason or (bad.name == HUGE and "longer than" in reason)
        assert len(streams[-1].refusals[0]) < 5_000
        assert set(east.imports[key]) == {"shop/good"}
        await healthy(east, west)


async def test_more_resources_than_the_quota_are_refused_and_what_was_there_stays() -> None:
    count = PEER_RESOURCES.value + 500
    behave = exporting(*(service(f"s{number}") for number in range(count)))
    async with east_with_healthy_peer() as (root, east, west), hostile(root, behave) as (address, streams):
        key = east.link(address)
        await east.until(lambda: len(east.imports.get(key, {})) == PEER_RESOURCES.value, seconds=120)
        await asyncio.wait_for(streams[-1].refused.wait(), 60)
        await healthy(east, west)
        assert len(east.row(key).counts.refused) == 500
        assert len(east.imports[key]) == PEER_RESOURCES.value
        assert "over quota: more than" in east.row(key).counts.refused[0][1]


async def test_a_million_resources_end_the_stream_long_before_they_have_come() -> None:
    """What is held and what is remembered of refusals is bounded; then the peer is told so and cut off."""
    (like,) = summaries(service("s0000000"))
    frame = with_version(like, "v" * 500)  # remembered too
    sent = 0

    async def behave(peer: Hostile) -> None:
        nonlocal sent
        await peer.introduce()
        for start in range(0, 1_000_000, 2_000):
            names = (b"s%07d" % number for number in range(start, start + 2_000))
            await peer.say(FEDERATED_SERVICE, *(frame.replace(b"s0000000", name) for name in names))
            sent = start + 2_000

    before = hits(PEER_REFUSED_BYTES)
    async with (
        east_with_healthy_peer() as (root, east, west),
        hostile(root, behave) as (address, _),
    ):
        key = east.link(address)
        await east.until(
            lambda: "more than is remembered" in east.row(key).status.last_error, "cut off", seconds=120
        )
        east.dialer.configure([(key, None)])
        assert hits(PEER_REFUSED_BYTES) > before
        assert sent < 100_000
        await healthy(east, west)


async def test_a_peer_with_a_clock_of_1970_is_refused_with_the_reason() -> None:
    """Its certificate ended then."""
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    async with east_with_healthy_peer() as (root, east, west):
        material = Authority("hostile", root).leaf(valid=(start, start + dt.timedelta(days=30)))
        async with hostile(root, Hostile.idle, material=material) as (address, streams):
            key = east.link(address)
            await east.until(lambda: "certificate has expired" in east.row(key).status.last_error)
            assert streams == []
            await healthy(east, west)


async def test_a_peer_that_flaps_a_hundred_times_a_second_is_dialled_with_growing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It accepts, introduces itself and closes. Only a stream that lasts brings the wait back."""
    monkeypatch.setattr(backoff, "LONGEST", 60.0)
    opened = 0

    async def behave(peer: Hostile) -> None:
        nonlocal opened
        opened += 1
        await peer.introduce()

    async with east_with_healthy_peer() as (root, east, west), hostile(root, behave) as (address, _):
        key = east.link(address)
        await east.until(lambda: east.row(key).attempts >= 4, seconds=30)
        # 0.05 s doubling: far fewer than a hundred in the same time.
        assert opened < 30
        await healthy(east, west)


async def test_a_flood_of_changes_waits_in_its_own_stream() -> None:
    """As fast as the line takes them, from a peer in sync: taken at the rate that one peer may have."""
    sent = 0

    async def behave(peer: Hostile) -> None:
        nonlocal sent
        await peer.introduce()
        await peer.nothing_of(SEGMENT, ADDRESS, FEDERATED_SERVICE)
        versions = [
            [each.frame for each in summaries(*(service(f"s{n}", healthy) for n in range(100)))]
            for healthy in (1, 2)
        ]
        while True:
            await peer.say(FEDERATED_SERVICE, *versions[sent % 2])
            sent += 1

    before = hits(PEER_CHANGES)
    async with east_with_healthy_peer() as (root, east, west), hostile(root, behave) as (address, _):
        key = east.link(address)
        await east.until(lambda: len(east.imports.get(key, {})) == 100)
        await east.until(lambda: hits(PEER_CHANGES) > before, "slowed down")
        loop = asyncio.get_running_loop()
        start, first = loop.time(), sent
        for _ in range(5):
            await healthy(east, west)
        # 2,000 changes a second are 20 messages; the burst of the bucket and the windows come on top.
        assert sent - first <= 20 * (loop.time() - start) + 100
        east.dialer.configure([(key, None)])
