"""Follows the Deployments of the system namespace: what the istiod beside us was started with (D41)."""

from collections.abc import Callable
from random import Random

import msgspec

from peerd.derive.istiod_flags import istiod_flags
from peerd.kubeapi.base import ApiTransport
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.lists import Head
from peerd.kubeapi.reflector import Reflector, Target
from peerd.kubeapi.resources import DEPLOYMENT
from peerd.model.generated import IstiodFlags
from peerd.model.kube.apps import Deployment
from peerd.model.kube.meta import ObjectKey


class _Event(msgspec.Struct, frozen=True, gc=False):
    object: Deployment


class IstiodWatch:
    """Tells *changed* what is known of istiod's flags, first when all Deployments were listed.

    It is a `peerd.kubeapi.reflector.Handler`. What cannot be read says nothing: the last word stands.
    """

    def __init__(
        self,
        transport: ApiTransport,
        continuity: Continuity,
        random: Random,
        *,
        namespace: str,
        revision: str,
        changed: Callable[[IstiodFlags], None],
    ) -> None:
        self._namespace = namespace
        self._revision = revision
        self._changed = changed
        self._held: dict[ObjectKey, Deployment] = {}
        self._complete = False
        self.flags: IstiodFlags | None = None
        target = Target((DEPLOYMENT,), namespace)
        self._reflector = Reflector(transport, target, self, continuity, random)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._reflector.run()

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        """`Handler.put`."""
        try:
            if event:
                found = msgspec.json.decode(raw, type=_Event).object
            else:
                found = msgspec.json.decode(raw, type=Deployment)
        except msgspec.ValidationError:
            return
        self._held[head.key] = found
        self._look()

    def delete(self, key: ObjectKey) -> None:
        """`Handler.delete`."""
        self._held.pop(key, None)
        self._look()

    def listed(self) -> None:
        """`Handler.listed`."""
        self._complete = True
        self._look()

    def trouble(self, problem: str) -> None:
        """`Handler.trouble`: whoever may not look will never know; anything else may pass."""
        if " 403 " in problem and self.flags is None:
            self.flags = IstiodFlags(
                False,
                f"peerd may not read Deployments, so istiod's flags are unknown: {problem}",
                f"Namespace/{self._namespace}",
            )
            self._changed(self.flags)

    def _look(self) -> None:
        if not self._complete:
            return
        found = istiod_flags(
            self._held.values(), namespace=self._namespace, revision=self._revision, before=self.flags
        )
        if found != self.flags:
            self.flags = found
            self._changed(found)
