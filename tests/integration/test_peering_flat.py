"""Clusters on one network tell each other their endpoints, over real sockets and TLS (D19, D20, D31)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerd.encode.address import encode_address
from peerd.model.changes import ImportedWorkloadChange
from peerd.model.federation import FederationScope
from peerd.model.kube.meta import ObjectKey
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS
from peerd.peering.persistence import ImportJournal
from peerd.protocol.peer_state import PeerState
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, renamed, service, workload

Pair = tuple[PeeringCluster, PeeringCluster, ObjectKey]


@pytest.fixture
def root() -> Authority:
    return Authority("root")


def flat(name: str, authority: Authority, **fields: object) -> PeeringCluster:
    """A cluster on the network that all of them share."""
    made = PeeringCluster(name, authority, **fields)  # type: ignore[arg-type]
    made.info = renamed(made.info, network="flat")
    return made


def pod(number: int, *services: str, **fields: object):
    return workload("west", number, *services, network="flat", **fields)


@pytest.fixture
async def pair(root: Authority) -> AsyncIterator[Pair]:
    east, west = flat("east", Authority("east", root)), flat("west", Authority("west", root))
    await east.start()
    west.export(*((each.uid, each) for each in (pod(1), pod(2))))
    await west.start(service("reviews", 2))
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE, "live")
    yield east, west, key
    await east.stop()
    await west.stop()


async def test_endpoints_of_a_peer_on_our_network_arrive_as_they_are(pair: Pair) -> None:
    east, _, key = pair
    assert east.workloads[key] == {each.uid: each for each in (pod(1), pod(2))}
    assert east.row(key).counts.workloads == 2


async def test_a_replaced_pod_is_one_workload_each_way_and_at_once(pair: Pair) -> None:
    """D20: on a flat network one Workload for each changed Pod is the contract; nothing is held steady."""
    east, west, key = pair
    east.changes.clear()
    west.export((pod(2).uid, None), (pod(3).uid, pod(3)))
    await east.until(lambda: set(east.workloads[key]) == {pod(1).uid, pod(3).uid})
    assert sorted((change.uid, change.workload) for change in east.changes) == [
        (pod(2).uid, None),
        (pod(3).uid, pod(3)),
    ]


async def test_a_peer_that_leaves_the_network_takes_its_endpoints_with_it(pair: Pair) -> None:
    """Both ends make new streams; without a name nobody is on the same network."""
    east, west, key = pair
    for network in ("another", ""):
        east.importer.join(network)
        east.dialer.join("", network)
        await east.until(lambda: not east.workloads[key], "not ours any more")
        east.importer.join("flat")
        east.dialer.join("", "flat")
        await east.until(lambda: len(east.workloads[key]) == 2, "and again")
    west.service.commit_info(renamed(west.info, network="elsewhere"))
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED, "its Gateway's label says flat")


async def test_a_network_that_a_peer_of_ours_is_known_not_to_be_on_is_not_shown_to_it(pair: Pair) -> None:
    """A Hello is its sender's word: what the cluster told us on our own link counts against it."""
    east, west, key = pair
    west.places.put(ObjectKey("istio-system", "peer-east"), renamed(east.info, network="far away"))
    await east.until(lambda: not east.workloads[key], "the running stream ended")
    west.places.put(ObjectKey("istio-system", "peer-east"), None)
    await east.until(lambda: len(east.workloads[key]) == 2)


async def test_endpoints_of_segment_services_are_for_that_segment(pair: Pair) -> None:
    east, west, key = pair
    secret = service("secret", scope=FederationScope.SEGMENT)
    west.service.commit([(secret.resource_name, secret)])
    west.service.commit_workloads([(pod(9, "secret").uid, pod(9, "secret"))], same_segment=True)
    await east.until(lambda: pod(9).uid in east.workloads[key])
    east.dialer.join("blue", "flat")
    await east.until(lambda: pod(9).uid not in east.workloads[key])
    assert len(east.workloads[key]) == 2


async def test_a_bad_workload_is_refused_by_name_and_the_rest_is_used(pair: Pair) -> None:
    """D23: it names a service below another namespace than its own; its owner sees why."""
    east, west, key = pair
    hijack = pod(7, namespace="shop")
    hijack = renamed(hijack, services=(renamed(hijack.services[0], service="shop/bank.bank.mesh.internal"),))
    west.export((hijack.uid, hijack), (pod(8).uid, pod(8)))
    await east.until(lambda: pod(8).uid in east.workloads[key])
    assert hijack.uid not in east.workloads[key]
    ((name, reason),) = east.row(key).counts.refused
    assert name == f"Address {hijack.uid}"
    assert "no global service of the peer's" in reason
    west.export((pod(10).uid, pod(10)))
    await east.until(lambda: pod(10).uid in east.workloads[key], "sent once the refusal was heard")
    (inbound,) = west.service.inbound()
    (seen,) = [each for each in inbound.types if each.type_url == ADDRESS]
    assert hijack.uid in seen.error


async def test_workloads_of_a_peer_that_is_not_on_our_network_are_refused(root: Authority) -> None:
    """Even of one that sends them to whoever asks."""
    east, west = PeeringCluster("east", Authority("east", root)), flat("west", Authority("west", root))
    await east.start()
    await west.start(service("reviews", 2))
    for view in west.service._exports._views.values():
        view.commit([ResourceChange(ADDRESS, pod(1).uid, encode_address(pod(1)))])
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert east.workloads == {}
    ((_, reason),) = east.row(key).counts.refused
    assert "entered by a gateway" in reason
    await east.stop()
    await west.stop()


async def test_endpoints_survive_a_restart_and_a_sync_sweeps_those_that_went_meanwhile(
    root: Authority, tmp_path: Path
) -> None:
    authority = Authority("east", root)
    west = flat("west", Authority("west", root))
    west.export(*((each.uid, each) for each in (pod(1), pod(2))))
    await west.start(service("reviews", 2))
    journal = ImportJournal(tmp_path / "imports")
    east = flat("east", authority, keeper=journal)
    await east.start()
    key = east.link(west)
    await east.until(lambda: len(east.workloads.get(key, ())) == 2)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    await east.stop()
    journal.close()
    west.export((pod(2).uid, None))

    journal = ImportJournal(tmp_path / "imports")
    again = flat("east", authority, keeper=journal)
    again.importer.restore(journal.load())
    restored = again.importer.restored_changes(again.clock.time())
    assert ImportedWorkloadChange(key, pod(2).uid, pod(2)) in restored
    await again.start()
    again.link(west)
    assert set(again.workloads[key]) == {pod(1).uid, pod(2).uid}, "before the first answer"
    await again.until(lambda: set(again.workloads[key]) == {pod(1).uid})
    again.dialer.configure([(key, None)])
    assert again.workloads[key] == {}
    await again.stop()
    await west.stop()
    journal.close()


async def test_the_first_peer_on_the_network_waits_until_all_is_encoded_and_misses_nothing(
    root: Authority,
) -> None:
    """Thousands of endpoints are encoded in slices; what changes in between is as it is then."""
    east, west = flat("east", Authority("east", root)), flat("west", Authority("west", root))
    pods = {number: pod(number) for number in range(3000)}
    west.export(*((each.uid, each) for each in pods.values()))
    await west.start(service("reviews", 2))
    await east.start()
    key = east.link(west)
    while west.service._exports._encoding is None:  # noqa: ASYNC110 (no event tells that it began)
        await asyncio.sleep(0)
    assert not west.service._exports._encoding.done()
    changed = pod(2999, canonical_name="changed meanwhile")
    west.export((pod(0).uid, None), (pod(2998).uid, None), (changed.uid, changed))
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert len(east.workloads[key]) == 2998
    assert east.workloads[key][changed.uid] == changed
    await east.stop()
    await west.stop()
