"""The API server as a source: what is told apart, in which order, and how troubles are shown."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE
from peerd.model.kube.meta import ObjectKey
from peerd.sources.kubernetes import KubernetesSource
from tests.support.fake_apiserver import FakeApiServer, Faults, Scripted, kinds
from tests.support.recorded_sink import RecordedSink
from tests.support.virtual import virtual

OURS = {GENERATED_LABEL: GENERATED_VALUE}
AUTOGEN = ("ServiceEntry", ObjectKey("shop", "autogen"))


@asynccontextmanager
async def running(
    server: FakeApiServer, faults: Faults | None = None, *, revision: str = "", synced: bool = True
) -> AsyncIterator[RecordedSink]:
    sink = RecordedSink()
    source = KubernetesSource(
        server.transport(faults), system_namespace="istio-system", random=Random(1), revision=revision
    )
    task = asyncio.ensure_future(source.run(sink))
    try:
        if synced:
            await sink.until_synced(1000)
        yield sink
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def config_map(name: str, namespace: str = "istio-system") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"mesh": "trustDomain: td"},
    }


@virtual
async def test_only_the_mesh_configuration_of_all_config_maps_is_asked_for() -> None:
    """By name, in the system namespace: thousands of others never leave the server."""
    server = kinds.cluster()
    for name in ("istio", "istio-canary", "other"):
        server.put(config_map(name))
    server.put(config_map("istio", "shop"))
    async with running(server) as sink:
        assert {key for kind, key in sink.objects if kind == "ConfigMap"} == {
            ObjectKey("istio-system", "istio")
        }
    async with running(server, revision="canary") as sink:
        assert sink.names("ConfigMap") == {"istio", "istio-canary"}
    asked = {
        (path, json.loads(query).get("fieldSelector"))
        for method, path, query in server.requests
        if path.endswith("configmaps")
    }
    assert asked == {
        ("/api/v1/namespaces/istio-system/configmaps", "metadata.name=istio"),
        ("/api/v1/namespaces/istio-system/configmaps", "metadata.name=istio-canary"),
    }


@virtual
async def test_pods_come_when_all_they_are_looked_up_in_is_there() -> None:
    """So that 50,000 of them are derived once."""
    server = kinds.cluster()
    server.put(kinds.pod("web-1"))
    server.put(kinds.service("web"))
    faults = Scripted()
    faults.answer("/api/v1/services", 20.0)
    async with running(server, faults) as sink:
        order = [each.kind for batch in sink.batches for each in batch]
        assert order.index("Pod") > order.index("Service")


@virtual
async def test_nothing_is_synced_while_one_kind_is_not() -> None:
    """However complete all others are."""
    server = kinds.cluster()
    server.forbidden = {("watch", "endpointslices"), ("list", "endpointslices")}
    async with running(server, synced=False) as sink:
        await asyncio.sleep(1000)
        assert sink.at_sync is None
        ((problem,),) = sink.problems.values()
        assert "endpointslices.discovery.k8s.io is forbidden" in problem.message
        server.forbidden = set()
        await sink.until_synced()
        await sink.until(lambda: not sink.problems)


@virtual
async def test_what_peerd_generated_is_told_apart() -> None:
    """By label and field manager: never as what a user wrote, and whole, less the managed fields."""
    server = kinds.cluster()
    server.put(kinds.service_entry("users", "a.example"))
    server.put(kinds.service_entry("autogen", "b.mesh.internal", **OURS), manager=FIELD_MANAGER)
    async with running(server) as sink:
        assert sink.names("ServiceEntry") == {"users"}
        (own,) = sink.owned.items()
        assert own[0] == AUTOGEN
        assert own[1]["spec"]["hosts"] == ["b.mesh.internal"]  # type: ignore[index,call-overload]
        assert "managedFields" not in own[1]["metadata"]  # type: ignore[operator]
        server.delete("ServiceEntry", "shop", "autogen")
        await sink.until(lambda: not sink.owned)
        assert sink.deletions == []


@virtual
async def test_a_copy_of_a_generated_object_is_its_writers_own() -> None:
    """The label alone may come from kubectl get -o yaml | kubectl apply."""
    server = kinds.cluster()
    server.put(kinds.service_entry("copy", "b.mesh.internal", **OURS), manager="kubectl")
    async with running(server) as sink:
        assert sink.names("ServiceEntry") == {"copy"}
        assert sink.owned == {}


@virtual
async def test_a_generated_object_without_its_label_is_still_ours() -> None:
    """A hand took the label away: it is no user's object, or two would claim its hosts."""
    server = kinds.cluster()
    server.put(kinds.service_entry("autogen", "b.mesh.internal", **OURS), manager=FIELD_MANAGER)
    async with running(server) as sink:
        server.put(kinds.service_entry("autogen", "b.mesh.internal"), manager=FIELD_MANAGER)
        await sink.until(lambda: "generated" not in str(sink.owned[AUTOGEN]))
        assert sink.names("ServiceEntry") == set()


@virtual
async def test_an_object_may_change_hands() -> None:
    """A user's that peerd takes over is deleted for derivation, and the other way round it is new."""
    server = kinds.cluster()
    server.put(kinds.service_entry("autogen", "a.example"))
    async with running(server) as sink:
        server.put(kinds.service_entry("autogen", "b.mesh.internal", **OURS), manager=FIELD_MANAGER)
        await sink.until(lambda: AUTOGEN in sink.owned)
        assert sink.names("ServiceEntry") == set()
        server.put(kinds.service_entry("autogen", "c.example"))
        await sink.until(lambda: sink.names("ServiceEntry") == {"autogen"})
        assert sink.owned == {}


@virtual
async def test_a_generated_service_is_an_ordinary_one() -> None:
    """Only kinds that users write for derivation are kept apart; a gateway's Service is served."""
    server = kinds.cluster()
    server.put(kinds.service("eastwest", "istio-system", **OURS), manager=FIELD_MANAGER)
    async with running(server) as sink:
        assert sink.names("Service") == {"eastwest"}


@virtual
async def test_a_server_that_is_away_is_one_problem() -> None:
    """Not one for each kind; gone when it is back."""
    server = kinds.cluster()
    server.put(kinds.pod("web-1"))
    async with running(server) as sink:
        server.stop()
        await sink.until(lambda: bool(sink.problems), 200)
        await asyncio.sleep(100)
        ((problem,),) = sink.problems.values()
        assert problem.object == "(API server)"
        assert problem.message == "connection refused; what is known stays"
        server.start()
        await sink.until(lambda: not sink.problems, 200)
        assert sink.names("Pod") == {"web-1"}


@virtual
async def test_nulls_are_absent_fields() -> None:
    """As Go's API server and hand-made CRDs send them, in lists and in events."""
    server = kinds.cluster()
    broken = kinds.service_entry("nulls", "a.example")
    broken["spec"] |= {"addresses": None, "workloadSelector": None, "location": None}
    server.put(broken)
    async with running(server) as sink:
        assert sink.names("ServiceEntry") == {"nulls"}
        server.put({**broken, "spec": {**broken["spec"], "hosts": ["b.example"]}})
        await sink.until(lambda: sink.get("ServiceEntry", "shop", "nulls").spec.hosts == ("b.example",))  # type: ignore[union-attr]
        assert sink.problems == {}
