"""How long a reflector waits for a server that says nothing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from random import Random

import msgspec

from peerd.kubeapi.base import Response
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.lists import Head
from peerd.kubeapi.objects import Resource
from peerd.kubeapi.reflector import PAGE_SECONDS, SILENCE_SECONDS, Reflector, Target
from peerd.model.kube.meta import ObjectKey
from tests.simulation.loop import run

PODS = Resource("", "v1", "pods", "Pod")
_NAMESPACE = {"metadata": {"name": "istio-system", "uid": "u", "resourceVersion": "1"}}
_END = {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}}


class Quiet:
    """Lists nothing at once, then says nothing at all; notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def request(self, _method: str, _path: str, **_options: object) -> Response:
        return Response(
            200, msgspec.json.encode({"metadata": {"resourceVersion": "9"}, "items": [_NAMESPACE]})
        )

    async def stream(self, _path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        self.asked.append(asyncio.get_running_loop().time())
        if "sendInitialEvents" in query:
            yield msgspec.json.encode({"type": "BOOKMARK", "object": _END})
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


class Deaf:
    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None: ...
    def delete(self, key: ObjectKey) -> None: ...
    def listed(self) -> None: ...
    def trouble(self, problem: str) -> None: ...


def test_a_streamed_list_that_was_told_at_once_is_not_soon_taken_for_dead() -> None:
    """The patience of a list ends with the list: bookmarks, once a minute, come too late for it."""
    server = Quiet()

    async def follow() -> None:
        continuity = Continuity(server, "istio-system")
        reflector = Reflector(server, Target((PODS,)), Deaf(), continuity, Random(1))
        running = asyncio.ensure_future(reflector.run())
        await asyncio.sleep(SILENCE_SECONDS + PAGE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(follow())
    first, second = server.asked
    assert SILENCE_SECONDS <= second - first < SILENCE_SECONDS + PAGE_SECONDS
