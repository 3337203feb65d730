"""What every source of objects must do (peerd/sources/base.py), in real time, over every kind of cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from peerd.model.kube.istio import ServiceEntry
from peerd.model.kube.meta import ObjectKey
from tests.conformance.sources.rigs import Rig
from tests.support.fake_apiserver.kinds import namespace, pod, service, service_entry
from tests.support.recorded_sink import RecordedSink


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[RecordedSink]:
    """A source of *rig* that has synced, and what it tells."""
    sink = RecordedSink()
    source = await rig.source()
    task = asyncio.ensure_future(source.run(sink))
    try:
        await asyncio.wait_for(sink.until_synced(), 30)
        yield sink
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_all_that_existed_is_told_before_synced(rig: Rig) -> None:
    """Of every kind, namespaced or not, and by its names and content."""
    await rig.put(pod("web-1", "10.1.0.1"), service("web"), service_entry("ext", "ext.example"))
    async with running(rig) as sink:
        assert sink.at_sync is not None
        told = {(kind, key) for kind, key in sink.at_sync if key.namespace in {"", "shop"}}
        assert told >= {
            ("Namespace", ObjectKey("", "istio-system")),
            ("Namespace", ObjectKey("", "shop")),
            ("Pod", ObjectKey("shop", "web-1")),
            ("Service", ObjectKey("shop", "web")),
            ("ServiceEntry", ObjectKey("shop", "ext")),
        }
        found = sink.get("Pod", "shop", "web-1")
        assert found is not None
        assert (found.key, found.status.pod_ip) == (ObjectKey("shop", "web-1"), "10.1.0.1")  # type: ignore[attr-defined]
        assert found.metadata.uid
        assert found.metadata.creation_timestamp.endswith("Z")


async def test_an_empty_cluster_syncs_too(rig: Rig) -> None:
    """Nothing to tell is told as well."""
    async with running(rig) as sink:
        assert sink.names("Pod") == set()
        assert sink.problems == {}


async def test_what_changes_is_told(rig: Rig) -> None:
    """Added, changed and deleted, in whatever batches."""
    await rig.put(pod("web-1", "10.1.0.1"))
    async with running(rig) as sink:
        await rig.put(pod("web-2", "10.1.0.2"))
        await sink.until(lambda: sink.names("Pod") == {"web-1", "web-2"})
        await rig.put(pod("web-1", "10.1.0.9"))
        await sink.until(lambda: sink.get("Pod", "shop", "web-1").status.pod_ip == "10.1.0.9")  # type: ignore[union-attr]
        await rig.delete(pod("web-2"))
        await sink.until(lambda: sink.names("Pod") == {"web-1"})
        assert sink.deletions == [("Pod", ObjectKey("shop", "web-2"))]


async def test_an_object_made_again_under_its_name_is_the_new_one(rig: Rig) -> None:
    """However fast it went."""
    await rig.put(service_entry("ext", "old.example"))
    async with running(rig) as sink:
        await rig.delete(service_entry("ext", ""))
        await rig.put(service_entry("ext", "new.example"))

        def is_new() -> bool:
            found = sink.get("ServiceEntry", "shop", "ext")
            return isinstance(found, ServiceEntry) and found.spec.hosts == ("new.example",)

        await sink.until(is_new)


async def test_objects_of_one_name_in_two_namespaces_are_two(rig: Rig) -> None:
    """And one's deletion is not the other's."""
    await rig.put(namespace("other"), service("web"), service("web", "other"))
    async with running(rig) as sink:
        await rig.delete(service("web", "other"))
        await sink.until(lambda: sink.get("Service", "other", "web") is None)
        assert sink.get("Service", "shop", "web") is not None


async def test_more_objects_than_a_page_of_a_list_holds_are_all_told(rig: Rig) -> None:
    """And none twice."""
    await rig.put(*(service_entry(f"e{number}", f"h{number}.example") for number in range(520)))
    async with running(rig) as sink:
        assert sink.names("ServiceEntry") == {f"e{number}" for number in range(520)}
        assert sink.told("ServiceEntry", "e7") == 1


async def test_a_second_run_sees_what_changed_meanwhile(rig: Rig) -> None:
    """A new source of the same cluster begins with all that is there then."""
    await rig.put(service("one"))
    async with running(rig) as sink:
        assert sink.names("Service") >= {"one"}
    await rig.delete(service("one"))
    await rig.put(service("two"))
    async with running(rig) as sink:
        assert "two" in sink.names("Service")
        assert "one" not in sink.names("Service")


async def test_kinds_that_peerd_does_not_read_are_not_told(rig: Rig) -> None:
    """A Secret is nobody's business here."""
    await rig.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}})
    async with running(rig) as sink:
        assert {kind for kind, _ in sink.objects} <= {"Namespace", "Service", "EndpointSlice", "ConfigMap"}


async def test_an_object_of_a_wrong_shape_is_told_and_keeps_its_last_good_state(rig: Rig) -> None:
    """With object, field and fix, until it is mended; nothing else suffers."""
    if rig.validates:
        pytest.skip("this API server refuses such objects itself")
    await rig.put(service_entry("ext", "good.example"), service_entry("other", "other.example"))
    async with running(rig) as sink:
        broken = service_entry("ext", "good.example")
        broken["spec"]["hosts"] = [7]
        await rig.put(broken)
        await sink.until(lambda: bool(sink.problems))
        ((problem,),) = sink.problems.values()
        assert (problem.object, problem.field) == ("ServiceEntry/shop/ext", "spec.hosts[0]")
        assert sink.get("ServiceEntry", "shop", "ext").spec.hosts == ("good.example",)  # type: ignore[union-attr]
        await rig.put(service_entry("ext", "mended.example"))
        await sink.until(lambda: not sink.problems)
        assert sink.get("ServiceEntry", "shop", "ext").spec.hosts == ("mended.example",)  # type: ignore[union-attr]
        await rig.put(broken)
        await sink.until(lambda: bool(sink.problems))
        await rig.delete(broken)
        await sink.until(lambda: sink.names("ServiceEntry") == {"other"})
        assert sink.problems == {}
