"""Every recorded case: what a real istiod sent for these objects is what derivation says.

`derive/<case>/input.yaml` are the objects as an API server returned them, `expected.json` is what istiod
sent. All fields are compared, and the content-hash version of each address.
"""

import pytest

from peerd.encode.address import encode_address
from tests.support import golden
from tests.support.golden_quirks import expected_addresses, expected_policies
from tests.support.ztunnel_rules import violations

CASES = golden.cases()


def test_there_are_cases() -> None:
    """The comparison below runs over all nineteen recordings."""
    assert len(CASES) >= 19


@pytest.mark.parametrize("case", CASES)
def test_addresses_are_istiods(case: str) -> None:
    """Services and workloads: the same names, and every field equal."""
    found = {name: golden.address_json(record) for name, record in golden.derive(case).addresses if record}
    assert found == expected_addresses(case)[0]


@pytest.mark.parametrize("case", CASES)
def test_versions_are_istiods(case: str) -> None:
    """A mesh that moves from istiod to peerd resends nothing: equal content hashes, waypoints included."""
    found = {name: encode_address(record).version for name, record in golden.derive(case).addresses if record}
    versions = expected_addresses(case)[1]
    assert {name: found[name] for name in versions} == versions


@pytest.mark.parametrize("case", CASES)
def test_policies_are_istiods(case: str) -> None:
    """Authorizations: the same names, and every field equal."""
    found = {name: golden.policy_json(record) for name, record in golden.derive(case).policies if record}
    assert found == expected_policies(case)


@pytest.mark.parametrize("case", CASES)
def test_ztunnel_accepts_all_of_it(case: str) -> None:
    """No record of a recorded case breaks a rule of ztunnel's (wire-contract §1.6).

    A workload that nobody can reach (no address, no gateway of its network) is accepted, and istiod sends it.
    """
    commit = golden.derive(case)
    records = [record for _, record in (*commit.addresses, *commit.policies) if record is not None]
    assert [
        text for record in records for text in violations(record) if "nobody can reach it" not in text
    ] == []
