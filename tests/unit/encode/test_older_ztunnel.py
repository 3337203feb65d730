"""What ztunnels before 1.28 reject is put to them in the words of their time (wire-contract §6 no. 18)."""

import pytest

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.derive.service_entries import PASSTHROUGH
from peerd.encode.address import decode_address, encode_address
from peerd.encode.older_ztunnel import rejects_passthrough, without_passthrough
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope, Service
from peerd.model.workload import Workload


@pytest.mark.parametrize(
    ("version", "rejects"),
    [
        ("1.27.3", True),
        ("1.24.0-alpha.1", True),
        ("v1.27", True),
        ("1.28.0", False),
        ("1.28-dev", False),
        ("1.32-dev", False),
        ("2.1.0", False),
        ("65536.65536.65536", False),
        ("", False),
        ("demo", False),
    ],
)
def test_a_ztunnel_says_how_old_it_is(version: str, rejects: bool) -> None:
    """One that says nothing, as by hand, is not thought old."""
    assert rejects_passthrough(version) is rejects


def response(*records: Workload | Service) -> bytes:
    message = discovery.DeltaDiscoveryResponse(type_url="t", nonce="n", removed_resources=["gone"])
    return b"".join(encode_address(each).frame for each in records) + message.SerializeToString()


def records(message: bytes) -> list[Workload | Service]:
    resources = discovery.DeltaDiscoveryResponse.FromString(message).resources
    return [decode_address(each.resource.value) for each in resources]


ALL_WANTED = LoadBalancing((Scope.NODE,), Mode.STRICT, HealthPolicy.ALLOW_ALL)
OTHERS = (
    Workload("u", "u", "ns"),
    Service("s", "ns", "s.ns"),
    Service("a", "ns", "a.ns", load_balancing=ALL_WANTED),
)


def test_passthrough_services_lose_their_mode_and_nothing_else() -> None:
    """Neither do others beside them, nor their versions, nor what the response says besides."""
    through = Service("p", "ns", "p.ns", load_balancing=PASSTHROUGH)
    before = response(OTHERS[0], through, *OTHERS[1:])
    after = without_passthrough(before)
    plain = Service(
        "p", "ns", "p.ns", load_balancing=LoadBalancing((), Mode.UNSPECIFIED, HealthPolicy.ALLOW_ALL)
    )
    assert records(after) == [OTHERS[0], plain, *OTHERS[1:]]
    old, new = (discovery.DeltaDiscoveryResponse.FromString(each) for each in (before, after))
    assert [each.version for each in new.resources] == [each.version for each in old.resources]
    assert (new.type_url, new.nonce, list(new.removed_resources)) == ("t", "n", ["gone"])


def test_what_holds_none_is_not_touched() -> None:
    message = response(*OTHERS)
    assert without_passthrough(message) is message
