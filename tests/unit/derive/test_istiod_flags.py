"""Istiod's flags are read from its Deployments; what is not plainly right counts as wrong (D41)."""

import msgspec
import pytest

from peerd.derive.istiod_flags import MULTI_NETWORK, SELECT, istiod_flags
from peerd.model.generated import IstiodFlags
from peerd.model.kube.apps import Deployment

RIGHT = {"name": SELECT, "value": "false"}
SAFE = IstiodFlags(True)


def deployment(*env, name="istiod", labels=None, updated=2, env_from=(), container="discovery", observed=1):
    tree = {
        "metadata": {
            "namespace": "istio-system", "name": name, "generation": 1,
            "labels": {"app": "istiod", **(labels or {})},
        },
        "spec": {"template": {"spec": {"containers": [
            {"name": "istio-proxy", "env": [{"name": SELECT, "value": "true"}]},
            {"name": container, "env": list(env), "envFrom": list(env_from)},
        ]}}},
        "status": {"observedGeneration": observed, "replicas": 2, "updatedReplicas": updated},
    }  # fmt: skip
    return msgspec.convert(tree, Deployment)


def read(*deployments, revision="", before=None):
    return istiod_flags(deployments, namespace="istio-system", revision=revision, before=before)


@pytest.mark.parametrize("word", ["false", "False", "FALSE", "f", "F", "0"])
def test_what_go_reads_as_false_is_right(word):
    """Istio reads its flags with Go's ParseBool."""
    assert read(deployment({"name": SELECT, "value": word})) == SAFE


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ([], SELECT),
        ([{"name": SELECT, "value": "true"}], SELECT),
        ([{"name": SELECT, "value": "no"}], SELECT),
        ([{"name": SELECT, "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}], SELECT),
        ([RIGHT, {"name": SELECT, "value": "true"}], SELECT),
        ([RIGHT, {"name": MULTI_NETWORK, "value": "true"}], MULTI_NETWORK),
        ([RIGHT, {"name": MULTI_NETWORK, "value": "1"}], MULTI_NETWORK),
        ([RIGHT, {"name": MULTI_NETWORK, "valueFrom": {"fieldRef": {"fieldPath": "x"}}}], MULTI_NETWORK),
    ],
)
def test_anything_else_is_wrong_and_named(env, named):
    """The problem names the flag to set, and the Deployment."""
    found = read(deployment(*env))
    assert not found.safe
    assert named in found.problem
    assert found.flag == named
    assert found.where == "Deployment/istio-system/istiod"


def test_multi_network_may_be_false():
    """Its default is false; said plainly it is as good."""
    assert read(deployment(RIGHT, {"name": MULTI_NETWORK, "value": "false"})) == SAFE


def test_environment_from_elsewhere_is_unknown():
    """envFrom may bring the other flag, unless that is set here."""
    assert not read(deployment(RIGHT, env_from=[{"configMapRef": {"name": "a"}}])).safe
    plain = {"name": MULTI_NETWORK, "value": "false"}
    assert read(deployment(RIGHT, plain, env_from=[{"configMapRef": {"name": "a"}}])) == SAFE


def test_every_istiod_of_the_revision_counts():
    """A canary with other flags reads the same objects; another revision's does not concern us."""
    wrong = deployment(name="istiod-canary", labels={"istio.io/rev": "canary"})
    stable = deployment(RIGHT, labels={"istio.io/rev": "stable"})
    assert not read(stable, wrong).safe
    assert read(stable, wrong, revision="stable") == SAFE


def test_no_istiod_is_unknown_at_first_and_nothing_new_later():
    """Uninstalled for a moment, it takes nothing from anybody."""
    assert not read().safe
    assert not read(deployment(RIGHT, labels={"app": "other"})).safe
    assert read(before=SAFE) == SAFE


def test_peerd_is_no_istiod():
    """Standalone it carries istiod's label, so that istioctl finds it (D35)."""
    other = deployment(name="peerd", labels={"app.kubernetes.io/name": "peerd"}, container="peerd")
    assert read(deployment(RIGHT), other) == SAFE


def test_other_container_names_are_unknown():
    """Only istiod's own container says what istiod does."""
    assert not read(deployment(RIGHT, container="pilot")).safe


@pytest.mark.parametrize("rollout", [{"updated": 1}, {"observed": 0}])
def test_rollout_waits_for_old_pods(rollout):
    """Old Pods may run with old flags; where these were right too, nothing moves."""
    waiting = read(deployment(RIGHT, **rollout))
    assert not waiting.safe
    assert "being replaced" in waiting.problem
    assert read(deployment(RIGHT, **rollout), before=SAFE) == SAFE
    assert not read(deployment(**rollout), before=SAFE).safe
