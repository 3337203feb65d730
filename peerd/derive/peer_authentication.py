"""PeerAuthentication to deny policies of ztunnel (wire-contract §4.8).

ztunnel knows no mTLS modes. "Strict" is a policy that denies callers without a principal: one static policy
that strict workloads list, and one of its own for each PeerAuthentication whose ports differ from the rest.
As every DENY counts, a workload lists one or the other, never both.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

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
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.istio import MutualTls, PeerAuthentication

# Underscores keep them apart from whatever a user can name.
STATIC_STRICT = "istio_converted_static_strict"
CONVERTED_PREFIX = "converted_peer_authentication_"

_ANYBODY = (StringMatch(MatchKind.PRESENCE),)
_UNAUTHENTICATED = Clause((Match(not_principals=_ANYBODY),))


class MtlsMode(StrEnum):
    """`mtls.mode`; for ztunnel PERMISSIVE and DISABLE are the same, UNSET inherits."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


# The word as users write it; absent is UNSET.
_MODES = {"": MtlsMode.UNSET, **{mode.value: mode for mode in MtlsMode}}
_EXEMPT = (MtlsMode.PERMISSIVE, MtlsMode.DISABLE)


def static_strict_policy(root_namespace: str) -> Authorization:
    """Denies callers without a principal; sent whenever any PeerAuthentication exists."""
    return Authorization(
        STATIC_STRICT,
        root_namespace,
        PolicyScope.WORKLOAD_SELECTOR,
        Action.DENY,
        (Rule((_UNAUTHENTICATED,)),),
    )


def convert_peer_authentication(
    policy: PeerAuthentication, policies: Iterable[PeerAuthentication], root_namespace: str
) -> tuple[Authorization | None, tuple[Diagnostic, ...]]:
    """The policy that stands for *policy*'s ports, or None where the static one is enough, and its problems.

    *policies* are those of its namespace and of *root_namespace*, whose modes it may inherit. The result is
    never None where `policies_of` names it.
    """
    problems = tuple(_problems(policy, root_namespace))
    spec = policy.spec
    if policy.metadata.namespace == root_namespace or spec.selector is None:
        return None, problems
    rules = _port_rules(policy, _inherited_mode(policy.metadata.namespace, policies, root_namespace))
    if not rules:
        return None, problems
    record = Authorization(
        f"{CONVERTED_PREFIX}{policy.metadata.name}",
        policy.metadata.namespace,
        PolicyScope.WORKLOAD_SELECTOR,
        Action.DENY,
        rules,
    )
    return record, problems


def policies_of(
    namespace: str,
    labels: Mapping[str, str],
    policies: Iterable[PeerAuthentication],
    root_namespace: str,
) -> tuple[str, ...]:
    """The resource names a workload lists, from the PeerAuthentications of its namespace and the root.

    At most one: the static policy, or the converted one of the oldest policy that selects the workload.
    """
    candidates = tuple(policies)
    inherited = _inherited_mode(namespace, candidates, root_namespace)
    static = (f"{root_namespace}/{STATIC_STRICT}",)
    own = _oldest(
        policy
        for policy in candidates
        if policy.metadata.namespace == namespace != root_namespace
        and (wanted := _selector(policy))
        and wanted.items() <= labels.items()
    )
    if own is None:
        return static if inherited is MtlsMode.STRICT else ()
    mode = _mode(own.spec.mtls)
    strict = MtlsMode.STRICT in ((mode, inherited) if mode is MtlsMode.UNSET else (mode,))
    port_modes = set(_port_modes(own).values())
    converted = (f"{namespace}/{CONVERTED_PREFIX}{own.metadata.name}",)
    if not strict:
        return converted if MtlsMode.STRICT in port_modes else ()
    # With an inherited STRICT, istiod takes DISABLE on a port for no exemption (recorded).
    exempting = (MtlsMode.PERMISSIVE,) if mode is MtlsMode.UNSET else _EXEMPT
    return converted if port_modes.intersection(exempting) else static


def _port_rules(policy: PeerAuthentication, inherited: MtlsMode) -> tuple[Rule, ...]:
    mode = _mode(policy.spec.mtls)
    ports = sorted(_port_modes(policy).items())
    if (inherited if mode is MtlsMode.UNSET else mode) is not MtlsMode.STRICT:
        return tuple(
            Rule((Clause((Match(not_principals=_ANYBODY, destination_ports=(port,)),)),))
            for port, port_mode in ports
            if port_mode is MtlsMode.STRICT
        )
    exempt = [
        Clause((Match(not_destination_ports=(port,)),)) for port, port_mode in ports if port_mode in _EXEMPT
    ]
    if not exempt:
        return ()
    # The same clause twice where both levels say STRICT, as istiod has it: versions are equal then.
    own = (_UNAUTHENTICATED,) if mode is MtlsMode.STRICT else ()
    parent = (_UNAUTHENTICATED,) if inherited is MtlsMode.STRICT else ()
    return (Rule((*own, *exempt, *parent)),)


def _inherited_mode(namespace: str, policies: Iterable[PeerAuthentication], root_namespace: str) -> MtlsMode:
    """What the namespace says, else the mesh.

    In the root namespace an empty selector is one none the less: such a policy is for that namespace alone.
    """
    general = [policy for policy in policies if not _selector(policy)]
    for level in (namespace, root_namespace):
        oldest = _oldest(
            policy
            for policy in general
            if policy.metadata.namespace == level and (level == namespace or policy.spec.selector is None)
        )
        if oldest is not None and (mode := _mode(oldest.spec.mtls)) is not MtlsMode.UNSET:
            return mode
    return MtlsMode.UNSET


def _oldest(policies: Iterable[PeerAuthentication]) -> PeerAuthentication | None:
    return min(
        policies,
        key=lambda policy: (policy.metadata.creation_timestamp, policy.metadata.name),
        default=None,
    )


def _selector(policy: PeerAuthentication) -> dict[str, str]:
    return {} if policy.spec.selector is None else policy.spec.selector.match_labels


def _mode(mutual: MutualTls) -> MtlsMode:
    return _MODES.get(mutual.mode, MtlsMode.UNSET)


def _port_modes(policy: PeerAuthentication) -> dict[int, MtlsMode]:
    return {
        int(port): _mode(mutual) for port, mutual in policy.spec.port_level_mtls.items() if _is_port(port)
    }


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535


def _problems(policy: PeerAuthentication, root_namespace: str) -> Iterable[Diagnostic]:
    name = f"PeerAuthentication/{policy.key}"
    spec = policy.spec
    modes = {"spec.mtls.mode": spec.mtls.mode}
    for port, mutual in spec.port_level_mtls.items():
        field = f"spec.portLevelMtls[{port}]"
        if _is_port(port):
            modes[f"{field}.mode"] = mutual.mode
        else:
            yield Diagnostic(name, field, f"{port!r} is no port", "write a number from 1 to 65535")
    for field, word in modes.items():
        if word not in _MODES:
            yield Diagnostic(
                name, field, f"unknown mode {word!r}, read as UNSET", f"write one of {', '.join(MtlsMode)}"
            )
    if policy.metadata.namespace == root_namespace and spec.selector is not None:
        what = "selects nothing" if _selector(policy) else "selects the root namespace alone"
        yield Diagnostic(
            name,
            "spec.selector",
            f"a selector in the root namespace {what}",
            "move it to the workloads' namespace, or drop the selector to mean the whole mesh",
            Severity.WARNING,
        )
    elif spec.port_level_mtls and not _selector(policy):
        yield Diagnostic(
            name,
            "spec.portLevelMtls",
            "ports count only in a policy that selects workloads",
            "add a selector, or remove the ports",
            Severity.WARNING,
        )
