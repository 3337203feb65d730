"""One fixture: each kind of cluster in its turn, with the two Namespaces that the suite uses."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conformance.sources.rigs import DirectoryRig, FakeRig, RealRig, Rig
from tests.support.apiserver import ApiServer
from tests.support.apiserver.binaries import Binaries
from tests.support.fake_apiserver import kinds


@pytest.fixture(scope="module")
def _paging(api_binaries: Binaries) -> Iterator[ApiServer]:
    root = Path(tempfile.mkdtemp(prefix="apiserver-"))
    server = ApiServer(root, api_binaries, flags=["--feature-gates=WatchList=false"])
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def paging_api_server(_paging: ApiServer) -> Iterator[ApiServer]:
    """One that cannot stream lists, as older ones."""
    yield _paging
    _paging.reset()


@pytest.fixture(params=["directory", "fake", "fake-paged", "real", "real-paged"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made: Rig
    match request.param:
        case "directory":
            made = DirectoryRig(tmp_path)
        case "fake" | "fake-paged":
            server = kinds.cluster(streams_lists=request.param == "fake")
            made = FakeRig(server)
        case "real":
            made = RealRig(request.getfixturevalue("api_server"))
        case _:
            made = RealRig(request.getfixturevalue("paging_api_server"))
    await made.put(kinds.namespace("istio-system"), kinds.namespace("shop"))
    yield made
    await made.close()
