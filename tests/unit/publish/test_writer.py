"""The writer: what is wanted is written, and only differences are; nothing goes without proof."""

import random

import pytest

from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.limits import KUBE_WRITE_S, KUBE_WRITES, OBJECT_WRITES, hits
from peerd.publish.notice import NoticeKind
from peerd.publish.ref import Observed, Ref, observed
from peerd.publish.writer import Writer
from tests.support.fake_apiserver.faults import refused
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime

ENTRIES = Resource("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
REF = Ref(ENTRIES, "shop", "autogen.shop.web")
STATUS = Ref(GATEWAYS, "istio-eastwest", "west", "status")


def entry(name="autogen.shop.web", hosts=("web.shop.mesh.internal",), **spec):
    return {
        "metadata": {"namespace": "shop", "name": name, "labels": {"peerd.io/generated": "true"}},
        "spec": {"hosts": list(hosts), **spec},
    }


def condition(status_, type_="Accepted", reason="Known"):
    return {"type": type_, "status": status_, "reason": reason, "message": "", "observedGeneration": 1}


def conditions(*found):
    return {
        "metadata": {"namespace": "istio-eastwest", "name": "west"},
        "status": {"conditions": list(found)},
    }


class Rig:
    """A writer, what it writes to, and a watch that tells it of every change, at once or when asked."""

    def __init__(self, server=None, *, watch=True):
        self.api = server or FakeObjects()
        self.clock = SteppedTime()
        self.permitted = float("inf")
        self.notices = []
        self.changed = []
        self.late = []
        self.lagging = False
        self.writer = Writer(
            KubeObjects(self.api),
            clock=self.clock,
            source=random.Random(7),
            permit=self,
            tell=self.notices.append,
            changed=self.changed.append,
        )
        if watch:
            self.api.changed = self._watch

    def remaining(self):
        return self.permitted

    def _watch(self, plural, namespace, name, tree):
        resource = {"serviceentries": ENTRIES, "gateways": GATEWAYS}[plural]
        ref = Ref(resource, namespace, name, "status" if resource is GATEWAYS else "")
        meta = {} if tree is None else tree["metadata"]
        seen = None if tree is None else Observed(meta["uid"], meta["resourceVersion"], tree)
        if self.lagging:
            self.late.append((ref, seen))
        else:
            self.writer.observe(ref, seen)

    def catch_up(self):
        late, self.late, self.lagging = self.late, [], False
        for each in late:
            self.writer.observe(*each)

    async def work(self, seconds=0.0):
        """Everything that is due within *seconds*."""
        end = self.clock.monotonic() + seconds
        while (wait := await self.writer.work()) is not None:
            if self.clock.monotonic() + wait > end:
                break
            await self.clock.advance(max(wait, 0.001))
        await self.clock.advance(max(0.0, end - self.clock.monotonic()))

    def spec(self, name="autogen.shop.web"):
        found = self.api.get("serviceentries", "shop", name)
        return None if found is None else found["spec"]

    @property
    def told(self):
        return [(each.kind, str(each.ref)) for each in self.notices]


@pytest.fixture
def rig():
    return Rig()


async def test_what_is_wanted_is_written_once(rig):
    """By server-side apply; saying it again, or seeing it come back, writes nothing."""
    rig.writer.want(REF, entry())
    await rig.work()
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"]}
    assert rig.api.get("serviceentries", "shop", REF.name)["kind"] == "ServiceEntry"
    rig.writer.want(REF, entry())
    await rig.work(60)
    assert [each[0] for each in rig.api.requests] == ["GET", "PATCH"]
    assert rig.writer.counts["ServiceEntry", "apply", "ok"] == 1


async def test_a_change_is_written_and_the_last_one_counts(rig):
    """What is wanted twice between two writes is written once."""
    rig.writer.want(REF, entry())
    await rig.work()
    rig.writer.want(REF, entry(hosts=("a",)))
    rig.writer.want(REF, entry(hosts=("b",)))
    await rig.work()
    assert rig.spec() == {"hosts": ["b"]}
    assert len(rig.api.writes) == 2


async def test_wanted_otherwise_for_a_moment_writes_nothing(rig):
    """There and back before the writer came by."""
    rig.writer.want(REF, entry())
    await rig.work()
    rig.writer.want(REF, None)
    rig.writer.want(REF, entry())
    await rig.work()
    assert len(rig.api.writes) == 1


async def test_after_a_restart_only_differences_are_written(rig):
    """What exists is observed first: nothing is asked, nothing written, where it is as wanted."""
    rig.writer.want(REF, entry())
    await rig.work()
    again = Rig(rig.api)
    for key, tree in list(rig.api.objects.items()):
        again._watch(*key, tree)
    rig.api.requests.clear()
    again.writer.want(REF, entry())
    assert again.writer.pending == 0  # also on a replica that does not write
    await again.work(60)
    assert rig.api.requests == []
    again.writer.want(REF, entry(hosts=("b",)))
    await again.work()
    assert [each[0] for each in rig.api.requests] == ["PATCH"]


async def test_nothing_is_deleted_that_nobody_spoke_for(rig):
    """Own objects of a former life are listed, and stay until somebody with proof says so."""
    rig.api.put("serviceentries", entry())
    rig.api.put("serviceentries", {"metadata": {"namespace": "shop", "name": "users"}, "spec": {}})
    await rig.work(600)
    assert rig.writer.unspoken() == [REF]
    assert rig.api.writes == []
    rig.writer.want(REF, None)
    await rig.work()
    assert rig.spec() is None
    assert rig.writer.unspoken() == []


async def test_only_the_object_that_was_seen_is_deleted(rig):
    """Deleted and made anew by somebody else meanwhile: the uid does not fit, and it is not ours."""
    rig.writer.want(REF, entry())
    await rig.work()
    rig.lagging = True
    rig.api.drop("serviceentries", "shop", REF.name)
    rig.api.put(
        "serviceentries", {"metadata": {"namespace": "shop", "name": REF.name}, "spec": {"hosts": []}}
    )
    rig.writer.want(REF, None)
    await rig.work(120)
    assert rig.spec() == {"hosts": []}


async def test_a_name_that_is_taken_is_left_alone(rig):
    """The user's object stays as it is, and is named; once it is gone, ours is written."""
    rig.api.put(
        "serviceentries", {"metadata": {"namespace": "shop", "name": REF.name}, "spec": {"hosts": ["u"]}}
    )
    rig.writer.want(REF, entry())
    await rig.work(120)
    assert rig.spec() == {"hosts": ["u"]}
    assert rig.told == [(NoticeKind.TAKEN, "ServiceEntry/shop/autogen.shop.web")]
    assert [str(each.ref) for each in rig.writer.problems()] == ["ServiceEntry/shop/autogen.shop.web"]
    rig.api.drop("serviceentries", "shop", REF.name)
    await rig.work(120)
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"]}
    assert rig.writer.problems() == ()


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda tree: tree["spec"].update(hosts=["evil"]), "spec.hosts"),
        (lambda tree: tree["spec"].update(exportTo=["."]), "spec.exportTo"),
        (lambda tree: tree["metadata"]["labels"].clear(), "metadata.labels.peerd.io/generated"),
    ],
)
async def test_a_hand_edit_is_undone_and_told(rig, edit, field):
    """A changed field, and a field that only the hand has written."""
    rig.writer.want(REF, entry())
    await rig.work()
    tree = rig.api.get("serviceentries", "shop", REF.name)
    edit(tree)
    rig.api.put("serviceentries", tree)
    await rig.work(60)
    if field.startswith("metadata"):
        assert rig.told == [(NoticeKind.TAKEN, "ServiceEntry/shop/autogen.shop.web")]
        return
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"]}
    assert rig.told == [(NoticeKind.REVERTED, "ServiceEntry/shop/autogen.shop.web")]
    assert field in rig.notices[0].message


async def test_a_name_that_is_taken_is_looked_at_now_and_then(rig):
    """Nobody watches a user's object for us: once it is gone, ours is written, within a minute or so."""
    rig = Rig(watch=False)
    theirs = {"metadata": {"namespace": "shop", "name": REF.name}, "spec": {"hosts": ["u"]}}
    rig.api.put("serviceentries", theirs)
    rig.writer.want(REF, entry())
    await rig.work(600)
    assert len(rig.api.requests) <= 20
    assert {each[0] for each in rig.api.requests} == {"GET"}
    assert len(rig.told) == 1
    rig.api.drop("serviceentries", "shop", REF.name)
    await rig.work(70)
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"]}


async def test_what_took_the_place_of_a_deleted_object_is_left_alone(rig):
    """A user deletes ours and makes one of theirs before we write: we look first."""
    rig.writer.want(REF, entry())
    await rig.work()
    rig.api.drop("serviceentries", "shop", REF.name)
    rig.lagging = True
    theirs = {"metadata": {"namespace": "shop", "name": REF.name}, "spec": {"hosts": ["u"]}}
    rig.api.put("serviceentries", theirs)
    await rig.work(120)
    assert rig.spec() == {"hosts": ["u"]}
    assert rig.told == [(NoticeKind.TAKEN, "ServiceEntry/shop/autogen.shop.web")]


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ({"manager": "peerd", "operation": "Apply"}, True),
        ({"manager": "peerd", "operation": "Apply", "subresource": "status"}, False),
        ({"manager": "kubectl", "operation": "Apply"}, False),
    ],
)
def test_ours_is_what_we_applied_even_without_the_label(fields, ours):
    """A label that a hand took away is put back; the status of a user's object does not make it ours."""
    assert observed({"metadata": {"labels": {}, "managedFields": [fields]}}).ours is ours


async def test_a_label_of_somebody_else_stays(rig):
    """Metadata is shared: an added label is no drift and survives our next write."""
    rig.writer.want(REF, entry())
    await rig.work()
    tree = rig.api.get("serviceentries", "shop", REF.name)
    tree["metadata"]["labels"]["team"] = "blue"
    rig.api.put("serviceentries", tree)
    await rig.work(60)
    assert len(rig.api.writes) == 1
    rig.writer.want(REF, entry(hosts=("b",)))
    await rig.work(60)
    assert rig.api.get("serviceentries", "shop", REF.name)["metadata"]["labels"]["team"] == "blue"
    assert rig.notices == []


async def test_deleted_by_hand_it_is_made_again(rig):
    """And told."""
    rig.writer.want(REF, entry())
    await rig.work()
    rig.api.drop("serviceentries", "shop", REF.name)
    await rig.work(60)
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"]}
    assert rig.told == [(NoticeKind.REVERTED, "ServiceEntry/shop/autogen.shop.web")]


async def test_a_watch_that_lags_behind_our_writes_undoes_nothing(rig):
    """States of before our write come after its answer: they are the past, not an edit."""
    rig.writer.want(REF, entry(hosts=("a",)))
    await rig.work()
    rig.lagging = True
    for host in "bcd":
        rig.writer.want(REF, entry(hosts=(host,)))
        await rig.work(1)
    rig.catch_up()
    await rig.work(120)
    assert len(rig.api.writes) == 4
    assert rig.notices == []
    assert rig.writer.pending == 0


async def test_an_older_state_that_stays_is_believed_in_the_end(rig):
    """An API server restored from a backup counts from before our write: after 30 s that is how it is."""
    rig.writer.want(REF, entry(hosts=("a",)))
    await rig.work()
    rig.lagging = True
    rig.writer.want(REF, entry(hosts=("b",)))
    await rig.work()
    rig.late.clear()
    rig.lagging = False
    tree = entry(hosts=("a",))
    tree["metadata"] |= {"uid": rig.api.get("serviceentries", "shop", REF.name)["metadata"]["uid"]}
    rig.api._version = 50
    rig.api.put("serviceentries", tree)
    await rig.work(29)
    assert rig.spec() == {"hosts": ["a"]}
    await rig.work(60)
    assert rig.spec() == {"hosts": ["b"]}


async def test_conditions_keep_the_time_of_their_last_change(rig):
    """And conditions of others stay; the same status with another reason is no transition."""
    other = {**condition("True", "Other"), "lastTransitionTime": "2020-01-01T00:00:00Z"}
    rig.api.put("gateways", {**conditions(other), "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work()
    held = {
        each["type"]: each
        for each in rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    }
    assert held["Other"] == other
    first = held["Accepted"]["lastTransitionTime"]
    assert first == "2023-11-14T22:13:20Z"
    await rig.work(100)
    rig.writer.want(STATUS, conditions(condition("True", reason="Other")))
    await rig.work()
    held = {
        each["type"]: each
        for each in rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    }
    assert (held["Accepted"]["reason"], held["Accepted"]["lastTransitionTime"]) == ("Other", first)
    rig.writer.want(STATUS, conditions(condition("False")))
    await rig.work()
    held = {
        each["type"]: each
        for each in rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    }
    assert held["Accepted"]["lastTransitionTime"] == "2023-11-14T22:15:00Z"
    assert {each[-1] for each in rig.api.writes} == {"status"}


async def test_transitions_are_told_once_they_are_written(rig):
    """Of status or reason, against what the API server had: not of messages, not of what was so already."""
    rig.api.put("gateways", {**conditions(condition("True"), condition("False", "B")), "spec": {}})
    wanted = conditions(
        condition("True"), {**condition("False", "B"), "message": "new"}, condition("True", "C")
    )
    rig.writer.want(STATUS, wanted)
    await rig.work()
    assert [(each.before, each.after["type"]) for each in rig.changed] == [(None, "C")]
    rig.writer.want(
        STATUS, conditions(condition("False"), condition("False", "B", "Why"), condition("True", "C"))
    )
    await rig.work()
    assert [(each.before["status"], each.after["reason"]) for each in rig.changed[1:]] == [
        ("True", "Known"),
        ("False", "Why"),
    ]


async def test_an_edit_of_a_status_whose_version_is_not_kept_is_undone():
    """Where the watch tells no versions, its past is told from an edit by waiting."""
    rig = Rig(watch=False)

    def watch(plural, namespace, name, tree):
        rig.writer.observe(STATUS, Observed(tree["metadata"]["uid"], "", {"status": tree.get("status", {})}))

    rig.api.changed = watch
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work()
    tree = rig.api.get("gateways", "istio-eastwest", "west")
    tree["status"]["conditions"][0]["status"] = "False"
    rig.api.put("gateways", tree)
    await rig.work(4)
    assert len(rig.api.writes) == 1
    await rig.work(2)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"][0]["status"] == "True"
    assert len(rig.api.writes) == 2


async def test_a_condition_of_ours_that_is_not_wanted_goes():
    """Also one that a former process left; those of others are not counted."""
    rig = Rig()
    rig.writer._owned = "C".__eq__
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True"), condition("True", "C")))
    await rig.work()
    again = Rig(rig.api)
    again.writer._owned = "C".__eq__
    again._watch("gateways", "istio-eastwest", "west", rig.api.get("gateways", "istio-eastwest", "west"))
    again.writer.want(STATUS, conditions(condition("True")))
    await again.work()
    held = rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    assert [each["type"] for each in held] == ["Accepted"]
    await again.work(60)
    assert len(rig.api.writes) == 2


async def test_a_status_wanted_no_more_takes_back_only_ours(rig):
    """As an uninstall does."""
    other = {**condition("True", "Other"), "lastTransitionTime": "2020-01-01T00:00:00Z"}
    rig.api.put("gateways", {**conditions(other), "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work()
    rig.writer.want(STATUS, None)
    await rig.work()
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"] == [other]


async def test_the_status_of_an_object_that_is_gone_waits_for_it(rig):
    """No object is made, no retry is spent, until it is seen."""
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(600)
    assert [each[0] for each in rig.api.requests] == ["GET"]
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    await rig.work(60)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]


async def test_a_status_whose_object_went_meanwhile_is_tried_until_that_is_seen(rig):
    """Seldom, and without a question: who may write a status may not read all objects."""
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.lagging = True
    rig.api.drop("gateways", "istio-eastwest", "west")
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(600)
    assert {each[0] for each in rig.api.requests} == {"PATCH"}
    assert 10 < len(rig.api.requests) < 30
    assert rig.notices == []
    rig.catch_up()
    rig.api.requests.clear()
    await rig.work(600)
    assert rig.api.requests == []


async def test_a_status_is_written_where_an_api_server_lost_its_object_for_a_while(rig):
    """Restored from a backup it is as before, so that no watch tells anything."""
    tree = {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}}
    rig.api.put("gateways", tree)
    lost, rig.lagging = rig.api.get("gateways", "istio-eastwest", "west"), True
    rig.api.drop("gateways", "istio-eastwest", "west")
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(20)
    rig.api.objects["gateways", "istio-eastwest", "west"] = lost
    await rig.work(60)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]


async def test_what_came_and_went_while_nobody_watched_is_made_again(rig):
    """Neither our own write nor somebody's deletion is ever told: after a while it is looked for, once."""
    rig.lagging = True
    rig.writer.want(REF, entry())
    await rig.work()
    rig.api.drop("serviceentries", "shop", "autogen.shop.web")
    rig.late, rig.lagging = [], False
    await rig.work(20)
    assert rig.spec() is None
    await rig.work(40)
    assert rig.spec() is not None
    rig.api.requests.clear()
    await rig.work(600)
    assert rig.api.requests == []


async def test_the_status_of_an_object_that_came_back_is_written():
    """Taken back when it was gone already, wanted again before anybody said that it is there again."""
    rig = Rig(watch=False)
    tree = {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}}
    rig.api.put("gateways", tree)
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work()
    rig.api.drop("gateways", "istio-eastwest", "west")
    rig.writer.want(STATUS, None)
    await rig.work(60)
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(60)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]


async def test_without_the_permit_nothing_is_written(rig):
    """What changed meanwhile is written when it is given, once."""
    rig.permitted = 0.0
    rig.writer.want(REF, entry(hosts=("a",)))
    rig.writer.want(REF, entry(hosts=("b",)))
    await rig.work(600)
    assert rig.api.requests == []
    rig.permitted = 9.0
    await rig.work()
    assert rig.spec() == {"hosts": ["b"]}
    assert len(rig.api.writes) == 1


async def test_a_write_ends_with_the_permit(rig):
    """The answer that does not come in time is not waited for."""
    import asyncio

    rig.permitted = 0.02

    async def hang():
        await asyncio.Event().wait()

    rig.api.before = hang
    before = hits(KUBE_WRITE_S)
    rig.writer.want(REF, entry())
    await rig.writer.work()
    assert rig.writer.pending == 1
    assert hits(KUBE_WRITE_S) == before + 1


@pytest.mark.parametrize(
    "failure",
    [
        status(500, "InternalError"),
        status(503, "Unavailable"),
        ApiUnreachableError("reset"),
        status(429, "TooManyRequests"),
    ],
    ids=["500", "503", "unreachable", "429"],
)
async def test_an_api_server_in_trouble_is_left_in_peace_for_a_while(rig, failure):
    """Everything waits, with jitter and ever longer; then everything is written."""
    rig.api.fail = [failure] * 4
    for name in ("x", "y", "z"):
        rig.writer.want(Ref(ENTRIES, "shop", name), entry(name))
    await rig.work(1.0)
    assert len(rig.api.requests) <= 3
    await rig.work(120)
    assert [rig.spec(name) is not None for name in ("x", "y", "z")] == [True] * 3
    assert rig.notices == []


async def test_retry_after_is_heeded(rig):
    """Not a moment earlier."""
    rig.api.fail = [status(429, "TooManyRequests", 40.0)]
    rig.writer.want(REF, entry())
    await rig.work(39)
    assert len(rig.api.requests) == 1
    await rig.work(10)
    assert rig.spec() is not None


async def test_one_refused_object_does_not_hold_up_others(rig):
    """It is told once, tried again ever less often, and written when it is taken."""
    bad = Ref(ENTRIES, "shop", "a-bad-one")
    rig.writer.want(bad, entry("a-bad-one"))
    rig.api.fail = [None, status(422, "Invalid")] + [status(422, "Invalid")] * 8
    await rig.work()
    rig.api.fail, refusals = [], rig.api.fail
    rig.writer.want(REF, entry())
    await rig.work()
    assert rig.spec() is not None
    rig.api.fail = refusals
    before = len(rig.api.requests)
    await rig.work(100)
    assert 4 <= len(rig.api.requests) - before <= 8
    assert rig.told == [(NoticeKind.REFUSED, "ServiceEntry/shop/a-bad-one")]
    await rig.work(400)
    assert rig.spec("a-bad-one") is not None
    assert rig.writer.problems() == ()


LACKING = Response(403, refused("patch", "serviceentries", "networking.istio.io", "shop"))


async def test_thousands_that_are_refused_hold_nobody_up(rig):
    """A right that is lacking: what is tried again waits for what is new, and is written once it may be."""
    allowed = False

    async def refuse():
        if not allowed and rig.api.requests[-1][:2] == ("PATCH", "serviceentries"):
            rig.api.fail = [LACKING]

    rig.api.before = refuse
    names = [f"e{number}" for number in range(3000)]
    for name in names:
        rig.writer.want(Ref(ENTRIES, "shop", name), entry(name))
    await rig.work(200)
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}})
    rig.writer.observe(STATUS, observed(rig.api.get("gateways", "istio-eastwest", "west")))
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(2)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    allowed = True
    await rig.work(200)
    assert all(rig.spec(name) for name in names)


async def test_a_lacking_right_is_no_news_of_each_object(rig):
    """It is told of the cluster (test_rights.py), not as an Event on each of thousands."""
    rig.writer.want(REF, entry())
    rig.api.fail = [None, LACKING]
    await rig.work()
    assert rig.spec() is None
    assert rig.notices == []
    assert rig.writer.problems() == ()
    await rig.work(2)
    assert rig.spec() is not None


async def test_writes_follow_their_order_and_deletes_reverse_it(rig):
    """A ServiceEntry before its endpoints, and after them on the way out."""
    refs = [Ref(ENTRIES, "shop", name) for name in ("c", "b", "a")]
    for order, ref in enumerate(refs):
        rig.writer.want(ref, entry(ref.name), order=order)
    await rig.work()
    assert [each[3] for each in rig.api.writes] == ["c", "b", "a"]
    rig.api.requests.clear()
    for order, ref in enumerate(refs):
        rig.writer.want(ref, None, order=order)
    await rig.work()
    assert [each[3] for each in rig.api.writes] == ["a", "b", "c"]


async def test_an_object_that_flaps_is_written_a_handful_of_times(rig):
    """OBJECT_WRITES at once, then one every 10 s; the last state is what stays."""
    before = hits(OBJECT_WRITES)
    for flap in range(50):
        rig.writer.want(REF, entry(hosts=(str(flap),)))
        await rig.work(1)
    assert len(rig.api.writes) <= OBJECT_WRITES.value + 5
    assert hits(OBJECT_WRITES) > before
    await rig.work(60)
    assert rig.spec() == {"hosts": ["49"]}


async def test_an_object_that_comes_and_goes_is_bounded_too(rig):
    """Deleted and made again it is the same object: an endpoint that fails and returns every second."""
    for flap in range(50):
        rig.writer.want(REF, None if flap % 2 else entry())
        await rig.work(1)
    assert len(rig.api.writes) <= OBJECT_WRITES.value + 5
    rig.writer.want(REF, None)
    await rig.work(60)
    assert rig.spec() is None
    assert rig.writer.pending == 0


async def test_what_is_kept_of_forgotten_objects_is_what_was_written_lately(rig):
    """A thousand Pods a minute, each of another name, for ten minutes: no memory of all of them."""
    for number in range(1000):
        ref = Ref(ENTRIES, "shop", f"e{number}")
        rig.writer.want(ref, entry(ref.name))
        await rig.work(0.3)
        rig.writer.want(ref, None)
        await rig.work(0.3)
    assert len(rig.writer._spent) <= 60
    assert rig.api.objects == {}


async def test_writes_a_second_are_bounded(rig):
    """A burst of twice the rate, then the rate."""
    before = hits(KUBE_WRITES)
    for number in range(KUBE_WRITES.value * 4):
        rig.writer.want(Ref(ENTRIES, "shop", f"e{number}"), entry(f"e{number}"))
    await rig.work(0.5)
    assert len(rig.api.writes) <= KUBE_WRITES.value * 2.5 + 1
    await rig.work(2)
    assert len(rig.api.writes) == KUBE_WRITES.value * 4
    assert hits(KUBE_WRITES) > before


async def test_what_the_server_makes_of_a_manifest_is_no_edit():
    """It normalises a value: written once, not again and again; a real edit is still undone."""

    class Normalising(FakeObjects):
        def _store(self, key, tree):
            if tree is not None and "weight" in tree.get("spec", {}):
                tree["spec"]["weight"] = int(tree["spec"]["weight"])
            super()._store(key, tree)

    rig = Rig(Normalising())
    rig.writer.want(REF, entry(weight="5"))
    await rig.work(600)
    assert len(rig.api.writes) == 1
    tree = rig.api.get("serviceentries", "shop", REF.name)
    rig.api.put("serviceentries", {**tree, "spec": {**tree["spec"], "hosts": ["evil"]}})
    await rig.work(600)
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"], "weight": 5}


async def test_kinds_that_nobody_watches_are_listed_at_the_start():
    """By label; what is ours and unspoken for can then go, with proof."""
    rig = Rig(watch=False)
    rig.api.put("serviceentries", entry())
    rig.api.put("serviceentries", {"metadata": {"namespace": "shop", "name": "users"}, "spec": {}})
    await rig.writer.load(ENTRIES)
    assert rig.writer.unspoken() == [REF]
    rig.writer.want(REF, entry())
    await rig.work()
    assert rig.api.writes == []


async def test_idle_comes_when_all_is_written(rig):
    """Also after retries, and `run` writes without being asked."""
    import asyncio

    running = asyncio.ensure_future(rig.writer.run())
    rig.writer.want(REF, entry())
    await asyncio.wait_for(rig.writer.idle(), 30)
    assert rig.spec() is not None
    running.cancel()
