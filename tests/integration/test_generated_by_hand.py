"""Hands on generated objects of a real API server: edits are undone and told, what is theirs stays."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerd.ca import authority
from peerd.model.address import ip_text
from tests.support.apiserver import ApiServer
from tests.support.istiod_stand_in import ISTIO, generated
from tests.support.kube_cluster import KubeCluster, Tree

GLOBAL = {"solo.io/service-scope": "global"}
KEY = "ServiceEntry/shop/autogen.shop.reviews"
REVERTED, TAKEN = "GeneratedObjectReverted", "GeneratedNameTaken"


def entry(name: str, **spec: Any) -> Tree:
    """A ServiceEntry of the namespace shop."""
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": ISTIO, "kind": "ServiceEntry", "metadata": metadata, "spec": spec}


_OTHER = {False: "240.240.200.7", True: "2001:2::c807"}
OURS = entry("autogen.shop.reviews")


@pytest.fixture
async def east(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    """A cluster with one global Service and a replica of peerd, which has recorded an address for it."""
    cluster = KubeCluster("east", api_server, tmp_path, authority.make_root("test", time.time()))
    try:
        await cluster.prepare()
        cluster.service("reviews", "10.1", 1, labels=GLOBAL)
        await cluster.start("east-0")
        await cluster.until(lambda: addresses(cluster), 20, "a recorded address")
        yield cluster
    finally:
        await cluster.close()


def addresses(cluster: KubeCluster) -> Any:
    """What is recorded for the global name."""
    return addresses_of(generated(cluster.api).get(KEY, {}))


def addresses_of(tree: Tree) -> Any:
    """What a generated ServiceEntry records."""
    return (tree.get("status") or {}).get("addresses")


def told(cluster: KubeCluster, reason: str) -> list[str]:
    """Messages of Events about generated ServiceEntries."""
    return [
        each["message"]
        for each in cluster.api.admin.items("v1", "Event", "shop")
        if each["reason"] == reason and each["involvedObject"]["kind"] == "ServiceEntry"
    ]


async def test_edits_and_deletions_are_undone_and_told(east: KubeCluster) -> None:
    """A changed field, a field more, our label, and the whole object: with its address, and an Event."""
    before, recorded = generated(east.api)[KEY], addresses(east)
    admin = east.api.admin

    async def undone(edited: str) -> None:
        def as_before() -> bool:
            now = generated(east.api).get(KEY, {})
            return now.get("spec") == before["spec"] and addresses(east) == recorded

        def said() -> None:
            assert edited in str(told(east, REVERTED)), told(east, REVERTED)

        await east.until(as_before, 20, f"{edited} as it was")
        await east.until(lambda: said() is None, 20, f"an Event that names {edited}")

    admin.patch(OURS, {"spec": {"hosts": ["evil.example.com"]}})
    await undone("spec.hosts")
    admin.patch(OURS, {"spec": {"exportTo": ["."]}})
    await undone("spec.exportTo")
    admin.patch(OURS, {"metadata": {"labels": {"peerd.io/generated": None}}})
    await undone("metadata.labels.peerd.io/generated")
    assert generated(east.api)[KEY]["metadata"]["uid"] == before["metadata"]["uid"]
    admin.delete(OURS)
    await undone("deleted")
    assert generated(east.api)[KEY]["metadata"]["uid"] != before["metadata"]["uid"]


async def test_labels_and_annotations_of_others_stay(east: KubeCluster) -> None:
    """Metadata is shared: what a tool adds is no edit, and survives what peerd writes next."""
    admin = east.api.admin
    admin.patch(OURS, {"metadata": {"labels": {"team": "blue"}, "annotations": {"tool": "x"}}})
    admin.patch(OURS, {"spec": {"hosts": ["evil.example.com"]}})
    await east.until(lambda: "spec.hosts" in str(told(east, REVERTED)), 20, "an Event")
    meta = generated(east.api)[KEY]["metadata"]
    assert (meta["labels"]["team"], meta["annotations"]["tool"]) == ("blue", "x")
    assert "team" not in str(told(east, REVERTED))


async def test_a_name_that_is_taken_is_told_and_used_once_it_is_free(east: KubeCluster) -> None:
    """A user's object of that name stays as it is, with an Event on it; when it goes, ours is made."""
    admin = east.api.admin
    ports = [{"number": 443, "name": "tls"}]
    theirs = entry("autogen.shop.ratings", hosts=["api.example.com"], ports=ports, resolution="DNS")
    admin.create(theirs)
    east.service("ratings", "10.2", 1, labels=GLOBAL)
    await east.until(lambda: told(east, TAKEN), 20, "an Event of the name that is taken")
    held = admin.get(theirs)
    assert held is not None
    assert held["spec"]["hosts"] == ["api.example.com"]
    admin.delete(theirs)
    await east.until(lambda: "ServiceEntry/shop/autogen.shop.ratings" in generated(east.api), 30, "ours")


async def test_entries_of_a_backup_keep_their_addresses(east: KubeCluster) -> None:
    """Put back by another tool, with their status, before peerd runs: they are ours, and as recorded."""
    admin = east.api.admin
    saved = admin.get(OURS)
    assert saved is not None
    await east.replicas["east-0"].stop()
    admin.delete(OURS)
    # Not what peerd would choose again.
    other = [{"host": each["host"], "value": _OTHER[":" in each["value"]]} for each in addresses_of(saved)]
    admin.create({**OURS, **saved, "status": {"addresses": other}})
    await east.start("east-0")

    client = await east.client(east.replicas["east-0"])
    served = f"shop/{other[0]['host']}"
    await east.until(lambda: served in client.services, 20, "the global name")
    found = {ip_text(each.address) for each in client.services[served].addresses}
    assert found == {*_OTHER.values()} == {each["value"] for each in addresses(east)}
