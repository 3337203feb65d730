"""Rights that the API server says we lack: by whose words, until when, and what is none."""

from collections.abc import AsyncGenerator, Mapping

import pytest

from peerd.kubeapi.base import Response
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects
from peerd.kubeapi.resources import GATEWAY, LEASE, POD, SERVICE_ENTRY
from peerd.kubeapi.rights import Lacking, Right, Rights, RightsTransport, refused_right
from tests.support.fake_apiserver import FakeApiServer, kinds
from tests.support.fake_apiserver.faults import refused, status
from tests.support.stepping import SteppedTime

ENTRY = {"metadata": {"namespace": "shop", "name": "e"}, "spec": {"hosts": ["a.example"]}}


class Rig:
    """A cluster whose rights change, and somebody who asks things of it."""

    def __init__(self) -> None:
        self.server: FakeApiServer = kinds.cluster()
        self.clock = SteppedTime()
        self.rights = Rights(self.clock)
        self.transport = RightsTransport(self.server.transport(), self.rights)
        self.objects = KubeObjects(self.transport)

    @property
    def lacking(self) -> list[str]:
        return [f"{each.right} {each.namespace}".strip() for each in self.rights.lacking()]

    async def apply(self, namespace: str = "shop") -> None:
        metadata = {"namespace": namespace, "name": "e"}
        try:
            await self.objects.apply(SERVICE_ENTRY, {**ENTRY, "metadata": metadata}, manager="peerd")
        except ApiError as error:
            assert error.status == 403  # noqa: PT017 (others would be a fault of this test)


@pytest.mark.parametrize(
    ("resource", "group", "namespace", "expected"),
    [
        ("pods", "", "", "list pods"),
        ("services/status", "", "shop", "list services/status"),
        (
            "gateways/status",
            "gateway.networking.k8s.io",
            "",
            "list gateways.gateway.networking.k8s.io/status",
        ),
    ],
)
def test_a_refusal_is_read_in_the_words_of_rbac(
    resource: str, group: str, namespace: str, expected: str
) -> None:
    """As `kubectl auth can-i` takes it."""
    error = ApiError("list", Response(403, refused("list", resource, group, namespace)))
    found = refused_right(str(error))
    assert found is not None
    assert (str(found.right), found.namespace) == (expected, namespace)


@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "policy.example" denied the request: no such hosts',
        'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1',
        "unable to create new content in namespace shop because it is being terminated",
    ],
)
def test_what_names_no_right_is_the_objects_own(message: str) -> None:
    """A webhook, a quota, a namespace that ends."""
    rights = Rights(SteppedTime())
    rights.refused(ApiError("apply", Response(403, status(403, "Forbidden", message))))
    assert rights.lacking() == ()


async def test_a_right_is_lacking_until_it_is_used_again() -> None:
    """The same verb on the same resource; others say nothing of it."""
    rig = Rig()
    rig.server.forbidden = {("create", "serviceentries"), ("patch", "serviceentries")}
    await rig.apply()
    assert rig.rights.lacking() == (Lacking(Right("patch", "serviceentries.networking.istio.io"), "shop"),)
    rig.server.forbidden = {("create", "serviceentries")}
    await rig.apply()  # that one is allowed now, and what it needs besides is not
    assert rig.lacking == [
        "create serviceentries.networking.istio.io shop",
        "patch serviceentries.networking.istio.io shop",
    ]
    await rig.objects.get(SERVICE_ENTRY, "shop", "e")
    await rig.objects.list(GATEWAY)
    assert len(rig.lacking) == 2
    rig.server.forbidden = set()
    await rig.apply()
    assert rig.lacking == []


async def test_each_namespace_may_have_its_own_role() -> None:
    """One is told until all have it."""
    rig = Rig()
    rig.server.forbidden = {("patch", "serviceentries")}
    await rig.apply("a")
    await rig.apply("b")
    assert rig.lacking == ["patch serviceentries.networking.istio.io a"]
    rig.server.forbidden = set()
    await rig.apply("a")
    assert rig.lacking == ["patch serviceentries.networking.istio.io b"]
    await rig.apply("b")
    assert rig.lacking == []


async def test_an_answer_that_is_no_refusal_of_rights_proves_them() -> None:
    """404 and 409 are told to those who may ask; an overloaded server says nothing."""
    rig = Rig()
    rig.server.forbidden = {("get", "leases"), ("create", "leases")}
    for act in (rig.objects.get(LEASE, "istio-system", "peerd"), rig.objects.create(LEASE, _lease())):
        with pytest.raises(ApiError):
            await act
    assert rig.lacking == [
        "create leases.coordination.k8s.io istio-system",
        "get leases.coordination.k8s.io istio-system",
    ]
    rig.server.forbidden = set()
    assert await rig.objects.get(LEASE, "istio-system", "peerd") is None
    assert rig.lacking == ["create leases.coordination.k8s.io istio-system"]
    rig.server.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **_lease()})
    with pytest.raises(ApiError, match="AlreadyExists"):
        await rig.objects.create(LEASE, _lease())
    assert rig.lacking == []


async def test_a_watch_that_is_refused_and_then_told_something() -> None:
    """Its verb is not the list's."""
    rig = Rig()
    rig.server.put(kinds.pod("web-1"))
    rig.server.forbidden = {("watch", "pods")}
    query = {"sendInitialEvents": "true"}
    with pytest.raises(ApiError):
        await anext(rig.transport.stream(POD.path(), query=query))
    await rig.objects.list(POD)
    assert rig.lacking == ["watch pods"]
    rig.server.forbidden = set()
    stream = rig.transport.stream(POD.path(), query=query)
    assert b"web-1" in await anext(stream)
    await stream.aclose()
    assert rig.lacking == []


async def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    """The Gateway that needed it is gone, and nothing else would prove that it was given back."""
    rig = Rig()
    rig.server.forbidden = {("patch", "serviceentries")}
    await rig.apply()
    await rig.clock.advance(600)
    await rig.apply()
    await rig.clock.advance(600)
    assert rig.lacking
    await rig.clock.advance(301)
    assert rig.lacking == []


async def test_the_transport_is_left_as_it_is() -> None:
    """Everything that is asked goes through, and a stream that is left is closed."""
    asked: list[tuple[str, str, dict[str, str]]] = []

    class Below:
        closed = 0

        async def request(self, method: str, path: str, **more: object) -> Response:
            asked.append((method, path, {key: str(value) for key, value in more.items()}))
            return Response(500, b"no")

        async def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
            try:
                yield f"{path} {query}".encode()
            finally:
                self.closed += 1

        async def close(self) -> None:
            self.closed += 1

    below = Below()
    transport = RightsTransport(below, Rights(SteppedTime()))
    answer = await transport.request("PATCH", "/api/v1/pods", body=b"x", content_type="y", timeout=3.0)
    assert answer == Response(500, b"no")
    assert asked == [
        ("PATCH", "/api/v1/pods", {"query": "None", "body": "b'x'", "content_type": "y", "timeout": "3.0"})
    ]
    stream = transport.stream("/api/v1/pods", query={"watch": "true"})
    assert await anext(stream) == b"/api/v1/pods {'watch': 'true'}"
    await stream.aclose()
    assert below.closed == 1
    await transport.close()
    assert below.closed == 2


def _lease() -> dict[str, object]:
    return {"metadata": {"namespace": "istio-system", "name": "peerd"}, "spec": {}}
