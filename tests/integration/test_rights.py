"""Rights that somebody takes away from a running peerd on a real API server, and gives back."""

import copy
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerd.ca import authority
from tests.support import rbac
from tests.support.apiserver import ApiServer
from tests.support.kube_cluster import KubeCluster, namespace

Tree = dict[str, Any]
GLOBAL = {"solo.io/service-scope": "global"}
FEDERATED = "peering.peerd.io/Federated"


@pytest.fixture
async def east(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    """One cluster, prepared."""
    cluster = KubeCluster("east", api_server, tmp_path / "east", authority.make_root("test", time.time()))
    try:
        await cluster.prepare()
        yield cluster
    finally:
        await cluster.close()


def role_without(verb: str, resource: str) -> Tree:
    """The shipped ClusterRole, less one right."""
    (role,) = (copy.deepcopy(each) for each in rbac.manifests() if each["kind"] == "ClusterRole")
    for rule in role["rules"]:
        if verb in rule["verbs"] and resource in rule["resources"]:
            rule["resources"].remove(resource)
    role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
    return role


def federated(cluster: KubeCluster, service: Tree) -> bool:
    found = cluster.api.admin.get(service)
    assert found is not None
    return any(each["type"] == FEDERATED for each in (found.get("status") or {}).get("conditions", ()))


async def lacking(cluster: KubeCluster) -> list[Tree]:
    """What is told of the system Namespace."""
    found = await cluster.replicas["east-0"].debug("diagnostics")
    return [each for each in found if each["object"] == "Namespace/istio-system"]


async def test_a_right_that_is_taken_away_is_named_and_holds_nothing_else_up(east: KubeCluster) -> None:
    """Of Services' status: told in diagnostics and by one Event; entries are made; healed when it is back."""
    admin = east.api.admin
    await east.start("east-0")
    admin.apply(role_without("patch", "services/status"))
    first, second = (east.service(name, f"20.{n}", 1, labels=GLOBAL) for n, name in enumerate("ab", 1))

    async def named() -> bool:
        return [each["field"] for each in await lacking(east)] == ["rules (patch services/status)"]

    await east.until(named, 30, "the right that is lacking")
    (problem,) = await lacking(east)
    assert "in namespace shop" in problem["message"]
    assert "ServiceAccount peerd" in problem["fix"]
    await east.until(
        lambda: (
            {each["metadata"]["name"] for each in admin.items("networking.istio.io/v1", "ServiceEntry")}
            == {"autogen.shop.a", "autogen.shop.b"}
        ),
        30,
        "what is generated",
    )
    assert not federated(east, first)

    def events() -> list[Tree]:
        return [
            each
            for each in admin.items("v1", "Event")
            if each["involvedObject"]["kind"] in {"Namespace", "Service"}
        ]

    (event,) = await east.until(events, 30, "an Event on the system Namespace")
    uid = admin.get(namespace("istio-system"))["metadata"]["uid"]  # type: ignore[index]
    assert event["involvedObject"]["uid"] == uid
    assert "patch services/status" in event["message"]

    admin.apply(role_without("", ""))
    await east.until(
        lambda: federated(east, first) and federated(east, second), 90, "the status of both Services"
    )

    async def healed() -> bool:
        return not await lacking(east)

    await east.until(healed, 30, "nothing is lacking")
