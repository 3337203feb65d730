"""The writer: what is wanted is written, and only differences are; nothing goes without proof."""

import pytest

from peerd.publish.notice import NoticeKind
from peerd.publish.ref import Ref, observed
from tests.support.fake_objects import FakeObjects
from tests.support.writer_rig import ENTRIES, REF, WriterRig, entry


@pytest.fixture
def rig():
    return WriterRig()


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
    again = WriterRig(rig.api)
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
    rig = WriterRig(watch=False)
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


async def test_what_the_server_makes_of_a_manifest_is_no_edit():
    """It normalises a value: written once, not again and again; a real edit is still undone."""

    class Normalising(FakeObjects):
        def _store(self, key, tree):
            if tree is not None and "weight" in tree.get("spec", {}):
                tree["spec"]["weight"] = int(tree["spec"]["weight"])
            super()._store(key, tree)

    rig = WriterRig(Normalising())
    rig.writer.want(REF, entry(weight="5"))
    await rig.work(600)
    assert len(rig.api.writes) == 1
    tree = rig.api.get("serviceentries", "shop", REF.name)
    rig.api.put("serviceentries", {**tree, "spec": {**tree["spec"], "hosts": ["evil"]}})
    await rig.work(600)
    assert rig.spec() == {"hosts": ["web.shop.mesh.internal"], "weight": 5}


async def test_kinds_that_nobody_watches_are_listed_at_the_start():
    """By label; what is ours and unspoken for can then go, with proof."""
    rig = WriterRig(watch=False)
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
