"""One kind of the API server: JSON to records, bad objects told, generated ones kept apart."""

from typing import Any

import msgspec

from peerd.kubeapi.lists import Head
from peerd.model.changes import OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.generated import GENERATED_KINDS, GENERATED_LABEL, GENERATED_PREFIX, is_our_making
from peerd.model.kube.kinds import Kind
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.sources.decode import DecodeError, decode_json, decode_tree
from peerd.sources.defaults import object_label
from peerd.sources.feed import Feed


class KindObjects:
    """The objects of *kind*, each as JSON, to *feed*, and the problems of single ones.

    An object that cannot be decoded keeps its last good state until it is mended or deleted.
    """

    def __init__(self, kind: Kind, feed: Feed) -> None:
        self._kind = kind
        self._feed = feed
        self._may_be_own = kind.name in GENERATED_KINDS
        self._own: set[ObjectKey] = set()
        self._bad: set[ObjectKey] = set()
        event = msgspec.defstruct(f"{kind.name}Event", [("object", kind.type)], frozen=True, gc=False)
        self._event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(event)

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        """Take one object; *raw* is its JSON or, with *event*, the line of a watch that holds it."""
        key = head.key
        try:
            value = self._decode_event(raw) if event else decode_json(self._kind, raw)
        except DecodeError as error:
            self._bad.add(key)
            self._report(key, (error.diagnostic,))
            return
        if key in self._bad:
            self._bad.discard(key)
            self._report(key, ())
        if self._may_be_own and _may_be_ours(value):
            tree = msgspec.json.decode(raw)
            tree = tree["object"] if event else tree
            if is_our_making(tree["metadata"]):
                self._put_own(key, tree)
                return
        self._forget_own(key)
        self._feed.put(self._kind.name, key, value)

    def delete(self, key: ObjectKey) -> None:
        """It is gone."""
        if key in self._bad:
            self._bad.discard(key)
            self._report(key, ())
        if not self._forget_own(key):
            self._feed.put(self._kind.name, key, None)

    def _put_own(self, key: ObjectKey, tree: dict[str, Any]) -> None:
        if key not in self._own:
            self._own.add(key)
            self._feed.put(self._kind.name, key, None)  # it may have been a user's so far
        tree["metadata"].pop("managedFields", None)
        self._feed.put_own(OwnChange(self._kind.name, key, tree))

    def _forget_own(self, key: ObjectKey) -> bool:
        if key not in self._own:
            return False
        self._own.discard(key)
        self._feed.put_own(OwnChange(self._kind.name, key, None))
        return True

    def _decode_event(self, line: bytes | msgspec.Raw) -> KubeObject:
        """The plain case without a tree in between, as `decode_json` does it."""
        try:
            value: KubeObject = self._event.decode(line).object
        except msgspec.ValidationError:
            return decode_tree(self._kind, msgspec.json.decode(line)["object"])
        return value

    def _report(self, key: ObjectKey, diagnostics: tuple[Diagnostic, ...]) -> None:
        self._feed.report(object_label(self._kind, key.namespace, key.name), diagnostics)


def _may_be_ours(value: KubeObject) -> bool:
    """Whether it is worth a closer look: the label may have been taken away, a name cannot."""
    meta = value.metadata
    return GENERATED_LABEL in meta.labels or meta.name.startswith(GENERATED_PREFIX)
