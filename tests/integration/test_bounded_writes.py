"""How many writes beside istiod cost: none for replaced Pods, a stated few for peers that flap or go (D20).

West's Pods, its announcements, east's derivation and the writer, in virtual time; objects lie in memory, then
in a real API server.
"""

import pytest

from peerd.limits import KUBE_WRITES, OBJECT_WRITES
from peerd.model.federation import Freshness
from peerd.model.generated import GeneratedWorkloadEntry
from tests.support.beside import Beside
from tests.support.beside_writes import Link, Rig
from tests.support.clusters import Cluster, gone, pod, service, system

GLOBAL = {"solo.io/service-scope": "global"}
THEIRS = {"hosts": ["example.com"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS"}


def west_with(pods, name="west", app="reviews"):
    found = Cluster(name, [system(name), service(app, GLOBAL)])
    found.apply([_pod(app, number) for number in range(pods)])
    return found


def _pod(app, number):
    return pod(f"{app}-{number}", app, f"10.9.{number // 250}.{number % 250 + 1}")


async def _linked(rig, west, name="west"):
    link = Link(rig.east, west, name)
    link.announce(rig.now)
    await rig.work(3)
    return link


@pytest.mark.parametrize(("pods", "surge"), [(1, True), (3, True), (5, False), (40, False)], ids=str)
async def test_thousand_replaced_pods_are_no_write(either_api, pods, surge):
    """Done in 1 to 4 s each: surge-first at any size, drain-first from 5 on: the summary stays (D20)."""
    rig, west = Rig(either_api), west_with(pods)
    link = await _linked(rig, west)
    assert list(rig.weights().values()) == [pods]
    before = len(rig.api.writes)
    for number in range(1000):
        come, go = _pod("reviews", number + pods), gone("Pod", "shop", f"reviews-{number}")
        first, second = (come, go) if surge else (go, come)
        west.apply([first])
        await _pass(rig, link, number % 4 + 1)
        west.apply([second])
        await _pass(rig, link, 1)
    assert len(rig.api.writes) == before
    assert list(rig.weights().values()) == [pods]


async def _pass(rig, link, seconds):
    """So many seconds pass; whatever becomes due meanwhile is announced."""
    for _ in range(seconds):
        link.announce(rig.now)
        await rig.work(1)
    link.announce(rig.now)


async def test_scaling_is_a_write_for_each_announcement(either_api):
    """The control: more endpoints, once they are steady, are one write."""
    rig, west = Rig(either_api), west_with(5)
    link = await _linked(rig, west)
    before = len(rig.api.writes)
    west.apply([_pod("reviews", number) for number in range(5, 20)])
    link.announce(rig.now)
    await rig.work(6)
    assert len(rig.api.writes) == before
    link.announce(rig.now)
    await rig.work(1)
    assert len(rig.api.writes) == before + 1
    assert list(rig.weights().values()) == [20]


async def _flap(rig, link, seconds):
    for _ in range(50):
        for word in (Freshness.STALE, Freshness.FRESH):
            link.freshness(word)
            await rig.work(seconds)


async def test_peer_that_flaps_fast_costs_a_handful_of_writes(either_api):
    """50 times stale and fresh within 100 s: 5 writes of its entry at once, then one every 10 s."""
    rig = Rig(either_api)
    link = await _linked(rig, west_with(20))
    await _linked(rig, west_with(20, "north"), "north")
    before, began = len(rig.api.writes), rig.now
    await _flap(rig, link, 1)
    bound = OBJECT_WRITES.value + (rig.now - began) / 10
    assert 0 < len(rig.api.writes) - before <= bound
    await rig.work(30)
    assert set(rig.weights().values()) == {20}, "in the end it is as it is"


async def test_peer_that_flaps_slowly_costs_two_writes_each_time(either_api):
    """Stale for a minute 50 times: its entry's weight down and up, and nobody else's."""
    rig = Rig(either_api)
    link = await _linked(rig, west_with(20))
    await _linked(rig, west_with(20, "north"), "north")
    before = len(rig.api.writes)
    await _flap(rig, link, 60)
    writes = rig.api.writes[before:]
    assert len(writes) == 100
    assert {name.split(".")[1] for _, _, _, name, _ in writes} == {"west"}


async def test_peer_without_rivals_may_flap_for_nothing(either_api):
    """Its capacity counts in full while nobody fresh has any (D21): not one write."""
    rig = Rig(either_api)
    link = await _linked(rig, west_with(20))
    before = len(rig.api.writes)
    await _flap(rig, link, 1)
    assert len(rig.api.writes) == before


async def test_deleted_peer_takes_all_of_its_own_and_nothing_else(either_api):
    """Unlinked: its entries go, names that only it had go, shared ones lose its identities alone."""
    rig = Rig(either_api)
    shared, own = west_with(3), west_with(3, "west", "ratings")
    own.apply([service("reviews", GLOBAL), _pod("reviews", 1)])
    west = await _linked(rig, own, "west")
    await _linked(rig, shared, "north")
    rig.api.put("serviceentries", {"metadata": {"namespace": "shop", "name": "theirs"}, "spec": THEIRS})
    before = dict(rig.api.objects)
    west.unlink()
    await rig.work(5)
    lost = before.keys() - rig.api.objects.keys()
    assert {name.rpartition(".")[0] if plural == "workloadentries" else name for plural, _, name in lost} == {
        "autogen.west.shop.ratings", "autogen.west.shop.reviews", "autogen.shop.ratings"
    }  # fmt: skip
    kept = {key: tree for key, tree in rig.api.objects.items() if before.get(key) != tree}
    assert kept == {}, "nothing else was touched"


@pytest.mark.parametrize("either_api", ["in memory"], indirect=True)
async def test_a_thousand_new_services_are_written_at_the_stated_pace(either_api):
    """What comes at once is written as fast as the limit says, and no faster (`make bench NAME=writes`)."""
    rig = Rig(either_api)
    west = Cluster("west", [system("west")])
    west.apply(
        [
            service(f"s{number}", GLOBAL, clusterIP=f"10.97.{number // 250}.{number % 250 + 1}")
            for number in range(1000)
        ]
    )
    link = Link(rig.east, west, "west")
    link.announce(rig.now)
    await rig.work(5)
    written = len(rig.api.writes)
    assert written <= (2 + 5 + 1) * KUBE_WRITES.value
    assert written >= (2 + 5 - 1) * KUBE_WRITES.value
    await rig.work(20)
    assert len(rig.api.objects) == 1000


async def test_flat_network_is_a_write_for_each_changed_pod(either_api):
    """Endpoints of our own network are entries of their own: one write for each that comes or goes."""
    rig, beside = Rig(either_api), Beside("network-flat")
    steps = beside.steps()
    next(steps)
    rig.east = beside.clusters["east"]
    await rig.work(5)
    for step, _, _ in steps:
        before, there = len(rig.api.writes), _entries(rig)
        await rig.work(5)
        changed = len(there ^ _entries(rig))
        lost_all = not _entries(rig) and there  # the ServiceEntry loses its identities, too
        assert len(rig.api.writes) - before == changed + bool(lost_all), step


def _entries(rig):
    return {name for plural, _, name in rig.api.objects if plural == "workloadentries"}


@pytest.mark.parametrize("either_api", ["in memory"], indirect=True)
async def test_a_thousand_changed_pods_are_written_at_the_stated_pace(either_api):
    """A flat peer that replaces all its Pods is felt as 50 writes a second, and is through after 40 s."""
    rig = Rig(either_api)
    rig.east.generated = dict(map(_flat, range(1000)))
    await rig.work(40)
    assert len(rig.weights()) == 1000
    before, began = len(rig.api.writes), rig.now
    rig.east.generated = dict(map(_flat, range(1000, 2000)))
    await rig.work(10)
    assert len(rig.api.writes) - before <= (2 + 10 + 1) * KUBE_WRITES.value
    await rig.work(35)
    assert len(rig.api.writes) - before == 2000
    assert rig.now - began <= 45
    assert _entries(rig) == {found.name for _, found in map(_flat, range(1000, 2000))}


def _flat(number):
    found = GeneratedWorkloadEntry(
        namespace="shop",
        name=f"autogenflat.west.shop.reviews-{number}.0123456789ab",
        cluster="west",
        gateway="istio-system/west",
        network="east",
        labels=(("app", "reviews"),),
        address=f"10.8.{number // 250}.{number % 250 + 1}",
    )
    return f"WorkloadEntry/shop/{found.name}", found
