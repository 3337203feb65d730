"""Secrets of the classic multicluster that still hold credentials of other clusters (decision D36).

With peering nothing needs them, and an istiod beside us that still reads them watches those clusters itself.
Of each only its name is kept; its data is not decoded.
"""

import random

import msgspec
import structlog

from peerd.kubeapi.base import ApiTransport, ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.resources import SECRET
from peerd.model.kube.meta import KubeRecord
from peerd.publish.events import WARNING, About, Events

log = structlog.get_logger("peerd.leftovers")

SELECTOR = "istio/multiCluster=true"
INTERVAL = 600.0
_PAGE = "100"


class _Meta(KubeRecord, frozen=True):
    name: str = ""
    uid: str = ""


class _Secret(KubeRecord, frozen=True):
    metadata: _Meta = _Meta()


class _ListMeta(KubeRecord, frozen=True):
    continue_: str = msgspec.field(name="continue", default="")


class _Secrets(KubeRecord, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: tuple[_Secret, ...] = ()


class Leftovers:
    """Looks for them in one namespace; `count` is what the last look found."""

    def __init__(
        self, transport: ApiTransport, events: Events, namespace: str, source: random.Random
    ) -> None:
        self._transport = transport
        self._events = events
        self._namespace = namespace
        self._random = source
        self.count = 0

    async def look(self) -> float:
        """Look once and tell what is there; returns the seconds until the next look."""
        try:
            found = await self._list()
        except (ApiError, ApiUnreachableError, msgspec.DecodeError) as error:
            log.warning("leftover_secrets_not_listed", namespace=self._namespace, reason=str(error))
            # What is forbidden now is so for long; a server that is away is not.
            return INTERVAL * self._random.uniform(0.1, 0.2) if _passes(error) else INTERVAL
        if found and len(found) != self.count:
            log.warning("leftover_secrets", namespace=self._namespace, secrets=[each.name for each in found])
        self.count = len(found)
        for each in found:
            self._events.say(
                About(SECRET, self._namespace, each.name, each.uid),
                WARNING,
                "RemoteSecretLeftover",
                "holds credentials of another cluster, which peering does not need; delete it once"
                " all clusters are linked (docs/operations.md)",
            )
        return INTERVAL * self._random.uniform(0.9, 1.1)

    async def _list(self) -> list[_Meta]:
        query = {"labelSelector": SELECTOR, "limit": _PAGE}
        found: list[_Meta] = []
        while True:
            response = await self._transport.request("GET", SECRET.path(self._namespace), query=query)
            if response.status != 200:
                raise ApiError("list Secrets", response)
            page = msgspec.json.decode(response.body, type=_Secrets)
            found += [each.metadata for each in page.items]
            if not page.metadata.continue_:
                return found
            query["continue"] = page.metadata.continue_


def _passes(error: Exception) -> bool:
    return not (isinstance(error, ApiError) and error.status == 403)
