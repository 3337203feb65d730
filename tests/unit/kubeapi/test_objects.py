"""Single objects, read and written: paths, conflicts, and answers that are none."""

import pytest

from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects, Resource
from tests.support.fake_apiserver import FakeApiServer, Scripted, kinds
from tests.support.virtual import virtual

PODS = Resource("", "v1", "pods", "Pod")
ENTRIES = Resource("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


def client() -> tuple[FakeApiServer, KubeObjects, Scripted]:
    server, faults = kinds.cluster(), Scripted()
    return server, KubeObjects(server.transport(faults)), faults


def test_paths_are_those_of_the_api() -> None:
    """Core and groups, one namespace, all, one object, a subresource, the cluster's."""
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "web") == "/api/v1/namespaces/shop/pods/web"
    assert ENTRIES.path("shop") == "/apis/networking.istio.io/v1/namespaces/shop/serviceentries"
    assert ENTRIES.path("shop", "e", "status").endswith("/serviceentries/e/status")
    assert NODES.path("ignored", "n") == "/api/v1/nodes/n"


@virtual
async def test_an_object_that_is_not_there_is_none() -> None:
    """If the server says so."""
    server, objects, _ = client()
    server.put(kinds.pod("web"))
    found = await objects.get(PODS, "shop", "web")
    assert found is not None
    assert found["status"]["podIP"] == "10.0.0.1"
    assert await objects.get(PODS, "shop", "other") is None
    assert await objects.delete(PODS, "shop", "other") is False


@pytest.mark.parametrize("body", [b"404 page not found\n", b"<html>", b"{}", b""])
def test_a_404_that_is_not_the_servers_word_is_an_error(body: bytes) -> None:
    """A proxy, or a server that is starting: a root would be made anew because of it."""

    @virtual
    async def test() -> None:
        server, objects, faults = client()
        server.put(kinds.pod("web"))
        faults.answer("/pods/web", Response(404, body), times=2)
        with pytest.raises(ApiError):
            await objects.get(PODS, "shop", "web")
        with pytest.raises(ApiError):
            await objects.delete(PODS, "shop", "web")

    test()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"metadata":{"na', b"\xff"])
def test_an_answer_that_is_no_object_is_none(body: bytes) -> None:
    """Whatever its status says."""

    @virtual
    async def test() -> None:
        server, objects, faults = client()
        server.put(kinds.pod("web"))
        faults.answer("/pods/web", Response(200, body))
        with pytest.raises(ApiUnreachableError, match="get Pod web: an answer that is no object"):
            await objects.get(PODS, "shop", "web")

    test()


@virtual
async def test_of_two_creators_one_wins() -> None:
    """The other is told so in a word."""
    _, objects, _ = client()
    lease = {"metadata": {"namespace": "istio-system", "name": "peerd"}, "spec": {"holderIdentity": "a"}}
    await objects.create(LEASES, lease)
    with pytest.raises(ApiError) as raised:
        await objects.create(LEASES, lease)
    assert (raised.value.status, raised.value.reason) == (409, "AlreadyExists")


@virtual
async def test_a_replacement_wins_only_over_the_version_it_saw() -> None:
    """How a Lease is taken."""
    _, objects, _ = client()
    lease = {"metadata": {"namespace": "istio-system", "name": "peerd"}, "spec": {"holderIdentity": "a"}}
    seen = await objects.create(LEASES, lease)
    await objects.replace(LEASES, {**seen, "spec": {"holderIdentity": "b"}})
    with pytest.raises(ApiError, match="409 Conflict"):
        await objects.replace(LEASES, {**seen, "spec": {"holderIdentity": "c"}})


@virtual
async def test_an_apply_makes_changes_and_takes_back_what_it_no_longer_names() -> None:
    """And only that: fields of others stay. Applying the same again is no new version."""
    server, objects, _ = client()
    mine = {"metadata": {"namespace": "shop", "name": "e", "labels": {"mine": "1"}}, "spec": {"hosts": ["a"]}}
    made = await objects.apply(ENTRIES, mine, manager="peerd")
    server.put(
        {**made, "metadata": {**made["metadata"], "labels": {"mine": "1", "theirs": "2"}}}, manager="kubectl"
    )
    same = await objects.apply(ENTRIES, mine, manager="peerd")
    again = await objects.apply(ENTRIES, mine, manager="peerd")
    assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    bare = {"metadata": {"namespace": "shop", "name": "e"}, "spec": {"hosts": ["b"]}}
    after = await objects.apply(ENTRIES, bare, manager="peerd")
    assert after["metadata"]["labels"] == {"theirs": "2"}
    assert after["spec"] == {"hosts": ["b"]}


@virtual
async def test_conditions_of_several_writers_live_side_by_side() -> None:
    """A status is applied by its subresource, each condition its own."""
    server, objects, _ = client()
    server.put(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "peer", "namespace": "istio-system"},
            "spec": {},
        }
    )

    def status(*conditions: tuple[str, str]) -> dict[str, object]:
        listed = [{"type": type_, "status": value} for type_, value in conditions]
        return {"metadata": {"namespace": "istio-system", "name": "peer"}, "status": {"conditions": listed}}

    await objects.apply(GATEWAYS, status(("Accepted", "True")), manager="istiod", subresource="status")
    ours = status(("PeerConnected", "True"), ("Programmed", "False"))
    await objects.apply(GATEWAYS, ours, manager="peerd", subresource="status")
    after = await objects.apply(
        GATEWAYS, status(("PeerConnected", "False")), manager="peerd", subresource="status"
    )
    assert after["status"]["conditions"] == [
        {"type": "Accepted", "status": "True"},
        {"type": "PeerConnected", "status": "False"},
    ]


@virtual
async def test_only_the_object_that_was_meant_is_deleted() -> None:
    """By uid: not the next one of its name."""
    server, objects, _ = client()
    old = server.put(kinds.pod("web"))["metadata"]["uid"]
    server.delete("Pod", "shop", "web")
    server.put(kinds.pod("web"))
    with pytest.raises(ApiError, match="409"):
        await objects.delete(PODS, "shop", "web", uid=old)
    assert await objects.delete(PODS, "shop", "web")
    assert server.objects("Pod") == {}
