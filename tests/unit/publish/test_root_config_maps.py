"""The roots in every namespace: written where they differ, by one replica, at a bounded pace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from peerd import limits
from peerd.ca.bundle import CaBundle
from peerd.kubeapi.base import Response
from peerd.kubeapi.continuity import Continuity
from peerd.model.changes import ObjectChange
from peerd.model.generated import GENERATED_LABEL
from peerd.model.kube.core import Namespace
from peerd.model.kube.meta import ObjectKey, ObjectMeta
from peerd.publish import root_config_maps
from peerd.publish.names import REVOKED, ROOTS
from peerd.publish.root_config_maps import RootConfigMaps
from tests.simulation.loop import SimClock
from tests.support.cas import bundle_of, self_signed_files
from tests.support.fake_apiserver import FakeApiServer, Faults, Scripted, kinds
from tests.support.virtual import virtual

FIRST, SECOND = bundle_of(self_signed_files()), bundle_of(self_signed_files())


class Permission:
    """A Lease that is held or not."""

    def __init__(self, *, held: bool = True) -> None:
        self.held = held

    def remaining(self) -> float:
        return 9.0 if self.held else 0.0


@asynccontextmanager
async def running(
    server: FakeApiServer, faults: Faults | None = None, permit: Permission | None = None
) -> AsyncIterator[RootConfigMaps]:
    transport = server.transport(faults)
    maps = RootConfigMaps(
        transport,
        continuity=Continuity(transport, "istio-system"),
        clock=SimClock(asyncio.get_running_loop()),  # type: ignore[arg-type]
        random=Random(1),
        permit=permit or Permission(),
    )
    maps.roots(FIRST)
    task = asyncio.ensure_future(maps.run())
    try:
        yield maps
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def named(*names: str, ending: bool = False) -> list[ObjectChange]:
    metadata = ObjectMeta(deletion_timestamp="2026-01-01T00:00:00Z" if ending else "")
    return [ObjectChange("Namespace", ObjectKey("", name), Namespace(metadata)) for name in names]


def roots(server: FakeApiServer, name: str = ROOTS) -> dict[str, dict[str, str]]:
    return {
        namespace: tree["data"]
        for (namespace, each), tree in server.objects("ConfigMap").items()
        if each == name
    }


def pem(bundle: CaBundle) -> dict[str, str]:
    return {"root-cert.pem": bundle.roots_text}


def writes(server: FakeApiServer) -> int:
    return sum(method in {"PATCH", "PUT", "POST", "DELETE"} for method, _, _ in server.requests)


@virtual
async def test_every_namespace_has_the_roots_but_those_of_kubernetes_itself() -> None:
    """Also one that is made later; one that ends is left alone. All carry the common label."""
    server = kinds.cluster()
    async with running(server) as maps:
        maps.namespaces(named("istio-system", "shop", "kube-system", "kube-public", "kube-node-lease"))
        maps.namespaces(named("going", ending=True))
        await asyncio.sleep(1)
        assert roots(server) == {"istio-system": pem(FIRST), "shop": pem(FIRST)}
        maps.namespaces(named("new"))
        await asyncio.sleep(1)
        assert roots(server).keys() == {"istio-system", "shop", "new"}
        assert maps.written == 3
    labels = [tree["metadata"]["labels"] for tree in server.objects("ConfigMap").values()]
    assert all(GENERATED_LABEL in each for each in labels)


@virtual
async def test_what_is_right_is_not_written() -> None:
    """A restart writes nothing; a new root is written everywhere, once."""
    server = kinds.cluster()
    async with running(server) as maps:
        maps.namespaces(named("istio-system", "shop"))
        await asyncio.sleep(1)
    before = writes(server)
    async with running(server) as maps:
        maps.namespaces(named("istio-system", "shop"))
        await asyncio.sleep(600)
        assert writes(server) == before
        maps.roots(SECOND)
        await asyncio.sleep(1)
        assert roots(server) == {"istio-system": pem(SECOND), "shop": pem(SECOND)}
        await asyncio.sleep(600)
        assert writes(server) == before + 2


@virtual
async def test_an_edit_is_undone_and_a_deletion_too() -> None:
    """Workloads must not lose their root, nor trust another one."""
    server = kinds.cluster()
    async with running(server) as maps:
        maps.namespaces(named("shop"))
        await asyncio.sleep(1)
        edited = server.objects("ConfigMap")["shop", ROOTS]
        server.put({**edited, "apiVersion": "v1", "kind": "ConfigMap", "data": {"root-cert.pem": "evil"}})
        await asyncio.sleep(1)
        assert roots(server) == {"shop": pem(FIRST)}
        server.delete("ConfigMap", "shop", ROOTS)
        await asyncio.sleep(1)
        assert roots(server) == {"shop": pem(FIRST)}


@virtual
async def test_what_an_istiod_left_is_taken_over() -> None:
    """The name is the mesh's: ztunnels read this one and no other."""
    server = kinds.cluster()
    server.put(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOTS, "namespace": "shop"},
            "data": {"root-cert.pem": "istiod's"},
        },
        manager="istiod",
    )
    async with running(server) as maps:
        maps.namespaces(named("shop"))
        await asyncio.sleep(1)
        assert roots(server) == {"shop": pem(FIRST)}


@virtual
async def test_a_revocation_list_has_a_config_map_of_its_own() -> None:
    """Only where the CA has one; it stays when the list goes."""
    crl = CaBundle(FIRST.certificate, FIRST.key, (), FIRST.roots, crl=b"-----BEGIN X509 CRL-----")
    server = kinds.cluster()
    async with running(server) as maps:
        maps.namespaces(named("shop"))
        await asyncio.sleep(1)
        assert roots(server, REVOKED) == {}
        maps.roots(crl)
        await asyncio.sleep(1)
        assert roots(server, REVOKED) == {"shop": {"ca-crl.pem": "-----BEGIN X509 CRL-----"}}
        maps.roots(FIRST)
        await asyncio.sleep(1)
        assert roots(server, REVOKED).keys() == {"shop"}


@virtual
async def test_only_who_holds_the_permit_writes() -> None:
    """The other replica is ready to go on."""
    server = kinds.cluster()
    permit = Permission(held=False)
    async with running(server, permit=permit) as maps:
        maps.namespaces(named("shop"))
        await asyncio.sleep(100)
        assert writes(server) == 0
        permit.held = True
        await asyncio.sleep(2)
        assert roots(server) == {"shop": pem(FIRST)}


@virtual
async def test_a_write_does_not_outlive_the_permit() -> None:
    """A server that takes 20 s: by then it is another replica that writes."""
    server, faults, permit = kinds.cluster(), Scripted(), Permission()
    faults.answer("/namespaces/shop/configmaps", 20.0)
    async with running(server, faults, permit) as maps:
        maps.namespaces(named("shop"))
        await asyncio.sleep(5)
        permit.held = False
        await asyncio.sleep(60)
        assert writes(server) == 0
        permit.held = True
        await asyncio.sleep(3)
        assert roots(server) == {"shop": pem(FIRST)}


@virtual
async def test_a_refused_write_is_tried_again_behind_the_others() -> None:
    """And a server that asks for patience gets it."""
    server = kinds.cluster()
    faults = Scripted()
    faults.answer("/namespaces/a/configmaps", Response(429, b"later", retry_after=30.0))
    async with running(server, faults) as maps:
        maps.namespaces(named("a", "b"))
        await asyncio.sleep(29)
        assert roots(server) == {}
        await asyncio.sleep(2)
        assert list(roots(server)) == ["a", "b"]
        order = [path for method, path, _ in server.requests if method == "PATCH"]
        assert ["/b/" in path for path in order] == [True, False]


@virtual
async def test_a_namespace_that_vanishes_meanwhile_is_no_failure() -> None:
    """404, or 403 with Kubernetes' words for a namespace that ends."""
    server = kinds.cluster()
    faults = Scripted()
    faults.answer("/namespaces/a/configmaps", Response(404, b'{"message":"namespaces \\"a\\" not found"}'))
    ending = b'{"message":"unable to create new content in namespace b because it is being terminated"}'
    faults.answer("/namespaces/b/configmaps", Response(403, ending))
    async with running(server, faults) as maps:
        maps.namespaces(named("a", "b", "c"))
        await asyncio.sleep(1)
        assert roots(server).keys() == {"c"}


def test_somebody_who_keeps_writing_is_not_fought_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit object_writes: a handful at once, then one every ten seconds."""
    before = limits.hits(limits.OBJECT_WRITES)

    @virtual
    async def test() -> None:
        server = kinds.cluster()
        async with running(server) as maps:
            maps.namespaces(named("shop"))
            for _ in range(100):
                await asyncio.sleep(0.5)
                found = server.objects("ConfigMap").get(("shop", ROOTS))
                assert found is not None
                server.put({**found, "apiVersion": "v1", "kind": "ConfigMap", "data": {"root-cert.pem": "x"}})
            assert maps.written <= limits.OBJECT_WRITES.value + 6

    test()
    assert limits.hits(limits.OBJECT_WRITES) > before


def test_thousands_of_namespaces_are_written_at_a_bounded_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit kube_writes."""
    monkeypatch.setattr(root_config_maps, "KUBE_WRITES", limits.KUBE_WRITES._replace(value=10))
    before = limits.hits(limits.KUBE_WRITES)

    @virtual
    async def test() -> None:
        server = kinds.cluster()
        async with running(server) as maps:
            maps.namespaces(named(*(f"n{number}" for number in range(100))))
            await asyncio.sleep(5)
            assert 50 <= len(roots(server)) <= 65
            await asyncio.sleep(6)
            assert len(roots(server)) == 100

    test()
    assert limits.hits(limits.KUBE_WRITES) > before
