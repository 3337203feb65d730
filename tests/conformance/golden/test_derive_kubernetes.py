"""Every recorded case once more, through a real API server and the Kubernetes source.

The objects are created in their old order (tests/support/golden_cluster.py); what the source reads of them is
derived. The result is the directory source's, save that a Gateway's address counts only where its status has
it.
"""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from peerd.encode.address import encode_address
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.meta import ObjectKey
from peerd.sources.kubernetes import KubernetesSource
from tests.support import golden, golden_cluster
from tests.support.apiserver import ApiServer
from tests.support.golden_quirks import expected_addresses, expected_policies

# The API server's own Service, made anew by itself in every cluster; the recordings leave it out.
OWN_SERVICE = "default/kubernetes.default.svc.cluster.local"


class Gathering:
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
    """All that the Kubernetes source tells of the cluster, until it has synced."""
    credentials = Credentials(str(server.kubeconfig()))
    await credentials.load()
    transport = HttpTransport(credentials)
    sink = Gathering()
    source = KubernetesSource(transport, system_namespace="istio-system", random=Random(0))
    running = asyncio.ensure_future(source.run(sink))
    try:
        async with asyncio.timeout(20):
            await sink.complete.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close()
    assert not any(sink.problems.values()), sink.problems
    return list(sink.objects.values())


@pytest.mark.parametrize("case", golden.cases())
async def test_the_api_server_tells_what_the_directory_tells(api_server: ApiServer, case: str) -> None:
    """All addresses, their versions and all policies of a case are the recorded ones."""
    await asyncio.to_thread(golden_cluster.load, api_server, case)
    commit = golden.derived(await read(api_server))
    addresses = {name: record for name, record in commit.addresses if record and name != OWN_SERVICE}
    expected, versions = expected_addresses(case, from_directory=False)
    assert {name: golden.address_json(record) for name, record in addresses.items()} == expected
    assert {name: encode_address(addresses[name]).version for name in versions} == versions
    policies = {name: golden.policy_json(record) for name, record in commit.policies if record}
    assert policies == expected_policies(case)
