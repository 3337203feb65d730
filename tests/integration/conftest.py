"""Fixtures of this room."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.apiserver import ApiServer
from tests.support.apiserver.binaries import Binaries
from tests.support.apiserver.client import Client
from tests.support.apiserver.crds import install
from tests.support.fake_objects import FakeObjects
from tests.support.helm.build import built
from tests.support.real_objects import RealObjects


@pytest.fixture(params=["in memory", "real"])
async def either_api(request: pytest.FixtureRequest) -> AsyncIterator[FakeObjects | RealObjects]:
    """Where generated objects lie: in memory, then in a real API server."""
    if request.param == "in memory":
        yield FakeObjects()
        return
    server = RealObjects(request.getfixturevalue("api_server"))
    await server.open("istio-system", "shop")
    yield server
    await server.close()


@pytest.fixture(scope="session")
def charts_cluster(api_binaries: Binaries) -> Iterator[Client]:
    """An API server that knows PodMonitors, with the namespaces that charts are installed in."""
    with tempfile.TemporaryDirectory(prefix="charts-") as root:
        server = ApiServer(Path(root), api_binaries)
        try:
            server.start()
            install(server.admin, [yaml.safe_load((built() / "pod-monitor.yaml").read_text())])
            for name in ("istio-system", "istio-eastwest"):
                server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            yield server.admin
        finally:
            server.stop()
