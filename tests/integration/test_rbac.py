"""peerd runs with exactly the rights of manifests/base: each is used, and nothing is refused.

Those beside an istiod (manifests/beside) are proved in test_beside.py.

Whoever gives peerd something new to ask of the API server adds the verb there and a step to a story here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from peerd.ca import authority
from peerd.model.kube.kinds import SEGMENT
from tests.support import rbac
from tests.support.apiserver import ApiServer, Request, crds
from tests.support.apiserver.binaries import Binaries
from tests.support.cas import revocations
from tests.support.gateway_objects import GatewayStory, a_gateway
from tests.support.kube_cluster import KubeCluster, Replica, Tree, namespace

GLOBAL = {"solo.io/service-scope": "global"}
# As the beside mode leaves it when it is switched off.
LEFT_OVER = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadEntry",
    "metadata": {
        "name": "autogen.west.shop.old.0123abcd",
        "namespace": "istio-system",
        "labels": {"peerd.io/generated": "true"},
    },
    "spec": {"network": "west-net", "weight": 1},
}


async def test_every_right_is_used_and_nothing_is_refused(
    api_binaries: Binaries,
    new_api_server: Callable[..., ApiServer],
    two_api_servers: tuple[ApiServer, ApiServer],
    tmp_path: Path,
) -> None:
    """Over all stories together: no verb too many in the shipped roles, none too few."""
    old = new_api_server(flags=["--feature-gates=WatchList=false"], with_crds=False)
    east, west = two_api_servers
    marks = [(server, server.audit.mark()) for server in (old, east, west)]
    await alone(old, api_binaries, tmp_path / "alone")
    await linked(east, west, tmp_path / "linked")

    requests: list[Request] = [
        request for server, mark in marks for request in server.audit.requests(rbac.USER, mark)
    ]
    assert rbac.refused(requests) == []
    assert [str(grant) for grant in rbac.unused(rbac.granted(), requests)] == []


async def alone(api: ApiServer, binaries: Binaries, root: Path) -> None:
    """A server that cannot stream lists, a kind that is defined later, no CA to begin with."""
    definitions = crds.wanted(binaries.crds)
    segments = [each for each in definitions if each["spec"]["names"]["kind"] == SEGMENT.name]
    await asyncio.to_thread(crds.install, api.admin, [each for each in definitions if each not in segments])
    flags = ("--gateway-image=peerd:test",)
    async with running(KubeCluster("alone", api, root, None, flags=flags)) as cluster:
        replica = await cluster.start("alone-0")
        await cluster.client(replica)
        mark = api.audit.mark()
        await asyncio.to_thread(crds.install, api.admin, segments)

        def followed() -> bool:
            seen = api.audit.requests(rbac.USER, mark)
            return any((each.verb, each.resource) == ("watch", SEGMENT.plural) for each in seen)

        await cluster.until(followed, 30, "a watch of Segments")
        await gateways(cluster)


async def gateways(cluster: KubeCluster) -> None:
    """One comes, is scaled, and goes."""
    story = GatewayStory(cluster)
    scaled = {"horizontalPodAutoscaler": "spec: {maxReplicas: 3}\n"}
    await story.made(a_gateway("istio-eastwest", parameters="edge"), scaled)
    await story.until(lambda: story.object("HorizontalPodAutoscaler", "istio-eastwest"), "an autoscaler")
    story.delete("istio-eastwest")
    await story.until(lambda: not story.objects("istio-eastwest"), "the end of its objects")


async def linked(east_api: ApiServer, west_api: ApiServer, root: Path) -> None:
    """Two clusters, one service: it comes and goes."""
    issuer = authority.make_root("test", time.time())
    files = {"ca-crl.pem": revocations(issuer)}
    async with (
        running(KubeCluster("east", east_api, root / "east", issuer, ca_files=files)) as east,
        running(KubeCluster("west", west_api, root / "west", issuer, ca_files=files)) as west,
    ):
        east.link(west)
        west.link(east)
        await asyncio.gather(east.start("east-0"), west.start("west-0"))
        reviews = west.service("reviews", "10.1", 2, labels=GLOBAL)
        await east.until(lambda: entries(east_api), 20, "an entry")
        await east.until(lambda: entries(east_api)[0]["status"]["addresses"], 20, "addresses")
        east_api.admin.apply(LEFT_OVER, manager="peerd")
        west_api.admin.patch(reviews, {"metadata": {"labels": {"solo.io/service-scope": None}}})
        await east.until(lambda: not entries(east_api), 30, "the end of the entry")
        await east.until(lambda: east_api.admin.get(LEFT_OVER) is None, 30, "the end of another mode's entry")
        east_api.admin.create(namespace("later"))
        crl = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio-ca-crl", "namespace": "later"},
        }
        await east.until(lambda: east_api.admin.get(crl), 20, "the list of revocations in a new namespace")
        await told(east, east.replicas["east-0"])


async def told(east: KubeCluster, replica: Replica) -> None:
    """Conditions of a class, and an Event that a restarted replica counts."""
    admin = east.api.admin
    remote = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "istio-remote"},
        "spec": {"controllerName": "istio.io/unmanaged-gateway"},
    }
    admin.create(remote)
    accepted = ("Accepted", "True")
    await east.until(lambda: accepted in conditions(admin.get(remote)), 20, "an accepted class")
    where = {"namespace": "later", "name": "odd"}
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": where,
        "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]},
    }
    admin.create(policy)

    def count() -> int:
        found = [each for each in admin.items("v1", "Event", "later") if each["reason"].startswith("Not")]
        return max((each["count"] for each in found), default=0)

    await east.until(lambda: count() == 1, 20, "an Event about a policy")
    await replica.stop()
    await east.start(replica.name)
    await east.until(lambda: count() == 2, 30, "the same Event, counted")


def conditions(found: Tree | None) -> set[tuple[str, str]]:
    """Type and status of each condition."""
    assert found is not None
    return {(each["type"], each["status"]) for each in found.get("status", {}).get("conditions", ())}


def entries(api: ApiServer) -> list[Tree]:
    """All ServiceEntries: they were generated, for there are no others."""
    return api.admin.items("networking.istio.io/v1", "ServiceEntry")


@asynccontextmanager
async def running(cluster: KubeCluster) -> AsyncIterator[KubeCluster]:
    try:
        await cluster.prepare()
        yield cluster
    finally:
        await cluster.close()
