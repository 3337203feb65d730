"""What is generated, wired: addresses and takeovers go into objects and come back to derivation."""

import random

import msgspec
import pytest

from peerd.app.generation import Generation
from peerd.derive.allocation import GLOBAL_POOL
from peerd.derive.commit import Commit
from peerd.kubeapi.objects import KubeObjects
from peerd.model.changes import AllocationChange, OwnChange, TakeoverChange
from peerd.model.federation import Takeover
from peerd.model.generated import GeneratedPort, GeneratedServiceEntry
from peerd.model.kube.meta import ObjectKey
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime

KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}
HOST = "reviews.shop.mesh.internal"
KEY = "ServiceEntry/shop/autogen.shop.reviews"
NAME = ("serviceentries", "shop", "autogen.shop.reviews")
ENTRY = GeneratedServiceEntry(
    namespace="shop",
    name="autogen.shop.reviews",
    service="shop/reviews",
    hosts=(HOST,),
    ports=(GeneratedPort(80, "http"),),
    selector=(("app", "reviews"),),
)


class Rig:
    """One replica before an API server that tells all replicas of every change."""

    def __init__(self, api=None, *, leads=True):
        self.api = api or FakeObjects()
        self.leads = leads
        self.clock = SteppedTime()
        self.heard = []
        self.writer = Writer(KubeObjects(self.api), clock=self.clock, source=random.Random(2), permit=self)
        self.generation = Generation(self.writer, self, self.heard.extend, self.clock)
        others, self.api.changed = self.api.changed, self._watch
        self._others = others

    def remaining(self):
        return float("inf") if self.leads else 0.0

    def _watch(self, plural, namespace, name, tree):
        if self._others is not None:
            self._others(plural, namespace, name, tree)
        self.generation.own([OwnChange(KINDS[plural], ObjectKey(namespace, name), tree)])

    async def commit(self, *, wanted=(), takeovers=(), generated=((KEY, ENTRY),)):
        self.generation.committed(Commit(1, generated=generated, wanted_hosts=wanted, takeovers=takeovers))
        self.generation.want(wanted)
        await self.settle()

    async def settle(self):
        for _ in range(3):
            await self.generation.settle()
            self.generation.look(frozenset())
            await self.writer.work()

    def said(self, kind):
        return [change for change in self.heard if isinstance(change, kind)]

    def annotations(self):
        return self.api.get(*NAME)["metadata"]["annotations"]


async def test_address_is_chosen_written_and_then_heard_of():
    """Two writes, the object and its status; derivation hears when it is read back (D28)."""
    rig = Rig()
    await rig.commit(wanted=[(HOST, GLOBAL_POOL)])
    assert [(each[0], each[4]) for each in rig.api.writes] == [("PATCH", ""), ("PATCH", "status")]
    (change,) = rig.said(AllocationChange)
    assert change.host == HOST
    assert change.allocation is not None
    recorded = rig.api.get(*NAME)["status"]["addresses"]
    assert [each["host"] for each in recorded] == [HOST, HOST]


async def test_replica_without_the_lease_hears_the_same():
    """It writes nothing, and serves what the other recorded; with the Lease it goes on."""
    leader = Rig()
    other = Rig(leader.api, leads=False)
    await other.commit(wanted=[(HOST, GLOBAL_POOL)])
    assert leader.api.writes == []
    await leader.commit(wanted=[(HOST, GLOBAL_POOL)])
    assert other.said(AllocationChange) == leader.said(AllocationChange) != []


async def test_refused_status_is_told_and_tried_again():
    """A right that is missing shows as a problem of the entry; nothing is served meanwhile."""
    rig = Rig()

    async def before():
        if rig.api.requests[-1][4] == "status":
            rig.api.fail = [status(403, "Forbidden")]

    rig.api.before = before
    await rig.commit(wanted=[(HOST, GLOBAL_POOL)])
    assert rig.said(AllocationChange) == []
    (told,) = rig.generation.problems
    assert told.object == KEY
    assert "Forbidden" in told.message
    rig.api.before = None
    await rig.clock.advance(60)
    await rig.settle()
    assert len(rig.said(AllocationChange)) == 1
    assert rig.generation.problems == ()


@pytest.mark.parametrize(("takeover", "word"), [(Takeover(), "label"), (Takeover(by_rule=True), "rule")])
async def test_takeover_is_recorded_and_heard_of(takeover, word):
    """It outlives the Service that asked, in an annotation that every replica reads (D23)."""
    rig = Rig()
    await rig.commit(takeovers=[("shop/reviews", takeover)])
    assert rig.annotations()["peering.peerd.io/takeover"] == word
    assert rig.said(TakeoverChange) == [TakeoverChange("shop/reviews", takeover)]
    await rig.commit(takeovers=[("shop/reviews", None)], generated=())
    assert "peering.peerd.io/takeover" not in rig.annotations()
    assert rig.said(TakeoverChange)[1:] == [TakeoverChange("shop/reviews", None)]


async def test_recorded_takeover_is_heard_of_at_the_next_start():
    """Also where the Service is gone by then: the object says so before derivation could."""
    first = Rig()
    await first.commit(takeovers=[("shop/reviews", Takeover())])
    second = Rig(FakeObjects())
    second._watch(*NAME, first.api.get(*NAME))
    assert second.said(TakeoverChange) == [TakeoverChange("shop/reviews", Takeover())]


@pytest.mark.parametrize("other", ["shop/autogen.svc.shop.reviews", "istio-system/autogen.shop.reviews"])
async def test_takeover_is_over_only_with_its_last_record(other):
    """Of several entries of a service, as while one moves, one may go: the others still record it."""
    namespace, _, name = other.partition("/")
    second = msgspec.structs.replace(ENTRY, namespace=namespace, name=name, hosts=("b.example",))
    rig = Rig()
    await rig.commit(
        takeovers=[("shop/reviews", Takeover())], generated=((KEY, ENTRY), (f"ServiceEntry/{other}", second))
    )
    assert rig.said(TakeoverChange) == [TakeoverChange("shop/reviews", Takeover())]
    await rig.commit(generated=((KEY, None),))
    assert len(rig.said(TakeoverChange)) == 1
    await rig.commit(generated=((f"ServiceEntry/{other}", None),))
    assert rig.said(TakeoverChange)[1:] == [TakeoverChange("shop/reviews", None)]


async def test_deleted_entry_takes_its_record_along():
    """No peer has the name any more: address and takeover are over."""
    rig = Rig()
    await rig.commit(wanted=[(HOST, GLOBAL_POOL)], takeovers=[("shop/reviews", Takeover())])
    await rig.commit(wanted=[(HOST, None)], takeovers=[("shop/reviews", None)], generated=((KEY, None),))
    assert rig.api.objects == {}
    assert rig.said(AllocationChange)[-1] == AllocationChange(HOST, None)
    assert rig.said(TakeoverChange)[-1] == TakeoverChange("shop/reviews", None)
