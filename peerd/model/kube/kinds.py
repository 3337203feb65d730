"""The kinds peerd reads: one table for sources, RBAC and documentation."""

from peerd.model.kube import core, gateway, istio
from peerd.model.kube.meta import KubeObject
from peerd.model.record import Record


class Kind(Record, frozen=True):
    """One kind of the API. `versions` are those served in practice, best first; their used fields agree."""

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    namespaced: bool
    type: type[KubeObject]


NAMESPACE = Kind("Namespace", "", ("v1",), "namespaces", False, core.Namespace)
NODE = Kind("Node", "", ("v1",), "nodes", False, core.Node)
CONFIG_MAP = Kind("ConfigMap", "", ("v1",), "configmaps", True, core.ConfigMap)
POD = Kind("Pod", "", ("v1",), "pods", True, core.Pod)
SERVICE = Kind("Service", "", ("v1",), "services", True, core.Service)
ENDPOINT_SLICE = Kind(
    "EndpointSlice", "discovery.k8s.io", ("v1",), "endpointslices", True, core.EndpointSlice
)
GATEWAY = Kind("Gateway", "gateway.networking.k8s.io", ("v1", "v1beta1"), "gateways", True, gateway.Gateway)
GATEWAY_CLASS = Kind(
    "GatewayClass",
    "gateway.networking.k8s.io",
    ("v1", "v1beta1"),
    "gatewayclasses",
    False,
    gateway.GatewayClass,
)
SERVICE_ENTRY = Kind(
    "ServiceEntry",
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "serviceentries",
    True,
    istio.ServiceEntry,
)
WORKLOAD_ENTRY = Kind(
    "WorkloadEntry",
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "workloadentries",
    True,
    istio.WorkloadEntry,
)
AUTHORIZATION_POLICY = Kind(
    "AuthorizationPolicy",
    "security.istio.io",
    ("v1", "v1beta1"),
    "authorizationpolicies",
    True,
    istio.AuthorizationPolicy,
)
PEER_AUTHENTICATION = Kind(
    "PeerAuthentication",
    "security.istio.io",
    ("v1", "v1beta1"),
    "peerauthentications",
    True,
    istio.PeerAuthentication,
)
SEGMENT = Kind("Segment", "admin.solo.io", ("v1alpha1",), "segments", True, istio.Segment)

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    CONFIG_MAP,
    POD,
    SERVICE,
    ENDPOINT_SLICE,
    GATEWAY,
    GATEWAY_CLASS,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    AUTHORIZATION_POLICY,
    PEER_AUTHENTICATION,
    SEGMENT,
)
KINDS_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}


def kind_of(api_version: str, name: str) -> Kind | None:
    """The kind of an object's `apiVersion` and `kind`, or None where peerd does not read it."""
    group, _, version = api_version.rpartition("/")
    kind = KINDS_BY_NAME.get(name)
    return kind if kind is not None and kind.group == group and version in kind.versions else None
