"""Scope labels: who wins, what opts out, what is wrong."""

import pytest

from peerd.derive.mesh import DEFAULT_SCOPE_RULES
from peerd.derive.scope import NOWHERE, Reach, problems, reach
from peerd.model.federation import FederationScope
from peerd.model.mesh import ScopeRule, Selector

SCOPE, TAKEOVER = "solo.io/service-scope", "solo.io/service-takeover"
GLOBAL = FederationScope.GLOBAL


@pytest.mark.parametrize(
    ("own", "inherited", "expected"),
    [
        ({}, {}, Reach()),
        ({SCOPE: "global"}, {}, Reach(GLOBAL)),
        ({SCOPE: "global", TAKEOVER: "true"}, {}, Reach(GLOBAL, takeover=True)),
        ({SCOPE: "global-only"}, {}, Reach(GLOBAL, takeover=True)),
        ({SCOPE: "segment"}, {}, Reach(FederationScope.SEGMENT)),
        ({SCOPE: "cluster"}, {SCOPE: "global"}, NOWHERE),
        ({SCOPE: "cluster", TAKEOVER: "true"}, {}, NOWHERE),
        ({}, {SCOPE: "global"}, Reach(GLOBAL)),
        ({SCOPE: "segment"}, {SCOPE: "global"}, Reach(FederationScope.SEGMENT)),
        ({}, {SCOPE: "global", TAKEOVER: "true"}, Reach(GLOBAL, takeover=True)),
        ({TAKEOVER: "false"}, {SCOPE: "global", TAKEOVER: "true"}, Reach(GLOBAL)),
        ({TAKEOVER: "true"}, {}, Reach(takeover=True)),
        ({SCOPE: "namespace"}, {SCOPE: "global"}, Reach(GLOBAL)),
        ({SCOPE: "namespace"}, {}, Reach()),
        ({"istio.io/global": "true"}, {}, Reach(GLOBAL, takeover=True, by_rule=True)),
        ({"istio.io/global": "true", SCOPE: "cluster"}, {}, NOWHERE),
        ({"istio.io/global": "true", SCOPE: "global"}, {}, Reach(GLOBAL)),
        ({"istio.io/global": "false"}, {}, Reach()),
    ],
)
def test_the_service_wins_over_the_namespace_and_both_over_rules(
    own: dict[str, str], inherited: dict[str, str], expected: Reach
) -> None:
    assert reach(own, inherited, DEFAULT_SCOPE_RULES) == expected


def test_any_rule_makes_global_and_a_local_one_before_it_shields_nothing() -> None:
    """wire-contract §4.4: a service is local unless some rule says GLOBAL."""
    rules = (
        ScopeRule(Selector((("team", "a"),)), Selector(), "LOCAL"),
        ScopeRule(Selector(), Selector((("x", "y"),)), "GLOBAL"),
    )
    assert reach({"x": "y"}, {}, rules).scope is GLOBAL
    assert reach({"x": "y"}, {"team": "a"}, rules).scope is GLOBAL
    assert reach({}, {"team": "a"}, rules) == Reach()
    assert reach({}, {}, rules) == Reach()


def test_unknown_words_are_named_on_the_object_that_has_them() -> None:
    (scope, takeover) = problems("Service/shop/a", {SCOPE: "namespace", TAKEOVER: "yes"})
    assert (scope.object, scope.field) == ("Service/shop/a", f"metadata.labels[{SCOPE}]")
    assert "'namespace'" in scope.message
    assert "global, global-only, segment, cluster" in scope.fix
    assert takeover.field == f"metadata.labels[{TAKEOVER}]"
    assert problems("Service/shop/a", {SCOPE: "cluster", TAKEOVER: "false"}) == ()
