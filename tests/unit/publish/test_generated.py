"""What is generated is kept in the cluster: written as it changes, deleted with proof only."""

from peerd.limits import GENERATED_BYTES, hits
from peerd.model.federation import FederatedName
from peerd.model.generated import GeneratedPort
from peerd.publish.generated_manifests import CLUSTERS
from tests.support.fake_objects import FakeObjects
from tests.support.generated_objects import NOBODY, NORTH, WEST, Process, endpoints, entry, key_of, puts


async def _started(*found, unheard=NOBODY, api=None):
    rig = Process(api or FakeObjects())
    rig.kept.put(puts(*found))
    rig.kept.settle(unheard)
    await rig.settle()
    return rig


async def test_nothing_is_written_before_everything_has_been_said():
    """A half-known world would diminish what is there."""
    rig = Process(FakeObjects())
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
    second = Process(first.api)
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
    second = Process(first.api)
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


async def test_what_an_old_memory_does_not_know_stays_until_its_peer_has_synced():
    """Another replica wrote it while we were away; what we wanted ourselves goes as ever (D13)."""
    first = await _started(entry(), entry("ratings"), entry("details"), endpoints(NORTH))
    second = Process(first.api)
    second.kept.put(puts(entry(), entry("details")))  # of what was restored
    second.kept.settle(NOBODY, frozenset({WEST}))
    await second.settle()
    assert second.names() == ["autogen.shop.details", "autogen.shop.ratings", "autogen.shop.reviews"]
    second.kept.put([(key_of(entry("details")), None)])
    await second.settle()
    assert second.names() == ["autogen.shop.ratings", "autogen.shop.reviews"]
    second.kept.settle(NOBODY, NOBODY)
    await second.settle()
    assert second.names() == ["autogen.shop.reviews"]


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


def name(*clusters, own=False, others=None, host="reviews.shop.mesh.internal"):
    """Who serves the name of the entry, as derivation says it."""
    found = FederatedName("shop/reviews", host, own, tuple(clusters), others or len(clusters))
    return [(f"shop/{host}", found)]


def told(rig):
    """What the entry says of that."""
    return rig.api.get("serviceentries", "shop", "autogen.shop.reviews")["metadata"]["annotations"].get(
        CLUSTERS
    )


async def test_a_name_without_a_service_names_its_clusters():
    """A status is the Service's; where none serves the name, its entry says who does (ADR 9)."""
    rig = await _started(entry())
    assert told(rig) is None
    rig.kept.names(name("north", "west"))
    await rig.settle()
    assert told(rig) == "north, west"
    rig.kept.names(name("north", "west", others=33))
    await rig.settle()
    assert told(rig) == "north, west, 31 more"
    rig.kept.names(name("north", own=True))
    await rig.settle()
    assert told(rig) is None
    rig.kept.names(name("north"))
    await rig.settle()
    assert told(rig) == "north"
    rig.kept.names([("shop/reviews.shop.mesh.internal", None)])
    await rig.settle(20)  # one object is written five times at once, and then less often
    assert told(rig) is None


async def test_clusters_are_written_with_the_entry_and_only_when_they_change():
    """A new name is one write, the same again none, another cluster one."""
    rig = Process(FakeObjects())
    rig.kept.settle(NOBODY)
    rig.kept.names(name("north"))
    rig.kept.put(puts(entry()))
    await rig.settle()
    assert told(rig) == "north"
    assert len(rig.api.writes) == 1
    rig.kept.names(name("north"))
    rig.kept.names(name("west", host="other.shop.mesh.internal"))
    await rig.settle()
    assert len(rig.api.writes) == 1
    rig.kept.names(name("north", "west"))
    rig.kept.put(puts(entry(hosts=("reviews.shop.mesh.internal", "reviews.shop.svc.cluster.local"))))
    await rig.settle()
    assert told(rig) == "north, west"
    assert len(rig.api.writes) == 2


async def test_clusters_that_are_not_heard_of_yet_stay_named():
    """After a restart what the last process wrote holds until everybody has spoken, and no longer."""
    first = Process(FakeObjects())
    first.kept.settle(NOBODY)
    first.kept.names(name("north", "west"))
    first.kept.put(puts(entry()))
    await first.settle()

    second = Process(first.api)
    second.kept.names(name("north"))
    second.kept.put(puts(entry()))
    second.kept.settle(frozenset({"istio-system/west"}))
    await second.settle()
    assert told(second) == "north, west"
    second.kept.names(name("north", own=True))
    second.kept.settle(NOBODY)
    await second.settle()
    assert told(second) is None
