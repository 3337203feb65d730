"""Namespaces: what their labels and annotations give to the objects inside."""

from peerd.model.kube.core import Namespace
from peerd.model.record import Record


class NamespaceFacts(Record, frozen=True):
    """The part of a Namespace that derivation reads."""

    name: str
    labels: dict[str, str]
    traffic_distribution: str = ""
    canary_weight: str = ""
    ends: bool = False  # it is being deleted, and takes no new objects


def namespace_facts(namespace: Namespace) -> NamespaceFacts:
    """Labels bind waypoints and networks, two annotations are inherited (wire-contract §4.4, §4.5)."""
    meta = namespace.metadata
    return NamespaceFacts(
        name=meta.name,
        labels=meta.labels,
        traffic_distribution=meta.annotations.traffic_distribution,
        canary_weight=meta.annotations.waypoint_canary_weight,
        ends=bool(meta.deletion_timestamp),
    )
