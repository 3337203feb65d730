"""Labels that derivation reads, and how label selectors match."""

from collections.abc import Iterable, Mapping, Sequence

from peerd.model.mesh import LabelRequirement, Selector

NETWORK = "topology.istio.io/network"
CLUSTER = "topology.istio.io/cluster"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
SUBZONE = "topology.istio.io/subzone"
REVISION = "istio.io/rev"
TUNNEL = "networking.istio.io/tunnel"
AUTO_ALLOCATE = "networking.istio.io/enable-autoallocate-ip"
WORKLOAD_NAME = "service.istio.io/workload-name"
USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
CANARY = "istio.io/use-waypoint-canary"
CANARY_NAMESPACE = "istio.io/use-waypoint-canary-namespace"
WAYPOINT_FOR = "istio.io/waypoint-for"
INGRESS_USE_WAYPOINT = "istio.io/ingress-use-waypoint"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
GATEWAY_MANAGED = "gateway.istio.io/managed"
EXPOSE_ISTIOD = "istio.io/expose-istiod"
SLICE_SERVICE = "kubernetes.io/service-name"
SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

_CANONICAL_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_CANONICAL_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")

# A label map as a hashable value: pairs sorted by key.
Labels = tuple[tuple[str, str], ...]


def freeze(labels: Mapping[str, str]) -> Labels:
    """A label map as sorted pairs."""
    return tuple(sorted(labels.items()))


def labelled_name(labels: Mapping[str, str]) -> str | None:
    """The first of three labels that is there, even if empty; None where there is none."""
    return _first(labels, _CANONICAL_NAME)


def canonical_name(labels: Mapping[str, str], workload_name: str) -> str:
    """The first of three labels, else the workload's name (wire-contract §4.2)."""
    name = labelled_name(labels)
    return workload_name if name is None else name


def canonical_revision(labels: Mapping[str, str]) -> str:
    """The first of three labels, else `latest` (wire-contract §4.2)."""
    revision = _first(labels, _CANONICAL_REVISION)
    return "latest" if revision is None else revision


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    for name in names:
        if name in labels:
            return labels[name]
    return None


def speaks_hbone_itself(labels: Mapping[str, str]) -> bool:
    """Whether the tunnel label lists `http`: sidecars, gateways, waypoints (wire-contract §4.2)."""
    return "http" in labels.get(TUNNEL, "").split(",")


def in_revision(labels: Mapping[str, str], revision: str) -> bool:
    """Whether an object is ours: `istio.io/rev` is our revision or unset (wire-contract §4.1).

    Without a revision of our own every object is, as for an istiod that was given none.
    """
    return not revision or labels.get(REVISION, revision) == revision


def contains(labels: Mapping[str, str], selector: Iterable[tuple[str, str]]) -> bool:
    """Whether *labels* hold all pairs of *selector*; an empty selector is contained in anything."""
    return all(labels.get(key) == value for key, value in selector)


def anchor(selector: Labels) -> tuple[str, str]:
    """The one pair of a non-empty selector under which it is indexed: a match needs at least this pair.

    The largest pair: names of applications tell more apart than a `app.kubernetes.io/...` prefix.
    """
    return selector[-1]


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a full label selector matches; the empty one matches everything (Kubernetes semantics)."""
    return contains(labels, selector.labels) and all(
        _meets(requirement, labels) for requirement in selector.expressions
    )


def _meets(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def is_true(value: str) -> bool:
    """What Go's ParseBool takes for true; Istio reads its boolean labels with it."""
    return value in {"1", "t", "T", "TRUE", "true", "True"}
