"""Keeps what is generated in the cluster: what derivation wants goes to the writer, what nobody wants goes.

Nothing is deleted without proof (decision D13). Before everything has been said once, nothing is written at
all. While a peer that left nothing behind has not been heard, what may be of it stays: its WorkloadEntries,
and hosts, ports and identities of ServiceEntries, which it may share with others. The objects themselves are
the memory of what peers said: a restart with an empty state directory takes nothing from ztunnels. And what
a peer left behind is of when we last heard it: an object that we find and never wanted may be of what it said
since, to another replica, so that it stays until the peer has synced.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from peerd.kubeapi.resources import SERVICE_ENTRY
from peerd.limits import GENERATED_BYTES, STATUS_NAMES, hit
from peerd.model.changes import OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedName, Takeover
from peerd.model.generated import Generated, GeneratedServiceEntry
from peerd.model.record import Record
from peerd.publish.generated_manifests import CLUSTERS, GATEWAY, RESOURCES, manifest, order_of, ref_of
from peerd.publish.ref import Observed, Ref
from peerd.publish.writer import Writer


class _Live(Record, frozen=True):
    """What matters of an object in the cluster: whose it is, and what it must not lose too early."""

    gateway: str
    hosts: tuple[str, ...]
    ports: tuple[dict[str, Any], ...]
    identities: tuple[str, ...]
    clusters: str


class GeneratedObjects:
    """ServiceEntries and WorkloadEntries under `<Kind>/<namespace>/<name>`. Call from one event loop."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._wanted: dict[str, Generated] = {}
        self._live: dict[str, _Live] = {}
        self._unheard: frozenset[str] | None = None
        self._unsynced: frozenset[str] = frozenset()
        self._meant: set[str] = set()  # wanted at one time by this process: it knows why they are no more
        self._too_large: dict[str, int] = {}
        self._takeovers: dict[str, Takeover] = {}
        self._names: dict[str, FederatedName] = {}  # those that no Service of ours serves
        self._of_service: dict[str, set[str]] = {}
        self._addressed: set[str] = set()

    def put(self, changes: Iterable[tuple[str, Generated | None]]) -> None:
        """Derivation wants these as they are, or with None not at all (`Commit.generated`)."""
        for key, found in changes:
            before = self._wanted.pop(key, None)
            if isinstance(before, GeneratedServiceEntry):
                self._of_service[before.service].discard(key)
            if found is not None:
                self._wanted[key] = found
                self._meant.add(key)
            if isinstance(found, GeneratedServiceEntry):
                self._of_service.setdefault(found.service, set()).add(key)
            if self._unheard is not None:
                self._say(key, self._unheard)

    def takeovers(self, changes: Iterable[tuple[str, Takeover | None]]) -> None:
        """What is to outlive the Services that asked for a takeover (`Commit.takeovers`, decision D23)."""
        for service, found in changes:
            if found is None:
                self._takeovers.pop(service, None)
            else:
                self._takeovers[service] = found
            self._say_all(service)

    def names(self, changes: Iterable[tuple[str, FederatedName | None]]) -> None:
        """Who serves global names (`Commit.federation`): told where no Service of ours does (ADR 9)."""
        for key, found in changes:
            before = self._names.pop(key, None)
            after = None if found is None or found.own else found
            if after is not None:
                self._names[key] = after
            either = after or before
            if either is not None and _told(before) != _told(after):
                self._say_all(either.service)

    def observe(self, changes: Sequence[OwnChange]) -> None:
        """Objects of ours, as they lie in the cluster (`Sink.own`)."""
        for change in changes:
            if change.kind not in RESOURCES:
                continue
            key = f"{change.kind}/{change.key}"
            ref = ref_of(key)
            if change.object is None:
                self._live.pop(key, None)
                if key not in self._wanted:
                    self._meant.discard(key)
                self._writer.observe(ref, None)
                if key in self._addressed:
                    self._writer.observe(_status(ref), None)
                continue
            self._live[key] = _facts(change.object)
            meta = change.object["metadata"]
            observed = Observed(
                meta.get("uid", ""), meta.get("resourceVersion", ""), change.object, made=True
            )
            self._writer.observe(ref, observed)
            if key in self._addressed:
                self._writer.observe(_status(ref), observed)
            if self._unheard is not None and key not in self._wanted:
                self._say(key, self._unheard)

    def settle(self, unheard: frozenset[str], unsynced: frozenset[str] = frozenset()) -> None:
        """All that sources and known peers say is derived, so that what is not wanted may go.

        *unsynced* are the Gateways (`<namespace>/<name>`) of peers that have not told everything since the
        start, *unheard* those of them that left nothing behind either. Call it again as they do; who is
        linked later owns nothing of what is there.
        """
        if self._unheard is not None:
            unheard, unsynced = unheard & self._unheard, unsynced & self._unsynced
        if (unheard, unsynced) == (self._unheard, self._unsynced):
            return
        self._unheard, self._unsynced = unheard, unsynced
        for key in sorted(self._wanted.keys() | self._live.keys()):
            self._say(key, unheard)

    def addresses(self, key: str, found: Mapping[str, Sequence[str]] | None) -> None:
        """Record addresses by host in the status of a ServiceEntry (decision D28); None: it is gone."""
        ref = _status(ref_of(key))
        if found is None:
            if key in self._addressed:
                self._addressed.discard(key)
                self._writer.want(ref, None)
            return
        self._addressed.add(key)
        allocated = [{"host": host, "value": each} for host, values in found.items() for each in values]
        meta = {"namespace": ref.namespace, "name": ref.name}
        self._writer.want(ref, {"metadata": meta, "status": {"addresses": allocated}}, exact=False)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Objects that cannot be written because they are too large."""
        return tuple(
            Diagnostic(
                key,
                "spec",
                f"would have {size} bytes, and the API server takes {GENERATED_BYTES.value}",
                "give the service fewer accounts, or export it from fewer clusters; it stays as it is",
            )
            for key, size in sorted(self._too_large.items())
        )

    def _say_all(self, service: str) -> None:
        """The ServiceEntries of a service anew."""
        for key in sorted(self._of_service.get(service, ())):
            if self._unheard is not None:
                self._say(key, self._unheard)

    def _say(self, key: str, unheard: frozenset[str]) -> None:
        ref, live, found = ref_of(key), self._live.get(key), self._wanted.get(key)
        if found is None:
            self._too_large.pop(key, None)
            doubted = unheard if key in self._meant else unheard | self._unsynced
            if live is None or not (live.gateway in doubted or (not live.gateway and doubted)):
                self._writer.want(ref, None, order=order_of(ref))
            return
        takeover, clusters = None, ""
        if isinstance(found, GeneratedServiceEntry):
            takeover = self._takeovers.get(found.service)
            namespace = found.service.partition("/")[0]
            clusters = _told(self._names.get(f"{namespace}/{found.hosts[0]}"))
            if unheard and live is not None:
                clusters = live.clusters  # who is not heard of may still serve it
        tree = manifest(found, takeover, clusters)
        if unheard and live is not None and ref.resource is SERVICE_ENTRY:
            _keep(tree["spec"], live)
        size = len(msgspec.json.encode(tree))
        if size > GENERATED_BYTES.value:
            hit(GENERATED_BYTES)
            self._too_large[key] = size
            return
        self._too_large.pop(key, None)
        self._writer.want(ref, tree, order=order_of(ref))


def _status(ref: Ref) -> Ref:
    return msgspec.structs.replace(ref, subresource="status")


def _facts(tree: Mapping[str, Any]) -> _Live:
    spec = tree.get("spec") or {}
    annotations = tree["metadata"].get("annotations") or {}
    return _Live(
        gateway=annotations.get(GATEWAY, ""),
        hosts=tuple(spec.get("hosts") or ()),
        ports=tuple(spec.get("ports") or ()),
        identities=tuple(spec.get("subjectAltNames") or ()),
        clusters=annotations.get(CLUSTERS, ""),
    )


def _told(found: FederatedName | None) -> str:
    """The clusters that serve a name, as they are told."""
    if found is None:
        return ""
    more = found.others - len(found.clusters)
    if more:
        hit(STATUS_NAMES)
    return ", ".join([*found.clusters, *([f"{more} more"] if more else [])])


def _keep(spec: dict[str, Any], live: _Live) -> None:
    """Leave in *spec* what *live* has beyond it."""
    spec["hosts"] = [*spec["hosts"], *(host for host in live.hosts if host not in spec["hosts"])]
    ports = spec.get("ports", [])
    taken = {port["number"] for port in ports} | {port["name"] for port in ports}
    kept = [port for port in live.ports if not {port.get("number"), port.get("name")} & taken]
    if ports or kept:
        spec["ports"] = [*ports, *kept]
    identities = sorted({*spec.get("subjectAltNames", ()), *live.identities})
    if identities:
        spec["subjectAltNames"] = identities
