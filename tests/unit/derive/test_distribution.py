"""Traffic distribution of ordinary names, exactly as istiod."""

import pytest

from peerd.derive.distribution import SAME_NODE, SAME_ZONE, distribution
from peerd.model.service import LoadBalancing


@pytest.mark.parametrize(
    ("spec", "own", "inherited", "expected"),
    [
        ("PreferSameNode", "PreferClose", "", SAME_NODE),
        ("preferclose", "", "", None),
        ("", "PREFERSAMEZONE", "", SAME_ZONE),
        ("", "", "preferSameNode", SAME_NODE),
        ("", "Any", "PreferClose", None),
        ("PreferNetwork", "", "PreferClose", SAME_ZONE),
        ("", "PreferNetwork", "", None),
    ],
)
def test_distribution_is_spec_then_annotation_then_namespace(
    spec: str, own: str, inherited: str, expected: LoadBalancing | None
) -> None:
    """The field literally, annotations in any case; an annotation that is set ends the search."""
    assert distribution(spec, own, inherited) == expected
