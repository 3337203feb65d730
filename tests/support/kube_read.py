"""All objects of a real API server, as the Kubernetes source tells them."""

import asyncio
from collections.abc import Sequence
from random import Random

from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.meta import ObjectKey
from peerd.sources.kubernetes import KubernetesSource
from tests.support.apiserver import ApiServer

_PATIENCE = 60.0
# Made by the API server itself in every cluster; recordings leave it out.
_OWN_SERVICE = ("Service", ObjectKey("default", "kubernetes"))


class _Gathering:
    """`peerd.sources.base.Sink`: the objects as they are now."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, ObjectKey], ObjectChange] = {}
        self.problems: dict[str, tuple[Diagnostic, ...]] = {}
        self.complete = asyncio.Event()

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        for change in changes:
            self.objects[change.kind, change.key] = change

    def own(self, changes: Sequence[OwnChange]) -> None:
        raise AssertionError(f"nothing here was generated: {changes}")

    def synced(self) -> None:
        self.complete.set()

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.problems[where] = diagnostics


async def read(server: ApiServer) -> list[ObjectChange]:
    """What the source tells until it has synced, but for the API server's own Service; no problems."""
    credentials = Credentials(str(server.kubeconfig()))
    await credentials.load()
    transport = HttpTransport(credentials)
    sink = _Gathering()
    source = KubernetesSource(transport, system_namespace="istio-system", random=Random(0))
    running = asyncio.ensure_future(source.run(sink))
    try:
        async with asyncio.timeout(_PATIENCE):
            await sink.complete.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close()
    assert not any(sink.problems.values()), sink.problems
    del sink.objects[_OWN_SERVICE]
    return list(sink.objects.values())
