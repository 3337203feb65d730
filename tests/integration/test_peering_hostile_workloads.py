"""Hostile peers on our own network (decision D31): what they may not say of Pods, and how much of it."""

import asyncio

import pytest

from peerd.encode.address import encode_address
from peerd.limits import PEER_REFUSED_BYTES, PEER_WORKLOADS, hits
from peerd.model.service import Service
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, SEGMENT
from peerd.model.workload import TunnelProtocol, Workload
from peerd.peering import backoff
from tests.support.hostile import (
    INFO,
    Behaviour,
    Hostile,
    east_with_healthy_peer,
    healthy,
    hostile,
    summaries,
    with_version,
)
from tests.support.peering import PeeringCluster, renamed, service, workload

FLAT = renamed(INFO, network="flat")


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST", 0.2)
    monkeypatch.setattr(backoff, "FIRST", 0.05)


def pod(number: int, **fields: object) -> Workload:
    return workload("hostile", number, network="flat", **fields)


def telling(*found: Workload | Service) -> Behaviour:
    """A peer that says these in one sync, its service apart."""

    async def behave(peer: Hostile) -> None:
        await peer.introduce(FLAT)
        await peer.export(FEDERATED_SERVICE, *summaries(service("reviews", network="flat")))
        await peer.nothing_of(SEGMENT)
        await peer.export(ADDRESS, *map(encode_address, found))
        await peer.idle()

    return behave


async def west_has_its_pod(east: PeeringCluster, west: PeeringCluster) -> None:
    """The healthy peer's endpoint is what it says, and so are its changes."""
    own = workload("west", 1, network="flat")
    west.export((own.uid, own))
    key = east.gateway(west).key
    await east.until(lambda: east.workloads.get(key) == {own.uid: own})
    await healthy(east, west)


THEIRS = "west//Pod/shop/pod-1"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (renamed(pod(9), network="elsewhere"), "its network is not the peer's, flat"),
        (renamed(pod(9), uid=THEIRS, name="pod-1"), "not of the peer's own cluster hostile"),
        (renamed(pod(9), cluster_id="west"), "not of the peer's own cluster hostile"),
        (renamed(pod(9), trust_domain="other.local"), "its trust domain is not the peer's, cluster.local"),
        (renamed(pod(9), service_account="istiod/../x"), "its service account is no DNS name"),
        (renamed(pod(9), tunnel_protocol=TunnelProtocol.NONE), "it does not speak HBONE"),
        (renamed(pod(9), namespace="istio-system"), "workloads of the system namespace"),
        (renamed(pod(9), addresses=(bytes([127, 0, 0, 1]),)), "is not one that a Pod can have"),
        (renamed(pod(9), addresses=()), "no address of its own"),
        (renamed(pod(9), authorization_policies=("shop/deny",)), "its own cluster's affair"),
        (renamed(pod(9), capacity=4_000_000_000), "is not credible"),
        (renamed(pod(9), uid=f"hostile//Pod/shop/{'x' * 100_000}"), "the name is longer than"),
        (pod(9, namespace="istio-system"), "system namespace"),
    ],
    ids=[
        "network",
        "uid-of-another",
        "cluster-of-another",
        "trust-domain",
        "service-account",
        "no-hbone",
        "system-namespace",
        "loopback",
        "no-address",
        "policies",
        "capacity",
        "huge-name",
        "system-service",
    ],
)
async def test_a_pod_that_a_peer_may_not_claim_is_refused_by_name_and_the_rest_is_taken(
    bad: Workload, words: str
) -> None:
    async with (
        east_with_healthy_peer("flat") as (root, east, west),
        hostile(root, telling(pod(1), bad)) as (address, streams),
    ):
        await west_has_its_pod(east, west)
        key = east.link(address)
        await east.until(lambda: pod(1).uid in east.workloads.get(key, {}))
        await asyncio.wait_for(streams[-1].refused.wait(), 60)
        ((name, reason),) = east.row(key).counts.refused
        assert words in reason
        assert name.startswith(f"Address {bad.uid[:100]}")
        assert words in streams[-1].refusals[0]
        assert len(streams[-1].refusals[0]) < 5_000
        assert set(east.workloads[key]) == {pod(1).uid}
        await west_has_its_pod(east, west)


async def test_an_address_that_is_a_service_is_refused() -> None:
    """Over this type a peer could otherwise give names to whoever it likes."""
    bad = Service("reviews", "shop", "reviews.shop.svc.cluster.local")
    async with (
        east_with_healthy_peer("flat") as (root, east, west),
        hostile(root, telling(pod(1), bad)) as (address, streams),
    ):
        key = east.link(address)
        await east.until(lambda: pod(1).uid in east.workloads.get(key, {}))
        await asyncio.wait_for(streams[-1].refused.wait(), 60)
        assert "never a Service" in streams[-1].refusals[0]
        assert set(east.workloads[key]) == {pod(1).uid}
        await west_has_its_pod(east, west)


async def test_a_million_pods_end_the_stream_long_before_they_have_come() -> None:
    """The quota's worth is held; the refusals are remembered until there are too many of them."""
    like = encode_address(renamed(pod(1), uid="hostile//Pod/shop/p0000000", name="p0000000"))
    frame = with_version(like, "v" * 500)  # remembered too
    sent = 0

    async def behave(peer: Hostile) -> None:
        nonlocal sent
        await peer.introduce(FLAT)
        for start in range(0, 1_000_000, 2_000):
            names = (b"p%07d" % number for number in range(start, start + 2_000))
            await peer.say(ADDRESS, *(frame.replace(b"p0000000", name) for name in names))
            sent = start + 2_000

    before = hits(PEER_REFUSED_BYTES), hits(PEER_WORKLOADS)
    async with (
        east_with_healthy_peer("flat") as (root, east, west),
        hostile(root, behave) as (address, _),
    ):
        key = east.link(address)
        await east.until(
            lambda: "more than is remembered" in east.row(key).status.last_error, "cut off", seconds=120
        )
        assert len(east.workloads[key]) == PEER_WORKLOADS.value
        east.dialer.configure([(key, None)])
        assert sent < 130_000
        assert hits(PEER_REFUSED_BYTES) > before[0]
        assert hits(PEER_WORKLOADS) > before[1]
        await west_has_its_pod(east, west)
