"""Bad objects: never an exception out of derivation, never a record ztunnel refuses, always a diagnostic."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.encode.address import encode_address
from peerd.encode.policy import encode_policy
from peerd.model.changes import Change, ObjectChange
from peerd.model.kube.kinds import KINDS_BY_NAME
from tests.support.random_objects import TREES, change
from tests.support.worlds import Seen, from_scratch
from tests.support.ztunnel_rules import violations

SPACE = ("Namespace", {"metadata": {"name": "shop"}})
GOOD_POD = (
    "Pod",
    {
        "metadata": {"namespace": "shop", "name": "good", "labels": {"app": "web"}},
        "status": {"phase": "Running", "podIP": "10.0.0.9"},
    },
)
GOOD_SERVICE = (
    "Service",
    {
        "metadata": {"namespace": "shop", "name": "good"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}], "selector": {"app": "web"}},
    },
)


def meta(name: str = "bad", **more: Any) -> dict[str, Any]:
    return {"namespace": "shop", "name": name, **more}


# Kind, object, the field its diagnostic names, and a part of its message.
BAD: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a Pod IP that is none": (
        "Pod",
        {"metadata": meta(), "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.999"}]}},
        "status.podIPs",
        "'10.0.0.999'",
    ),
    "one bad IP beside a good one": (
        "Pod",
        {"metadata": meta(), "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "::x"}]}},
        "status.podIPs",
        "'::x'",
    ),
    "a cluster IP that is none": (
        "Service",
        {"metadata": meta(), "spec": {"clusterIPs": ["ten"], "ports": [{"port": 80}]}},
        "spec.clusterIPs",
        "'ten'",
    ),
    "a Service port out of range": (
        "Service",
        {"metadata": meta(), "spec": {"clusterIPs": ["10.96.0.2"], "ports": [{"port": 70000}]}},
        "spec.ports[0]",
        "70000",
    ),
    "a negative target port": (
        "Service",
        {"metadata": meta(), "spec": {"ports": [{"port": 80, "targetPort": -1}]}},
        "spec.ports[0]",
        "-1",
    ),
    "a ServiceEntry without hosts": (
        "ServiceEntry",
        {"metadata": meta(), "spec": {"ports": [{"number": 80}]}},
        "spec.hosts",
        "empty",
    ),
    "a host with a slash": (
        "ServiceEntry",
        {"metadata": meta(), "spec": {"hosts": ["a/b"], "resolution": "STATIC"}},
        "spec.hosts[0]",
        "'a/b'",
    ),
    "a CIDR that is none": (
        "ServiceEntry",
        {"metadata": meta(), "spec": {"hosts": ["h.example.org"], "addresses": ["10.0.0.0/33"]}},
        "spec.addresses[0]",
        "'10.0.0.0/33'",
    ),
    "a netmask for a prefix length": (
        "ServiceEntry",
        {"metadata": meta(), "spec": {"hosts": ["h.example.org"], "addresses": ["10.0.0.0/255.0.0.0"]}},
        "spec.addresses[0]",
        "neither",
    ),
    "a ServiceEntry port of 0": (
        "ServiceEntry",
        {"metadata": meta(), "spec": {"hosts": ["h.example.org"], "ports": [{"number": 0}]}},
        "spec.ports[0]",
        "0",
    ),
    "two endpoints of one address": (
        "ServiceEntry",
        {
            "metadata": meta(),
            "spec": {
                "hosts": ["h.example.org"],
                "resolution": "STATIC",
                "endpoints": [{"address": "192.0.2.1"}, {"address": "192.0.2.1"}],
            },
        },
        "spec.endpoints[1].address",
        "twice",
    ),
    "a weight past 32 bits": (
        "WorkloadEntry",
        {"metadata": meta(), "spec": {"address": "192.0.2.1", "weight": 1 << 40}},
        "spec.weight",
        str(1 << 40),
    ),
    "a port map out of range": (
        "WorkloadEntry",
        {"metadata": meta(), "spec": {"address": "192.0.2.1", "ports": {"http": 99999}}},
        "spec.ports[http]",
        "99999",
    ),
    "a slice address that is none": (
        "EndpointSlice",
        {
            "metadata": meta(labels={"kubernetes.io/service-name": "good"}),
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["nowhere"]}],
        },
        "endpoints[0].addresses",
        "'nowhere'",
    ),
    "a waypoint without a usable address": (
        "Gateway",
        {"metadata": meta(), "status": {"addresses": [{"type": "IPAddress", "value": "x"}]}},
        "status.addresses",
        "no IP address",
    ),
    "a remote Gateway without an address": (
        "Gateway",
        {"metadata": meta(), "spec": {"gatewayClassName": "istio-remote"}},
        "spec.addresses",
        "empty",
    ),
    "a policy with a block that is none": (
        "AuthorizationPolicy",
        {"metadata": meta(), "spec": {"rules": [{"from": [{"source": {"ipBlocks": ["1.2.3.4/99"]}}]}]}},
        "spec.rules[0].from[0].source.ipBlocks",
        "1.2.3.4/99",
    ),
    "a mode that is none": (
        "PeerAuthentication",
        {"metadata": meta(), "spec": {"mtls": {"mode": "SOMETIMES"}}},
        "spec.mtls.mode",
        "SOMETIMES",
    ),
}


def derived(*trees: tuple[str, dict[str, Any]]) -> Seen:
    return from_scratch([change(kind, tree) for kind, tree in trees])


@pytest.mark.parametrize("case", BAD)
def test_a_bad_object_is_told_by_object_and_field_and_harms_nothing_else(case: str) -> None:
    """The diagnostic names object and field, ztunnel takes what is sent, good objects are as without it."""
    kind, tree, field, part = BAD[case]
    seen = derived(SPACE, GOOD_POD, GOOD_SERVICE, (kind, tree))
    told = [d for d in seen.parts["diagnostics"].values() if d.field == field]
    assert [d.object for d in told] == [f"{kind}/shop/bad"]
    assert part in told[0].message
    assert told[0].fix
    assert accepted(seen)
    alone = derived(SPACE, GOOD_POD, GOOD_SERVICE)
    for name, record in alone.parts["addresses"].items():
        ours = seen.parts["addresses"][name]
        if kind not in {"AuthorizationPolicy", "PeerAuthentication"}:
            assert ours == record


@pytest.mark.parametrize("case", BAD)
def test_a_mended_object_loses_its_diagnostic(case: str) -> None:
    """Deleting the bad object takes its problem back, and leaves no record of it."""
    kind, tree, _, _ = BAD[case]
    put = change(kind, tree)
    seen = from_scratch([put, ObjectChange(kind, put.key, None)])
    assert seen.everything() == from_scratch([]).everything()


@pytest.mark.parametrize(
    ("kind", "place", "field"),
    [
        ("Pod", {"name": "", "namespace": "shop"}, "metadata.name"),
        ("Service", {"name": "a/b", "namespace": "shop"}, "metadata.name"),
        ("AuthorizationPolicy", {"name": "p"}, "metadata.namespace"),
        ("Gateway", {"name": "g", "namespace": "a/b"}, "metadata.namespace"),
    ],
)
def test_an_object_without_proper_names_is_told_and_left_out(
    kind: str, place: dict[str, str], field: str
) -> None:
    """Resource names are made of names and slashes, so neither may be missing or hold one."""
    seen = derived((kind, {"metadata": place}))
    assert [d.field for d in seen.parts["diagnostics"].values()] == [field]
    assert not seen.parts["addresses"]
    assert not seen.parts["policies"]


def accepted(seen: Seen) -> bool:
    """Whether ztunnel takes all of it; encoding must not fail either."""
    records = [*seen.parts["addresses"].values(), *seen.parts["policies"].values()]
    for record in seen.parts["addresses"].values():
        encode_address(record)
    for record in seen.parts["policies"].values():
        encode_policy(record)
    found = [t for record in records for t in violations(record) if "nobody can reach it" not in t]
    assert found == []
    return True


# Values that are of the right type and of no use.
JUNK_TEXT = st.sampled_from(
    ["", " ", "*", "/", "a/b/c", "10.0.0", "10.0.0.0/99", "::g", "x" * 300, "ü", "\x00"]
)
JUNK_NUMBER = st.sampled_from([-1, 0, 65_536, 1 << 31, 1 << 40])


def _spoil(tree: Any, draw: st.DrawFn) -> Any:
    """*tree* with some leaves replaced by junk of their type, and some members left out."""
    if isinstance(tree, dict):
        kept = {key: value for key, value in tree.items() if key == "metadata" or draw(st.integers(0, 9))}
        return {key: _spoil(value, draw) for key, value in kept.items()}
    if isinstance(tree, list):
        return [_spoil(value, draw) for value in tree]
    if isinstance(tree, bool) or draw(st.integers(0, 2)):
        return tree
    return draw(JUNK_NUMBER if isinstance(tree, int) else JUNK_TEXT)


@st.composite
def spoiled(draw: st.DrawFn) -> Change:
    """An object of any kind with junk in it that still decodes."""
    kind = draw(st.sampled_from(sorted(TREES)))
    tree = _spoil(draw(TREES[kind]), draw)
    found = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
    return ObjectChange(kind, found.key, found)


@settings(max_examples=150)
@given(st.lists(spoiled(), min_size=5, max_size=30))
def test_no_junk_makes_derivation_fail_or_send_what_ztunnel_refuses(objects: list[Change]) -> None:
    """Junk in any field of any kind: no exception, and every record encodes and is accepted."""
    assert accepted(from_scratch(objects))
