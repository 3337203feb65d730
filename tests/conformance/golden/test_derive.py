"""Every recorded case: what a real istiod sent for these objects is what derivation says.

`derive/<case>/input.yaml` are the objects as an API server returned them, `expected.json` is what istiod
sent. All fields are compared, and the content-hash version of each address.
"""

from typing import Any

import pytest

from peerd.api.istio import security_pb2, workload_pb2
from peerd.encode.address import encode_address
from tests.support import golden
from tests.support.ztunnel_rules import violations

# Where peerd differs from istiod on purpose: (case, resource) -> what is changed in istiod's answer; None
# where istiod has none, and the whole resource is given.
QUIRKS: dict[tuple[str, str], dict[str, Any]] = {
    # The Gateway says gateway.istio.io/trust-domain: other.local, and that identity is what answers there;
    # istiod drops it (decision D29).
    ("networks", "NetworkGateway/net2/198.51.100.2/15008"): {"trust_domain": "other.local"},
    # The Gateway has its address in spec only. In the directory source that counts as status, as a controller
    # would have written it (decision D7).
    ("networks", "NetworkGateway/net5/198.51.100.5/15008"): {
        "uid": "NetworkGateway/net5/198.51.100.5/15008",
        "name": "NetworkGateway/net5/198.51.100.5/15008",
        "namespace": "istio-system",
        "network": "net5",
        "service_account": "remote-nostatus-istio-remote",
        "addresses": ["xjNkBQ=="],
    },
    # An endpoint without a network is on the cluster's; istiod gives it that of the endpoint before it.
    ("service-entry-static", "Kubernetes/networking.istio.io/ServiceEntry/se-static/static/fd00:3::1"): {
        "network": ""
    },
}

CASES = golden.cases()


def expected_addresses(case: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """istiod's addresses with our quirks applied, and the versions of those that are unchanged."""
    addresses: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    for name, found in golden.expected_of(case)["addresses"].items():
        versions[name] = found.pop("version")
        addresses[name] = found
    for (quirk_case, name), fields in QUIRKS.items():
        if quirk_case == case:
            addresses.setdefault(name, {"workload": {}})["workload"].update(fields)
            versions.pop(name, None)
    return {
        name: golden.normalised(workload_pb2.Address, found) for name, found in addresses.items()
    }, versions


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
    expected = golden.expected_of(case)["policies"]
    assert found == {
        name: golden.normalised(security_pb2.Authorization, tree) for name, tree in expected.items()
    }


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
