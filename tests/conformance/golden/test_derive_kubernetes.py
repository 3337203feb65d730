"""Every recorded case once more, through a real API server and the Kubernetes source.

The objects are created in their old order (tests/support/golden_cluster.py); what the source reads of them is
derived. The result is the directory source's, save that a Gateway's address counts only where its status has
it.
"""

import asyncio

import pytest

from peerd.encode.address import encode_address
from tests.support import golden, golden_cluster
from tests.support.apiserver import ApiServer
from tests.support.golden_quirks import expected_addresses, expected_policies
from tests.support.kube_read import read


@pytest.mark.parametrize("case", golden.cases())
async def test_the_api_server_tells_what_the_directory_tells(api_server: ApiServer, case: str) -> None:
    """All addresses, their versions and all policies of a case are the recorded ones."""
    await asyncio.to_thread(golden_cluster.load, api_server, golden.DERIVE / case / "input.yaml")
    commit = golden.derived(await read(api_server))
    addresses = {name: record for name, record in commit.addresses if record}
    expected, versions = expected_addresses(case, from_directory=False)
    assert {name: golden.address_json(record) for name, record in addresses.items()} == expected
    assert {name: encode_address(addresses[name]).version for name in versions} == versions
    policies = {name: golden.policy_json(record) for name, record in commit.policies if record}
    assert policies == expected_policies(case)
