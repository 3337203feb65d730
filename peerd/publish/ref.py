"""Objects that are written: by which name, and as the API server has them."""

from collections.abc import Mapping
from typing import Any

from peerd.kubeapi.objects import Resource
from peerd.model.generated import GENERATED_LABEL, GENERATED_VALUE, is_our_making
from peerd.model.record import Record

SortKey = tuple[str, str, str, str]


class Ref(Record, frozen=True):
    """One object that is written, or with `subresource` `status` its status."""

    resource: Resource
    namespace: str
    name: str
    subresource: str = ""

    def __str__(self) -> str:
        """As in diagnostics: `<Kind>/<namespace>/<name>`."""
        return "/".join(filter(None, (self.resource.kind, self.namespace, self.name)))

    @property
    def sort_key(self) -> SortKey:
        """Any fixed order."""
        return self.resource.plural, self.namespace, self.name, self.subresource


class Observed(Record, frozen=True):
    """An object as the API server has it. `tree` is its decoded JSON, or the part that we write.

    `resource_version` may be empty where whoever watches does not keep it: then an edit within 5 s of our own
    write is told from that write's past, and undone, only when those are over.
    """

    uid: str
    resource_version: str
    tree: Mapping[str, Any]
    made: bool = False
    """It is our making, whatever its labels say now (`is_our_making`)."""

    @property
    def ours(self) -> bool:
        """Whether it carries the label of what we generate (decision D36), or is our making and lost it."""
        labels = (self.tree.get("metadata") or {}).get("labels") or {}
        return self.made or labels.get(GENERATED_LABEL) == GENERATED_VALUE


def observed(tree: Mapping[str, Any]) -> Observed:
    """A decoded object."""
    meta = tree.get("metadata") or {}
    return Observed(meta.get("uid", ""), meta.get("resourceVersion", ""), tree, is_our_making(meta))
