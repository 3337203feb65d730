"""A real API server that is killed, and one that loses its etcd: what was told stays until more is known."""

import asyncio
from collections.abc import Callable
from random import Random

from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.sources.kubernetes import KubernetesSource
from tests.support.apiserver import ApiServer
from tests.support.fake_apiserver.kinds import namespace, service_entry
from tests.support.recorded_sink import RecordedSink


async def test_a_killed_server_and_a_lost_etcd_take_nothing_away(
    new_api_server: Callable[..., ApiServer],
) -> None:
    """After the kill the watch goes on; the emptied server is not believed before it has our Namespace."""
    server = await asyncio.to_thread(new_api_server)
    admin = server.admin
    for manifest in (namespace("istio-system"), namespace("shop"), service_entry("a", "a.example")):
        await asyncio.to_thread(admin.create, manifest)
    credentials = Credentials(str(server.kubeconfig()))
    await credentials.load()
    transport = HttpTransport(credentials)
    sink = RecordedSink()
    source = KubernetesSource(transport, system_namespace="istio-system", random=Random(1))
    task = asyncio.ensure_future(source.run(sink))
    try:
        await sink.until_synced()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.admin.create, service_entry("b", "b.example"))
        await sink.until(lambda: sink.names("ServiceEntry") == {"a", "b"}, 60)
        assert sink.deletions == []

        await asyncio.to_thread(server.stop)
        server.forget_everything()
        await asyncio.to_thread(server.start)
        await sink.until(lambda: any("istio-system" in each.message for each in _problems(sink)), 90)
        assert sink.names("ServiceEntry") == {"a", "b"}
        assert sink.deletions == []

        for manifest in (namespace("shop"), service_entry("b", "new.example"), namespace("istio-system")):
            await asyncio.to_thread(server.admin.create, manifest)
        await sink.until(lambda: sink.names("ServiceEntry") == {"b"}, 90)
        assert sink.get("ServiceEntry", "shop", "b").spec.hosts == ("new.example",)  # type: ignore[union-attr]
        await sink.until(lambda: not sink.problems, 60)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await transport.close()


def _problems(sink: RecordedSink) -> list:  # type: ignore[type-arg]
    return [each for some in sink.problems.values() for each in some]
