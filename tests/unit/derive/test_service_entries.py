"""ServiceEntries: addresses from spec, status or allocation, visibility, endpoints, and one winner a host."""

import pytest

from peerd.model.address import NetworkAddress
from peerd.model.changes import AllocationChange
from peerd.model.federation import Allocation
from peerd.model.mesh import Settings
from peerd.model.service import HealthPolicy, Mode, Visibility
from peerd.model.workload import Workload
from tests.support.derived import derive, diagnostics, service

ENTRY = """
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {namespace: %s, name: %s, creationTimestamp: '%s', labels: {%s}}
    spec: {%s}
"""
YOUNG, OLD = "2026-02-02T00:00:00Z", "2026-01-01T00:00:00Z"
ALLOCATED = AllocationChange("h.example.org", Allocation(b"\xf0\xf0\x00\x09", bytes(15) + b"\x09"))


def entry(spec: str, labels: str = "", space: str = "shop", name: str = "e", created: str = OLD) -> str:
    return ENTRY % (space, name, created, labels, spec)


def test_an_allocation_serves_a_host_that_has_no_address_of_its_own() -> None:
    """Both families of the allocation, on the cluster's network; the host stays wanted."""
    seen = derive(entry("hosts: [h.example.org], resolution: STATIC"), ALLOCATED)
    assert service(seen, "shop/h.example.org").addresses == (
        NetworkAddress("", b"\xf0\xf0\x00\x09"),
        NetworkAddress("", bytes(15) + b"\x09"),
    )
    assert seen.parts["wanted_hosts"] == {"h.example.org": "service-entry"}


@pytest.mark.parametrize(
    ("spec", "labels", "wanted"),
    [
        ("hosts: [h.example.org], resolution: DNS", "", True),
        ("hosts: [h.example.org], resolution: DNS, addresses: [240.1.1.1]", "", False),
        ("hosts: [h.example.org], resolution: NONE", "", False),
        ("hosts: [h.example.org]", "", False),
        (
            "hosts: [h.example.org], resolution: DNS",
            "networking.istio.io/enable-autoallocate-ip: 'FALSE'",
            False,
        ),
        ("hosts: ['*.example.org'], resolution: STATIC", "", False),
        ("hosts: ['*.example.org'], resolution: DYNAMIC_DNS", "", True),
    ],
)
def test_hosts_want_addresses_unless_they_have_some_or_opt_out(spec: str, labels: str, wanted: bool) -> None:
    """NONE (also when unset), own addresses, the label, and wildcards that are not resolved want none."""
    seen = derive(entry(spec, labels), ALLOCATED)
    assert bool(seen.parts["wanted_hosts"]) is wanted
    if not wanted and "addresses" not in spec:
        assert [s.addresses for s in seen.parts["addresses"].values() if not isinstance(s, Workload)] == [()]


def test_status_addresses_win_over_an_allocation() -> None:
    """What istiod allocated and wrote down stays (decision D28), host by host; the host is not wanted."""
    status = """
    status: {addresses: [{host: h.example.org, value: 240.240.7.7}, {host: i.example.org, value: nonsense}]}
"""
    seen = derive(
        entry("hosts: [h.example.org, i.example.org], resolution: STATIC").rstrip() + status, ALLOCATED
    )
    assert service(seen, "shop/h.example.org").addresses == (NetworkAddress("", b"\xf0\xf0\x07\x07"),)
    assert service(seen, "shop/i.example.org").addresses == ()
    assert seen.parts["wanted_hosts"] == {"i.example.org": "service-entry"}


def test_blocks_are_masked_and_blocks_of_one_address_have_no_length() -> None:
    """10.1.2.3/16 is 10.1.0.0 with length 16, /32 and /128 are plain addresses."""
    blocks = "[10.1.2.3/16, 10.9.9.9/32, 'fd00::1/128', 'fd00::/8']"
    spec = f"hosts: [h.example.org], resolution: STATIC, addresses: {blocks}"
    assert service(derive(entry(spec)), "shop/h.example.org").addresses == (
        NetworkAddress("", b"\x0a\x01\x00\x00", 16),
        NetworkAddress("", b"\x0a\x09\x09\x09"),
        NetworkAddress("", b"\xfd" + bytes(14) + b"\x01"),
        NetworkAddress("", b"\xfd" + bytes(15), 8),
    )


def test_resolution_none_passes_through_whatever_the_distribution() -> None:
    """The called address is the destination; ranking has no meaning."""
    found = service(derive(entry("hosts: [h.example.org]")), "shop/h.example.org").load_balancing
    assert found is not None
    assert (found.mode, found.health_policy, found.routing_preference) == (
        Mode.PASSTHROUGH,
        HealthPolicy.ALLOW_ALL,
        (),
    )


VISIBLE = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {trusted: %s}}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {namespace: istio-system, name: istio}
    data:
      mesh: |
        serviceEntryVisibility:
          defaultVisibility: NAMESPACE
          policies:
          - {visibility: PUBLIC, matchingRules: [{hostnameSuffix: example.org}]}  # a rule of a later version
          - {visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {trusted: 'yes'}}}]}
          - {visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {trusted: 'no'}}}]}
    ---
"""


@pytest.mark.parametrize(
    ("trusted", "visibility", "canonical"),
    [("'yes'", Visibility.PUBLIC, True), ("'maybe'", Visibility.NAMESPACE, False), ("'no'", None, False)],
)
def test_visibility_is_that_of_the_first_policy_that_matches(
    trusted: str, visibility: Visibility | None, canonical: bool
) -> None:
    """Without a match the default; NONE is not served, and what others cannot see is not canonical.

    A rule that nobody here knows matches nothing, and takes nothing from the other policies.
    """
    text = VISIBLE % trusted + entry(
        "hosts: [h.example.org], resolution: STATIC, endpoints: [{address: 192.0.2.1}]"
    )
    seen = derive(text)
    if visibility is None:
        assert seen.parts["addresses"] == {}
    else:
        found = service(seen, "shop/h.example.org")
        assert (found.visibility, found.canonical) == (visibility, canonical)


@pytest.mark.parametrize(
    ("trusted", "home", "bound"),
    [("'yes'", "infra", True), ("'maybe'", "infra", False), ("'maybe'", "shop", True)],
)
def test_what_others_cannot_see_has_no_waypoint_elsewhere(trusted: str, home: str, bound: bool) -> None:
    """A waypoint of another namespace would show it there (wire-contract §4.4, §4.5)."""
    gateway = f"""
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {{namespace: {home}, name: wp}}
    spec: {{listeners: [{{port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {{from: All}}}}}}]}}
    status: {{addresses: [{{type: IPAddress, value: 10.0.1.1}}]}}
    """
    label = f"istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: {home}"
    seen = derive(VISIBLE % trusted + entry("hosts: [h.example.org], resolution: STATIC", label) + gateway)
    assert (service(seen, "shop/h.example.org").waypoint is not None) is bound
    assert any("another namespace" in problem.message for problem in diagnostics(seen)) is not bound


def test_the_older_entry_wins_in_a_namespace_and_the_oldest_is_canonical() -> None:
    """The loser loses its endpoints too, and is told so."""
    spec = (
        "hosts: [h.example.org], resolution: STATIC, "
        "addresses: [240.0.0.%d], endpoints: [{address: 192.0.2.%d}]"
    )
    text = "---".join(
        (
            entry(spec % (1, 1), name="young", created=YOUNG),
            entry(spec % (2, 2), name="old", created=OLD),
            entry(spec % (3, 3), name="far", space="other", created=YOUNG),
        )
    )
    seen = derive(text)
    assert service(seen, "shop/h.example.org").name == "old"
    assert [service(seen, f"{space}/h.example.org").canonical for space in ("shop", "other")] == [True, False]
    assert sorted(r.name for r in seen.parts["addresses"].values() if isinstance(r, Workload)) == [
        "far",
        "old",
    ]
    assert [(d.object, d.field) for d in diagnostics(seen)] == [
        ("ServiceEntry/shop/young", "spec.hosts[h.example.org]")
    ]


@pytest.mark.parametrize(
    ("more", "hosts"),
    [
        ("resolution: DNS", ["a.example.org", "b.example.org"]),
        ("resolution: DNS_ROUND_ROBIN", ["a.example.org", "b.example.org"]),
        ("resolution: DYNAMIC_DNS", ["a.example.org", "b.example.org"]),
        ("resolution: STATIC", []),
        ("resolution: NONE", []),
        ("resolution: DNS, workloadSelector: {labels: {app: x}}", []),
        ("resolution: DNS, endpoints: [{address: real.example.net}]", ["real.example.net"]),
    ],
)
def test_dns_entries_without_endpoints_have_one_for_each_host(more: str, hosts: list[str]) -> None:
    """Implicit endpoints belong to their own host only; given ones to all."""
    seen = derive(entry(f"hosts: [a.example.org, b.example.org], ports: [{{number: 80, name: x}}], {more}"))
    found = [record for record in seen.parts["addresses"].values() if isinstance(record, Workload)]
    assert sorted(record.hostname for record in found) == hosts
    for record in found:
        expected = 2 if record.hostname == "real.example.net" else 1
        assert len(record.services) == expected


def test_an_entry_of_another_revision_is_not_ours() -> None:
    """`istio.io/rev` is our revision or unset; without a revision of our own every entry is."""
    spec = "hosts: [h.example.org], resolution: STATIC"
    ours = Settings(revision="stable")
    assert derive(entry(spec, "istio.io/rev: canary"), settings=ours).parts["addresses"] == {}
    assert derive(entry(spec, "istio.io/rev: stable"), settings=ours).parts["addresses"] != {}
    assert derive(entry(spec, "istio.io/rev: canary")).parts["addresses"] != {}
