"""Fixtures of this room."""

from collections.abc import AsyncIterator

import pytest

from tests.support.fake_objects import FakeObjects
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
