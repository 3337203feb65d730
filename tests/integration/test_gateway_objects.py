"""A Gateway on a real API server becomes what runs it, follows its changes, and goes with it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peerd.ca import authority
from tests.support import rbac
from tests.support.apiserver import ApiServer
from tests.support.gateway_objects import KINDS, GatewayStory, a_gateway
from tests.support.kube_cluster import KubeCluster, Tree, namespace

GOLDEN = Path(__file__).parents[1] / "unit" / "publish" / "gateway_workloads"


EDGE = "istio-eastwest"


def rights(api: ApiServer, where: str) -> None:
    """What runs gateways, granted in a namespace of its own as the chart grants it."""
    api.admin.create(namespace(where))
    for tree in rbac.manifests():
        if tree["metadata"]["name"] == "peerd-gateways":
            api.admin.create({**tree, "metadata": {"name": "peerd-gateways", "namespace": where}})


@pytest.fixture
async def cluster(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    """A cluster whose peerd runs gateways."""
    issuer = authority.make_root("test", time.time())
    found = KubeCluster(
        "east",
        api_server,
        tmp_path / "east",
        issuer,
        flags=(
            "--gateway-image=peerd:test",
            "--envoy-image=envoy:test",
            "--trust-domain=cluster.local",
            f"--gateway-namespaces={EDGE}",
        ),
    )
    try:
        await found.prepare()
        rights(api_server, EDGE)
        await found.start("east-0")
        yield found
    finally:
        await found.close()


async def test_a_gateway_becomes_its_objects(cluster: KubeCluster) -> None:
    """All of the golden file, as the API server took it."""
    story = GatewayStory(cluster)
    await story.made(a_gateway("istio-eastwest"))
    expected = {each["kind"]: each for each in yaml.safe_load_all((GOLDEN / "defaults.yaml").read_text())}
    for kind, tree in expected.items():
        found = story.object(kind, "istio-eastwest")
        assert found is not None
        tree["metadata"]["ownerReferences"][0]["uid"] = story.uid("istio-eastwest")
        assert missing(tree, {"kind": kind, **found}) == []


def missing(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Where *found* lacks something of *wanted*; what the API server added is no matter."""
    if isinstance(wanted, dict):
        return [
            each
            for key, value in wanted.items()
            for each in (
                missing(value, found[key], f"{at}.{key}") if key in (found or {}) else [f"{at}.{key}"]
            )
        ]
    if isinstance(wanted, list):
        if len(wanted) != len(found):
            return [f"{at}: {len(found)} of {len(wanted)}"]
        return [
            each
            for number, pair in enumerate(zip(wanted, found, strict=True))
            for each in missing(*pair, f"{at}[{number}]")
        ]
    return [] if wanted == found else [f"{at}: {found!r}, not {wanted!r}"]


async def test_changes_follow_and_an_edit_is_undone(cluster: KubeCluster) -> None:
    """Of the Gateway, of its parameters; a HorizontalPodAutoscaler comes and goes; an edit does not stay."""
    story = GatewayStory(cluster)
    await story.made(a_gateway("istio-eastwest", parameters="edge"), {"service": "spec: {type: ClusterIP}\n"})
    await story.until(
        lambda: story.object("Service", "istio-eastwest")["spec"]["type"] == "ClusterIP", "its type"
    )
    await story.until(lambda: ("Programmed", "True") in story.conditions("istio-eastwest"), "Programmed")
    address = story.object("Service", "istio-eastwest")["spec"]["clusterIP"]
    assert story.gateway("istio-eastwest")["status"]["addresses"] == [{"type": "IPAddress", "value": address}]

    story.parameters(
        "edge",
        {"horizontalPodAutoscaler": "spec: {maxReplicas: 4}\n", "service": "spec: {type: ClusterIP}\n"},
    )
    await story.until(lambda: story.object("HorizontalPodAutoscaler", "istio-eastwest"), "an autoscaler")
    story.parameters("edge", {"service": "spec: {type: ClusterIP}\n"})
    await story.until(lambda: not story.object("HorizontalPodAutoscaler", "istio-eastwest"), "its end")

    deployment = story.object("Deployment", "istio-eastwest")
    cluster.api.admin.patch(deployment, {"spec": {"replicas": 7}})
    await story.until(
        lambda: story.object("Deployment", "istio-eastwest")["spec"]["replicas"] == 2, "two again"
    )

    story.change("istio-eastwest", {"metadata": {"labels": {"istio.io/expose-istiod": None}}})

    def ports() -> list[str]:
        return [each["name"] for each in story.object("Service", "istio-eastwest")["spec"]["ports"]]

    await story.until(lambda: ports() == ["hbone", "status"], "15012 is exposed no more")


async def test_roots_of_other_trust_domains_reach_the_gateway(cluster: KubeCluster, tmp_path: Path) -> None:
    """From the mesh configuration into the Deployment, and out of it again; nobody does it by hand."""
    story = GatewayStory(cluster)
    await story.made(a_gateway("istio-eastwest"))
    theirs = authority.root_files(authority.make_root("other", time.time()))["root-cert.pem"].decode()
    mesh = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {
            "mesh": yaml.safe_dump({"caCertificates": [{"pem": theirs, "trustDomains": ["other.example"]}]})
        },
    }

    def handed() -> dict[str, str] | None:
        deployment = story.object("Deployment", "istio-eastwest")
        found = [
            json.loads(each["value"])
            for container in deployment["spec"]["template"]["spec"]["containers"]
            for each in container.get("env", ())
            if each["name"] == "PEERD_GATEWAY_TRUST_JSON"
        ]
        return found[0] if found else None

    assert handed() is None
    cluster.api.admin.create(mesh)
    await story.until(lambda: handed() == {"other.example": theirs}, "the roots in the Deployment")
    cluster.api.admin.delete(mesh)
    await story.until(lambda: handed() is None, "no roots any more")


async def test_bad_parameters_change_nothing_and_are_told(cluster: KubeCluster) -> None:
    """On the Gateway itself; what runs goes on."""
    story = GatewayStory(cluster)
    await story.made(a_gateway("istio-eastwest", parameters="edge"), {"deployment": "spec: {replicas: 3}\n"})
    await story.until(lambda: story.object("Deployment", "istio-eastwest")["spec"]["replicas"] == 3, "three")
    story.parameters("edge", {"deployment": "spec: [", "service": "spec: {type: NodePort}\n"})
    await story.until(lambda: ("Accepted", "False") in story.conditions("istio-eastwest"), "not accepted")
    (message,) = [
        each["message"]
        for each in story.gateway("istio-eastwest")["status"]["conditions"]
        if each["type"] == "Accepted"
    ]
    assert "ConfigMap edge, deployment: is no YAML" in message
    assert story.object("Deployment", "istio-eastwest")["spec"]["replicas"] == 3
    story.parameters("edge", {"deployment": "spec: {replicas: 4}\n"})
    await story.until(lambda: story.object("Deployment", "istio-eastwest")["spec"]["replicas"] == 4, "four")
    await story.until(lambda: ("Accepted", "True") in story.conditions("istio-eastwest"), "accepted again")


async def test_two_gateways_do_not_mix_and_each_goes_with_its_own(cluster: KubeCluster) -> None:
    """Deleted, also while peerd was away."""
    story = GatewayStory(cluster)
    await story.made(a_gateway("one"))
    await story.made(a_gateway("two"))
    story.delete("one")
    await story.until(lambda: not story.objects("one"), "the end of one")
    assert {each["kind"] for each in story.objects("two")} == KINDS - {"HorizontalPodAutoscaler"}

    replica = cluster.replicas["east-0"]
    await replica.stop()
    story.delete("two")
    await asyncio.sleep(0)
    await cluster.start("east-0")
    await story.until(lambda: not story.objects("two"), "the end of two")


async def test_what_is_not_ours_is_left_alone(cluster: KubeCluster) -> None:
    """A Deployment of that name that somebody else made is not touched."""
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istio-eastwest", "namespace": "istio-system", "labels": {"app": "theirs"}},
        "spec": {
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }
    cluster.api.admin.create(theirs)
    story = GatewayStory(cluster)
    cluster.api.admin.create(a_gateway("istio-eastwest"))
    await story.until(lambda: story.object("Service", "istio-eastwest"), "the Service")
    found = story.object("Deployment", "istio-eastwest")
    assert found["metadata"]["labels"] == {"app": "theirs"}
    story.delete("istio-eastwest")
    await story.until(lambda: not story.object("Service", "istio-eastwest"), "the end of the Service")
    assert story.object("Deployment", "istio-eastwest") is not None


async def test_gateways_are_run_where_peerd_is_told_to(cluster: KubeCluster) -> None:
    """In a namespace of --gateway-namespaces, whole; in any other the Gateway says why not."""
    admin = cluster.api.admin

    def lying_in(where: str, kind: str = "") -> Tree:
        tree = a_gateway("istio-eastwest")
        version = "apps/v1" if kind == "Deployment" else "v1"
        named = {"name": "istio-eastwest", "namespace": where}
        return (
            {**tree, "metadata": named}
            if not kind
            else {"apiVersion": version, "kind": kind, "metadata": named}
        )

    admin.create(namespace("elsewhere"))
    admin.create(lying_in("elsewhere"))
    admin.create(lying_in(EDGE))

    def accepted(where: str) -> Tree | None:
        found = admin.get(lying_in(where))
        conditions = (found or {}).get("status", {}).get("conditions", ())
        return next(
            (each for each in conditions if each["type"] == "Accepted" and each["reason"] != "Pending"), None
        )

    for kind in ("ServiceAccount", "Service", "Deployment"):
        await cluster.until(lambda kind=kind: admin.get(lying_in(EDGE, kind)), 30, f"{kind} in {EDGE}")
    refused = await cluster.until(lambda: accepted("elsewhere"), 30, "a word on the other")
    assert refused["status"] == "False"
    assert "istio-system, istio-eastwest only" in refused["message"]
    assert admin.get(lying_in("elsewhere", "Deployment")) is None
    admin.delete(lying_in(EDGE))
    await cluster.until(lambda: admin.get(lying_in(EDGE, "Deployment")) is None, 30, "the end of it")
