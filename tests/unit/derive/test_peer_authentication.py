"""PeerAuthentications: which policies stand for them, and which of them a workload lists."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import msgspec
import pytest

from peerd.derive.peer_authentication import (
    convert_peer_authentication,
    policies_of,
    static_strict_policy,
)
from peerd.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    MatchKind,
    PolicyScope,
    Rule,
    StringMatch,
)
from peerd.model.kube.istio import PeerAuthentication
from tests.support.ztunnel_rules import violations

ROOT = "istio-system"
STATIC = (f"{ROOT}/istio_converted_static_strict",)
ANYBODY = (StringMatch(MatchKind.PRESENCE),)
UNAUTHENTICATED = Clause((Match(not_principals=ANYBODY),))
LABELS = {"app": "a", "v": "1"}
MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")


def authentication(
    mode: str = "",
    ports: dict[str, str] | None = None,
    *,
    namespace: str = "shop",
    name: str = "pa",
    selector: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
) -> PeerAuthentication:
    spec: dict[str, Any] = {"portLevelMtls": {port: {"mode": word} for port, word in (ports or {}).items()}}
    if mode:
        spec["mtls"] = {"mode": mode}
    if selector is not None:
        spec["selector"] = {"matchLabels": selector}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return msgspec.convert({"metadata": metadata, "spec": spec}, PeerAuthentication)


def mesh(mode: str, **fields: Any) -> PeerAuthentication:
    return authentication(mode, namespace=ROOT, name="mesh", **fields)


def space(mode: str, **fields: Any) -> PeerAuthentication:
    return authentication(mode, **{"name": "default", **fields})


def selecting(mode: str = "", ports: dict[str, str] | None = None, **fields: Any) -> PeerAuthentication:
    return authentication(mode, ports, selector={"app": "a"}, **fields)


def listed(*policies: PeerAuthentication, namespace: str = "shop") -> tuple[str, ...]:
    return policies_of(namespace, LABELS, policies, ROOT)


def convert(policy: PeerAuthentication, *others: PeerAuthentication) -> Authorization | None:
    record, _ = convert_peer_authentication(policy, (*others, policy), ROOT)
    if record is not None:
        assert violations(record) == []
    return record


def rules(policy: PeerAuthentication, *others: PeerAuthentication) -> tuple[Rule, ...]:
    record = convert(policy, *others)
    assert record is not None
    assert record.name == "converted_peer_authentication_pa"
    assert (record.scope, record.action) == (PolicyScope.WORKLOAD_SELECTOR, Action.DENY)
    return record.rules


def test_the_static_policy_denies_whoever_has_no_principal() -> None:
    policy = static_strict_policy(ROOT)
    assert policy.resource_name == STATIC[0]
    assert policy.rules == (Rule((UNAUTHENTICATED,)),)
    assert violations(policy) == []


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), ()),
        ((mesh("STRICT"),), STATIC),
        ((mesh("PERMISSIVE"),), ()),
        ((mesh("STRICT"), space("PERMISSIVE")), ()),
        ((mesh("STRICT"), space("DISABLE")), ()),
        ((mesh("STRICT"), space("UNSET")), STATIC),
        ((mesh("STRICT"), space("")), STATIC),
        ((mesh("PERMISSIVE"), space("STRICT")), STATIC),
        ((space("STRICT"), selecting("PERMISSIVE")), ()),
        ((space("STRICT"), selecting("UNSET")), STATIC),
        ((space("PERMISSIVE"), selecting("STRICT")), STATIC),
    ],
)
def test_the_nearest_level_that_says_something_decides(
    policies: tuple[PeerAuthentication, ...], expected: tuple[str, ...]
) -> None:
    assert listed(*policies) == expected


def test_a_policy_of_another_label_or_namespace_or_a_selector_in_the_root_does_not_count() -> None:
    assert listed(authentication("STRICT", selector={"app": "b"})) == ()
    assert listed(authentication("STRICT", selector={"app": "a", "v": "2"})) == ()
    assert listed(selecting("STRICT", namespace="other")) == ()
    assert listed(selecting("STRICT", namespace=ROOT)) == ()


def test_an_empty_selector_means_the_namespace() -> None:
    assert listed(authentication("STRICT", selector={})) == STATIC


def test_in_the_root_namespace_an_empty_selector_means_that_namespace_and_not_the_mesh() -> None:
    """Only a policy without selector is the mesh's (wire-contract §4.8); the owner is told."""
    found = mesh("STRICT", selector={})
    assert listed(found) == ()
    assert listed(found, namespace=ROOT) == STATIC
    assert listed(found, mesh("PERMISSIVE", created="2026-02-01T00:00:00Z")) == ()
    (problem,) = convert_peer_authentication(found, (found,), ROOT)[1]
    assert (problem.field, problem.message) == (
        "spec.selector",
        "a selector in the root namespace selects the root namespace alone",
    )


def test_the_mesh_policy_is_the_root_namespaces_own_too() -> None:
    assert listed(mesh("STRICT"), namespace=ROOT) == STATIC


def test_the_oldest_of_a_level_wins_and_the_name_breaks_a_tie() -> None:
    newer, tie = {"created": "2026-02-01T00:00:00Z", "name": "a"}, {"name": "b"}
    assert listed(selecting("STRICT"), selecting("PERMISSIVE", **newer)) == STATIC
    assert listed(selecting("PERMISSIVE", **newer), selecting("STRICT")) == STATIC
    assert listed(selecting("STRICT"), selecting("PERMISSIVE", **tie)) == ()
    assert listed(space("STRICT"), space("PERMISSIVE", **newer)) == STATIC


STRICT_PORTS = {"8081": "STRICT", "443": "STRICT", "8082": "PERMISSIVE", "8083": "DISABLE", "8084": "UNSET"}
CONVERTED = ("shop/converted_peer_authentication_pa",)


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "UNSET", ""])
def test_without_strict_default_each_strict_port_denies_by_itself_in_order_of_number(mode: str) -> None:
    policy = selecting(mode, STRICT_PORTS)
    assert rules(policy) == tuple(
        Rule((Clause((Match(not_principals=ANYBODY, destination_ports=(port,)),)),)) for port in (443, 8081)
    )
    assert listed(policy) == CONVERTED


def test_with_a_strict_default_exempt_ports_are_cut_out_of_one_rule() -> None:
    policy = selecting("STRICT", STRICT_PORTS)
    exempt = [Clause((Match(not_destination_ports=(port,)),)) for port in (8082, 8083)]
    assert rules(policy) == (Rule((UNAUTHENTICATED, *exempt)),)
    assert rules(policy, space("STRICT")) == (Rule((UNAUTHENTICATED, *exempt, UNAUTHENTICATED)),)
    assert rules(selecting("UNSET", STRICT_PORTS), space("STRICT")) == (Rule((*exempt, UNAUTHENTICATED)),)
    assert listed(policy) == listed(selecting("UNSET", STRICT_PORTS), space("STRICT")) == CONVERTED


def test_a_strict_port_counts_in_a_permissive_workload_of_a_strict_mesh() -> None:
    """Otherwise the port would be open against the owner's word."""
    policy = selecting("PERMISSIVE", {"80": "STRICT"})
    assert len(rules(policy, mesh("STRICT"))) == 1
    assert listed(policy, mesh("STRICT")) == CONVERTED


def test_disable_on_a_port_exempts_only_where_the_policy_itself_says_strict() -> None:
    """As recorded: under an inherited STRICT the workload lists the static policy, ports and all."""
    ports = {"7000": "DISABLE"}
    assert listed(selecting("", ports), mesh("STRICT")) == STATIC
    assert listed(selecting("STRICT", ports)) == CONVERTED


def test_ports_that_change_nothing_need_no_policy_of_their_own() -> None:
    assert convert(selecting("STRICT", {"80": "STRICT"})) is None
    assert convert(selecting("PERMISSIVE", {"80": "PERMISSIVE"})) is None
    assert convert(selecting("STRICT")) is None
    assert listed(selecting("STRICT", {"80": "STRICT"})) == STATIC
    assert listed(selecting("PERMISSIVE", {"80": "DISABLE"})) == ()


def test_ports_without_selector_or_in_the_root_namespace_do_not_count() -> None:
    assert convert(space("PERMISSIVE", ports={"80": "STRICT"})) is None
    assert convert(selecting("PERMISSIVE", {"80": "STRICT"}, namespace=ROOT)) is None


def levels() -> Iterable[tuple[str, ...]]:
    return product(("none", *MODES), ("none", *MODES), MODES, ("none", *MODES), ("none", *MODES))


def test_a_listed_policy_always_exists() -> None:
    """ztunnel skips an unknown policy, which would open the workload; all 2,500 combinations of modes."""
    count = 0
    for of_mesh, of_space, own, first, second in levels():
        ports = {str(port): word for port, word in ((80, first), (81, second)) if word != "none"}
        others = [mesh(of_mesh)] * (of_mesh != "none") + [space(of_space)] * (of_space != "none")
        policy = selecting(own, ports)
        sent = convert(policy, *others)
        names = {STATIC[0]} | ({sent.resource_name} if sent is not None else set())
        assert names >= set(listed(policy, *others))
        count += 1
    assert count == 2500


def problems(policy: PeerAuthentication) -> list[tuple[str, str]]:
    _, found = convert_peer_authentication(policy, (policy,), ROOT)
    return [(problem.field, problem.object) for problem in found]


def test_what_cannot_be_read_or_has_no_effect_is_named() -> None:
    place = "PeerAuthentication/shop/pa"
    assert problems(selecting("STRCT")) == [("spec.mtls.mode", place)]
    assert problems(selecting("", {"80": "ON"})) == [("spec.portLevelMtls[80].mode", place)]
    assert problems(selecting("", {"http": "STRICT"})) == [("spec.portLevelMtls[http]", place)]
    assert problems(selecting("", {"65536": "STRICT"})) == [("spec.portLevelMtls[65536]", place)]
    assert problems(authentication("", {"80": "STRICT"})) == [("spec.portLevelMtls", place)]
    assert problems(selecting("STRICT", namespace=ROOT)) == [
        ("spec.selector", f"PeerAuthentication/{ROOT}/pa")
    ]
    assert problems(selecting("STRICT", {"80": "PERMISSIVE"})) == []


def test_an_unreadable_mode_inherits() -> None:
    assert listed(space("STRICT"), selecting("STRCT")) == STATIC
    assert convert(selecting("PERMISSIVE", {"http": "STRICT"})) is None
