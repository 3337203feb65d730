"""Keeps the status of Gateways, GatewayClasses and Services as it should be; the words are in *_status.py.

Everything known is kept by object; a change marks the objects it concerns, and `flush` says to the writer
what they are to be. Nothing is said before `settle`: half of what is known would be half of the truth.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from peerd.kubeapi.resources import GATEWAY, GATEWAY_CLASS, SERVICE
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedName
from peerd.model.kube.core import Service
from peerd.model.kube.gateway import Gateway, GatewayClass
from peerd.model.kube.meta import KubeObject, ObjectKey, StatusCondition
from peerd.protocol.peer_state import PeerState
from peerd.publish import gateway_status, service_status
from peerd.publish.conditions import PROBLEM, Condition, observed_tree, status_tree
from peerd.publish.gateway_status import Path, PathFacts, PeerFacts
from peerd.publish.own_gateway_status import OwnFacts, own_status
from peerd.publish.ref import Observed, Ref
from peerd.publish.writer import Writer

_T = TypeVar("_T")

STATUS_KINDS = ("Gateway", "GatewayClass", "Service")
_MESSAGE_SECONDS = 60.0  # a message that changes alone, with every failed dial, is written no more often
_GRACE = 15.0  # for so long after `settle` a first dial without an outcome is no news
OWNED = frozenset(
    {gateway_status.CONNECTED, gateway_status.SUCCEEDED, gateway_status.DATA_PLANE, PROBLEM}
    | {each for each in service_status.SERVICE_TYPES if "/" in each}
)
"""Types that only peerd writes: by them a status of ours is known after a restart."""


_RESOURCES = {resource.kind: resource for resource in (GATEWAY, GATEWAY_CLASS, SERVICE)}


class Statuses:
    """Call from one event loop.

    Args:
        writer: takes what is wanted.
        clock: monotonic.
        cluster: our own id.
        peer: what is known of the peer behind an istio-remote Gateway, and whether a dial has had an outcome.
        path: what is known of the way to its data plane.
        beside: an istiod writes the rest of the Gateways' status (decision D33).
        peering: whether anybody is dialled.
        own: what is known of a Gateway that we run ourselves.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        clock: Clock,
        cluster: str,
        peer: Callable[[ObjectKey], PeerFacts | None],
        path: Callable[[ObjectKey], PathFacts],
        beside: bool,
        peering: bool = True,
        own: Callable[[ObjectKey], OwnFacts | None] | None = None,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._cluster = cluster
        self._peer = peer
        self._path = path
        self._beside = beside
        self._peering = peering
        self._own = own
        self._since = clock.monotonic()
        remote = () if beside else (gateway_status.REMOTE_CONTROLLER,)
        self._controllers = frozenset({gateway_status.EAST_WEST_CONTROLLER, *remote})
        self._objects: dict[str, dict[ObjectKey, KubeObject]] = {kind: {} for kind in STATUS_KINDS}
        self._wanted: set[Ref] = set()
        self._names: dict[str, FederatedName] = {}
        self._of_service: dict[str, dict[str, FederatedName]] = {}
        self._diagnostics: dict[str, dict[str, Diagnostic]] = {}
        self._stale: frozenset[str] = frozenset()
        self._said: dict[tuple[ObjectKey, str], tuple[Condition, float]] = {}
        self._again: dict[ObjectKey, float] = {}
        self._dirty: dict[tuple[str, ObjectKey], None] = {}
        self._settled = False

    # -- what is known -----------------------------------------------------------------------------------

    def object(self, kind: str, key: ObjectKey, found: KubeObject | None) -> None:
        """An object of one of STATUS_KINDS as the source has it."""
        ref = _ref(kind, key)
        if found is not None:
            self._objects[kind][key] = found
            self._mark(kind, key)
            if ref in self._wanted:
                self._writer.observe(ref, _observed(found))
            return
        self._objects[kind].pop(key, None)
        if kind == "Gateway":
            self._said = {each: said for each, said in self._said.items() if each[0] != key}
        if ref in self._wanted:
            self._wanted.discard(ref)
            self._writer.observe(ref, None)
            self._writer.want(ref, None)

    def names(self, changes: Iterable[tuple[str, FederatedName | None]]) -> None:
        """Global names (`Commit.federation`)."""
        for key, found in changes:
            before = self._names.pop(key, None)
            if before is not None:
                _drop(self._of_service, before.service, key)
                self._mark("Service", _key(before.service))
            if found is not None:
                self._names[key] = found
                self._of_service.setdefault(found.service, {})[key] = found
                self._mark("Service", _key(found.service))

    def problem(self, key: str, before: Iterable[Diagnostic], now: Iterable[Diagnostic]) -> None:
        """What derivation says under *key*: of any object, of which ours are those with a status."""
        for each in before:
            _drop(self._diagnostics, each.object, key)
            self._mark_named(each.object)
        for each in now:
            if each.object.partition("/")[0] in STATUS_KINDS:
                self._diagnostics.setdefault(each.object, {})[key] = each
                self._mark_named(each.object)

    def peer_changed(self, key: ObjectKey) -> None:
        """What `peer` or `path` gives for a Gateway may be otherwise now."""
        self._mark("Gateway", key)

    def stale(self, clusters: frozenset[str]) -> None:
        """These clusters are not heard of."""
        changed = clusters ^ self._stale
        self._stale = clusters
        for found in self._names.values() if changed else ():
            if changed.intersection(found.clusters):
                self._mark("Service", _key(found.service))

    def settle(self) -> None:
        """All that was there at the start is known: statuses may be said, and old ones taken back."""
        self._settled = True
        self._since = self._clock.monotonic()

    def shows(self, diagnostic: Diagnostic) -> bool:
        """Whether the diagnostic appears as a condition of its object; what does not is told as an Event."""
        kind, _, name = diagnostic.object.partition("/")
        found = self._objects.get(kind, {}).get(_key(name))
        if isinstance(found, Gateway):
            return not self._beside and _is_remote(found)
        return isinstance(found, Service)

    # -- what follows ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Say what has changed to the writer."""
        if not self._settled:
            return
        now = self._clock.monotonic()
        for key in [key for key, due in self._again.items() if due <= now]:
            del self._again[key]
            self._mark("Gateway", key)
        dirty, self._dirty = self._dirty, {}
        for kind, key in dirty:
            found = self._objects[kind].get(key)
            if found is None:
                continue
            status = self._status(found, now)
            ref = _ref(kind, key)
            if status is None and ref not in self._wanted and not _is_marked(found):
                continue
            if ref not in self._wanted:
                self._writer.observe(ref, _observed(found))
            if status is None:
                self._wanted.discard(ref)
                self._writer.want(ref, None)
            else:
                self._wanted.add(ref)
                meta = {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {})
                self._writer.want(ref, {"metadata": meta, "status": status})

    def _status(self, found: KubeObject, now: float) -> dict[str, Any] | None:
        if isinstance(found, Gateway):
            if _is_remote(found):
                return self._gateway(found, now)
            facts = None if self._own is None else self._own(found.key)
            return None if facts is None else own_status(found, facts)
        generation = found.metadata.generation
        if isinstance(found, GatewayClass):
            conditions = gateway_status.class_conditions(found, self._controllers)
        else:
            name = str(found.key)
            conditions = service_status.service_conditions(
                self._cluster,
                tuple(self._of_service.get(name, {}).values()),
                self._diagnostics.get(f"Service/{name}", {}),
                self._stale,
                external=isinstance(found, Service) and found.spec.type == "ExternalName",
            )
        return {"conditions": status_tree(conditions, generation)} if conditions else None

    def _gateway(self, found: Gateway, now: float) -> dict[str, Any]:
        key = found.key
        diagnostics = tuple(self._diagnostics.get(f"Gateway/{key}", {}).values())
        conditions = gateway_status.remote_conditions(
            found, self._peer(key), self._path(key), diagnostics, peering=self._peering
        )
        told = (self._told(found, each, now) for each in conditions)
        said = [each for each in told if each is not None]
        return gateway_status.remote_status(found, said, beside=self._beside)

    def _told(self, gateway: Gateway, condition: Condition, now: float) -> Condition | None:
        """*condition*, or what stands in its place while it is no news; None: nothing does."""
        key = gateway.key
        live = next((each for each in gateway.status.conditions if each.type == condition.type), None)
        # Stale, after a restart, is only that we have not dialled yet: that is nothing to begin with either.
        if (live is not None or condition.reason == "Stale") and self._is_no_news(key, condition, now):
            self._again[key] = min(self._again.get(key, now + _GRACE), now + 1.0)
            return None if live is None else Condition(live.type, live.status, live.reason, live.message)
        before, at = self._said.get((key, condition.type), (condition, now - _MESSAGE_SECONDS))
        alike = (before.status, before.reason) == (condition.status, condition.reason)
        if alike and before.message != condition.message and now - at < _MESSAGE_SECONDS:
            self._again[key] = min(self._again.get(key, at + _MESSAGE_SECONDS), at + _MESSAGE_SECONDS)
            return before
        if before is not condition or (key, condition.type) not in self._said:
            self._said[key, condition.type] = (condition, now if before != condition else at)
        return condition

    def _is_no_news(self, key: ObjectKey, condition: Condition, now: float) -> bool:
        """Whether this process has yet to find out what another one has written already."""
        if condition.type == gateway_status.DATA_PLANE:
            return condition.reason == Path.PROBING.value[0]
        if now - self._since > _GRACE or condition.type not in {
            gateway_status.CONNECTED,
            gateway_status.SUCCEEDED,
        }:
            return False
        peer = self._peer(key)
        if peer is None or peer.error:
            return False
        dialling = peer.state in {PeerState.CONNECTING, PeerState.STALE}
        return dialling or (peer.state is PeerState.SYNCING and condition.type == gateway_status.SUCCEEDED)

    def _mark(self, kind: str, key: ObjectKey) -> None:
        self._dirty[kind, key] = None

    def _mark_named(self, name: str) -> None:
        kind, _, rest = name.partition("/")
        if kind in self._objects:
            self._mark(kind, _key(rest))


def _drop(tables: dict[str, dict[str, _T]], name: str, key: str) -> None:
    """Take *key* out of the table of *name*, and the table where nothing else is in it."""
    table = tables.get(name)
    if table is not None:
        table.pop(key, None)
        if not table:
            del tables[name]


def _is_remote(found: Gateway) -> bool:
    return found.spec.gateway_class_name == gateway_status.REMOTE_CLASS


def _conditions(found: KubeObject) -> tuple[StatusCondition, ...]:
    return found.status.conditions if isinstance(found, Gateway | GatewayClass | Service) else ()


def _is_marked(found: KubeObject | None) -> bool:
    """Whether it carries a condition of ours."""
    return found is not None and any(each.type in OWNED for each in _conditions(found))


def _observed(found: KubeObject) -> Observed:
    status: dict[str, Any] = {"conditions": observed_tree(_conditions(found))}
    if isinstance(found, Gateway):
        status["addresses"] = [{"type": each.type, "value": each.value} for each in found.status.addresses]
    meta = {"name": found.metadata.name, "namespace": found.metadata.namespace}
    return Observed(found.metadata.uid, "", {"metadata": meta, "status": status})


def _ref(kind: str, key: ObjectKey) -> Ref:
    return Ref(_RESOURCES[kind], key.namespace, key.name, "status")


def _key(name: str) -> ObjectKey:
    namespace, slash, rest = name.partition("/")
    return ObjectKey(namespace, rest) if slash else ObjectKey("", name)
