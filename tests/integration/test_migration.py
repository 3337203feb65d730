"""Every step of docs/migration.md on real API servers, and what ztunnels of the cluster see at each of them.

East moves, west is its peer. ztunnels of peerd are real clients of its port; what those of istiod would be
told is what the model makes of the objects that lie in the API server then.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from peerd.cli.demo.ztunnel import Ztunnel
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.apiserver import ApiServer
from tests.support.beside_cluster import BesideCluster, linked
from tests.support.istiod_model import Flags, istiod
from tests.support.istiod_stand_in import (
    BESIDE_ROLES,
    ISTIO,
    MULTI_NETWORK,
    RIGHT,
    generated,
    short,
)
from tests.support.kube_cluster import KubeCluster

GLOBAL = {"solo.io/service-scope": "global"}
HOST = "reviews.shop.mesh.internal"
LOCAL = "reviews.shop.svc.cluster.local"
ENTRY = "ServiceEntry/shop/autogen.shop.reviews"
ENDPOINTS = "WorkloadEntry/shop/autogen.west.shop.reviews"
_READ = (
    ("v1", "Namespace"), ("v1", "Node"), ("v1", "Service"), ("v1", "Pod"), (ISTIO, "ServiceEntry"),
    (ISTIO, "WorkloadEntry"), ("gateway.networking.k8s.io/v1", "Gateway"),
)  # fmt: skip


class Moving(BesideCluster):
    """A cluster whose one replica is started again in another mode."""

    flags: Flags = Flags()

    async def mode(self, word: str) -> None:
        """Restart the replica with that `--mode`."""
        replica = self.replicas.get("east-0")
        if replica is not None and replica.pid:
            await replica.stop()
        self._flags = (f"--mode={word}", *self.istiod_flags())
        if replica is not None:
            replica._flags = self._flags
        await self.start("east-0")

    def seen_through_istiod(self) -> dict[str, list[tuple[str, int]]]:
        """Endpoints by host, as network and capacity, as istiod tells its ztunnels now."""
        objects = [
            msgspec.convert({**tree, "kind": kind}, KINDS_BY_NAME[kind].type)
            for version, kind in _READ
            for tree in self.api.admin.items(version, kind)
        ]
        told = istiod(objects, self.flags, cluster="east").values()
        found: dict[str, list[tuple[str, int]]] = {}
        for service in told:
            if isinstance(service, Service):
                found[service.hostname] = sorted(
                    (each.network, each.capacity or 1)
                    for each in told
                    if isinstance(each, Workload)
                    and any(entry.service == service.resource_name for entry in each.services)
                )
        return found

    async def until_written(self, *wanted: str) -> dict[str, dict[str, Any]]:
        """Wait until exactly these are there."""
        await self.until(lambda: {short(key) for key in generated(self.api)} == {*wanted}, 30, f"{wanted}")
        return generated(self.api)

    async def until_istiod_tells(self, host: str, *endpoints: tuple[str, int]) -> None:
        """Wait until istiod's ztunnels have exactly these endpoints of a host."""
        await self.until(lambda: self.seen_through_istiod().get(host) == sorted(endpoints), 30, host)

    def addresses(self) -> list[str]:
        """What is recorded for the global name."""
        status = generated(self.api)[ENTRY].get("status") or {}
        return sorted(each["value"] for each in status.get("addresses", ()) if each["host"] == HOST)


EAST, WEST = ("east-net", 1), ("west-net", 3)


@pytest.fixture
async def clusters(
    two_api_servers: tuple[ApiServer, ApiServer], tmp_path: Path
) -> AsyncIterator[tuple[Moving, KubeCluster]]:
    """East with an istiod of the right flags, one CA in Secret cacerts for both; west runs."""
    async with linked(Moving, two_api_servers, tmp_path) as (east, west):
        _rights(east)
        east.service("reviews", "20.1", 1, labels=GLOBAL)
        await west.start("west-0")
        yield east, west


def _rights(east: Moving) -> None:
    """While modes change, what both of them may."""
    for file in BESIDE_ROLES.glob("*role.yaml"):
        tree = yaml.safe_load(file.read_text())
        held = east.api.admin.get(tree)
        assert held is not None
        east.api.admin.apply({**tree, "rules": [*held["rules"], *tree["rules"]]})


async def test_from_standalone_to_beside_and_back(clusters: tuple[Moving, KubeCluster]) -> None:
    """standalone -> both -> beside -> both -> standalone: names, addresses and endpoints at every step."""
    east, _ = clusters
    await east.mode("standalone")
    client = await east.client(east.replicas["east-0"])
    name = f"shop/{HOST}"
    await east.until(lambda: name in client.services and _capacity(client, name) == 4, 30, "both clusters")
    vips = east.addresses()
    assert len(vips) == 2
    uid = (await east.until_written(ENTRY))[ENTRY]["metadata"]["uid"]

    await east.mode("both")  # 1: istiod's ztunnels can be served before the first one moves
    await east.until_istiod_tells(HOST, EAST, WEST)
    await east.until(lambda: _capacity(client, name) == 4, 30, "ztunnels that have not moved yet")
    assert east.seen_through_istiod()[LOCAL] == [EAST]

    await east.mode("beside")  # 2: all ztunnels have moved
    await east.until_istiod_tells(HOST, EAST, WEST)
    found = await east.until_written(ENTRY, ENDPOINTS)
    assert found[ENTRY]["metadata"]["uid"] == uid, "the very same object"
    assert east.addresses() == vips, "which istiod reads from its status"

    await east.mode("both")  # and back
    again = await east.client(east.replicas["east-0"])
    await east.until(lambda: name in again.services and _capacity(again, name) == 4, 30, "both clusters")
    await east.mode("standalone")
    await east.until_written(ENTRY)
    assert east.addresses() == vips


def _capacity(client: Ztunnel, service: str) -> int:
    """Endpoints that a client of peerd's port has of a service, remote ones by their weight."""
    return sum(each.capacity or 1 for each in client.endpoints(service))


async def test_from_remote_secrets(clusters: tuple[Moving, KubeCluster]) -> None:
    """An istiod with remote secrets: nothing changes until its flags do; local endpoints always serve."""
    east, _ = clusters
    east.istiod.flags({MULTI_NETWORK: "true"})
    east.istiod.rolled_out()
    east.flags = Flags(services_select_entries=True, multi_network=True)
    before = east.seen_through_istiod()
    await east.mode("beside")  # 1: installed and linked
    await east.until_written(
        "ServiceEntry/istio-system/autogen.shop.reviews",
        "WorkloadEntry/istio-system/autogen.west.shop.reviews",
    )
    after = east.seen_through_istiod()
    assert {host: after[host] for host in before} == before, "what callers use now is as it was"
    assert after[HOST] == [], "the global name is not to be used yet"

    east.istiod.flags({**RIGHT, MULTI_NETWORK: "false"})  # 2: the flags, and the secrets go
    await asyncio.sleep(2)
    assert east.seen_through_istiod()[LOCAL] == before[LOCAL]
    east.istiod.rolled_out()
    east.flags = Flags()
    await east.until_istiod_tells(HOST, EAST, WEST)  # 3: callers move to the global name
    assert east.seen_through_istiod()[LOCAL] == before[LOCAL]


async def test_from_istiod_as_xds_server_and_back(clusters: tuple[Moving, KubeCluster]) -> None:
    """An istiod with its defaults serves ztunnels: what it says stays the same until they move, and after."""
    east, _ = clusters
    east.istiod.flags({})
    east.istiod.rolled_out()
    east.flags = Flags(services_select_entries=True)
    before = east.seen_through_istiod()
    await east.mode("standalone")  # 1: installed under its own name, nobody asks it yet
    await east.until_written(ENTRY)
    after = east.seen_through_istiod()
    assert {host: after[host] for host in before} == before
    client = await east.client(east.replicas["east-0"])  # 2: ztunnels are pointed at it
    name = f"shop/{HOST}"
    await east.until(lambda: name in client.services and _capacity(client, name) == 4, 30, "both clusters")
    assert f"shop/{LOCAL}" in client.services
    await east.replicas["east-0"].stop()  # back: they are pointed at istiod again, peerd is uninstalled
    assert {host: east.seen_through_istiod()[host] for host in before} == before
