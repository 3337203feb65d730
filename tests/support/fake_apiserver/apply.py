"""Server-side apply and merge patches, as far as what peerd writes needs them.

Fields are owned by managers as paths. Lists whose items have an identity (conditions, ports, listeners, ...)
are merged by it, as their schemas say; all others are replaced whole.
"""

import copy
import json
from itertools import pairwise
from typing import Any

Tree = dict[str, Any]
Path = tuple[str, ...]

_IDENTITIES = {
    "conditions": "type",
    "listeners": "name",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}
_SERVER_OWNED = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"}
)


class ApplyConflict(Exception):  # noqa: N818 (an answer, not a failure of ours)
    """Fields that another manager owns, with other values."""


def apply(held: Tree | None, patch: Tree, manager: str, subresource: str, *, force: bool) -> Tree:
    """The object after *manager* applied *patch*: what it no longer names goes, unless others own it."""
    part = {"status"} if subresource == "status" else patch.keys() - {"status", "apiVersion", "kind"}
    patch = {name: value for name, value in patch.items() if name in part | {"metadata"}}
    result = copy.deepcopy(held) if held is not None else {"metadata": {}}
    owners = _owners(result)
    mine = (manager, "Apply", subresource)
    wanted = _leaves(patch)
    if subresource:
        wanted = {path: value for path, value in wanted.items() if path[0] == "status"}
    for path, value in wanted.items():
        others = [owner for owner, paths in owners.items() if owner != mine and path in paths]
        if others and _get(result, path) != value:
            if not force:
                raise ApplyConflict(f"{'.'.join(path)} is owned by {others[0][0]}")
            for owner in others:
                owners[owner].discard(path)
    # What names an item of a list goes last, or nobody would find the item's other fields.
    gone = sorted(owners.get(mine, set()) - wanted.keys(), key=_names_item)
    for path in gone:
        if not any(path in paths for owner, paths in owners.items() if owner != mine):
            _remove(result, path)
    for path, value in wanted.items():
        _set(result, path, value)
    owners[mine] = set(wanted)
    _write_owners(result, owners)
    return result


def own_update(held: Tree | None, after: Tree, manager: str, subresource: str) -> Tree:
    """*after*, its changed fields owned by *manager* as one that updates."""
    before = _leaves(held) if held is not None else {}
    owners = _owners(held) if held is not None else {}
    after = copy.deepcopy(after)
    now = _leaves(after)
    changed = {path for path, value in now.items() if before.get(path) != value}
    gone = before.keys() - now.keys()
    for owner in list(owners):
        owners[owner] -= changed | gone
    if changed and manager:
        owners.setdefault((manager, "Update", subresource), set()).update(changed)
    _write_owners(after, owners)
    return after


def merge(held: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(held) if isinstance(held, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


_Owners = dict[tuple[str, str, str], set[Path]]


def _owners(tree: Tree) -> _Owners:
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): {
            tuple(json.loads(path)) for path in entry["fieldsV1"]
        }
        for entry in tree["metadata"].get("managedFields", ())
    }


def _write_owners(tree: Tree, owners: _Owners) -> None:
    tree["metadata"]["managedFields"] = [
        {
            "manager": manager,
            "operation": operation,
            **({"subresource": subresource} if subresource else {}),
            "fieldsType": "FieldsV1",
            "fieldsV1": {json.dumps(path): {} for path in sorted(paths)},
        }
        for (manager, operation, subresource), paths in sorted(owners.items())
        if paths
    ]


def _leaves(tree: Any, path: Path = ()) -> dict[Path, Any]:
    if isinstance(tree, dict) and (tree or not path):
        found: dict[Path, Any] = {}
        for name, value in tree.items():
            if path == ("metadata",) and name in _SERVER_OWNED:
                continue
            if not path and name in {"apiVersion", "kind"}:
                continue
            found |= _leaves(value, (*path, name))
        return found
    identity = _IDENTITIES.get(path[-1]) if path else None
    if identity and isinstance(tree, list) and tree and all(identity in item for item in tree):
        found = {}
        for item in tree:
            found |= _leaves(item, (*path, f"{identity}={item[identity]}"))
        return found
    return {path: copy.deepcopy(tree)}


def _step(holder: Any, name: str, *, make: bool) -> Any:
    if isinstance(holder, list):
        identity, _, value = name.partition("=")
        for item in holder:
            if str(item.get(identity)) == value:
                return item
        if make:
            holder.append({identity: value})
            return holder[-1]
        return None
    return holder.get(name)


def _get(tree: Tree, path: Path) -> Any:
    holder: Any = tree
    for name in path:
        if holder is None:
            return None
        holder = _step(holder, name, make=False)
    return holder


def _names_item(path: Path) -> bool:
    return len(path) > 1 and path[-2].startswith(f"{path[-1]}=")


def _set(tree: Tree, path: Path, value: Any) -> None:
    holder: Any = tree
    for name, following in pairwise(path):
        found = _step(holder, name, make=True)
        if found is None:
            found = holder[name] = [] if name in _IDENTITIES and "=" in following else {}
        holder = found
    holder[path[-1]] = copy.deepcopy(value)


def _remove(tree: Tree, path: Path) -> None:
    holder: Any = tree
    trail: list[tuple[Any, str]] = []
    for name in path[:-1]:
        trail.append((holder, name))
        holder = _step(holder, name, make=False)
        if holder is None:
            return
    if isinstance(holder, dict):
        holder.pop(path[-1], None)
    while trail and not holder:
        parent, name = trail.pop()
        if isinstance(parent, list):
            parent.remove(holder)
        elif name != "metadata":
            parent.pop(name, None)
        holder = parent
