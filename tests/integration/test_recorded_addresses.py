"""Addresses are recorded in the cluster: one replica chooses, all serve, nothing forgets (D16, D28)."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerd.ca import authority
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.address import ip_text
from tests.support.apiserver import ApiServer
from tests.support.istiod_stand_in import ISTIO, generated
from tests.support.kube_cluster import KubeCluster

GLOBAL = {"solo.io/service-scope": "global"}
ENTRY = "ServiceEntry/shop/autogen.shop.reviews"
NAME = "shop/reviews.shop.mesh.internal"
THEIRS = {
    "apiVersion": ISTIO,
    "kind": "ServiceEntry",
    "metadata": {"name": "theirs", "namespace": "shop"},
    "spec": {
        "hosts": ["db.example.org"],
        "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "192.0.2.10"}],
    },
}


@pytest.fixture
async def east(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    found = KubeCluster("east", api_server, tmp_path / "east", authority.make_root("test", time.time()))
    try:
        await found.prepare()
        found.service("reviews", "20.1", 2, labels=GLOBAL)
        yield found
    finally:
        await found.close()


async def test_all_replicas_serve_what_one_recorded(east: KubeCluster) -> None:
    """Two replicas, two clients: equal addresses, those of the status; also for a user's ServiceEntry."""
    clients = await _two_clients(east)
    served = await _served(east, clients, NAME)
    assert served == _recorded(generated(east.api)[ENTRY], "reviews.shop.mesh.internal")
    assert len(served) == 2
    assert any(each.startswith("240.") for each in served)

    theirs = east.api.admin.create(THEIRS)
    served = await _served(east, clients, "shop/db.example.org")
    found = east.api.admin.get(theirs)
    assert found is not None
    assert served == _recorded(found, "db.example.org")
    assert any(each.startswith("240.240.") for each in served), "istiod's own pool"
    assert found["spec"] == theirs["spec"], "what its owner wrote stays"


async def test_addresses_outlive_every_replica(east: KubeCluster) -> None:
    """All replicas killed, their state lost: the same addresses, and not one write."""
    served = await _served(east, await _two_clients(east), NAME)
    before = generated(east.api)[ENTRY]["metadata"]["resourceVersion"]
    for replica in east.replicas.values():
        await replica.kill()
        shutil.rmtree(replica.root / "state")
    assert await _served(east, await _two_clients(east), NAME) == served
    await asyncio.sleep(2)
    assert generated(east.api)[ENTRY]["metadata"]["resourceVersion"] == before


async def test_record_that_somebody_else_wrote_wins(east: KubeCluster) -> None:
    """As istiod would have: whoever was first, both replicas serve it."""
    await east.start("east-0")
    await east.until(lambda: ENTRY in generated(east.api), 20, "the entry")
    await east.until(lambda: generated(east.api)[ENTRY].get("status", {}).get("addresses"), 20, "addresses")
    await east.replicas["east-0"].stop()
    theirs = {"addresses": [{"host": "reviews.shop.mesh.internal", "value": "240.240.7.7"}]}
    east.api.admin.set_status(
        {"apiVersion": ISTIO, "kind": "ServiceEntry", **generated(east.api)[ENTRY]}, theirs
    )
    clients = await _two_clients(east)
    assert await _served(east, clients, NAME) == ["240.240.7.7"]


async def _two_clients(east: KubeCluster) -> list[Ztunnel]:
    replicas = await asyncio.gather(east.start("east-0"), east.start("east-1"))
    return list(await asyncio.gather(*(east.client(replica) for replica in replicas)))


async def _served(east: KubeCluster, clients: list[Ztunnel], name: str) -> list[str]:
    """The addresses of a name that both clients have."""

    def both() -> list[str]:
        found = [
            sorted(ip_text(each.address) for each in client.services[name].addresses)
            for client in clients
            if name in client.services
        ]
        assert len(found) == 2
        assert found[0]
        assert found[0] == found[1]
        return found[0]

    served: list[str] = await east.until(both, 30, f"{name} at both replicas")
    return served


def _recorded(tree: dict[str, Any], host: str) -> list[str]:
    return sorted(each["value"] for each in tree["status"]["addresses"] if each["host"] == host)
