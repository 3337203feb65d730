"""What etcd is to an API server: objects by key, one counter of versions, a history that is compacted."""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

Tree = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
Snapshot = tuple[int, dict[str, dict[Key, Tree]]]


@dataclass(frozen=True)
class Definition:
    """One resource that is served."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """As CustomResourceDefinitions are named."""
        return f"{self.plural}.{self.group}"


@dataclass(frozen=True)
class Entry:
    """One line of the history: ADDED, MODIFIED or DELETED, and the object as it then was."""

    version: int
    resource: str  # plural.group
    type: str
    key: Key
    text: bytes
    fields: tuple[tuple[str, str], ...]


class Conflict(Exception):  # noqa: N818 (an answer, not a failure of ours)
    """Somebody else was first."""


class Storage:
    """Objects as trees; every write is one version. *now* is in Unix seconds."""

    def __init__(self, random: Random, now: Callable[[], float]) -> None:
        self._random = random
        self._now = now
        self.version = 1
        self.compacted = 0
        self.history: list[Entry] = []
        self._objects: dict[str, dict[Key, Tree]] = {}

    def get(self, resource: str, key: Key) -> Tree | None:
        return copy.deepcopy(self._objects.get(resource, {}).get(key))

    def items(self, resource: str) -> Iterator[tuple[Key, Tree]]:
        """All of them, by key."""
        yield from sorted(self._objects.get(resource, {}).items())

    def create(self, resource: str, key: Key, tree: Tree) -> Tree:
        if key in self._objects.get(resource, {}):
            raise Conflict("AlreadyExists")
        tree = copy.deepcopy(tree)
        tree["metadata"] |= {
            "name": key[1],
            "uid": tree["metadata"].get("uid")
            or str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "creationTimestamp": tree["metadata"].get("creationTimestamp") or _moment(self._now()),
            "generation": 1,
        }
        if key[0]:
            tree["metadata"]["namespace"] = key[0]
        return self._write(resource, key, tree, "ADDED")

    def update(self, resource: str, key: Key, tree: Tree) -> Tree:
        """Replace; the version that *tree* names, if it does, must be the present one."""
        held = self._objects[resource][key]
        named = tree["metadata"].get("resourceVersion")
        if named and named != held["metadata"]["resourceVersion"]:
            raise Conflict("Conflict")
        tree = copy.deepcopy(tree)
        for field in ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"):
            if field in held["metadata"]:
                tree["metadata"][field] = held["metadata"][field]
        if tree == held:
            return copy.deepcopy(held)
        if tree.get("spec") != held.get("spec"):
            tree["metadata"]["generation"] = held["metadata"]["generation"] + 1
        return self._write(resource, key, tree, "MODIFIED")

    def delete(self, resource: str, key: Key) -> Tree | None:
        tree = self._objects.get(resource, {}).pop(key, None)
        if tree is not None:
            self.version += 1
            tree["metadata"]["resourceVersion"] = str(self.version)
            self._record(resource, key, tree, "DELETED")
        return tree

    def compact(self) -> None:
        """Forget the history: watches from before now get 410."""
        self.compacted = self.version
        self.history.clear()

    def empty(self) -> None:
        """All is lost, the counter too."""
        self._objects.clear()
        self.history.clear()
        self.compacted = 0
        self.version = 1

    def snapshot(self) -> Snapshot:
        """A backup."""
        return self.version, copy.deepcopy(self._objects)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a backup, the counter too."""
        self.version, objects = snapshot
        self._objects = copy.deepcopy(objects)
        self.history.clear()
        self.compacted = self.version

    def since(self, version: int) -> list[Entry]:
        """The history after *version*."""
        return [entry for entry in self.history if entry.version > version]

    def _write(self, resource: str, key: Key, tree: Tree, type_: str) -> Tree:
        self.version += 1
        tree["metadata"]["resourceVersion"] = str(self.version)
        self._objects.setdefault(resource, {})[key] = tree
        self._record(resource, key, tree, type_)
        return copy.deepcopy(tree)

    def _record(self, resource: str, key: Key, tree: Tree, type_: str) -> None:
        text = json.dumps(tree).encode()
        labels = tuple((tree["metadata"].get("labels") or {}).items())
        self.history.append(Entry(self.version, resource, type_, key, text, labels))


def _moment(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
