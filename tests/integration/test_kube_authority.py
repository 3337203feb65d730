"""Identity on a real API server: TokenReview, a CA made once, roots in every namespace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from peerd.app.parts import SystemClock
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.model.changes import ObjectChange
from peerd.publish.ca_secret import CaSecret, open_ca
from peerd.publish.names import ROOTS, SELF_MADE_CA
from peerd.publish.permit import Always
from peerd.publish.root_config_maps import RootConfigMaps
from peerd.serve.token_review import TokenReviewVerifier
from peerd.serve.tokens import TokenRefusedError, VerifiedToken
from peerd.sources.kubernetes import KubernetesSource
from tests.support.apiserver import ApiServer
from tests.support.fake_apiserver.kinds import namespace, pod
from tests.support.recorded_sink import RecordedSink

SYSTEM = "istio-system"


@pytest.fixture
async def transport(api_server: ApiServer) -> AsyncIterator[HttpTransport]:
    await asyncio.to_thread(api_server.admin.create, namespace(SYSTEM))
    credentials = Credentials(str(api_server.kubeconfig()))
    await credentials.load()
    made = HttpTransport(credentials)
    yield made
    await made.close()


def a_pod(name: str) -> dict[str, Any]:
    manifest = pod(name, namespace=SYSTEM)
    manifest["spec"]["serviceAccountName"] = "ztunnel"
    manifest["spec"]["containers"][0]["image"] = "none"
    return manifest


def ca_of(transport: HttpTransport) -> Any:
    return open_ca(
        transport,
        organization="east",
        continuity=Continuity(transport, SYSTEM),
        clock=SystemClock(),
        random=Random(1),
    )


async def test_a_bound_token_names_its_pod_and_dies_with_it(
    api_server: ApiServer, transport: HttpTransport
) -> None:
    """What signatures alone would never tell."""
    made = await asyncio.to_thread(api_server.admin.create, a_pod("ztunnel-1"))
    token = await asyncio.to_thread(
        lambda: api_server.token(SYSTEM, "ztunnel", audiences=["istio-ca"], pod=made)
    )
    verifier = TokenReviewVerifier(transport, ("istio-ca",), SystemClock())
    assert await verifier.verify(token) == VerifiedToken(
        SYSTEM, "ztunnel", "ztunnel-1", made["metadata"]["uid"]
    )
    await asyncio.to_thread(api_server.admin.delete, a_pod("ztunnel-1"))

    async def until_refused() -> None:
        async with asyncio.timeout(30):
            while True:  # the API server itself keeps what it found for ten seconds
                await TokenReviewVerifier(transport, ("istio-ca",), SystemClock()).verify(token)
                await asyncio.sleep(0.2)

    with pytest.raises(TokenRefusedError, match="the API server refuses the token"):
        await until_refused()


async def test_a_token_for_somebody_else_is_refused(api_server: ApiServer, transport: HttpTransport) -> None:
    """The API server's own audience is not ours; rubbish is nobody's."""
    token = await asyncio.to_thread(lambda: api_server.token(SYSTEM, "ztunnel"))
    verifier = TokenReviewVerifier(transport, ("istio-ca",), SystemClock())
    for bad in (token, "rubbish", token[:-3]):
        with pytest.raises(TokenRefusedError, match="refuses the token"):
            await verifier.verify(bad)


async def test_replicas_that_start_together_make_one_root(
    api_server: ApiServer, transport: HttpTransport
) -> None:
    """And it is followed: what is written into the Secret signs a moment later."""
    cas: list[CaSecret] = await asyncio.gather(*(ca_of(transport) for _ in range(6)))
    assert len({each.bundle.roots_text for each in cas}) == 1
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": SYSTEM, "name": SELF_MADE_CA}}
    held = api_server.admin.get(manifest)
    assert held is not None
    assert held["type"] == "istio.io/ca-root"
    await asyncio.to_thread(api_server.admin.delete, manifest)
    other: CaSecret = await ca_of(transport)
    changed = asyncio.Event()
    async with following(cas[0].watch(lambda _bundle: changed.set(), lambda _problem: None)):
        await asyncio.wait_for(changed.wait(), 60)
    assert cas[0].bundle == other.bundle


async def test_every_namespace_gets_the_roots(api_server: ApiServer, transport: HttpTransport) -> None:
    """By the Namespaces that the source tells; one that is new gets them too, an edit is undone."""
    ca = await ca_of(transport)
    roots = RootConfigMaps(
        transport,
        continuity=Continuity(transport, SYSTEM),
        clock=SystemClock(),
        random=Random(1),
        permit=Always(),
    )
    roots.roots(ca.bundle)

    class Sink(RecordedSink):
        def apply(self, changes: Any) -> None:
            super().apply(changes)
            roots.namespaces(each for each in changes if isinstance(each, ObjectChange))

    def data(name: str) -> str:
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": name, "name": ROOTS}}
        held = api_server.admin.get(manifest)
        return "" if held is None else str(held["data"]["root-cert.pem"])

    async def until_right(name: str) -> None:
        async with asyncio.timeout(60):
            while await asyncio.to_thread(data, name) != ca.bundle.roots_text:  # noqa: ASYNC110 (asked, not told)
                await asyncio.sleep(0.02)

    source = KubernetesSource(transport, system_namespace=SYSTEM, random=Random(1))
    async with following(source.run(Sink())), following(roots.run()):
        await until_right(SYSTEM)
        await asyncio.to_thread(api_server.admin.create, namespace("shop"))
        await until_right("shop")
        edited = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": "shop", "name": ROOTS},
            "data": {"root-cert.pem": "evil"},
        }
        await asyncio.to_thread(lambda: api_server.admin.apply(edited, manager="mallory"))
        await until_right("shop")
        assert data("kube-system") == ""


@asynccontextmanager
async def following(doing: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(doing)
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
