"""What is generated beside istiod, on a real API server: accepted as written, read by istiod, all gone."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from peerd.app.parts import SystemClock
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.kubeapi.objects import KubeObjects
from peerd.model.changes import OwnChange
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.apiserver import ApiServer
from tests.support.beside import SCENARIOS, Beside, manifests, shape
from tests.support.istiod_model import istiod

KINDS = tuple(RESOURCES)
CORPUS = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


class Written:
    """What one cluster of a scenario writes, by peerd's own writer."""

    def __init__(self, server: ApiServer, transport: HttpTransport) -> None:
        self._server = server
        self._writer = Writer(KubeObjects(transport), clock=SystemClock(), source=random.Random(1))
        self.objects = GeneratedObjects(self._writer)
        self.objects.settle(frozenset())
        self._before: dict[str, Any] = {}

    async def bring(self, generated: dict[str, Any]) -> None:
        """Write the difference to what was generated before."""
        changed = [key for key, found in generated.items() if self._before.get(key) != found]
        gone = self._before.keys() - generated.keys()
        self.objects.put(
            [*((key, generated[key]) for key in changed), *((key, None) for key in sorted(gone))]
        )
        self._before = dict(generated)
        while self._writer.pending:  # it looks again later, as nobody tells it what it wrote
            wait = await self._writer.work()
            if self._writer.pending:
                assert wait is not None, self._writer.problems()
                assert wait < 60, self._writer.problems()
                await asyncio.sleep(wait)
        assert self._writer.problems() == ()

    def there(self) -> dict[str, dict[str, Any]]:
        """What the API server has, as it was meant: by `<Kind>/<namespace>/<name>`."""
        found = {}
        for kind in KINDS:
            for tree in self._server.admin.items("networking.istio.io/v1", kind):
                meta = tree["metadata"]
                kept = {part: meta[part] for part in ("namespace", "name", "labels", "annotations")}
                found[f"{kind}/{meta['namespace']}/{meta['name']}"] = {
                    "metadata": kept, "spec": tree["spec"]
                }  # fmt: skip
        return found

    def records(self) -> list[KubeObject]:
        """The same, decoded as istiod would."""
        return [
            msgspec.convert(tree, KINDS_BY_NAME[key.partition("/")[0]].type)
            for key, tree in self.there().items()
        ]


@pytest.fixture
async def transport(api_server: ApiServer):
    credentials = Credentials(str(api_server.kubeconfig()), "")
    await credentials.load()
    found = HttpTransport(credentials)
    yield found
    await found.close()


def _namespaces(server: ApiServer, objects: list[KubeObject]) -> None:
    for name in sorted({found.metadata.namespace for found in objects} | {"istio-system"} - {""}):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        if name and server.admin.get(manifest) is None:
            server.admin.create(manifest)


@pytest.mark.parametrize("name", CORPUS)
async def test_api_server_holds_what_was_generated(
    name: str, api_server: ApiServer, transport: HttpTransport
) -> None:
    """Every object of every step is accepted and comes back as it was meant; istiod's reading is the same."""
    for cluster in Beside(name).clusters:
        beside, written = Beside(name), Written(api_server, transport)
        for step, _, _ in beside.steps():
            _namespaces(api_server, beside.objects(cluster))
            generated = beside.clusters[cluster].generated
            await written.bring(generated)
            assert written.there() == manifests(generated), step
            objects = [*beside.objects(cluster), *written.records()]
            read = istiod(objects, cluster=cluster, domain=beside.domain(cluster)).values()
            assert shape(read, cluster=cluster) == shape(beside.told(cluster).values(), cluster=cluster)
        await written.bring({})
        assert written.there() == {}


async def test_restart_finds_its_objects_and_writes_nothing(
    api_server: ApiServer, transport: HttpTransport
) -> None:
    """What comes back over a watch is what was wanted: not one write at a start where nothing changed."""
    beside = Beside("topology-full-mesh")
    next(beside.steps())
    _namespaces(api_server, beside.objects("east"))
    generated = beside.clusters["east"].generated
    await Written(api_server, transport).bring(generated)
    writer = Writer(KubeObjects(transport), clock=SystemClock(), source=random.Random(1))
    objects = GeneratedObjects(writer)
    for kind in KINDS:
        for tree in api_server.admin.items("networking.istio.io/v1", kind):
            meta = tree["metadata"]
            objects.observe([OwnChange(kind, ObjectKey(meta["namespace"], meta["name"]), tree)])
    objects.put(generated.items())
    objects.settle(frozenset())
    await writer.work()
    assert not writer.counts
