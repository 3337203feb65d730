"""Istiod's flags are followed: told when all is known and when they change, and only by what can be read."""

import json
import random

import pytest

from peerd.derive.istiod_flags import SELECT
from peerd.kubeapi.lists import Head
from peerd.model.generated import IstiodFlags
from peerd.model.kube.meta import ObjectKey
from peerd.sources.istiod import IstiodWatch
from tests.support.istiod_stand_in import RIGHT, deployment

KEY = ObjectKey("istio-system", "istiod")
SAFE = IstiodFlags(True)


def manifest(flags, **status):
    tree = deployment(flags)
    tree["metadata"]["generation"] = 1
    return {**tree, "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, **status}}


class Rig:
    def __init__(self):
        self.told = []
        self.watch = IstiodWatch(
            None, None, random.Random(1), namespace="istio-system", revision="", changed=self.told.append
        )

    def put(self, tree, *, event=False):
        raw = {"type": "MODIFIED", "object": tree} if event else tree
        head = Head(KEY, "uid", "1")
        self.watch.put(head, json.dumps(raw).encode(), event=event)


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr("peerd.sources.istiod.Reflector", lambda *_: None)
    return Rig()


def test_nothing_is_said_before_all_was_listed(rig):
    """Of two istiods one alone would say too much."""
    rig.put(manifest(RIGHT))
    assert rig.told == []
    rig.watch.listed()
    assert rig.told == [SAFE]


def test_changes_are_told_once(rig):
    """An event that changes no flag is nobody's business."""
    rig.put(manifest(RIGHT))
    rig.watch.listed()
    rig.put(manifest(RIGHT, readyReplicas=1), event=True)
    rig.watch.listed()
    assert rig.told == [SAFE]
    rig.put(manifest({SELECT: "true"}), event=True)
    assert [each.safe for each in rig.told] == [True, False]


def test_vanished_istiod_says_nothing_new(rig):
    """Who reads entries is gone; the next one says for itself."""
    rig.put(manifest(RIGHT))
    rig.watch.listed()
    rig.watch.delete(KEY)
    assert rig.told == [SAFE]
    rig.put(manifest({}), event=True)
    assert not rig.told[-1].safe


def test_garbled_deployment_changes_nothing(rig):
    """An object of an unknown shape is no news."""
    rig.put(manifest(RIGHT))
    rig.watch.listed()
    rig.put({**manifest({}), "spec": []}, event=True)
    assert rig.told == [SAFE]


def test_who_may_not_look_says_so(rig):
    """A missing right is told as such; an API server that is away may come back."""
    rig.watch.trouble("cannot connect")
    assert rig.told == []
    rig.watch.trouble("list deployments: 403 Forbidden: no")
    (told,) = rig.told
    assert "may not read Deployments" in told.problem
    rig.put(manifest(RIGHT))
    rig.watch.listed()
    assert rig.told[-1] == SAFE
    rig.watch.trouble("list deployments: 403 Forbidden: no")
    assert rig.told[-1] == SAFE
