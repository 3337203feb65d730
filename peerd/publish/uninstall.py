"""Taking back what peerd wrote into its cluster (decision D36).

What is generated goes by its label; of others' objects only our part of the status goes, by applying nothing
under our field manager; of the control plane itself the Deployment is scaled to nothing first, so that
nobody writes it all again. With `purge` the CA's Secret and the namespaces' root ConfigMaps go too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import NOT_FOUND, KubeObjects, Resource
from peerd.kubeapi.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    GATEWAY,
    GATEWAY_CLASS,
    LEASE,
    POD,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
)
from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE, is_our_making
from peerd.publish import gateway_workloads, generated_manifests
from peerd.publish.names import LEASE_NAME, REVOKED, ROOTS, SELF_MADE_CA

GENERATED = (*generated_manifests.RESOURCES.values(), *reversed(gateway_workloads.RESOURCES))
"""Kinds of which peerd generates objects, in the order in which they go."""

TOLD = (GATEWAY, GATEWAY_CLASS, SERVICE, SERVICE_ENTRY)
"""Kinds of which peerd writes the status: conditions, addresses of hosts."""

PURGED = ((SECRET, SELF_MADE_CA), (CONFIG_MAP, ROOTS), (CONFIG_MAP, REVOKED))
"""What issued certificates rest on, by name: the Secret of the system namespace, ConfigMaps of all."""

_CONFLICT = 409
_POLL_SECONDS = 0.5


class StillThereError(Exception):
    """Something would write it all again: says what, and what to do."""


class Uninstall:
    """One cluster, cleaned.

    Args:
        objects: its API server.
        namespace: the system namespace.
        say: takes one line for each thing that is done.
    """

    def __init__(self, objects: KubeObjects, namespace: str, say: Callable[[str], None]) -> None:
        self._objects = objects
        self._namespace = namespace
        self._say = say

    async def run(self, deployment: str, *, purge: bool, patience: float) -> None:
        """Stop *deployment* (empty: nothing runs), then take back what was written.

        May be run again after a failure, and goes on where that was.

        Raises:
            StillThereError: another peerd serves here, or Pods do not end within *patience* seconds.
            ApiError, ApiUnreachableError: the API server refused, or did not answer.
        """
        if deployment:
            await self._stop(deployment, patience)
        for resource in GENERATED:
            async for tree in self._labelled(resource):
                await self._delete(resource, tree)
        for resource in TOLD:
            for tree in await self._list(resource):
                if _has_our_status(tree):
                    await self._clear(resource, tree)
        for tree in await self._list(LEASE, self._namespace):
            if tree["metadata"]["name"].partition("-")[0] == LEASE_NAME and is_our_making(tree["metadata"]):
                await self._delete(LEASE, tree)
        if purge:
            await self._purge()

    # -- the control plane -------------------------------------------------------------------------------

    async def _stop(self, name: str, patience: float) -> None:
        deployments = await self._list(DEPLOYMENT, self._namespace, labels="app.kubernetes.io/name=peerd")
        others = [tree for tree in deployments if tree["metadata"]["name"] != name and _replicas(tree)]
        if others:
            raise StillThereError(
                f"Deployment/{self._namespace}/{others[0]['metadata']['name']} is another peerd of this"
                " cluster: what is generated is its too; uninstall that one, or give no --deployment"
            )
        mine = next((tree for tree in deployments if tree["metadata"]["name"] == name), None)
        if mine is None:
            return
        if _replicas(mine):
            patch = {"spec": {"replicas": 0}}
            await self._objects.merge(
                DEPLOYMENT, self._namespace, name, patch, manager=FIELD_MANAGER, subresource="scale"
            )
            self._say(f"scaled Deployment/{self._namespace}/{name} to 0")
        try:
            async with asyncio.timeout(patience):
                await self._ended(mine)
        except TimeoutError:
            raise StillThereError(
                f"Pods of Deployment/{self._namespace}/{name} still run after {patience:g} s: end them"
            ) from None

    async def _ended(self, deployment: Mapping[str, Any]) -> None:
        while True:
            if not await self._pods(deployment):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _pods(self, deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
        wanted = deployment["spec"]["selector"]["matchLabels"]
        labels = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        return await self._list(POD, self._namespace, labels=labels)

    # -- objects -----------------------------------------------------------------------------------------

    async def _list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        try:
            return await self._objects.list(resource, namespace, labels=labels, fields=fields)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return []  # the kind is not installed
            raise

    async def _labelled(self, resource: Resource) -> AsyncIterator[dict[str, Any]]:
        for tree in await self._list(resource, labels=f"{GENERATED_LABEL}={GENERATED_VALUE}"):
            if is_our_making(tree["metadata"]):
                yield tree

    async def _delete(self, resource: Resource, tree: Mapping[str, Any]) -> None:
        meta = tree["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        if await self._objects.delete(resource, namespace, name, uid=meta["uid"]):
            self._say(f"deleted {resource.kind}/{namespace}/{name}")

    async def _clear(self, resource: Resource, tree: Mapping[str, Any]) -> None:
        """Apply nothing under our name: the fields that are only ours go, those of others stay."""
        meta = tree["metadata"]
        # With its uid, so that one which has gone meanwhile is not made anew.
        nothing = {"metadata": {key: meta[key] for key in ("name", "namespace", "uid") if key in meta}}
        try:
            await self._objects.apply(resource, nothing, manager=FIELD_MANAGER, subresource="status")
        except ApiError as error:
            if error.status not in {NOT_FOUND, _CONFLICT}:
                raise
        else:
            where = "/".join(filter(None, (resource.kind, meta.get("namespace"), meta["name"])))
            self._say(f"cleared {where} (status)")

    async def _purge(self) -> None:
        for resource, name in PURGED:
            namespace = self._namespace if resource is SECRET else ""
            # By name, so that the right to these alone is enough.
            for tree in await self._list(resource, namespace, fields=f"metadata.name={name}"):
                if is_our_making(tree["metadata"]):
                    await self._delete(resource, tree)


def _has_our_status(tree: Mapping[str, Any]) -> bool:
    entries = tree["metadata"].get("managedFields") or ()
    return any(
        (each.get("manager"), each.get("subresource")) == (FIELD_MANAGER, "status") for each in entries
    )


def _replicas(deployment: Mapping[str, Any]) -> int:
    return int((deployment.get("spec") or {}).get("replicas", 1))
