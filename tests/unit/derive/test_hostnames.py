"""One host name, several definitions."""

import pytest

from peerd.derive.hostnames import winners
from peerd.derive.services import SERVICE, SERVICE_ENTRY, ServiceInfo
from peerd.model.kube.meta import ObjectKey
from peerd.model.service import Service, Visibility


def info(
    namespace: str, name: str, created: str, source: str = SERVICE_ENTRY, hidden: bool = False
) -> ServiceInfo:
    visibility = Visibility.NAMESPACE if hidden else Visibility.PUBLIC
    service = Service(name, namespace, "h", canonical=source == SERVICE, visibility=visibility)
    return ServiceInfo(service, source, ObjectKey(namespace, name), created)


A, B, C = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"


@pytest.mark.parametrize(
    ("infos", "served", "canonical"),
    [
        ([info("x", "young", B), info("x", "old", A)], {"x/old"}, {"x/old"}),
        ([info("x", "entry", A), info("x", "s", B, SERVICE)], {"x/s"}, {"x/s"}),
        ([info("x", "s", C, SERVICE), info("y", "entry", A)], {"x/s", "y/entry"}, {"x/s"}),
        ([info("x", "a", B), info("y", "b", A)], {"x/a", "y/b"}, {"y/b"}),
        ([info("x", "a", B), info("y", "b", A, hidden=True)], {"x/a", "y/b"}, {"x/a"}),
        ([info("x", "a", A, hidden=True)], {"x/a"}, set()),
        ([info("y", "b", A), info("x", "a", A)], {"x/a", "y/b"}, {"x/a"}),
        ([info("x", "b", A), info("x", "a", A)], {"x/a"}, {"x/a"}),
    ],
)
def test_a_service_wins_then_age_then_name(
    infos: list[ServiceInfo], served: set[str], canonical: set[str]
) -> None:
    """One for each namespace, and one canonical among those that others may see (wire-contract §4.4)."""
    for order in (infos, infos[::-1]):
        found = winners(tuple(order)).values()
        assert {str(entry.object) for entry in found} == served
        assert {str(entry.object) for entry in found if entry.service.canonical} == canonical
