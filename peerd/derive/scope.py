"""How far a Service reaches: its labels, its Namespace's, and the mesh's rules (decision D25)."""

from collections.abc import Iterable, Mapping

from peerd.derive import labels
from peerd.derive.problems import error
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederationScope
from peerd.model.mesh import ScopeRule
from peerd.model.record import Record

SCOPE = "solo.io/service-scope"
TAKEOVER = "solo.io/service-takeover"

_GLOBAL = "global"
_GLOBAL_ONLY = "global-only"
_SEGMENT = "segment"
_CLUSTER = "cluster"
_WORDS = (_GLOBAL, _GLOBAL_ONLY, _SEGMENT, _CLUSTER)


class Reach(Record, frozen=True):
    """How far a service reaches.

    `scope` is to whom it is exported, None = to nobody. `takeover`: in this cluster its local name leads to
    every cluster's endpoints; `opted_out`: never, whoever may allow it. `by_rule`: a mesh rule says so
    (`istio.io/global=true`), not a label of `solo.io/`; its taken-over name then keeps istiod's distribution
    (decision D26).
    """

    scope: FederationScope | None = None
    takeover: bool = False
    by_rule: bool = False
    opted_out: bool = False


NOWHERE = Reach(opted_out=True)


def reach(own: Mapping[str, str], inherited: Mapping[str, str], rules: Iterable[ScopeRule] = ()) -> Reach:
    """The reach of a Service with labels *own* in a Namespace with labels *inherited*.

    The Service's labels win over the Namespace's, both over *rules*. `cluster` opts out of everything. An
    unknown word counts as not written there (`problems` tells).
    """
    takeover = _word(TAKEOVER, own, inherited) == "true"
    match _scope_word(own, inherited):
        case "cluster":
            return NOWHERE
        case "global":
            return Reach(FederationScope.GLOBAL, takeover)
        case "global-only":
            return Reach(FederationScope.GLOBAL, takeover=True)
        case "segment":
            return Reach(FederationScope.SEGMENT, takeover)
    if any(_makes_global(rule, own, inherited) for rule in rules):
        return Reach(FederationScope.GLOBAL, takeover=True, by_rule=True)
    return Reach(takeover=takeover)


def _makes_global(rule: ScopeRule, own: Mapping[str, str], inherited: Mapping[str, str]) -> bool:
    """Any rule can; LOCAL is what a service is anyway and shields it from no other rule, as in istiod."""
    return (
        rule.scope == "GLOBAL"
        and labels.matches(rule.namespaces, inherited)
        and labels.matches(rule.services, own)
    )


def _scope_word(own: Mapping[str, str], inherited: Mapping[str, str]) -> str:
    for found in (own, inherited):
        if found.get(SCOPE) in _WORDS:
            return found[SCOPE]
    return ""


def _word(label: str, own: Mapping[str, str], inherited: Mapping[str, str]) -> str:
    return own[label] if label in own else inherited.get(label, "")


def problems(where: str, found: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """What is wrong with the labels *found* of the object *where*."""
    wrong: list[Diagnostic] = []
    word = found.get(SCOPE)
    if word is not None and word not in _WORDS:
        field = f"metadata.labels[{SCOPE}]"
        wrong.append(error(where, field, f"unknown scope {word!r}", f"write one of {', '.join(_WORDS)}"))
    word = found.get(TAKEOVER)
    if word not in {None, "true", "false"}:
        field = f"metadata.labels[{TAKEOVER}]"
        wrong.append(error(where, field, f"{word!r} counts as false", "write true or false"))
    return tuple(wrong)
