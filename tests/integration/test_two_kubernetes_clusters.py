"""Two clusters on real API servers, two peerd replicas each: what is shared, told, kept and taken over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from peerd.ca import authority
from peerd.cli.demo.ztunnel import Ztunnel
from tests.support import identities, rbac
from tests.support.apiserver import ApiServer
from tests.support.gateway_stand_in import gateway_of
from tests.support.kube_cluster import SYSTEM, KubeCluster, Replica, Tree

GLOBAL = {"solo.io/service-scope": "global"}
UNLABEL = {"metadata": {"labels": {"solo.io/service-scope": None}}}
LABEL = {"metadata": {"labels": GLOBAL}}
REVIEWS = "shop/reviews.shop.mesh.internal"
RATINGS = "shop/ratings.shop.mesh.internal"
GATEWAY_IDENTITY = f"spiffe://cluster.local/ns/{SYSTEM}/sa/peer-west-istio-remote"
TAKEOVER_SECONDS = 20.0
STALE_SECONDS = 45.0  # the protocol's, there is no setting for it


class Pair:
    """East and west; `watchers` are clients of east's two replicas."""

    def __init__(self, east: KubeCluster, west: KubeCluster) -> None:
        self.east = east
        self.west = west
        self.gateway: Tree = {}
        self.watchers: dict[str, Ztunnel] = {}

    async def begin(self, hbone: int) -> None:
        """West's gateway answers at port *hbone*."""
        for cluster in (self.east, self.west):
            await cluster.prepare()
        self.gateway = self.east.link(self.west, hbone=hbone)
        self.west.link(self.east)
        # Both of east's replicas dial the only one of west: there they must be two.
        await asyncio.gather(self.east.start("east-0"), self.east.start("east-1"), self.west.start("west-0"))
        await self.east.until(lambda: all(map(synced, self.east.replicas.values())), 20, "both links")
        await self.west.start("west-1")
        for name, replica in self.east.replicas.items():
            self.watchers[name] = await self.east.client(replica)

    # -- what is seen in east --------------------------------------------------------------------------------

    async def told(self, name: str, *, remote: int = 1) -> None:
        """Both clients know the name, with so many workloads behind gateways."""
        await self._all(lambda each: name in each.services and len(each.remote(name)) == remote, name)

    async def forgotten(self, name: str) -> None:
        """Neither client knows the name."""
        await self._all(lambda each: name not in each.services, f"the end of {name}")

    async def _all(self, happened: Callable[[Ztunnel], bool], what: str) -> None:
        for client in self.watchers.values():
            await client.until(partial(happened, client), 30.0, what)

    def conditions(self, tree: Tree) -> dict[str, Tree]:
        found = self.east.api.admin.get(tree) or {}
        return {each["type"]: each for each in found.get("status", {}).get("conditions", ())}

    async def says(
        self, tree: Tree, kind: str, *, status: str = "", text: str = "", seconds: float = 30.0
    ) -> Tree:
        """Wait until a condition of an object in east has this status and says this; returns it."""

        def right() -> Tree | None:
            found = self.conditions(tree).get(kind, {})
            said = f"{found.get('status')} {found.get('reason')}: {found.get('message')}"
            assert found.get("status") == (status or found.get("status")), said
            assert text in f"{found.get('reason')} {found.get('message')}", said
            return found or None

        found: Tree = await self.east.until(
            right, seconds, f"{tree['metadata']['name']}: {kind} {status} {text}"
        )
        return found

    def events(self, tree: Tree) -> list[tuple[str, str]]:
        """Type and reason of each Event about an object in east."""
        items = self.east.api.admin.items("v1", "Event", tree["metadata"]["namespace"])
        about = tree["kind"], tree["metadata"]["name"]
        return [
            (each["type"], each["reason"])
            for each in items
            if (each["involvedObject"]["kind"], each["involvedObject"]["name"]) == about
        ]

    def entry(self, service: str) -> Tree | None:
        """The ServiceEntry that records a global name in east."""
        for found in self.east.api.admin.items("networking.istio.io/v1", "ServiceEntry"):
            if found["metadata"]["name"] == f"autogen.shop.{service}":
                return found
        return None

    def writer(self) -> Replica:
        """The replica of east that holds the Lease."""
        (lease,) = self.east.api.admin.items("coordination.k8s.io/v1", "Lease", SYSTEM)
        holder = lease["spec"]["holderIdentity"]
        (found,) = [each for each in self.east.replicas.values() if each.name in holder]
        return found


@pytest.fixture
async def pair(two_api_servers: tuple[ApiServer, ApiServer], tmp_path: Path) -> AsyncIterator[Pair]:
    issuer = authority.make_root("test", time.time())
    east, west = (
        KubeCluster(name, api, tmp_path / name, issuer)
        for name, api in zip(("east", "west"), two_api_servers, strict=True)
    )
    shown = identities.material(identities.cluster_bundle(issuer, "west"), GATEWAY_IDENTITY)
    try:
        async with gateway_of(shown) as port:
            pair = Pair(east, west)
            await pair.begin(port)
            yield pair
    finally:
        for cluster in (east, west):
            await cluster.close()


def heard(client: Ztunnel) -> int:
    """How many messages told something."""
    return sum(1 for message in client.messages if message.resources or message.removed)


def what_it_holds(client: Ztunnel) -> dict[str, object]:
    """All of its resources by name."""
    return {**client.services, **client.workloads, **client.policies}


def settled(pair: Pair) -> bool:
    """Both clients hold the same, and all of west's Pods count."""
    one, other = pair.watchers.values()
    capacities = [each.capacity for name in (REVIEWS, RATINGS) for each in one.remote(name)]
    return what_it_holds(one) == what_it_holds(other) and capacities == [2, 2]


def removed(client: Ztunnel) -> int:
    """How many resources were taken from it."""
    return sum(message.removed for message in client.messages)


async def test_a_service_is_shared_kept_and_written_about_whoever_dies(pair: Pair) -> None:
    """Label, unlabel, kill the writer, kill the peer: what clients and the other cluster's people see."""
    east, west = pair.east, pair.west
    marks = [(each.api, each.api.audit.mark()) for each in (east, west)]
    for condition in (
        "Accepted",
        "Programmed",
        "gloo.solo.io/PeerConnected",
        "gloo.solo.io/PeeringSucceeded",
        "gloo.solo.io/PeerDataPlaneProgrammed",
    ):
        found = await pair.says(pair.gateway, condition, status="True")
        assert found["observedGeneration"] == pair.gateway["metadata"]["generation"]
    wanted = {("Normal", f"Peer{each}") for each in ("Connected", "Synced", "GatewayReached")}
    await east.until(lambda: wanted <= set(pair.events(pair.gateway)), 10, "Events about the Gateway")

    # A Service of both clusters, global in east so far, and one that only west has.
    ours = east.service("reviews", "10.1", 1, labels=GLOBAL)
    await pair.told(REVIEWS, remote=0)
    theirs = west.service("reviews", "10.1", 2)
    ratings = west.service("ratings", "10.2", 2)
    west.api.admin.patch(theirs, LABEL)
    west.api.admin.patch(ratings, LABEL)
    await pair.told(REVIEWS)
    await pair.told(RATINGS)
    addresses = {
        tuple(each.address for each in client.services[RATINGS].addresses)
        for client in pair.watchers.values()
    }
    assert len(addresses) == 1, "both replicas serve one address"
    recorded = await east.until(lambda: pair.entry("ratings"), 10, "the entry that records the address")
    assert recorded["status"]["addresses"]
    assert recorded["metadata"]["annotations"]["peering.peerd.io/clusters"] == "west"
    await pair.says(ours, "peering.peerd.io/Federated", status="True", text="west")

    # Unlabelled, they are gone: all of the one, west's part of the other.
    west.api.admin.patch(theirs, UNLABEL)
    west.api.admin.patch(ratings, UNLABEL)
    await pair.forgotten(RATINGS)
    await pair.told(REVIEWS, remote=0)
    await east.until(lambda: pair.entry("ratings") is None, 30, "the end of the entry")
    await pair.says(ours, "peering.peerd.io/Federated", text="OnlyHere")
    west.api.admin.patch(theirs, LABEL)
    west.api.admin.patch(ratings, LABEL)
    await pair.told(REVIEWS)
    await pair.told(RATINGS)

    assert [line for each in (east, west) for line in links_lost(each)] == []
    await a_writer_is_replaced(pair)
    await a_dead_peer_is_kept_and_named(pair, ours)

    requests = [request for api, mark in marks for request in api.audit.requests(rbac.USER, mark)]
    assert rbac.refused(requests) == []


def synced(replica: Replica) -> bool:
    """Whether it has once synced with its peer."""
    return '"peer_synced"' in replica.log.read_text("utf-8")


def links_lost(cluster: KubeCluster) -> list[str]:
    """What replicas logged of links that were lost once they had synced: replicas displace nobody's (D16)."""
    found = []
    for replica in cluster.replicas.values():
        _, _, after = replica.log.read_text("utf-8").partition('"peer_synced"')
        found += [line for line in after.splitlines() if '"peer_disconnected"' in line]
    return found


async def a_writer_is_replaced(pair: Pair) -> None:
    """SIGKILL of the replica that writes: the other one writes within 20 s, and no client hears of it."""
    dead = pair.writer()
    survivor = next(each for each in pair.east.replicas.values() if each is not dead)
    await pair.east.until(lambda: settled(pair), 20, "both replicas to have told the same")
    before = {name: heard(client) for name, client in pair.watchers.items()}
    held = {name: what_it_holds(client) for name, client in pair.watchers.items()}
    await dead.kill()
    killed = time.monotonic()
    pair.east.forward(dead, survivor)
    await pair.east.reconnect(pair.watchers[dead.name])
    # Writes are what writing is known by: a new namespace gets the roots.
    pair.east.api.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}})
    roots = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio-ca-root-cert", "namespace": "later"},
    }
    await pair.east.until(
        lambda: pair.east.api.admin.get(roots), TAKEOVER_SECONDS, "the roots, by the other writer"
    )
    assert time.monotonic() - killed <= TAKEOVER_SECONDS
    assert pair.writer() is survivor
    assert {name: what_it_holds(client) for name, client in pair.watchers.items()} == held
    assert {name: heard(client) for name, client in pair.watchers.items()} == before


async def a_dead_peer_is_kept_and_named(pair: Pair, ours: Tree) -> None:
    """SIGKILL of both of west's replicas: everything stays, and after 45 s it is said how old it is."""
    before = [removed(client) for client in pair.watchers.values()]
    for replica in pair.west.replicas.values():
        await replica.kill()
    connected = "gloo.solo.io/PeerConnected"
    await pair.says(pair.gateway, connected, status="False", seconds=20)
    await pair.says(pair.gateway, connected, status="False", text="Stale", seconds=STALE_SECONDS + 30)
    await pair.says(pair.gateway, "gloo.solo.io/PeeringSucceeded", status="True")
    await pair.says(pair.gateway, "gloo.solo.io/PeerDataPlaneProgrammed", status="True")
    await pair.says(ours, "peering.peerd.io/Federated", text="west (stale)")
    await pair.east.until(lambda: ("Warning", "PeerStale") in pair.events(pair.gateway), 10, "a warning")
    assert [removed(client) for client in pair.watchers.values()] == before
    await pair.told(REVIEWS)
    await pair.told(RATINGS)
