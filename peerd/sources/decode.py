"""Objects as text or trees to records: unknown fields dropped, null is absent, wrong types told by path."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.kinds import Kind
from peerd.model.kube.meta import KubeObject
from peerd.sources.defaults import object_label

_TYPES = {"str": str, "int": int, "bool": bool, "array": list, "object": dict}
_PROBLEM = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")


class DecodeError(Exception):
    """An object has a field of the wrong type; `diagnostic` says which and how to mend it."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


def decode_json(kind: Kind, raw: bytes | msgspec.Raw, where: str = "") -> KubeObject:
    """Decode one object of *kind* from JSON, as an API server sends it.

    The plain case is decoded without a tree in between; only where it fails, nulls are taken out and it is
    tried again.

    Raises:
        DecodeError: *raw* is not JSON, or a field that peerd reads has the wrong type.
    """
    try:
        return msgspec.json.decode(raw, type=kind.type)
    except msgspec.ValidationError:
        return decode_tree(kind, msgspec.json.decode(raw), where)
    except msgspec.DecodeError as error:
        raise DecodeError(
            Diagnostic(kind.name, "(whole object)", f"is not JSON: {error}", "send valid JSON", where=where)
        ) from error


def decode_tree(kind: Kind, tree: object, where: str = "") -> KubeObject:
    """Decode one object of *kind* from the dicts, lists and scalars that YAML or JSON gave.

    Raises:
        DecodeError: a field that peerd reads has the wrong type.
    """
    present = without_nulls(tree)
    try:
        return msgspec.convert(present, kind.type)
    except msgspec.ValidationError as error:
        raise DecodeError(_explain(kind, present, str(error), where)) from error


def without_nulls(tree: object) -> Any:
    """*tree* with null members of objects left out, and their keys as JSON has them: text.

    YAML takes `9090:` under `portLevelMtls` for a number; on its way to an API server it becomes a string.
    """
    if isinstance(tree, dict):
        return {_json_key(key): without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [without_nulls(value) for value in tree]
    return tree


def _json_key(key: object) -> object:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key) if isinstance(key, int) else key


def _explain(kind: Kind, tree: object, problem: str, where: str) -> Diagnostic:
    metadata = tree.get("metadata") if isinstance(tree, Mapping) else None
    metadata = metadata if isinstance(metadata, Mapping) else {}
    label = object_label(kind, str(metadata.get("namespace", "default")), str(metadata.get("name", "?")))
    match = _PROBLEM.match(problem)
    what, path = (match["what"], match["path"] or "") if match is not None else (problem, "")
    expected = _EXPECTED.match(what)
    if expected is None:
        return Diagnostic(
            label, path or "(whole object)", what, "see the field's type in the API", where=where
        )
    wanted, got = expected["expected"], expected["got"]
    path = f"{path} (a key)" if match is not None and match["key"] else _name_key(tree, path, wanted)
    fix = (
        'write it in quotes: "…"'
        if wanted == "str" and got in {"bool", "int", "float"}
        else f"write it as {_article(wanted)}"
    )
    return Diagnostic(
        label, path or "(whole object)", f"is {_article(got)}, not {_article(wanted)}", fix, where=where
    )


def _article(name: str) -> str:
    words = {
        "str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false",
        "array": "a list", "object": "a mapping", "null": "empty", "int | str": "a number or a string",
    }  # fmt: skip
    return words.get(name, name)


def _name_key(tree: object, path: str, wanted: str) -> str:
    """*path* with the `[...]` that stands for a mapping's key replaced by the first key that is at fault."""
    if "[...]" not in path or wanted not in _TYPES:
        return path
    head, _, tail = path.partition("[...]")
    holder: object = tree
    for step in re.findall(r"[^.\[\]]+", head):
        if isinstance(holder, Mapping):
            holder = holder.get(step)
        elif isinstance(holder, list) and step.isdigit() and int(step) < len(holder):
            holder = holder[int(step)]
        else:
            return path
    if isinstance(holder, Mapping) and not tail:
        for key, value in holder.items():
            if type(value) is not _TYPES[wanted]:
                return f"{head}[{key}]"
    return path
