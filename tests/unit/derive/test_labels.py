"""Selectors, revisions and canonical names."""

import pytest

from peerd.derive import labels
from peerd.model.mesh import LabelRequirement, Selector


@pytest.mark.parametrize(
    ("found", "name", "revision"),
    [
        ({}, "own", "latest"),
        ({"app": "a", "version": "v1"}, "a", "v1"),
        ({"app": "a", "app.kubernetes.io/name": "b", "app.kubernetes.io/version": "2"}, "b", "2"),
        (
            {
                "app.kubernetes.io/name": "b",
                "service.istio.io/canonical-name": "c",
                "service.istio.io/canonical-revision": "r",
                "version": "v1",
            },
            "c",
            "r",
        ),
        ({"app": ""}, "", "latest"),
    ],
)
def test_canonical_name_and_revision_are_the_first_label_there_is(
    found: dict[str, str], name: str, revision: str
) -> None:
    """Istio's own label, Kubernetes' recommended one, the old habit, the workload (wire-contract §4.2)."""
    assert labels.canonical_name(found, "own") == name
    assert labels.canonical_revision(found) == revision


@pytest.mark.parametrize(
    ("operator", "values", "missing", "equal", "other"),
    [
        ("In", ("x",), False, True, False),
        ("NotIn", ("x",), True, False, True),
        ("Exists", (), False, True, True),
        ("DoesNotExist", (), True, False, False),
        ("Matches", ("x",), False, False, False),
    ],
)
def test_expressions_mean_what_kubernetes_means(
    operator: str, values: tuple[str, ...], missing: bool, equal: bool, other: bool
) -> None:
    """NotIn holds for a missing label too; an unknown operator holds for nothing."""
    selector = Selector(expressions=(LabelRequirement("k", operator, values),))
    assert labels.matches(selector, {}) is missing
    assert labels.matches(selector, {"k": "x"}) is equal
    assert labels.matches(selector, {"k": "y"}) is other


def test_the_empty_selector_matches_everything() -> None:
    """And labels and expressions must all hold."""
    assert labels.matches(Selector(), {})
    both = Selector((("a", "b"),), (LabelRequirement("k", "Exists"),))
    assert not labels.matches(both, {"a": "b"})
    assert labels.matches(both, {"a": "b", "k": ""})


@pytest.mark.parametrize(
    ("found", "revision", "ours"),
    [
        ({}, "r1", True),
        ({"istio.io/rev": "r1"}, "r1", True),
        ({"istio.io/rev": "r2"}, "r1", False),
        ({"istio.io/rev": "default"}, "", True),
        ({"istio.io/rev": "r1"}, "", True),
    ],
)
def test_an_object_is_ours_by_its_revision_or_without_one(
    found: dict[str, str], revision: str, ours: bool
) -> None:
    """No revision of our own is `default` (wire-contract §4.1)."""
    assert labels.in_revision(found, revision) is ours
