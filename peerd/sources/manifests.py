"""One file of manifests to objects: YAML or JSON, several documents, `List` objects (decision D7)."""

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgspec
import yaml

from peerd import limits
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.kinds import KINDS_BY_NAME, kind_of
from peerd.model.kube.meta import KubeObject, ObjectKey, ObjectMeta
from peerd.model.record import Record
from peerd.sources.decode import DecodeError, decode_tree, without_nulls
from peerd.sources.defaults import complete, object_label

SUFFIXES = (".yaml", ".yml", ".json")

_UID_SPACE = uuid.UUID("6f5b3c1e-8f6a-5d0b-9a44-0c7f5c1d2e3a")

FileKey = tuple[str, ObjectKey]
"""Kind name and object key: one object of the cluster."""


class UnknownKind(Record, frozen=True, order=True):
    """A kind that peerd does not read, and the first object of it in a file."""

    api_version: str
    kind: str
    object: str


class Manifest(Record, frozen=True):
    """What one file holds.

    `broken` names objects that are in the file but cannot be used: their last good state stays. `born` holds
    the creation times that were made up, so that the next reading of the file keeps them.
    """

    objects: dict[FileKey, KubeObject]
    broken: tuple[FileKey, ...] = ()
    unknown: tuple[UnknownKind, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    born: dict[FileKey, str] = {}


class Unreadable(Exception):  # noqa: N818 (a state of a file, told as a diagnostic)
    """The whole file cannot be used; the message says where in it and why."""


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: times stay text, and `12:30` is text, not a number to base 60."""


_REPLACED_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}
_INT = re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)$")
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED_TAGS]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(path: str, raw: bytes, modified: float, born: Mapping[FileKey, str] | None = None) -> Manifest:
    """The objects of one file.

    Args:
        path: the file's path for diagnostics; its suffix tells JSON from YAML.
        raw: the file's bytes.
        modified: the file's modification time in seconds since 1970, for objects without a creation time.
        born: creation times made up at an earlier reading; an edit does not make an object younger.

    Raises:
        Unreadable: the file as a whole is not YAML or JSON.
    """
    if len(raw) > limits.SOURCE_FILE_BYTES.value:
        limits.hit(limits.SOURCE_FILE_BYTES)
        raise Unreadable(
            f"has {len(raw)} bytes, more than the {limits.SOURCE_FILE_BYTES.value} that are read; split it"
        )
    created = dt.datetime.fromtimestamp(modified, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reader = _Reader(path, created, born or {})
    for number, document in enumerate(_documents(path, raw), start=1):
        reader.read(document, f"document {number}", "")
    return Manifest(
        reader.objects,
        tuple(sorted(reader.broken)),
        tuple(reader.unknown.values()),
        tuple(reader.diagnostics),
        reader.born,
    )


def _documents(path: str, raw: bytes) -> list[Any]:
    if PurePath(path).suffix == ".json":
        try:
            return [msgspec.json.decode(raw)] if raw.strip() else []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreadable(f"is not valid JSON: {error}") from error
    try:
        documents = list(yaml.load_all(raw, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise Unreadable(f"is not valid YAML: {place}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"is not valid YAML: {first}") from error
    if b"&" in raw and b"*" in raw:
        _check_aliases(documents, limits.SOURCE_ALIASES.value * len(raw))
    return documents


def _check_aliases(documents: list[Any], budget: int) -> None:
    """Raise Unreadable where aliases make more of a file than it could reasonably mean, or a circle."""
    waiting: list[Any] = [documents]
    while waiting:
        value = waiting.pop()
        budget -= 1
        if budget < 0:
            limits.hit(limits.SOURCE_ALIASES)
            raise Unreadable(
                "has aliases that expand to far more than the file, or to themselves; write them out"
            )
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


class _Reader:
    """Collects the objects of one file."""

    def __init__(self, path: str, created: str, known: Mapping[FileKey, str]) -> None:
        self._path = path
        self._created = created
        self._known = known
        self.born: dict[FileKey, str] = {}
        self.objects: dict[FileKey, KubeObject] = {}
        self.broken: set[FileKey] = set()
        self.unknown: dict[tuple[str, str], UnknownKind] = {}
        self.diagnostics: list[Diagnostic] = []

    def read(self, tree: object, place: str, list_kind: str) -> None:
        """Take one document, or one item of a list; `list_kind` is what an item is that does not say."""
        if tree is None:
            return  # an empty document: a comment, or a trailing separator
        if not isinstance(tree, dict):
            self._complain(place, "(whole document)", "is not an object", "start it with apiVersion and kind")
            return
        api_version, kind_name = tree.get("apiVersion"), tree.get("kind")
        if list_kind and kind_name is None:
            api_version, kind_name = list_kind.split(" ", 1)
        if not isinstance(api_version, str) or not isinstance(kind_name, str):
            field = "apiVersion" if not isinstance(api_version, str) else "kind"
            self._complain(place, field, "is missing or not a string", f"write {field} as kubectl shows it")
            return
        kind = kind_of(api_version, kind_name)
        if kind is not None:
            self._read_object(tree, kind_name, place)
        elif kind_name.endswith("List") and "items" in tree:
            for item, child in self._items(tree, place):
                self.read(child, f"{place}, items[{item}]", _item_kind(api_version, kind_name))
        else:
            self._read_unknown(tree, api_version, kind_name)

    def _items(self, tree: dict[Any, Any], place: str) -> Iterator[tuple[int, object]]:
        items = tree["items"]
        if items is None:
            return
        if not isinstance(items, list):
            self._complain(place, "items", "is not a list", "write items as a list of objects")
            return
        yield from enumerate(items)

    def _read_unknown(self, tree: dict[Any, Any], api_version: str, kind_name: str) -> None:
        metadata = tree.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        parts = [kind_name, metadata.get("namespace"), metadata.get("name", "?")]
        label = "/".join(str(part) for part in parts if part)
        self.unknown.setdefault((api_version, kind_name), UnknownKind(api_version, kind_name, label))

    def _read_object(self, tree: dict[Any, Any], kind_name: str, place: str) -> None:
        kind = KINDS_BY_NAME[kind_name]
        metadata = without_nulls(tree.get("metadata"))
        metadata = metadata if isinstance(metadata, dict) else {}
        name = metadata.get("name")
        if not isinstance(name, str) or not name:
            what = "is missing" if name in (None, "") else "is not a string"
            fix = 'write it in quotes: "…"' if name not in (None, "") else "name the object"
            self._complain(f"{kind_name} in {place}", "metadata.name", what, fix)
            return
        namespace = str(metadata.get("namespace") or "default") if kind.namespaced else ""
        key = (kind.name, ObjectKey(namespace, name))
        label = object_label(kind, namespace, name)
        try:
            value = decode_tree(kind, tree, self._path)
        except DecodeError as error:
            self.broken.add(key)
            self.diagnostics.append(error.diagnostic)
            return
        if key in self.objects:
            self._complain(label, place, "is in this file twice; the first one is used", "remove one of them")
            return
        value = msgspec.structs.replace(value, metadata=self._identify(value.metadata, key))
        value, warnings = complete(kind, value, self._path)
        self.objects[key] = value
        self.diagnostics.extend(warnings)

    def _identify(self, metadata: ObjectMeta, key: FileKey) -> ObjectMeta:
        kind_name, (namespace, name) = key[0], (key[1].namespace, key[1].name)
        created = metadata.creation_timestamp
        if not created:
            created = self.born[key] = self._known.get(key, self._created)
        uid = metadata.uid or str(uuid.uuid5(_UID_SPACE, f"{kind_name}/{namespace}/{name}"))
        return msgspec.structs.replace(metadata, namespace=namespace, uid=uid, creation_timestamp=created)

    def _complain(self, label: str, field: str, message: str, fix: str) -> None:
        self.diagnostics.append(Diagnostic(label, field, message, fix, Severity.ERROR, self._path))


def _item_kind(api_version: str, kind_name: str) -> str:
    # `PodList` items carry neither apiVersion nor kind when an API server wrote them.
    return "" if kind_name == "List" else f"{api_version} {kind_name.removesuffix('List')}"
