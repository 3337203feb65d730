"""How many writes beside istiod cost: none for replaced Pods, a stated few for peers that flap or go (D20).

West's Pods, its announcements, east's derivation and the writer, in virtual time; objects lie in memory, then
in a real API server.
"""

import random

import pytest

from peerd.kubeapi.objects import KubeObjects
from peerd.limits import KUBE_WRITES, OBJECT_WRITES
from peerd.model.changes import ImportChange, IstiodChange, OwnChange, PeerChange
from peerd.model.federation import Freshness, PeerView
from peerd.model.generated import Generate, GeneratedWorkloadEntry, IstiodFlags
from peerd.model.kube.meta import ObjectKey
from peerd.peering.steady import Steady
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.beside import Beside
from tests.support.clusters import Cluster, gone, namespace, pod, remote_gateway, service, system
from tests.support.stepping import SteppedTime

GLOBAL = {"solo.io/service-scope": "global"}
THEIRS = {"hosts": ["example.com"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS"}
KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}


class Link:
    """What west announces, as east's importer hears it."""

    def __init__(self, east, west, name):
        self._east = east
        self._west = west
        self._steady = Steady()
        self.key = ObjectKey("istio-system", name)
        east.apply([remote_gateway(name, name, f"198.51.100.{len(east.links) + 1}")])
        east.links[name] = west
        self.freshness(Freshness.FRESH)

    def freshness(self, word):
        self._east.apply([PeerChange(self.key, PeerView(self.key, self._west.info, word))])

    def announce(self, now):
        """Derivation's exports go through the exporter's rules; what comes out, east imports."""
        told = self._steady.put(sorted(self._west.exports.items()), now) + self._steady.due(now)
        self._east.apply([ImportChange(self.key, name, found) for name, found in told])

    def unlink(self):
        withdrawn = [ImportChange(self.key, name, None) for name in self._west.exports]
        self._east.apply(
            [gone("Gateway", "istio-system", self.key.name), PeerChange(self.key, None), *withdrawn]
        )


class Rig:
    """East beside istiod, and what it writes."""

    def __init__(self, api):
        self.clock = SteppedTime()
        base = [system("east"), namespace("shop"), IstiodChange(IstiodFlags(True))]
        self.east = Cluster("east", base, generate=Generate.BESIDE)
        self.api = api
        self.api.changed = self._watch
        self._writer = Writer(KubeObjects(self.api), clock=self.clock, source=random.Random(5))
        self._kept = GeneratedObjects(self._writer)
        self._before = {}
        self._kept.settle(frozenset())

    def _watch(self, plural, where, name, tree):
        self._kept.observe([OwnChange(KINDS[plural], ObjectKey(where, name), tree)])

    async def work(self, seconds=0):
        """Write what follows from the present derivation, while so many seconds pass."""
        now = self.east.generated
        changed = [(key, found) for key, found in now.items() if self._before.get(key) != found]
        self._kept.put([*changed, *((key, None) for key in self._before if key not in now)])
        self._before = dict(now)
        await self._writer.work()
        for _ in range(seconds):
            await self.clock.advance(1)
            await self._writer.work()

    @property
    def now(self):
        return self.clock.monotonic()

    def weights(self):
        return {
            name: tree["spec"]["weight"]
            for (plural, _, name), tree in self.api.objects.items()
            if plural == "workloadentries"
        }


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
