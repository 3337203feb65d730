"""AuthorizationPolicy to what ztunnel enforces of it (wire-contract §4.7).

ztunnel sees connections, not requests. A rule is therefore cut down to what a connection shows, always to the
safe side for ALLOW (the rule is left out) and, as istiod does, to the remaining attributes for DENY.
"""

from collections.abc import Iterable

from peerd.model.address import parse_ip
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
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.istio import (
    AuthorizationPolicy,
    PolicyCondition,
    PolicyOperation,
    PolicyRule,
    PolicySource,
)

_ACTIONS = {"": Action.ALLOW, "ALLOW": Action.ALLOW, "DENY": Action.DENY}

# The words Go's strconv.ParseBool takes.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False", ""})

_L4_CONDITIONS = frozenset(
    {"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"}
)
_WAYPOINT = "name the Service or Gateway in targetRefs and let a waypoint enforce it"


def convert_policy(
    policy: AuthorizationPolicy, root_namespace: str, *, dry_run_enabled: bool = True
) -> tuple[Authorization | None, tuple[Diagnostic, ...]]:
    """What ztunnel is told of *policy*, or None where it is not ztunnel's business, and its problems.

    Not sent are policies with targets (a waypoint's), actions other than ALLOW and DENY, and dry-run policies
    unless *dry_run_enabled*. Without selector the scope is GLOBAL in *root_namespace*, NAMESPACE elsewhere.
    """
    spec = policy.spec
    if spec.target_refs or spec.target_ref is not None:
        return None, ()
    name = f"AuthorizationPolicy/{policy.key}"
    action = _ACTIONS.get(spec.action)
    if action is None:
        problem = Diagnostic(
            name, "spec.action", f"ztunnel knows no action {spec.action}", _WAYPOINT, Severity.ERROR
        )
        return None, (problem,)
    problems: list[Diagnostic] = []
    dry_run = _dry_run(policy, name, problems)
    if dry_run and not dry_run_enabled:
        problems.append(
            Diagnostic(
                name,
                "metadata.annotations[istio.io/dry-run]",
                "dry-run policies are switched off, so it is not sent",
                "remove the annotation to enforce it, or switch dry-run policies on",
            )
        )
        return None, tuple(problems)
    if spec.selector is not None:
        scope = PolicyScope.WORKLOAD_SELECTOR
        if spec.selector.match_labels is None:
            problems.append(
                Diagnostic(
                    name,
                    "spec.selector",
                    "has no matchLabels and selects no workload, so nothing enforces the policy",
                    "remove it to mean the whole namespace, or write matchLabels",
                    Severity.WARNING,
                )
            )
    elif policy.metadata.namespace == root_namespace:
        scope = PolicyScope.GLOBAL
    else:
        scope = PolicyScope.NAMESPACE
    rules = [
        _rule(rule, action, policy.metadata.namespace, _Place(name, f"spec.rules[{index}]", problems))
        for index, rule in enumerate(spec.rules)
    ]
    record = Authorization(
        policy.metadata.name,
        policy.metadata.namespace,
        scope,
        action,
        tuple([rule for rule in rules if rule is not None]),
        dry_run,
    )
    return record, tuple(problems)


class _Place:
    """Where in which object we are, to say so in diagnostics, which are collected in *problems*."""

    __slots__ = ("_field", "_object", "_problems")

    def __init__(self, name: str, field: str, problems: list[Diagnostic]) -> None:
        self._object = name
        self._field = field
        self._problems = problems

    def at(self, field: str) -> "_Place":
        return _Place(self._object, f"{self._field}.{field}", self._problems)

    def warn(self, message: str, fix: str) -> None:
        self._problems.append(Diagnostic(self._object, self._field, message, fix, Severity.WARNING))


def _dry_run(policy: AuthorizationPolicy, name: str, problems: list[Diagnostic]) -> bool:
    word = policy.metadata.annotations.dry_run
    if word not in _TRUE and word not in _FALSE:
        problems.append(
            Diagnostic(
                name,
                "metadata.annotations[istio.io/dry-run]",
                f"{word!r} is neither true nor false, so the policy is enforced",
                'write "true" or "false"',
                Severity.WARNING,
            )
        )
    return word in _TRUE


def _rule(rule: PolicyRule, action: Action, namespace: str, place: _Place) -> Rule | None:
    """One clause for `to`, one for `from`, one per `when`; None for an ALLOW rule that needs HTTP."""
    beyond: set[str] = set()
    clauses: list[Clause] = []
    if rule.to:
        matches = [
            _operation_match(to.operation, place.at(f"to[{index}].operation"))
            for index, to in enumerate(rule.to)
        ]
        beyond.update(*(_beyond_operation(to.operation) for to in rule.to))
        clauses.append(Clause(tuple(matches)))
    if rule.from_:
        matches = [
            _source_match(origin.source, namespace, place.at(f"from[{index}].source"))
            for index, origin in enumerate(rule.from_)
        ]
        beyond.update(*(_beyond_source(origin.source) for origin in rule.from_))
        clauses.append(Clause(tuple(matches)))
    for index, condition in enumerate(rule.when):
        if condition.key not in _L4_CONDITIONS:
            beyond.add(condition.key)
        clauses.append(Clause((_condition_match(condition, place.at(f"when[{index}]")),)))
    if beyond:
        words = ", ".join(sorted(beyond))
        if action is Action.ALLOW:
            place.warn(f"ztunnel cannot see {words}, so this ALLOW rule is left out", _WAYPOINT)
            return None
        if any(all(match == _NEVER for match in clause.matches) for clause in clauses):
            place.warn(f"ztunnel cannot see {words}; nothing is left that could match", _WAYPOINT)
        else:
            place.warn(f"ztunnel cannot see {words} and denies by the rest alone", _WAYPOINT)
    return Rule(tuple(clauses))


# What remains of an entry without any layer 4 content: ztunnel never matches it.
_NEVER = Match()


def _beyond_operation(operation: PolicyOperation) -> list[str]:
    attributes = {
        "hosts": operation.hosts,
        "notHosts": operation.not_hosts,
        "methods": operation.methods,
        "notMethods": operation.not_methods,
        "paths": operation.paths,
        "notPaths": operation.not_paths,
    }
    return [name for name, values in attributes.items() if values]


def _beyond_source(source: PolicySource) -> list[str]:
    attributes = {
        "remoteIpBlocks": source.remote_ip_blocks,
        "notRemoteIpBlocks": source.not_remote_ip_blocks,
        "requestPrincipals": source.request_principals,
        "notRequestPrincipals": source.not_request_principals,
        # Visible to ztunnel, but a Match has no field for it.
        "trustDomains": source.trust_domains,
        "notTrustDomains": source.not_trust_domains,
    }
    return [name for name, values in attributes.items() if values]


def _operation_match(operation: PolicyOperation, place: _Place) -> Match:
    return Match(
        destination_ports=_ports(operation.ports, place.at("ports")),
        not_destination_ports=_ports(operation.not_ports, place.at("notPorts")),
    )


def _source_match(source: PolicySource, namespace: str, place: _Place) -> Match:
    return Match(
        namespaces=_strings(source.namespaces),
        not_namespaces=_strings(source.not_namespaces),
        principals=_strings(source.principals),
        not_principals=_strings(source.not_principals),
        source_ips=_blocks(source.ip_blocks, place.at("ipBlocks")),
        not_source_ips=_blocks(source.not_ip_blocks, place.at("notIpBlocks")),
        service_accounts=_accounts(source.service_accounts, namespace),
        not_service_accounts=_accounts(source.not_service_accounts, namespace),
    )


def _condition_match(condition: PolicyCondition, place: _Place) -> Match:
    values, not_values = condition.values, condition.not_values
    match condition.key:
        case "source.namespace":
            return Match(namespaces=_strings(values), not_namespaces=_strings(not_values))
        case "source.principal":
            return Match(principals=_strings(values), not_principals=_strings(not_values))
        case "source.ip":
            return Match(
                source_ips=_blocks(values, place.at("values")),
                not_source_ips=_blocks(not_values, place.at("notValues")),
            )
        case "destination.ip":
            return Match(
                destination_ips=_blocks(values, place.at("values")),
                not_destination_ips=_blocks(not_values, place.at("notValues")),
            )
        case "destination.port":
            return Match(
                destination_ports=_ports(values, place.at("values")),
                not_destination_ports=_ports(not_values, place.at("notValues")),
            )
        case _:
            return _NEVER


def _strings(values: Iterable[str]) -> tuple[StringMatch, ...]:
    return tuple([_string(value) for value in values])


def _string(value: str) -> StringMatch:
    if value == "*":
        return StringMatch(MatchKind.PRESENCE)
    if value.startswith("*"):
        return StringMatch(MatchKind.SUFFIX, value[1:])
    if value.endswith("*"):
        return StringMatch(MatchKind.PREFIX, value[:-1])
    return StringMatch(MatchKind.EXACT, value)


def _accounts(values: Iterable[str], namespace: str) -> tuple[ServiceAccountMatch, ...]:
    """`<namespace>/<account>`, or an account of the policy's own namespace."""
    pairs = [value.split("/", 1) if "/" in value else (namespace, value) for value in values]
    return tuple([ServiceAccountMatch(owner, account) for owner, account in pairs])


def _ports(values: Iterable[str], place: _Place) -> tuple[int, ...]:
    ports = []
    for value in values:
        if value.isascii() and value.isdigit() and int(value) <= 65_535:
            ports.append(int(value))
        else:
            place.warn(f"{value!r} is no port and is left out", "write a number from 1 to 65535")
    return tuple(ports)


def _blocks(values: Iterable[str], place: _Place) -> tuple[AddressBlock, ...]:
    blocks = []
    for value in values:
        block = _block(value)
        if block is None:
            place.warn(f"{value!r} is no IP or CIDR block and is left out", "write it as 10.0.0.0/8")
        else:
            blocks.append(block)
    return tuple(blocks)


def _block(value: str) -> AddressBlock | None:
    """An IP with its full length, or a block as it stands: host bits are not cleared."""
    text, slash, bits = value.partition("/")
    address = parse_ip(text)
    if address is None or (slash and "%" in text):
        return None
    full = 8 * len(address)
    if not slash:
        return AddressBlock(address, full)
    # As Go reads it: plain digits without leading zeros.
    if not (bits.isascii() and bits.isdigit()) or (len(bits) > 1 and bits.startswith("0")):
        return None
    return AddressBlock(address, int(bits)) if int(bits) <= full else None
