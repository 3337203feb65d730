"""What runs our own gateways: looked after namespace by namespace, so that one of them holds up no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec

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


class LoopClock:
    """The virtual loop's time, which writes that failed wait by, too."""

    def time(self) -> float:
        return 1_700_000_000 + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class NoRole(Faults):
    """No right in some namespaces; some kinds are not taken as they are sent."""

    def __init__(self) -> None:
        self.without: set[str] = set()
        self.invalid = ""

    async def before(self, method: str, path: str) -> Response | None:
        if self.invalid and method == "PATCH" and f"/{self.invalid}/" in path:
            status = {"kind": "Status", "code": 422, "reason": "Invalid", "message": "spec.x: Invalid value"}
            return Response(422, msgspec.json.encode(status))
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
        self.writer = Writer(objects, clock=LoopClock(), source=Random(1))
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

    def gateway(
        self,
        namespace: str,
        name: str = "eastwest",
        *,
        there: bool = True,
        created: str = "",
        account: str = "",
        parameters: str = "",
    ) -> None:
        tree = a_gateway(name, parameters=parameters)
        tree["metadata"] |= {"namespace": namespace, "creationTimestamp": created}
        if account:
            tree["metadata"]["annotations"] = {"gateway.istio.io/service-account": account}
        found = msgspec.convert(tree, Gateway) if there else None
        self.controller.object(ObjectKey(namespace, name), found)

    def parameters(self, namespace: str, data: dict[str, str] | None) -> None:
        """The ConfigMap `edge`, or none."""
        meta = {"name": "edge", "namespace": namespace}
        if data is None:
            self.server.delete("ConfigMap", namespace, "edge")
        else:
            self.server.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})

    def again(self) -> None:
        """Another process takes over, which knows nothing."""
        objects = KubeObjects(self.server.transport(self.faults))
        self.writer = Writer(objects, clock=LoopClock(), source=Random(2))
        self.controller = GatewayController(objects, self.writer, Always(), INSTALLATION, self.changed.append)

    def problem(self, namespace: str, name: str = "eastwest") -> str:
        """What its status says is wrong."""
        facts = self.controller.facts(ObjectKey(namespace, name))
        assert facts is not None
        return facts.problem

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


@virtual
async def test_parameters_that_broke_while_nobody_looked_take_nothing_away() -> None:
    """The next process knows of nothing that it made, and cannot tell from the Gateway what that would be."""
    rig = Rig()
    rig.parameters("edge", {"deployment": "spec: {replicas: 3}"})
    rig.gateway("edge", parameters="edge")
    async with rig.running():
        await asyncio.sleep(20)
    before = rig.server.objects("Deployment")
    assert rig.runs() == {"edge"}
    for broken in ({"deployment": "spec: ["}, {"deploment": "{}"}, None):
        rig.parameters("edge", broken)
        rig.again()
        rig.gateway("edge", parameters="edge")
        async with rig.running():
            await asyncio.sleep(20)
        assert "it cannot be run as it says" in rig.problem("edge")
        assert rig.server.objects("Deployment") == before
        assert rig.server.objects("Service")
    rig.again()
    async with rig.running():
        await asyncio.sleep(20)
    assert rig.runs() == set()


@virtual
async def test_an_account_is_one_gateways() -> None:
    """The older one keeps it; it is handed on when that one goes."""
    rig = Rig()
    rig.gateway("edge", "young", created="2026-02-01T00:00:00Z", account="edge")
    rig.gateway("edge", "old", created="2026-01-01T00:00:00Z", account="edge")
    async with rig.running():
        await asyncio.sleep(20)
        assert rig.problem("edge", "old") == ""
        assert "account edge is that of Gateway old, too" in rig.problem("edge", "young")
        assert {name for _, name in rig.server.objects("Deployment")} == {"old"}
        rig.gateway("edge", "old", there=False)
        await asyncio.sleep(20)
        assert rig.problem("edge", "young") == ""
        assert {name for _, name in rig.server.objects("Deployment")} == {"young"}
        assert {name for _, name in rig.server.objects("ServiceAccount")} == {"edge"}


@virtual
async def test_what_the_api_server_does_not_take_is_told_on_the_gateway() -> None:
    """Which object, and why; no longer once it is taken."""
    rig = Rig()
    rig.faults.invalid = "deployments"
    rig.gateway("edge")
    async with rig.running():
        await asyncio.sleep(20)
        assert rig.problem("edge").startswith("Deployment/edge/eastwest is not as it says: ")
        assert "spec.x: Invalid value" in rig.problem("edge")
        rig.faults.invalid = ""
        await asyncio.sleep(120)
        assert rig.problem("edge") == ""


@virtual
async def test_a_name_that_somebody_else_has_is_told_on_the_gateway() -> None:
    """Nothing of theirs is touched, and their Service's addresses are not the Gateway's."""
    rig = Rig()
    theirs = {"name": "eastwest", "namespace": "edge"}
    spec = {"type": "ClusterIP", "clusterIPs": ["10.96.0.9"]}
    rig.server.put({"apiVersion": "v1", "kind": "Service", "metadata": theirs, "spec": spec})
    rig.gateway("edge")
    async with rig.running():
        await asyncio.sleep(20)
        assert "Service/edge/eastwest is not as it says: an object of this name exists" in rig.problem("edge")
        facts = rig.controller.facts(ObjectKey("edge", "eastwest"))
        assert facts is not None
        assert facts.addresses == ()
