"""What is generated is kept in the cluster: written as it changes, deleted with proof only."""

import random

import msgspec
import pytest

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.objects import KubeObjects
from peerd.limits import GENERATED_BYTES, hits
from peerd.model.changes import OwnChange
from peerd.model.generated import GeneratedPort, GeneratedServiceEntry, GeneratedWorkloadEntry
from peerd.model.kube.meta import ObjectKey
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime

KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}
WEST, NORTH = "istio-system/west", "istio-system/north"
NOBODY = frozenset()


def entry(name="reviews", sans=("spiffe://cluster.local/ns/shop/sa/reviews",), **more):
    found = GeneratedServiceEntry(
        namespace="shop",
        name=f"autogen.shop.{name}",
        service=f"shop/{name}",
        hosts=(f"{name}.shop.mesh.internal",),
        ports=(GeneratedPort(80, "http", "HTTP", 8080),),
        selector=(("app", name),),
        subject_alt_names=tuple(sans),
    )
    return msgspec.structs.replace(found, **more)


def endpoints(gateway=WEST, name="reviews", weight=2):
    cluster = gateway.partition("/")[2]
    return GeneratedWorkloadEntry(
        namespace="shop",
        name=f"autogen.{cluster}.shop.{name}.0123abcd",
        cluster=cluster,
        gateway=gateway,
        network=f"{cluster}-net",
        labels=(("app", name),),
        weight=weight,
    )


def key_of(found):
    kind = "ServiceEntry" if isinstance(found, GeneratedServiceEntry) else "WorkloadEntry"
    return f"{kind}/{found.namespace}/{found.name}"


def puts(*found):
    return [(key_of(each), each) for each in found]


class Rig:
    """One process of peerd before an API server that outlives it; its watch tells of every change."""

    def __init__(self, api=None):
        self.api = api or FakeObjects()
        self.clock = SteppedTime()
        self.notices = []
        self.writer = Writer(
            KubeObjects(self.api), clock=self.clock, source=random.Random(3), tell=self.notices.append
        )
        self.kept = GeneratedObjects(self.writer)
        for (plural, namespace, name), tree in sorted(self.api.objects.items()):
            self._watch(plural, namespace, name, tree)
        self.api.changed = self._watch

    def _watch(self, plural, namespace, name, tree):
        labels = (tree or {}).get("metadata", {}).get("labels", {})
        if tree is None or labels.get("peerd.io/generated"):
            self.kept.observe([OwnChange(KINDS[plural], ObjectKey(namespace, name), tree)])

    async def settle(self, seconds=0):
        await self.writer.work()
        for _ in range(seconds):
            await self.clock.advance(1)
            await self.writer.work()

    def names(self):
        return sorted(name for _, _, name in self.api.objects)


async def _started(*found, unheard=NOBODY, api=None):
    rig = Rig(api)
    rig.kept.put(puts(*found))
    rig.kept.settle(unheard)
    await rig.settle()
    return rig


async def test_nothing_is_written_before_everything_has_been_said():
    """A half-known world would diminish what is there."""
    rig = Rig()
    rig.kept.put(puts(entry()))
    await rig.settle()
    assert rig.api.requests == []
    rig.kept.settle(NOBODY)
    await rig.settle()
    assert rig.names() == ["autogen.shop.reviews"]


async def test_only_what_changed_is_written():
    """A weight is one write, the same again none."""
    rig = await _started(entry(), endpoints())
    before = len(rig.api.writes)
    rig.kept.put(puts(endpoints(weight=3)))
    rig.kept.put(puts(entry()))
    await rig.settle()
    assert len(rig.api.writes) == before + 1
    written = rig.api.get("workloadentries", "shop", endpoints().name)
    assert written["spec"]["weight"] == 3


async def test_service_entries_come_first_and_go_last():
    """Endpoints that nothing selects are no harm, a name without its endpoints is an error to callers."""
    rig = await _started(endpoints(), entry())
    assert [plural for _, plural, *_ in rig.api.writes] == ["serviceentries", "workloadentries"]
    rig.kept.put([(key_of(entry()), None), (key_of(endpoints()), None)])
    await rig.settle()
    assert [plural for _, plural, *_ in rig.api.writes[2:]] == ["workloadentries", "serviceentries"]
    assert rig.api.objects == {}


async def test_what_nobody_wants_goes_at_the_next_start():
    """Objects of an earlier life are deleted once everybody has spoken, and not before."""
    first = await _started(entry(), endpoints(), endpoints(NORTH))
    second = Rig(first.api)
    second.kept.put(puts(entry(), endpoints()))
    await second.settle()
    assert len(second.names()) == 3
    second.kept.settle(NOBODY)
    await second.settle()
    assert second.names() == ["autogen.shop.reviews", "autogen.west.shop.reviews.0123abcd"]


async def test_what_an_unheard_peer_may_own_stays():
    """After a restart without state: its entries stay, others' go; ServiceEntries lose nothing (D13)."""
    theirs = "spiffe://cluster.local/ns/shop/sa/north"
    first = await _started(
        entry(sans=("spiffe://cluster.local/ns/shop/sa/reviews", theirs)),
        entry("ratings"), endpoints(), endpoints(NORTH),
    )  # fmt: skip
    second = Rig(first.api)
    second.kept.put(puts(entry()))
    second.kept.settle(frozenset({NORTH}))
    await second.settle()
    assert second.names() == [
        "autogen.north.shop.reviews.0123abcd", "autogen.shop.ratings", "autogen.shop.reviews"
    ]  # fmt: skip
    kept = second.api.get("serviceentries", "shop", "autogen.shop.reviews")
    assert theirs in kept["spec"]["subjectAltNames"]
    second.kept.settle(NOBODY)  # it has synced, and exports nothing
    await second.settle()
    assert second.names() == ["autogen.shop.reviews"]
    kept = second.api.get("serviceentries", "shop", "autogen.shop.reviews")
    assert theirs not in kept["spec"]["subjectAltNames"]


async def test_peer_that_is_linked_later_keeps_nothing():
    """A new Gateway with a wrong address is unheard for a day: nothing that is there can be its own."""
    rig = await _started(entry(), entry("ratings"), endpoints())
    rig.kept.settle(frozenset({NORTH}))
    rig.kept.put([(key_of(entry("ratings")), None), *puts(entry(sans=()))])
    await rig.settle()
    assert rig.names() == ["autogen.shop.reviews", endpoints().name]
    assert "subjectAltNames" not in rig.api.get("serviceentries", "shop", "autogen.shop.reviews")["spec"]


async def test_unheard_peers_hosts_and_ports_stay_too():
    """A host or port that only the unheard peer may have said is still served."""
    more = entry(
        hosts=("reviews.shop.mesh.internal", "reviews.shop.svc.cluster.local"),
        ports=(GeneratedPort(80, "http", "HTTP", 8080), GeneratedPort(90, "more")),
    )
    first = await _started(more)
    second = await _started(entry(), unheard=frozenset({WEST}), api=first.api)
    spec = second.api.get("serviceentries", "shop", "autogen.shop.reviews")["spec"]
    assert spec["hosts"] == list(more.hosts)
    assert [port["number"] for port in spec["ports"]] == [80, 90]


async def test_hand_edits_are_reverted_and_told():
    """An edit lasts until the watch tells of it; so does a deletion."""
    rig = await _started(entry(), endpoints())
    edited = rig.api.get("workloadentries", "shop", endpoints().name)
    rig.api.put("workloadentries", {**edited, "spec": {**edited["spec"], "weight": 1000}})
    await rig.settle()
    assert rig.api.get("workloadentries", "shop", endpoints().name)["spec"]["weight"] == 2
    rig.api.drop("serviceentries", "shop", "autogen.shop.reviews")
    await rig.settle(31)  # a watch may lag behind our own write for so long
    assert "autogen.shop.reviews" in rig.names()
    told = [(notice.kind.value, str(notice.ref)) for notice in rig.notices]
    assert told == [
        ("reverted", f"WorkloadEntry/shop/{endpoints().name}"),
        ("reverted", "ServiceEntry/shop/autogen.shop.reviews"),
    ]


async def test_users_object_of_our_name_is_left_alone():
    """A name that is taken is told, the object stays as its owner wrote it."""
    api = FakeObjects()
    theirs = {"metadata": {"namespace": "shop", "name": "autogen.shop.reviews"}, "spec": {"hosts": ["a.b"]}}
    api.put("serviceentries", theirs)
    rig = await _started(entry(), api=api)
    assert rig.api.get("serviceentries", "shop", "autogen.shop.reviews")["spec"] == {"hosts": ["a.b"]}
    assert [notice.kind.value for notice in rig.notices] == ["taken"]


async def test_too_large_an_object_is_not_sent():
    """Identities without end: the limit is counted and told, the object in the cluster stays as it is."""
    rig = await _started(entry())
    before, writes = hits(GENERATED_BYTES), len(rig.api.writes)
    many = [f"spiffe://cluster.local/ns/shop/sa/{'x' * 60}{number}" for number in range(12_000)]
    rig.kept.put(puts(entry(sans=many)))
    await rig.settle()
    assert len(rig.api.writes) == writes
    assert hits(GENERATED_BYTES) == before + 1
    (told,) = rig.kept.diagnostics
    assert told.object == "ServiceEntry/shop/autogen.shop.reviews"
    rig.kept.put(puts(entry()))
    assert rig.kept.diagnostics == ()


# -- whatever fails, whenever the process dies -----------------------------------------------------------

HISTORY = [
    puts(entry(), endpoints()),
    puts(entry("ratings"), endpoints(NORTH), endpoints(weight=5)),
    puts(entry(sans=())),
    [(key_of(endpoints(NORTH)), None), *puts(endpoints(name="ratings"))],
    [(key_of(entry("ratings")), None), (key_of(endpoints(name="ratings")), None)],
]
FINAL = {
    ("serviceentries", "shop", "autogen.shop.reviews"),
    ("workloadentries", "shop", endpoints().name),
}
REQUESTS = 10  # how many writes the history takes without a failure
FAILURES = {
    "500": status(500, "InternalError"),
    "429": status(429, "TooManyRequests", 1.0),
    "409": status(409, "Conflict"),
    "403": status(403, "Forbidden"),
    "no answer": ApiUnreachableError("connection reset"),
}


def _wanted():
    """What derivation says at the end: to a process that starts then, all at once."""
    wanted = dict(pair for step in HISTORY for pair in step)
    return [(key, found) for key, found in wanted.items() if found is not None]


async def _check(api):
    assert set(api.objects) == FINAL, "no orphan, nothing missing"
    assert api.get("workloadentries", "shop", endpoints().name)["spec"]["weight"] == 5
    assert "subjectAltNames" not in api.get("serviceentries", "shop", "autogen.shop.reviews")["spec"]


async def test_history_without_failures():
    """What the table below varies; its length is how many writes that takes."""
    rig = await _started()
    for step in HISTORY:
        rig.kept.put(step)
        await rig.settle()
    await _check(rig.api)
    assert len(rig.api.writes) == REQUESTS


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_each_write_fails_once(at, failure):
    """Every write of a history fails once, in every way: the end is the same."""
    rig = await _started()
    answered = 0

    async def before():
        nonlocal answered
        rig.api.fail = [FAILURES[failure]] if answered == at else []
        answered += 1

    rig.api.before = before
    for step in HISTORY:
        rig.kept.put(step)
        await rig.settle(5)
    await rig.settle(120)
    await _check(rig.api)


@pytest.mark.parametrize("lost", [False, True], ids=["after the write", "its answer lost"])
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_process_dies_after_each_write(at, lost):
    """It is killed after a write, with or without having heard the answer; the next one ends the same."""
    rig = await _started()

    class KilledError(Exception):
        pass

    api, answered = rig.api, 0
    original = api.request

    async def request(*args, **named):
        nonlocal answered
        answer = await original(*args, **named)
        if args[0] != "GET":
            answered += 1
            if answered == at + 1 and lost:
                raise KilledError
        elif answered > at:
            raise KilledError
        return answer

    api.request = request
    try:
        for step in HISTORY:
            rig.kept.put(step)
            if not lost and answered > at:
                raise KilledError  # noqa: TRY301
            await rig.settle()
            if answered > at:
                raise KilledError  # noqa: TRY301
    except KilledError:
        pass
    api.request = original
    again = await _started(*(found for _, found in _wanted()), api=api)
    await again.settle(5)
    await _check(api)
