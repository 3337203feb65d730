"""What peerd says to the recorded cases: istiod's answer, but for deviations that are named here."""

from typing import Any

from peerd.api.istio import security_pb2, workload_pb2
from tests.support import golden

# Where peerd differs from istiod on purpose: (case, resource) -> what is changed in istiod's answer; None
# where istiod has none, and the whole resource is given.
QUIRKS: dict[tuple[str, str], dict[str, Any]] = {
    # The Gateway says gateway.istio.io/trust-domain: other.local, and that identity is what answers there;
    # istiod drops it (decision D29).
    ("networks", "NetworkGateway/net2/198.51.100.2/15008"): {"trust_domain": "other.local"},
    # An endpoint without a network is on the cluster's; istiod gives it that of the endpoint before it.
    ("service-entry-static", "Kubernetes/networking.istio.io/ServiceEntry/se-static/static/fd00:3::1"): {
        "network": ""
    },
}
# The Gateway has its address in spec only. In the directory source that counts as status, as a controller
# would have written it (decision D7).
DIRECTORY_QUIRKS: dict[tuple[str, str], dict[str, Any]] = {
    ("networks", "NetworkGateway/net5/198.51.100.5/15008"): {
        "uid": "NetworkGateway/net5/198.51.100.5/15008",
        "name": "NetworkGateway/net5/198.51.100.5/15008",
        "namespace": "istio-system",
        "network": "net5",
        "service_account": "remote-nostatus-istio-remote",
        "addresses": ["xjNkBQ=="],
    },
}


def expected_addresses(
    case: str, *, from_directory: bool = True
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """istiod's addresses with our quirks applied, and the versions of those that are unchanged, by name."""
    addresses: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    for name, found in golden.expected_of(case)["addresses"].items():
        versions[name] = found.pop("version")
        addresses[name] = found
    quirks = QUIRKS | DIRECTORY_QUIRKS if from_directory else QUIRKS
    for (quirk_case, name), fields in quirks.items():
        if quirk_case == case:
            addresses.setdefault(name, {"workload": {}})["workload"].update(fields)
            versions.pop(name, None)
    return {
        name: golden.normalised(workload_pb2.Address, found) for name, found in addresses.items()
    }, versions


def expected_policies(case: str) -> dict[str, dict[str, Any]]:
    """istiod's policies by name."""
    return {
        name: golden.normalised(security_pb2.Authorization, tree)
        for name, tree in golden.expected_of(case)["policies"].items()
    }
