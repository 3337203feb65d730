"""A service that prefers near endpoints has that from a real gateway, too: near to the gateway (D26)."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from peerd.ca import authority
from peerd.cli.demo.hbone import Caller
from peerd.cli.demo.pipes import HboneError
from tests.support import manifests
from tests.support.gateways import GATEWAY_IDENTITY, GatewayCluster, GatewayReplica
from tests.support.peerds import PATIENCE
from tests.support.ports import address_block

HOSTS = ["reviews.shop.mesh.internal:80", "reviews.shop.svc.cluster.local:80"]
REVIEWS = ("spiffe://cluster.local/ns/shop/sa/reviews",)
NODE = """\
apiVersion: v1
kind: Node
metadata:
  name: node-{zone}
  labels: {{topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {zone}}}
"""
GATEWAY_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: gateway-{address}
  namespace: istio-system
  labels: {{gateway.networking.k8s.io/gateway-name: istio-eastwest}}
spec: {{nodeName: node-{zone}, serviceAccountName: istio-eastwest}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}
"""
PLACES = {10: "a", 11: "b", 12: "c"}
"""Zones of Pods; a and b are in one region."""


def nodes() -> str:
    """The nodes, one a zone."""
    regions = {"a": "r1", "b": "r1", "c": "r2"}
    return "---\n".join(NODE.format(zone=zone, region=region) for zone, region in regions.items())


class West(GatewayCluster):
    """A cluster of three zones that exports reviews."""

    def reviews(self, prefers: str, ready: Mapping[int, str] = PLACES) -> None:
        """The service with its word, and its Pods; those of *ready* are."""
        service = manifests.service("reviews", 7, everywhere=True)
        objects = [service + (f"  trafficDistribution: {prefers}\n" if prefers else "")]
        for number, zone in PLACES.items():
            pod = manifests.pod("reviews", number, f"{self.block}.{number}", ready=number in ready)
            objects.append(pod.replace("node-1", f"node-{zone}"))
        self.write("reviews", "---\n".join(objects))

    async def answers(self, replica: GatewayReplica, host: str = HOSTS[0]) -> set[int]:
        """The last bytes of who answers a dozen requests in a row."""
        caller = Caller(replica.hbone, self.front, GATEWAY_IDENTITY, "east-net")
        try:
            found = [await caller.request(host, REVIEWS, b"hello") for _ in range(12)]
        finally:
            await caller.close()
        return {int(each.split()[1].rpartition(b".")[2]) for each in found}

    async def until(self, replica: GatewayReplica, wanted: set[int]) -> None:
        """Wait until these answer and no others."""
        found: set[int] = set()
        try:
            async with asyncio.timeout(PATIENCE):
                while found != wanted:
                    try:
                        found = await self.answers(replica)
                    except (HboneError, OSError):
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"answered by {found}, not {wanted}") from None


@pytest.fixture
async def west(tmp_path: Path) -> AsyncIterator[West]:
    """With its three Pods running."""
    certificates = tmp_path / "certs"
    certificates.mkdir()
    now = time.time()
    root = authority.make_root("test", now)
    authority.write_new(certificates, authority.root_files(root))
    authority.write_new(certificates / "west", authority.make_cluster_ca(root, "west", now))
    cluster = West("west", tmp_path / "west", certificates, address_block())
    try:
        cluster.own_gateway(1, 2, 3)
        cluster.write("nodes", nodes())
        for number in PLACES:
            await cluster.receive("reviews", number, HOSTS)
        cluster.reviews("PreferClose")
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()


async def test_each_gateway_prefers_what_is_near_it_and_fails_over(west):
    """Zone, then region, then the rest; by both names; and evenly again once the service prefers nothing."""
    in_a = await west.replica(1, locality="r1/a")
    in_c = await west.replica(2, locality="r2/c")
    nowhere = await west.replica(3)
    for host in HOSTS:
        assert await west.answers(in_a, host) == {10}
        assert await west.answers(in_c, host) == {12}
        assert await west.answers(nowhere, host) == {10, 11, 12}

    west.reviews("PreferClose", {11: "b", 12: "c"})
    await west.until(in_a, {11})
    west.reviews("PreferClose", {12: "c"})
    await west.until(in_a, {12})
    west.reviews("PreferClose")
    await west.until(in_a, {10})

    west.reviews("")
    await west.until(in_a, {10, 11, 12})
    await west.until(in_c, {10, 11, 12})


async def test_a_near_endpoint_that_takes_no_connection_costs_no_request(west):
    """What peerd believes healthy is dead: the next place answers, the first request already."""
    in_a = await west.replica(1, locality="r1/a")
    await west.receivers[f"{west.block}.10"].stop()
    assert await west.answers(in_a) == {11}
    (first, *_) = await in_a.until_logged(route="exported", code=200)
    assert int(first["attempts"]) == 2


async def test_a_gateways_pod_says_where_it_runs(west):
    """By its node; also where that is known only after Envoy has come."""
    replica = await west.replica(2)
    assert await west.answers(replica) == {10, 11, 12}
    west.write("gateway-pod", GATEWAY_POD.format(address=replica.address, zone="b"))
    await west.until(replica, {11})
    west.reviews("PreferSameNode")
    west.write("nodes", "")
    await west.until(replica, {11})
