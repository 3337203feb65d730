"""What peerd writes into its own cluster, and what marks it (decisions D5, D36)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from peerd.model.record import Record

GENERATED_LABEL = "peerd.io/generated"
"""The one label of every object that peerd generates, wherever it lives: uninstalling deletes by it."""

GENERATED_VALUE = "true"
"""Its value."""

FIELD_MANAGER = "peerd"
"""Under which name peerd applies. Whoever copies one of our manifests by hand, and calls it otherwise, has
written an object of their own, whatever its labels say."""

GENERATED_PREFIX = "autogen"
"""How names of generated objects begin (peerd/derive/generated_names.py)."""

GENERATED_KINDS = ("ServiceEntry", "WorkloadEntry")
"""Kinds of which generated objects are no input of derivation. A Service that peerd makes for a gateway is
an ordinary Service of the cluster."""


def is_our_making(metadata: Mapping[str, Any]) -> bool:
    """Whether an object is what peerd generated, by its `metadata` as JSON: applied, and not just its status.

    A hand may have taken the label away. A copy with the label is its writer's, save under one of our names:
    that is a backup put back.
    """
    entries = metadata.get("managedFields") or ()
    if any(
        isinstance(each, Mapping) and each.get("manager") == FIELD_MANAGER and not each.get("subresource")
        for each in entries
    ):
        return True
    labels = metadata.get("labels") or {}
    ours = str(metadata.get("name", "")).startswith(GENERATED_PREFIX)
    return ours and labels.get(GENERATED_LABEL) == GENERATED_VALUE


class Generate(StrEnum):
    """What is written into the own cluster.

    Nothing, where there is nowhere to write it; a record of each global name, where peerd serves ztunnels
    itself; everything that an istiod needs to serve them (`--mode=beside`); or, while one takes over from the
    other, both (`--mode=both`).
    """

    NOTHING = "nothing"
    STANDALONE = "standalone"
    BESIDE = "beside"
    BOTH = "both"

    @property
    def for_istiod(self) -> bool:
        """Whether an istiod reads what is written."""
        return self in {Generate.BESIDE, Generate.BOTH}


class IstiodFlags(Record, frozen=True):
    """Whether the istiod beside us reads entries as D41 needs it; `problem` says why not.

    `where` is the Deployment that was read, or the setting, as in diagnostics; `flag` the variable that is
    wrong, empty where it is not known which.
    """

    safe: bool
    problem: str = ""
    where: str = ""
    flag: str = ""


class GeneratedPort(Record, frozen=True):
    """A port of a ServiceEntry. `protocol` is Istio's word or empty; `target` 0: the port, or its name's."""

    number: int
    name: str
    protocol: str = ""
    target: int = 0


class GeneratedServiceEntry(Record, frozen=True):
    """One global service as a ServiceEntry `autogen.<ns>.<svc>` (decision D28, measured: beside istiod).

    `service` is `<namespace>/<name>` of what it stands for, `selector` what it takes as endpoints, as sorted
    pairs. `labels` and `annotations` are those that the reader of the object acts upon.
    """

    namespace: str
    name: str
    service: str
    hosts: tuple[str, ...]
    ports: tuple[GeneratedPort, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()


class GeneratedWorkloadEntry(Record, frozen=True):
    """Endpoints of one peer as a WorkloadEntry.

    `autogen.<cluster>.<ns>.<svc>.<hash>`, or of a single Pod on our own network
    `autogenflat.<cluster>.<ns>.<pod>.<hash>`.

    `gateway` is `<namespace>/<name>` of the istio-remote Gateway it came through. `address` is empty behind a
    gateway; `labels` are what its ServiceEntries select; `ports` maps names of
    their ports where an endpoint listens elsewhere. `locality` is `region/zone/subzone`.
    """

    namespace: str
    name: str
    cluster: str
    gateway: str
    network: str
    labels: tuple[tuple[str, str], ...]
    address: str = ""
    weight: int = 1
    locality: str = ""
    service_account: str = ""
    ports: tuple[tuple[str, int], ...] = ()


Generated = GeneratedServiceEntry | GeneratedWorkloadEntry
