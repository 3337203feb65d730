"""JSON and trees to records: the same object, and the field that is wrong by its path."""

# ruff: noqa: E501 (a table of cases)

import json

import msgspec
import pytest

from peerd.model.kube.istio import MutualTls
from peerd.model.kube.kinds import NODE, PEER_AUTHENTICATION, POD, SERVICE
from peerd.sources.decode import DecodeError, decode_json, decode_tree

POD_TREE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "n", "labels": {"app": "a"}, "managedFields": [{"x": 1}]},
    "spec": {"serviceAccountName": "sa", "containers": [{"ports": [{"containerPort": 80}]}]},
    "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
}


def test_json_and_tree_give_the_same_record():
    """Whichever source an object came from."""
    assert decode_json(POD, json.dumps(POD_TREE).encode()) == decode_tree(POD, POD_TREE)


def test_json_with_nulls_decodes_as_without_them():
    """API servers send `null` for empty lists of some kinds."""
    with_null = {**POD_TREE, "status": {"podIP": "10.0.0.1", "conditions": None}}
    without = {**POD_TREE, "status": {"podIP": "10.0.0.1"}}
    assert decode_json(POD, msgspec.json.encode(with_null)) == decode_tree(POD, without)


@pytest.mark.parametrize(
    ("kind", "change", "field", "message"),
    [
        (POD, {"spec": []}, "spec", "is a list, not a mapping"),
        (POD, {"spec": {"containers": {}}}, "spec.containers", "is a mapping, not a list"),
        (POD, {"spec": {"hostNetwork": "yes"}}, "spec.hostNetwork", "is a string, not true or false"),
        (POD, {"metadata": {"name": "p", "labels": {"a": "x", "b": 1}}}, "metadata.labels[b]", "is a whole number, not a string"),
        (SERVICE, {"spec": {"ports": [{"port": 1}, {"port": "x"}]}}, "spec.ports[1].port", "is a string, not a whole number"),
        (SERVICE, {"spec": {"selector": {"a": True}}}, "spec.selector[a]", "is true or false, not a string"),
        (SERVICE, {"spec": {"selector": {1.5: "a"}}}, "spec.selector (a key)", "is a number, not a string"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_told_by_object_field_and_types(kind, change, field, message):
    """In words a user of Kubernetes knows."""
    tree = {"metadata": {"name": "p", "namespace": "n"}, **change}
    with pytest.raises(DecodeError) as error:
        decode_tree(kind, tree, "m.yaml")
    diagnostic = error.value.diagnostic
    assert (diagnostic.field, diagnostic.message, diagnostic.where) == (field, message, "m.yaml")
    assert diagnostic.object.startswith(f"{kind.name}/")


def test_keys_that_yaml_takes_for_numbers_or_booleans_are_text():
    """As kubectl turns them into JSON: `portLevelMtls: {9090: ...}` is how everybody writes it."""
    tree = {
        "metadata": {"name": "p", "namespace": "n", "labels": {True: "a", 2: "b"}},
        "spec": {"portLevelMtls": {9090: {"mode": "STRICT"}}},
    }
    policy = decode_tree(PEER_AUTHENTICATION, tree)
    assert policy.metadata.labels == {"true": "a", "2": "b"}
    assert policy.spec.port_level_mtls == {"9090": MutualTls("STRICT")}


def test_what_is_not_json_is_told():
    """The whole object is named, since nothing of it can be read."""
    with pytest.raises(DecodeError, match=r"Node: \(whole object\): is not JSON"):
        decode_json(NODE, b"{")
