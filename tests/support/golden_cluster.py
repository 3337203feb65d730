"""A recorded case's objects, made anew in a real API server as they once were.

Creation order is kept, as far as it shows: objects are created oldest first, those recorded with different
times at least a second apart, those with the same time within one second (times have no fractions). uids of
recorded objects that others refer to are rewritten to the new ones; status goes through its subresource.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.apiserver import ApiServer

_ATTEMPTS = 40  # a busy machine makes few objects in a second, and now and then all of them
_GRACE = 3600  # seconds that a Pod which is being deleted stays
_SYSTEM = "istio-system"  # without it, nothing that the API server says is believed
Tree = dict[str, Any]


def load(server: ApiServer, file: Path) -> None:
    """Make all objects of *file*; what exists already (namespace `default`) gets its labels."""
    trees = [tree for tree in yaml.load_all(file.read_bytes(), Loader=yaml.CSafeLoader) if tree]
    _make_missing_namespaces(server, trees)
    uids = dict.fromkeys((tree["metadata"]["uid"] for tree in trees), "")
    for _, rank in itertools.groupby(sorted(trees, key=_age), key=_age):
        made = _create_together(server, _dependencies_first(rank), uids)
        for tree, found in made:
            if tree.get("status"):
                server.admin.set_status(found, tree["status"])
            if tree["metadata"].get("deletionTimestamp"):
                server.admin.request("DELETE", server.admin.path(tree), {"gracePeriodSeconds": _GRACE})


def _age(tree: Tree) -> str:
    return str(tree["metadata"]["creationTimestamp"])


def _dependencies_first(trees: Iterator[Tree]) -> list[Tree]:
    """Namespaces before what is in them, Pods before the slices that name their uids."""
    return sorted(trees, key=lambda tree: (tree["kind"] != "Namespace", tree["kind"] != "Pod"))


def _make_missing_namespaces(server: ApiServer, trees: list[Tree]) -> None:
    there = {found["metadata"]["name"] for found in server.admin.items("v1", "Namespace")}
    there |= {tree["metadata"]["name"] for tree in trees if tree["kind"] == "Namespace"}
    wanted = {tree["metadata"].get("namespace") for tree in trees} | {_SYSTEM}
    for namespace in wanted - there - {None}:
        server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})


def _create_together(server: ApiServer, trees: list[Tree], uids: dict[str, str]) -> list[tuple[Tree, Tree]]:
    """Create all in one second of the server's clock, a later one than of anything before."""
    for _ in range(_ATTEMPTS):
        _until_next_second()
        made = [(tree, _create(server, tree, uids)) for tree in trees]
        fresh = [(tree, found) for tree, found in made if tree["metadata"]["name"] != "default"]
        if len({_age(found) for _, found in fresh}) <= 1:
            return made
        for tree, _ in reversed(fresh):
            server.admin.delete(tree)
    raise TimeoutError(f"{len(trees)} objects could not be created within one second")


def _until_next_second() -> None:
    time.sleep(1 - time.time() % 1 + 0.01)


def _create(server: ApiServer, tree: Tree, uids: dict[str, str]) -> Tree:
    own = ("uid", "deletionTimestamp", "deletionGracePeriodSeconds")
    metadata = {key: value for key, value in tree["metadata"].items() if key not in own}
    wanted = _with_uids({**tree, "metadata": metadata, "status": None}, uids)
    if tree["kind"] == "Namespace" and server.admin.get(tree) is not None:
        return server.admin.patch(tree, {"metadata": {"labels": tree["metadata"].get("labels", {})}})
    found = server.admin.create(wanted)
    uids[tree["metadata"]["uid"]] = found["metadata"]["uid"]
    return found


def _with_uids(value: Any, uids: dict[str, str]) -> Any:
    """The same tree with the uids of recorded objects replaced, wherever they stand.

    An object that is named before it was made here is an error of this file's order.
    """
    if isinstance(value, dict):
        return {key: _with_uids(inner, uids) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_uids(inner, uids) for inner in value]
    if not isinstance(value, str) or value not in uids:
        return value
    assert uids[value], f"uid {value} is referred to before its object was created"
    return uids[value]
