"""Whether an object is as we want it: pure comparisons of decoded JSON.

A *wanted* tree names the fields we own. `metadata` is shared with others (their labels stay), so is `status`
(their conditions stay). Everything else of an object that we generate is ours alone: a field that somebody
added there is drift too.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_OWN = "peering.peerd.io/"
_SHARED = frozenset({"apiVersion", "kind", "metadata", "status"})


def drift(
    live: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    exact: bool,
    owned: Callable[[str], bool] = lambda _type: False,
) -> tuple[str, ...]:
    """The fields in which *live* is not as *wanted*, as paths; none means that nothing need be written.

    With *exact*, fields that only *live* has count, outside of what is shared with others. So do conditions
    that only *live* has where their type is *owned*.
    """
    fields = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind"}}
    found = list(_lacking(live, fields, "", exact=exact))
    if exact:
        found += _paths(foreign(live, wanted), "")
    if "status" in wanted:
        kept = {each["type"] for each in (wanted["status"] or {}).get("conditions") or ()}
        types = [str(each.get("type")) for each in _conditions(live)]
        found += [f"status.conditions[{each}]" for each in types if each not in kept and owned(each)]
    return tuple(found)


def foreign(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that takes away what only *live* has, outside of what is shared with others.

    Annotations of our own are not: one that says nothing any more would be believed.
    """
    patch: dict[str, Any] = {}
    ours = [each for each in _annotations(live) if each.startswith(_OWN) and each not in _annotations(wanted)]
    if ours:
        patch["metadata"] = {"annotations": dict.fromkeys(ours)}
    for key in sorted(set(live) - _SHARED):
        if key not in wanted:
            patch[key] = None
        elif isinstance(live[key], Mapping) and isinstance(wanted[key], Mapping):
            inner = _added(live[key], wanted[key])
            if inner:
                patch[key] = inner
    return patch


def _annotations(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    return (tree.get("metadata") or {}).get("annotations") or {}


def _added(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for key, value in live.items():
        if key not in wanted:
            patch[key] = None
        elif isinstance(value, Mapping) and isinstance(wanted[key], Mapping):
            inner = _added(value, wanted[key])
            if inner:
                patch[key] = inner
    return patch


def timed(wanted: Mapping[str, Any], live: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    """*wanted* with `lastTransitionTime` in its conditions: the live while the status stays, else *now*."""
    status = wanted.get("status")
    if not isinstance(status, Mapping) or not isinstance(status.get("conditions"), list):
        return dict(wanted)
    since = {
        (each.get("type"), each.get("status")): each.get("lastTransitionTime") for each in _conditions(live)
    }
    conditions = [
        {**each, "lastTransitionTime": since.get((each["type"], each["status"])) or now}
        for each in status["conditions"]
    ]
    return {**wanted, "status": {**status, "conditions": conditions}}


def transitions(
    wanted: Mapping[str, Any], live: Mapping[str, Any] | None
) -> Iterator[tuple[Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Conditions of *wanted* whose status or reason *live* has otherwise, each with what it was before."""
    held = {each.get("type"): each for each in _conditions(live)}
    for each in (wanted.get("status") or {}).get("conditions") or ():
        before = held.get(each["type"])
        if before is None or (before.get("status"), before.get("reason")) != (each["status"], each["reason"]):
            yield before, each


def _conditions(live: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    status = (live or {}).get("status") or {}
    return [each for each in status.get("conditions") or () if isinstance(each, Mapping)]


def _lacking(live: Any, wanted: Any, path: str, *, exact: bool) -> Iterator[str]:
    """Paths of what *live* does not have as *wanted* has it.

    An exact list is equal; the entries of another one may have more fields, as defaults of an API server.
    """
    if isinstance(wanted, Mapping):
        held = live if isinstance(live, Mapping) else {}
        for key, value in wanted.items():
            inner = f"{path}.{key}" if path else key
            if inner == "status.conditions":
                yield from _lacking_conditions(held.get(key) or (), value)
            else:
                yield from _lacking(held.get(key), value, inner, exact=exact)
    elif not exact and isinstance(wanted, list) and any(isinstance(each, Mapping) for each in wanted):
        if not isinstance(live, list) or len(live) != len(wanted):
            yield path
        else:
            for position, (mine, theirs) in enumerate(zip(wanted, live, strict=True)):
                yield from _lacking(theirs, mine, f"{path}[{position}]", exact=exact)
    elif live != wanted and not (live is None and wanted in ("", [], 0, False)):
        yield path


def _lacking_conditions(live: Any, wanted: list[Mapping[str, Any]]) -> Iterator[str]:
    """Conditions are a map by type; those of others do not concern us."""
    held = {each.get("type"): each for each in live if isinstance(each, Mapping)}
    for each in wanted:
        found = held.get(each["type"])
        fields = {key: value for key, value in each.items() if key != "lastTransitionTime"}
        if found is None or any(found.get(key) != value for key, value in fields.items()):
            yield f"status.conditions[{each['type']}]"


def _paths(patch: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in patch.items():
        inner = f"{path}.{key}" if path else key
        if value is None:
            yield inner
        else:
            yield from _paths(value, inner)
