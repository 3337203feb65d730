"""peerd beside istiod, as processes on real API servers: what is written, when it moves, when it goes.

istiod itself is played by tests/support/istiod_stand_in.py; east runs beside it, west is its peer.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import rbac
from tests.support.apiserver import ApiServer
from tests.support.beside_cluster import BesideCluster, linked
from tests.support.istiod_stand_in import (
    BESIDE_ROLES,
    ISTIO,
    MULTI_NETWORK,
    RIGHT,
    SELECT,
    generated,
    short,
)
from tests.support.kube_cluster import SYSTEM, KubeCluster, Replica, namespace

GLOBAL = {"solo.io/service-scope": "global"}


class East(BesideCluster):
    """Its replicas run beside its istiod, or standalone where a test says so."""

    async def prepare(self) -> None:
        await super().prepare()
        for file in sorted(BESIDE_ROLES.glob("*role.yaml")):
            self.api.admin.apply(yaml.safe_load(file.read_text()))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": SYSTEM}}
        self.api.admin.delete(secret)
        self._flags = ("--mode=beside", *self.istiod_flags())

    def written(self) -> dict[str, dict[str, Any]]:
        """Generated objects by `<Kind>/<namespace>/<name>`."""
        return generated(self.api)

    async def until_written(self, wanted: set[str], seconds: float = 30) -> dict[str, dict[str, Any]]:
        """Wait until exactly these are there; names may end in `*`."""

        def there() -> dict[str, dict[str, Any]] | None:
            found = self.written()
            names = {short(key) for key in found}
            assert names == wanted, f"there: {sorted(names)}"
            return found or {"nothing": {}}

        found: dict[str, dict[str, Any]] = await self.until(there, seconds, f"{sorted(wanted)} written")
        return found


@pytest.fixture
async def clusters(
    two_api_servers: tuple[ApiServer, ApiServer], tmp_path: Path
) -> AsyncIterator[tuple[East, KubeCluster]]:
    """East beside its istiod, linked to west, which exports `reviews`; nothing of peerd runs yet."""
    async with linked(East, two_api_servers, tmp_path) as both:
        yield both


ENTRY = "ServiceEntry/shop/autogen.shop.reviews"
ENDPOINTS = "WorkloadEntry/shop/autogen.west.shop.reviews"
OWN = {"serviceentries", "workloadentries", "deployments", "gatewayclasses/status"}
OUR_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "istio-eastwest"},
    "spec": {"controllerName": "peerd.io/eastwest-controller"},
}
THEIR_CLASS = {
    **OUR_CLASS,
    "metadata": {"name": "istio-remote"},
    "spec": {"controllerName": "istio.io/unmanaged-gateway"},
}
AWAY = {
    "ServiceEntry/istio-system/autogen.shop.reviews",
    "WorkloadEntry/istio-system/autogen.west.shop.reviews",
}


async def test_imports_are_written_and_go(clusters: tuple[East, KubeCluster]) -> None:
    """A peer's service appears, follows its capacity, and goes with the link; nobody else's object does.

    All of that under exactly the rights of manifests/beside: what they add is used, and nothing is refused.
    """
    east, west = clusters
    mark = east.api.audit.mark()
    east.service("reviews", "20.1", 1, labels=GLOBAL)
    theirs = east.api.admin.create(
        {
            "apiVersion": ISTIO,
            "kind": "ServiceEntry",
            "metadata": {"name": "theirs", "namespace": "shop"},
            "spec": {
                "hosts": ["db.example.org"],
                "ports": [{"number": 5432, "name": "tcp"}],
                "resolution": "DNS",
            },
        }
    )
    for each in (OUR_CLASS, THEIR_CLASS):
        east.api.admin.create(each)
    _, replica = await asyncio.gather(west.start("west-0"), east.start("east-0"))
    found = await east.until_written({ENTRY, ENDPOINTS})
    entry = found[ENTRY]["spec"]
    assert entry["hosts"] == ["reviews.shop.mesh.internal"]
    assert entry["workloadSelector"] == {"labels": {"app": "reviews"}}
    assert entry["subjectAltNames"] == ["spiffe://cluster.local/ns/shop/sa/reviews"]
    assert "addresses" not in entry, "addresses are istiod's to give (D28)"
    assert "status" not in found[ENTRY]
    (endpoints,) = (tree["spec"] for key, tree in found.items() if short(key) == ENDPOINTS)
    assert (endpoints["network"], endpoints["weight"]) == ("west-net", 3)
    assert "address" not in endpoints

    for number in (2, 3):
        west.api.admin.delete(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"reviews-{number}", "namespace": "shop"},
            }
        )
    await east.until(lambda: _weights(east) == [1], 20, "a weight of 1")
    east.api.admin.patch(_tree(east, ENDPOINTS), {"spec": {"weight": 1000}})
    await east.until(lambda: _weights(east) == [1], 20, "the hand edit undone")

    east.api.admin.delete(east.gateway(west))
    await east.until_written({ENTRY})  # our own Service is still global
    east.api.admin.patch(_service("reviews"), {"metadata": {"labels": {"solo.io/service-scope": None}}})
    await east.until_written(set())
    assert east.api.admin.get(theirs) is not None
    assert await replica.debug("peers") is not None  # by TokenReview, beside istiod too
    told = [_accepted(east, each) for each in (OUR_CLASS, THEIR_CLASS)]
    assert told == ["True", "Unknown"], "istiod's class is istiod's to accept (D33)"
    requests = east.api.audit.requests(rbac.USER, mark)
    assert rbac.refused(requests) == []
    # What it shares with the base, and lists of servers that cannot stream them, are test_rbac.py's stories.
    own = [each for each in rbac.granted(BESIDE_ROLES) if each.resource in OWN and each.verb != "list"]
    assert rbac.unused(own, requests) == []


async def test_flags_decide_where_entries_lie(clusters: tuple[East, KubeCluster]) -> None:
    """Wrong flags: all in the system namespace, and told; right ones: beside the Service, once rolled out."""
    east, west = clusters
    east.istiod.flags({})
    east.istiod.rolled_out()
    east.service("reviews", "20.1", 1, labels=GLOBAL)
    _, replica = await asyncio.gather(west.start("west-0"), east.start("east-0"))
    found = await east.until_written(AWAY)
    for tree in found.values():
        assert "app" not in tree["metadata"]["labels"], "no label that a Service selects (D41)"
        assert "app" not in tree["spec"].get("workloadSelector", {}).get("labels", {})
    told = await replica.debug("diagnostics")
    assert SELECT in str(told)
    reviews = _service("reviews")
    await east.until(
        lambda: SELECT in str(_conditions(east, reviews)), 20, "the flag in the Service's status"
    )
    await east.until(lambda: SELECT in str(east.api.admin.items("v1", "Event", "shop")), 20, "an Event of it")
    wrong = f'peerd_istiod_flags_wrong{{flag="{SELECT}"}} 1.0'
    assert wrong in await _metrics(replica)

    east.istiod.flags(RIGHT)
    await asyncio.sleep(3)
    assert {short(key) for key in east.written()} == AWAY, "older Pods may still run with the old flags"
    east.istiod.rolled_out()
    await east.until_written({ENTRY, ENDPOINTS})
    await east.until(
        lambda: SELECT not in str(_conditions(east, reviews)), 20, "the flag's end in the status"
    )

    east.istiod.flags({**RIGHT, "OTHER": "x"})  # a new rollout with the right flags moves nothing
    await asyncio.sleep(3)
    await east.until_written({ENTRY, ENDPOINTS}, 1)
    east.istiod.flags({**RIGHT, MULTI_NETWORK: "true"})
    await east.until_written(AWAY)


async def test_restart_without_state_takes_nothing(
    clusters: tuple[East, KubeCluster], tmp_path: Path
) -> None:
    """East loses its state while west is away: everything stays, and goes only when west says so (D13)."""
    east, west = clusters
    replica = (await asyncio.gather(west.start("west-0"), east.start("east-0")))[1]
    before = await east.until_written({ENTRY, ENDPOINTS} if _has_shop(east) else AWAY)
    await west.replicas["west-0"].stop()
    await replica.kill()
    (replica.root / "state").rename(tmp_path / "lost")
    await east.start("east-0")
    await asyncio.sleep(3)
    after = east.written()
    assert {key: tree["metadata"]["resourceVersion"] for key, tree in after.items()} == {
        key: tree["metadata"]["resourceVersion"] for key, tree in before.items()
    }, "not one write"
    reviews = _service("reviews")
    west.api.admin.patch(reviews, {"metadata": {"labels": {"solo.io/service-scope": None}}})
    await west.start("west-0")
    await east.until_written(set())


def _has_shop(east: East) -> bool:
    return east.api.admin.get(namespace("shop")) is not None


def _weights(east: East) -> list[int]:
    return [tree["spec"]["weight"] for key, tree in east.written().items() if short(key) == ENDPOINTS]


def _tree(east: East, wanted: str) -> dict[str, Any]:
    (tree,) = (tree for key, tree in east.written().items() if short(key) == wanted)
    return {"apiVersion": ISTIO, "kind": wanted.partition("/")[0], **tree}


def _service(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}}


def _accepted(east: East, manifest: dict[str, Any]) -> str:
    """The status of condition Accepted, as it is or as it was made."""
    found = east.api.admin.get(manifest) or {}
    conditions = found.get("status", {}).get("conditions", ())
    return next((each["status"] for each in conditions if each["type"] == "Accepted"), "Unknown")


def _conditions(east: East, service: dict[str, Any]) -> Any:
    found = east.api.admin.get(service)
    assert found is not None
    return found.get("status", {}).get("conditions", ())


async def _metrics(replica: Replica) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.ports["http"])
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = await reader.read()
    writer.close()
    return text.decode()
