"""What people see in a cluster of its peers: conditions, Events, federation status, on real API servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerd.ca import authority
from tests.support import identities, rbac
from tests.support.apiserver import ApiServer
from tests.support.gateway_stand_in import gateway_of
from tests.support.kube_cluster import KubeCluster, Replica, pod

SCOPE = "solo.io/service-scope"
GLOBAL = {SCOPE: "global"}
CONNECTED = "gloo.solo.io/PeerConnected"
SUCCEEDED = "gloo.solo.io/PeeringSucceeded"
DATA_PLANE = "gloo.solo.io/PeerDataPlaneProgrammed"
PROBLEM = "peering.peerd.io/Problem"
FEDERATED = "peering.peerd.io/Federated"
REMOTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "istio-remote"},
    "spec": {"controllerName": "istio.io/unmanaged-gateway"},
}
Tree = dict[str, Any]


@pytest.fixture
def root() -> authority.Issuer:
    return authority.make_root("test", time.time())


@pytest.fixture
async def clusters(
    two_api_servers: tuple[ApiServer, ApiServer], tmp_path: Path, root: authority.Issuer
) -> AsyncIterator[tuple[KubeCluster, KubeCluster]]:
    """East and west, not started and not linked."""
    east, west = (
        KubeCluster(name, api, tmp_path / name, root)
        for name, api in zip(("east", "west"), two_api_servers, strict=True)
    )
    try:
        await east.prepare()
        await west.prepare()
        yield east, west
    finally:
        await east.close()
        await west.close()


def conditions(cluster: KubeCluster, manifest: Tree) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition, by type."""
    found = cluster.api.admin.get(manifest)
    assert found is not None
    return {each["type"]: (each["status"], each["reason"]) for each in found["status"].get("conditions", ())}


def message(cluster: KubeCluster, manifest: Tree, kind: str) -> str:
    found = cluster.api.admin.get(manifest)
    assert found is not None
    texts = [each["message"] for each in found["status"].get("conditions", ()) if each["type"] == kind]
    return texts[0] if texts else ""


def events(cluster: KubeCluster, manifest: Tree) -> set[str]:
    """Reasons of the Events that `kubectl describe` shows."""
    found = cluster.api.admin.get(manifest)
    assert found is not None
    return {
        each["reason"]
        for each in cluster.api.admin.items("v1", "Event")
        if each["involvedObject"].get("uid") == found["metadata"]["uid"]
    }


async def test_a_link_is_told_on_its_gateway_and_on_services(
    clusters: tuple[KubeCluster, KubeCluster],
) -> None:
    """From linking to the loss of the peer: conditions, addresses, Events, Services in both directions."""
    east, west = clusters
    east.api.admin.create(REMOTE)
    here = east.service("reviews", "20.1", 1, labels=GLOBAL)
    there = west.service("reviews", "10.1", 2, labels=GLOBAL)
    gateway = east.link(west)
    west.link(east)
    await asyncio.gather(east.start("east-0"), west.start("west-0"))

    def linked() -> None:
        found = conditions(east, gateway)
        assert found.get("Accepted") == ("True", "Accepted")
        assert found.get("Programmed") == ("True", "Programmed")
        assert found.get(CONNECTED) == ("True", "Connected")
        assert found.get(SUCCEEDED) == ("True", "Synced")
        assert found.get(DATA_PLANE) == ("False", "Unreachable")  # there is no gateway in this test
        assert "PeerConnected" in events(east, gateway)
        assert "PeerSynced" in events(east, gateway)

    def all_true(look: Any) -> Any:
        return lambda: look() is None

    await east.until(all_true(linked), 30, "conditions of the link")
    status = east.api.admin.get(gateway)["status"]
    assert status["addresses"] == gateway["spec"]["addresses"]
    assert {each["observedGeneration"] for each in status["conditions"]} == {1}
    assert conditions(east, REMOTE)["Accepted"] == ("True", "Accepted")
    for cluster, service, other in ((east, here, "west"), (west, there, "east")):
        await cluster.until(
            lambda c=cluster, s=service, o=other: (
                message(c, s, FEDERATED)
                == f"reviews.shop.mesh.internal is served by clusters {c.name} (this cluster), {o}"
            ),
            30,
            "the federation status",
        )
        assert conditions(cluster, service)["Conflict"] == ("False", "NoConflicts")

    west.api.admin.patch(there, {"metadata": {"labels": {SCOPE: None}}})
    await east.until(lambda: conditions(east, here).get(FEDERATED) == ("True", "OnlyHere"), 30, "withdrawn")
    await west.until(
        lambda: conditions(west, there).get(FEDERATED) == ("False", "NotExported"), 30, "west says why"
    )
    east.api.admin.patch(here, {"metadata": {"labels": {SCOPE: None}}})
    await east.until(lambda: not conditions(east, here), 30, "nothing is said of an ordinary Service")

    await west.replicas["west-0"].kill()
    await east.until(lambda: conditions(east, gateway).get(CONNECTED, ("", ""))[0] == "False", 30, "the loss")
    assert conditions(east, gateway)[SUCCEEDED] == ("True", "Kept")
    await east.until(lambda: events(east, gateway) & {"PeerLost", "PeerUnreachable"}, 30, "an Event of it")


async def test_a_gateway_that_proves_itself_is_programmed(
    clusters: tuple[KubeCluster, KubeCluster], root: authority.Issuer
) -> None:
    """The probe sees the identity that ztunnels will demand; another one is named, and so is silence."""
    east, west = clusters
    expected = "spiffe://cluster.local/ns/istio-system/sa/peer-west-istio-remote"
    bundle = identities.cluster_bundle(root, "west")
    async with gateway_of(identities.material(bundle, expected)) as port:
        gateway = east.link(west, hbone=port)
        await asyncio.gather(east.start("east-0"), west.start("west-0"))
        await east.until(
            lambda: conditions(east, gateway).get(DATA_PLANE) == ("True", "Reached"), 30, "a proof"
        )
        assert message(east, gateway, DATA_PLANE) == f"127.0.0.1:{port} answers as {expected}"
    other = "spiffe://cluster.local/ns/istio-system/sa/somebody"
    async with gateway_of(identities.material(bundle, other)) as port:
        listeners = gateway["spec"]["listeners"]
        listeners[0]["port"] = port
        east.api.admin.patch(gateway, {"spec": {"listeners": listeners}})
        await east.until(
            lambda: (
                message(east, gateway, DATA_PLANE)
                == f"127.0.0.1:{port}: it proves to be {other}, not {expected}"
            ),
            30,
            "who it is instead",
        )
    assert conditions(east, gateway).get(DATA_PLANE) == ("False", "Unreachable")
    await east.until(lambda: "PeerGatewayUnreachable" in events(east, gateway), 10, "an Event")


async def test_what_others_say_stays_and_what_they_edit_is_undone(
    clusters: tuple[KubeCluster, KubeCluster],
) -> None:
    """Conditions are a map by type: ours are ours, also where somebody writes over all of them."""
    east, west = clusters
    broken = east.gateway(west)
    broken["metadata"]["name"] = "broken"
    del broken["spec"]["addresses"]
    broken = east.api.admin.create(broken)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": "istio-system",
            "name": "istio-remote-secret-west",
            "labels": {"istio/multiCluster": "true"},
        },
    }
    east.api.admin.create(secret)
    await east.start("east-0")
    await east.until(lambda: "RemoteSecretLeftover" in events(east, secret), 20, "a warning of leftovers")
    await east.until(
        lambda: conditions(east, broken).get("Accepted") == ("False", "Invalid"), 30, "what is wrong with it"
    )
    assert "spec.addresses" in message(east, broken, "Accepted")
    assert conditions(east, broken).get(PROBLEM) == ("True", "NotServed")

    other = {
        "type": "example.org/Approved",
        "status": "True",
        "reason": "ByHand",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    east.api.admin.set_status(broken, {"conditions": [other]})
    await east.until(
        lambda: conditions(east, broken).get("Accepted") == ("False", "Invalid"), 45, "the edit is undone"
    )
    assert conditions(east, broken)["example.org/Approved"] == ("True", "ByHand")
    await east.until(lambda: "GeneratedObjectReverted" in events(east, broken), 10, "an Event of it")

    east.api.admin.patch(broken, {"spec": {"addresses": [{"type": "IPAddress", "value": "127.0.0.1"}]}})
    await east.until(
        lambda: conditions(east, broken).get("Accepted") == ("True", "Accepted"), 45, "it is mended"
    )
    assert PROBLEM not in conditions(east, broken)
    assert conditions(east, broken)["example.org/Approved"] == ("True", "ByHand")


async def test_pods_come_and_go_without_a_write(clusters: tuple[KubeCluster, KubeCluster]) -> None:
    """A thousand Pod changes of a global Service: no write but renewals of the Lease."""
    east, _ = clusters
    east.service("reviews", "20.1", 2, labels=GLOBAL)
    replica = await east.start("east-0")
    await east.until(lambda: len(own_writes(east, 0)) > 0, 30, "the first status")
    await at_rest(east, replica)
    mark = east.api.audit.mark()
    pods = await asyncio.to_thread(churn, east, 500)
    assert pods == 1000
    await asyncio.sleep(3)
    assert replica.pid
    assert own_writes(east, mark) == []


async def at_rest(east: KubeCluster, replica: Replica) -> None:
    """Nothing waits to be written, and for three seconds nothing was: what a start brings is over."""
    async with asyncio.timeout(120):
        while True:
            mark = east.api.audit.mark()
            await asyncio.sleep(3)
            if own_writes(east, mark) == [] and (await replica.debug("overview"))["writer"]["pending"] == 0:
                return


def churn(east: KubeCluster, rounds: int) -> int:
    """So many Pods created and deleted."""
    admin = east.api.admin
    for number in range(rounds):
        admin.delete(
            admin.create(
                pod(f"reviews-x{number}", "shop", "reviews", f"10.250.{number // 250}.{number % 250 + 1}")
            )
        )
    return 2 * rounds


def own_writes(cluster: KubeCluster, mark: int) -> list[tuple[str, str]]:
    return [
        (each.verb, each.resource)
        for each in cluster.api.audit.requests(rbac.USER, mark)
        if each.verb in {"create", "update", "patch", "delete"}
        and each.resource not in {"leases", "tokenreviews"}
    ]
