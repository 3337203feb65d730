"""Which Pods run where and as whom: what node authorisation needs to know (wire-contract §5.4)."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from peerd.model.changes import Change, ObjectChange
from peerd.model.kube.core import Pod
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record


class PodFacts(Record, frozen=True):
    """A Pod as the certificate service sees it. `failed`: its phase is Failed."""

    uid: str
    node: str
    service_account: str
    failed: bool


class PodDirectory(Protocol):
    """Answers for the local cluster."""

    @property
    def synced(self) -> bool:
        """Whether the source has told everything that was there at the start."""
        ...

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The Pod of that name, None where there is none."""
        ...

    def runs(self, node: str, namespace: str, service_account: str) -> bool:
        """Whether a Pod of that account, not Failed, is on *node*."""
        ...


class PodIndex:
    """A PodDirectory fed from the object stream: `apply` takes the same changes as derivation."""

    def __init__(self) -> None:
        self.synced = False
        self._pods: dict[ObjectKey, PodFacts] = {}
        self._running: Counter[tuple[str, str, str]] = Counter()

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes; all but those of Pods are passed over."""
        for change in changes:
            if isinstance(change, ObjectChange) and change.kind == "Pod":
                pod = change.object
                self._put(change.key, _facts(pod) if isinstance(pod, Pod) else None)

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The Pod of that name, None where there is none."""
        return self._pods.get(ObjectKey(namespace, name))

    def runs(self, node: str, namespace: str, service_account: str) -> bool:
        """Whether a Pod of that account, not Failed, is on *node*."""
        return (node, namespace, service_account) in self._running

    def _put(self, key: ObjectKey, facts: PodFacts | None) -> None:
        old = self._pods.pop(key, None)
        if old is not None and not old.failed:
            place = (old.node, key.namespace, old.service_account)
            self._running[place] -= 1
            if not self._running[place]:
                del self._running[place]
        if facts is not None:
            self._pods[key] = facts
            if not facts.failed:
                self._running[facts.node, key.namespace, facts.service_account] += 1


def _facts(pod: Pod) -> PodFacts:
    return PodFacts(
        uid=pod.metadata.uid,
        node=pod.spec.node_name,
        service_account=pod.spec.service_account_name or "default",
        failed=pod.status.phase == "Failed",
    )
