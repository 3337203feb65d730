"""Whole clusters beside an istiod, on real API servers: KubeCluster and the stand-in of istiod together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from peerd.ca import authority
from tests.support.apiserver import ApiServer
from tests.support.istiod_stand_in import Istiod
from tests.support.kube_cluster import SYSTEM, KubeCluster, namespace


class BesideCluster(KubeCluster):
    """A cluster with an istiod."""

    istiod: Istiod

    def istiod_flags(self) -> tuple[str, ...]:
        """How a replica of it finds that istiod."""
        token = self.root / "istio-token"
        token.write_text(self.api.token(SYSTEM, "peerd", audiences=["istio-ca"]))
        return (
            f"--istiod-addr={self.istiod.address}",
            f"--istiod-token-file={token}",
            f"--istiod-root-file={self.istiod.root_file}",
        )


_Made = TypeVar("_Made", bound=BesideCluster)


@asynccontextmanager
async def linked(
    kind: type[_Made], apis: tuple[ApiServer, ApiServer], root: Path
) -> AsyncIterator[tuple[_Made, KubeCluster]]:
    """East, of *kind*, beside its istiod, linked to west, which exports `reviews`; no peerd runs yet."""
    issuer = authority.make_root("test", time.time())
    apis[0].admin.create(namespace(SYSTEM))
    east = kind("east", apis[0], root / "east", issuer)
    east.istiod = Istiod(apis[0], root / "istiod", issuer, "east")
    west = KubeCluster("west", apis[1], root / "west", issuer)
    await east.istiod.start()
    try:
        await asyncio.gather(east.prepare(), west.prepare())
        east.istiod.accept(east.link(west))
        west.link(east)
        west.service("reviews", "10.1", 3, labels={"solo.io/service-scope": "global"})
        yield east, west
    finally:
        await east.close()
        await west.close()
        await east.istiod.stop()
