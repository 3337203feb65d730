"""The writer's requests to the API server, counted."""

from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE
from peerd.publish.ref import Observed, Ref, observed

_T = TypeVar("_T")


class Requests:
    """Under our field manager. Every method raises ApiError and ApiUnreachableError."""

    def __init__(self, objects: KubeObjects) -> None:
        self._objects = objects
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """By kind, verb (`get`, `apply`, `merge`, `delete`) and outcome (`ok`, `error`)."""

    async def get(self, ref: Ref) -> Observed | None:
        """The object, or None where there is none."""
        found = await self._counted(ref, "get", self._objects.get(ref.resource, ref.namespace, ref.name))
        return None if found is None else observed(found)

    async def generated(self, resource: Resource, namespace: str) -> list[dict[str, Any]]:
        """Every object that carries our label; empty *namespace*: in all."""
        label = f"{GENERATED_LABEL}={GENERATED_VALUE}"
        return await self._objects.list(resource, namespace, labels=label)

    async def apply(self, ref: Ref, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply to the object, or to its subresource."""
        request = self._objects.apply(
            ref.resource, manifest, manager=FIELD_MANAGER, subresource=ref.subresource
        )
        return await self._counted(ref, "apply", request)

    async def merge(self, ref: Ref, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch, which takes away what others wrote."""
        request = self._objects.merge(ref.resource, ref.namespace, ref.name, patch, manager=FIELD_MANAGER)
        return await self._counted(ref, "merge", request)

    async def delete(self, ref: Ref, uid: str) -> None:
        """Delete the very object with *uid*."""
        request = self._objects.delete(ref.resource, ref.namespace, ref.name, uid=uid)
        await self._counted(ref, "delete", request)

    async def _counted(self, ref: Ref, verb: str, request: Awaitable[_T]) -> _T:
        outcome = "error"
        try:
            answer = await request
            outcome = "ok"
        finally:
            self.counts[ref.resource.kind, verb, outcome] += 1
        return answer
