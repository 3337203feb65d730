"""The writer and statuses: conditions of ours, those of others, objects that are not there."""

import pytest

from peerd.publish.ref import Observed
from tests.support.writer_rig import STATUS, WriterRig, condition, conditions


@pytest.fixture
def rig():
    return WriterRig()


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
    rig = WriterRig(watch=False)

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
    rig = WriterRig()
    rig.writer._owned = "C".__eq__
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.writer.want(STATUS, conditions(condition("True"), condition("True", "C")))
    await rig.work()
    again = WriterRig(rig.api)
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


async def test_the_status_of_an_object_that_came_back_is_written():
    """Taken back when it was gone already, wanted again before anybody said that it is there again."""
    rig = WriterRig(watch=False)
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
