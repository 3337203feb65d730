"""What runs our own gateways: looked after namespace by namespace, so that one of them holds up no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec

from peerd.app.parts import SystemClock
from peerd.kubeapi.base import Response
from peerd.kubeapi.objects import KubeObjects
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey
from peerd.publish.gateway_controller import GatewayController
from peerd.publish.gateway_workloads import Installation
from peerd.publish.permit import Always
from peerd.publish.writer import Writer
from tests.support.fake_apiserver import FakeApiServer, kinds
from tests.support.fake_apiserver.faults import Faults, refused
from tests.support.fake_apiserver.storage import Definition
from tests.support.gateway_objects import a_gateway
from tests.support.virtual import virtual

MORE = (
    Definition("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Definition("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
)
INSTALLATION = Installation(
    image="peerd:1",
    envoy_image="envoy:1",
    host="istiod.istio-system.svc",
    ca_host="istiod.istio-system.svc",
    cluster_id="east",
    trust_domain="cluster.local",
    system_namespace="istio-system",
    peerd_account="peerd",
    namespaces=("edge", "other"),
)


class NoRole(Faults):
    """No right in some namespaces."""

    def __init__(self) -> None:
        self.without: set[str] = set()

    async def before(self, _method: str, path: str) -> Response | None:
        for namespace in self.without:
            if f"/namespaces/{namespace}/" in path:
                return Response(403, refused("list", "services", "", namespace))
        return None


class Rig:
    """A cluster, and a controller at work."""

    def __init__(self) -> None:
        self.server: FakeApiServer = kinds.cluster()
        for each in MORE:
            self.server.define(each)
        self.faults = NoRole()
        objects = KubeObjects(self.server.transport(self.faults))
        self.writer = Writer(objects, clock=SystemClock(), source=Random(1))
        self.changed: list[ObjectKey] = []
        self.controller = GatewayController(objects, self.writer, Always(), INSTALLATION, self.changed.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.controller.settle()
        tasks = [asyncio.ensure_future(each.run()) for each in (self.controller, self.writer)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def gateway(self, namespace: str, *, there: bool = True) -> None:
        tree = a_gateway("eastwest")
        tree["metadata"]["namespace"] = namespace
        found = msgspec.convert(tree, Gateway) if there else None
        self.controller.object(ObjectKey(namespace, "eastwest"), found)

    def runs(self) -> set[str]:
        """Namespaces with a Deployment of ours."""
        return {namespace for namespace, _ in self.server.objects("Deployment")}


@virtual
async def test_a_namespace_without_a_role_holds_up_no_other() -> None:
    """Neither what is made nor what is taken away; it is taken up when the rights are there."""
    rig = Rig()
    rig.faults.without = {"istio-system", "edge"}
    for each in ("istio-system", "edge", "other"):
        rig.gateway(each)
    async with rig.running():
        await asyncio.sleep(20)
        assert rig.runs() == {"other"}
        rig.gateway("other", there=False)
        await asyncio.sleep(20)
        assert rig.runs() == set()
        rig.faults.without = {"edge"}
        await asyncio.sleep(20)
        assert rig.runs() == {"istio-system"}
        rig.gateway("edge", there=False)  # nothing is known of what it left
        rig.faults.without = {"istio-system"}
        await asyncio.sleep(20)
        assert rig.runs() == {"istio-system"}


@virtual
async def test_a_gateway_made_anew_at_once_keeps_what_runs_it() -> None:
    """Deleted and created within one look: the same objects, with nothing in between."""
    rig = Rig()
    rig.gateway("edge")
    async with rig.running():
        await asyncio.sleep(20)
        (before,) = rig.server.objects("Deployment").values()
        for _ in range(5):
            rig.gateway("edge", there=False)
            rig.gateway("edge")
        await asyncio.sleep(20)
        (after,) = rig.server.objects("Deployment").values()
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


@virtual
async def test_a_gateway_where_none_is_run_is_told_so_and_forgotten() -> None:
    """With the setting that would allow it."""
    rig = Rig()
    key = ObjectKey("shop", "eastwest")
    async with rig.running():
        rig.gateway("shop")
        await asyncio.sleep(10)
        facts = rig.controller.facts(key)
        assert facts is not None
        assert "--gateway-namespaces" in facts.problem
        assert rig.runs() == set()
        rig.gateway("shop", there=False)
        await asyncio.sleep(10)
        assert rig.controller.facts(key) is None
