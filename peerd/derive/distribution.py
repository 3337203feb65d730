"""Traffic distribution: how endpoints are ranked (wire-contract §4.4)."""

from peerd.model.service import LoadBalancing, Mode, Scope

SAME_ZONE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE), Mode.FAILOVER)
SAME_NODE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE), Mode.FAILOVER)
LOCAL_NODE = LoadBalancing((Scope.NODE,), Mode.STRICT)

# What istiod knows, and no more: PreferNetwork, PreferRegion, Any and typing errors are unset (decision D26).
_ORDINARY = {"preferclose": SAME_ZONE, "prefersamezone": SAME_ZONE, "prefersamenode": SAME_NODE}
_SPEC = {"PreferClose": SAME_ZONE, "PreferSameZone": SAME_ZONE, "PreferSameNode": SAME_NODE}


def distribution(spec: str, annotation: str, inherited: str = "") -> LoadBalancing | None:
    """Ranking of an ordinary name: `spec.trafficDistribution`, else the annotation, else the namespace's.

    The field is taken literally, annotations whatever their case. An annotation that is set ends the
    search, also with a word that means nothing.
    """
    if spec in _SPEC:
        return _SPEC[spec]
    return _ORDINARY.get((annotation or inherited).lower())
