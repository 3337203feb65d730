"""Whether the API server still holds the history that we followed.

A server that was restored from a backup, or began anew with an empty etcd, answers as if nothing had
happened: a watch from a version of the old history is accepted and stays silent until the new one has got
there, and a list is complete without our objects. One question tells: the list of our own system Namespace
carries the server's present version, and the Namespace's uid names the cluster (decision D18).
"""

import asyncio

from peerd.kubeapi.base import ApiTransport
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.lists import order, read_page
from peerd.model.record import Record


class Look(Record, frozen=True):
    """What was found: the server's version, and the system Namespace's uid, empty where there is none."""

    version: str
    lineage: str

    def follows(self, lineage: str, version: str) -> bool:
        """Whether this is a later state of the cluster *lineage*, of which we had heard up to *version*."""
        return bool(self.lineage) and self.lineage == lineage and order(self.version) >= order(version)


class Continuity:
    """Looks; those who ask while a look is under way share it."""

    def __init__(self, transport: ApiTransport, namespace: str) -> None:
        self._transport = transport
        self.namespace = namespace
        self._looking: asyncio.Task[Look] | None = None

    async def look(self) -> Look:
        """Ask the server; raises ApiError, ApiUnreachableError, GarbledError."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    def _looked(self, task: asyncio.Task[Look]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # whoever asked has it; where all were cancelled, nobody need

    async def _look(self) -> Look:
        query = {"fieldSelector": f"metadata.name={self.namespace}"}
        response = await self._transport.request("GET", "/api/v1/namespaces", query=query)
        if response.status != 200:
            raise ApiError("list Namespaces", response)
        page = read_page(response.body)
        return Look(page.version, page.items[0][0].uid if page.items else "")
