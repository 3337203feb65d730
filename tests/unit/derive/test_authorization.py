"""AuthorizationPolicies: what reaches ztunnel, what does not, and what the owner is told."""

from typing import Any

import msgspec
import pytest

from peerd.derive.authorization import convert_policy
from peerd.model.authorization import (
    Action,
    AddressBlock,
    Authorization,
    Clause,
    Match,
    MatchKind,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
)
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.istio import AuthorizationPolicy
from tests.support.ztunnel_rules import violations

ROOT = "istio-system"


def convert(
    spec: dict[str, Any], namespace: str = "shop", dry_run: str = "", **options: bool
) -> tuple[Authorization | None, tuple[Diagnostic, ...]]:
    metadata = {"name": "p", "namespace": namespace, "annotations": {"istio.io/dry-run": dry_run}}
    policy = msgspec.convert({"metadata": metadata, "spec": spec}, AuthorizationPolicy)
    record, problems = convert_policy(policy, ROOT, **options)
    if record is not None:
        assert violations(record) == []
    return record, problems


def rules(*specs: dict[str, Any], action: str = "ALLOW") -> tuple[Rule, ...]:
    record, _ = convert({"action": action, "rules": list(specs)})
    assert record is not None
    return record.rules


def one(field: str, source: dict[str, Any]) -> Match:
    """The only match of a rule with one `from` or `to`."""
    inner = {"from": "source", "to": "operation"}[field]
    ((clause,),) = ((rule.clauses) for rule in rules({field: [{inner: source}]}))
    (match,) = clause.matches
    return match


@pytest.mark.parametrize(
    ("namespace", "selector", "scope"),
    [
        (ROOT, None, PolicyScope.GLOBAL),
        ("shop", None, PolicyScope.NAMESPACE),
        ("shop", {"matchLabels": {"app": "a"}}, PolicyScope.WORKLOAD_SELECTOR),
        (ROOT, {"matchLabels": {"app": "a"}}, PolicyScope.WORKLOAD_SELECTOR),
        ("shop", {"matchLabels": {}}, PolicyScope.WORKLOAD_SELECTOR),
    ],
)
def test_scope_follows_from_namespace_and_selector(
    namespace: str, selector: dict[str, Any] | None, scope: PolicyScope
) -> None:
    record, problems = convert({} if selector is None else {"selector": selector}, namespace)
    assert record == Authorization("p", namespace, scope)
    assert problems == ()


def test_a_selector_that_selects_nothing_is_told() -> None:
    """It is sent as istiod sends it, and no workload lists it: nothing enforces it."""
    record, (problem,) = convert({"selector": {}})
    assert record == Authorization("p", "shop", PolicyScope.WORKLOAD_SELECTOR)
    assert problem.field == "spec.selector"


@pytest.mark.parametrize(
    "target",
    [{"targetRef": {"kind": "Service", "name": "s"}}, {"targetRefs": [{"kind": "Gateway", "name": "g"}]}],
)
def test_a_policy_with_targets_is_the_waypoints_and_nobody_is_told_off(target: dict[str, Any]) -> None:
    assert convert({"action": "DENY", **target}) == (None, ())


@pytest.mark.parametrize("action", ["AUDIT", "CUSTOM"])
def test_actions_ztunnel_lacks_are_named_and_not_sent(action: str) -> None:
    record, (problem,) = convert({"action": action})
    assert record is None
    assert (problem.object, problem.field) == ("AuthorizationPolicy/shop/p", "spec.action")
    assert action in problem.message


@pytest.mark.parametrize(
    ("word", "dry_run"), [("true", True), ("1", True), ("T", True), ("false", False), ("", False)]
)
def test_dry_run_is_read_as_go_reads_a_boolean(word: str, dry_run: bool) -> None:
    record, problems = convert({"action": "DENY"}, dry_run=word)
    assert record is not None
    assert record.dry_run is dry_run
    assert problems == ()


def test_an_unreadable_dry_run_annotation_enforces_and_says_so() -> None:
    record, (problem,) = convert({"action": "DENY"}, dry_run="yes")
    assert record is not None
    assert not record.dry_run
    assert "'yes'" in problem.message


def test_a_dry_run_policy_is_not_sent_where_dry_run_is_off() -> None:
    """An older ztunnel would enforce it (wire-contract §2.3)."""
    record, (problem,) = convert({"action": "DENY"}, dry_run="true", dry_run_enabled=False)
    assert record is None
    assert "dry-run" in problem.field
    assert convert({"action": "DENY"}, dry_run="false", dry_run_enabled=False)[0] is not None


def test_no_rules_and_an_empty_rule_differ() -> None:
    """The first never matches, the second always: deny all and allow all."""
    assert rules() == ()
    assert rules({}) == (Rule(),)


def test_to_comes_before_from_comes_before_each_when() -> None:
    (rule,) = rules(
        {
            "from": [{"source": {"namespaces": ["a"]}}, {"source": {"principals": ["p"]}}],
            "to": [{"operation": {"ports": ["1"]}}, {"operation": {"ports": ["2"]}}],
            "when": [
                {"key": "source.namespace", "values": ["n"]},
                {"key": "destination.port", "values": ["3"]},
            ],
        }
    )
    exact = {name: (StringMatch(MatchKind.EXACT, name),) for name in "apn"}
    assert rule.clauses == (
        Clause((Match(destination_ports=(1,)), Match(destination_ports=(2,)))),
        Clause((Match(namespaces=exact["a"]), Match(principals=exact["p"]))),
        Clause((Match(namespaces=exact["n"]),)),
        Clause((Match(destination_ports=(3,)),)),
    )


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("*", StringMatch(MatchKind.PRESENCE)),
        ("*z", StringMatch(MatchKind.SUFFIX, "z")),
        ("a*", StringMatch(MatchKind.PREFIX, "a")),
        ("*a*", StringMatch(MatchKind.SUFFIX, "a*")),
        ("a", StringMatch(MatchKind.EXACT, "a")),
        ("**", StringMatch(MatchKind.SUFFIX, "*")),
    ],
)
@pytest.mark.parametrize("field", ["namespaces", "notNamespaces", "principals", "notPrincipals"])
def test_stars_make_patterns(field: str, value: str, match: StringMatch) -> None:
    found = one("from", {field: [value]})
    snake = {"notNamespaces": "not_namespaces", "notPrincipals": "not_principals"}.get(field, field)
    assert found == Match(**{snake: (match,)})


def test_accounts_without_namespace_are_of_the_policys_own() -> None:
    assert one("from", {"serviceAccounts": ["x/y", "z"], "notServiceAccounts": ["a/b/c"]}) == Match(
        service_accounts=(ServiceAccountMatch("x", "y"), ServiceAccountMatch("shop", "z")),
        not_service_accounts=(ServiceAccountMatch("a", "b/c"),),
    )


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("10.0.0.0/8", AddressBlock(b"\x0a\x00\x00\x00", 8)),
        ("10.1.2.3/8", AddressBlock(b"\x0a\x01\x02\x03", 8)),
        ("192.0.2.1", AddressBlock(b"\xc0\x00\x02\x01", 32)),
        ("::1", AddressBlock(bytes(15) + b"\x01", 128)),
        ("::/0", AddressBlock(bytes(16), 0)),
    ],
)
def test_ip_blocks_keep_their_bits(text: str, block: AddressBlock) -> None:
    assert one("from", {"ipBlocks": [text]}) == Match(source_ips=(block,))
    assert one("from", {"notIpBlocks": [text]}) == Match(not_source_ips=(block,))


@pytest.mark.parametrize(
    "text", ["bad", "", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/", "10.0.0.0/+8", "fe80::1%a/64"]
)
def test_what_is_no_ip_block_is_left_out_and_named(text: str) -> None:
    record, (problem,) = convert({"rules": [{"from": [{"source": {"ipBlocks": [text, "10.0.0.1"]}}]}]})
    assert record is not None
    assert record.rules[0].clauses[0].matches[0].source_ips == (AddressBlock(b"\x0a\x00\x00\x01", 32),)
    assert problem.field == "spec.rules[0].from[0].source.ipBlocks"
    assert repr(text) in problem.message


@pytest.mark.parametrize("text", ["http", "", "-1", "+80", "65536", "8_0", "８０"])
def test_what_is_no_port_is_left_out_and_named(text: str) -> None:
    record, (problem,) = convert({"rules": [{"to": [{"operation": {"notPorts": [text, "80"]}}]}]})
    assert record is not None
    assert record.rules[0].clauses[0].matches == (Match(not_destination_ports=(80,)),)
    assert problem.field == "spec.rules[0].to[0].operation.notPorts"


def test_each_condition_key_goes_to_its_field() -> None:
    block = (AddressBlock(b"\x0a\x00\x00\x00", 8),)
    other = (AddressBlock(b"\x0a\x01\x00\x00", 16),)
    (rule,) = rules(
        {
            "when": [
                {"key": "source.ip", "values": ["10.0.0.0/8"], "notValues": ["10.1.0.0/16"]},
                {"key": "destination.ip", "values": ["10.0.0.0/8"], "notValues": ["10.1.0.0/16"]},
                {"key": "destination.port", "values": ["80"], "notValues": ["81"]},
                {"key": "source.namespace", "values": ["a"], "notValues": ["*"]},
                {"key": "source.principal", "values": ["a"], "notValues": ["*"]},
            ]
        }
    )
    name, anybody = (StringMatch(MatchKind.EXACT, "a"),), (StringMatch(MatchKind.PRESENCE),)
    assert [clause.matches for clause in rule.clauses] == [
        (Match(source_ips=block, not_source_ips=other),),
        (Match(destination_ips=block, not_destination_ips=other),),
        (Match(destination_ports=(80,), not_destination_ports=(81,)),),
        (Match(namespaces=name, not_namespaces=anybody),),
        (Match(principals=name, not_principals=anybody),),
    ]


BEYOND = [
    *[
        ({"to": [{"operation": {field: ["x"], "ports": ["80"]}}]}, field)
        for field in ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")
    ],
    *[
        ({"from": [{"source": {field: ["x"], "namespaces": ["n"]}}]}, field)
        for field in (
            "remoteIpBlocks",
            "notRemoteIpBlocks",
            "requestPrincipals",
            "notRequestPrincipals",
            "trustDomains",
            "notTrustDomains",
        )
    ],
    (
        {"from": [{"source": {"namespaces": ["n"]}}], "when": [{"key": "request.headers[x]"}]},
        "request.headers[x]",
    ),
]


@pytest.mark.parametrize(("rule", "word"), BEYOND, ids=[word for _, word in BEYOND])
def test_an_allow_rule_beyond_layer_4_is_dropped_whole_and_the_rest_stays(
    rule: dict[str, Any], word: str
) -> None:
    record, (problem,) = convert({"rules": [{"from": [{"source": {"namespaces": ["ok"]}}]}, rule]})
    assert record is not None
    assert len(record.rules) == 1
    assert problem.field == "spec.rules[1]"
    assert word in problem.message
    assert "targetRefs" in problem.fix


@pytest.mark.parametrize(("rule", "word"), BEYOND, ids=[word for _, word in BEYOND])
def test_a_deny_rule_beyond_layer_4_keeps_what_ztunnel_sees(rule: dict[str, Any], word: str) -> None:
    record, (problem,) = convert({"action": "DENY", "rules": [rule]})
    assert record is not None
    first = record.rules[0].clauses[0].matches[0]
    assert first == (
        Match(destination_ports=(80,))
        if "to" in rule
        else Match(namespaces=(StringMatch(MatchKind.EXACT, "n"),))
    )
    assert word in problem.message


def test_a_deny_rule_with_nothing_left_never_matches_and_its_owner_is_told() -> None:
    record, (problem,) = convert(
        {"action": "DENY", "rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}
    )
    assert record == Authorization(
        "p", "shop", PolicyScope.NAMESPACE, Action.DENY, (Rule((Clause((Match(),)),)),)
    )
    assert "nothing is left" in problem.message
