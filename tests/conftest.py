"""Fixtures of all rooms: real API servers (tests/support/apiserver), certificates of a few clusters."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from peerd.ca import authority
from tests.support.apiserver import ApiServer, MissingError, find
from tests.support.apiserver.binaries import Binaries
from tests.support.go_build import EVERYTHING

# The same examples each time, however slow the machine: a run is judged by what was changed. New ones are
# looked for by `pytest --hypothesis-profile=search`.
settings.register_profile(
    "repeated", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("repeated"), derandomize=False, max_examples=1_000)
settings.load_profile("repeated")


@pytest.fixture(scope="session")
def api_binaries() -> Binaries:
    """What to start, or one loud line why not."""
    try:
        return find()
    except MissingError as missing:
        if os.environ.get(EVERYTHING):
            pytest.fail(f"no API server: {missing}")
        pytest.skip(f"NO REAL API SERVER: {missing}")


@pytest.fixture(scope="session")
def _running(api_binaries: Binaries) -> Iterator[Callable[[], ApiServer]]:
    with ExitStack() as stack:
        yield lambda: _start(stack, api_binaries)


@pytest.fixture(scope="session")
def _first(_running: Callable[[], ApiServer]) -> ApiServer:
    return _running()


@pytest.fixture(scope="session")
def _second(_running: Callable[[], ApiServer]) -> ApiServer:
    return _running()


@pytest.fixture
def api_server(_first: ApiServer) -> Iterator[ApiServer]:
    """A running API server with nothing in it but what it makes itself."""
    yield _first
    _first.reset()


@pytest.fixture
def two_api_servers(_first: ApiServer, _second: ApiServer) -> Iterator[tuple[ApiServer, ApiServer]]:
    """Two clusters."""
    yield _first, _second
    _first.reset()
    _second.reset()


@pytest.fixture(scope="module")
def module_api_servers(_first: ApiServer, _second: ApiServer) -> Iterator[tuple[ApiServer, ApiServer]]:
    """Two clusters for all tests of a module together."""
    yield _first, _second
    _first.reset()
    _second.reset()


@pytest.fixture
def new_api_server(api_binaries: Binaries) -> Iterator[Callable[..., ApiServer]]:
    """Starts API servers of the test's own; takes `flags` and `with_crds` of ApiServer."""
    with ExitStack() as stack:
        yield lambda **options: _start(stack, api_binaries, **options)


def _start(stack: ExitStack, binaries: Binaries, **options: object) -> ApiServer:
    # Its sockets' paths must stay short (108 characters), pytest's directories are not.
    root = Path(tempfile.mkdtemp(prefix="apiserver-"))
    stack.callback(shutil.rmtree, root, ignore_errors=True)
    server = ApiServer(root, binaries, **options)  # type: ignore[arg-type]
    stack.callback(server.stop)
    server.start()
    return server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root and the CAs of three clusters, as `peerd certs` makes them: made once, only read."""
    directory = tmp_path_factory.mktemp("certs")
    root = authority.make_root("test", time.time())
    authority.write_new(directory, authority.root_files(root))
    for name in ("east", "west", "north"):
        authority.write_new(directory / name, authority.make_cluster_ca(root, name, time.time()))
    return directory
