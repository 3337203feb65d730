"""The resources of which peerd reads or writes single objects: one table. manifests/ has the rights for them.

Kinds that are followed are described in `peerd.model.kube.kinds`; the others only here.
"""

from peerd.kubeapi.objects import Resource
from peerd.model.kube import kinds


def resource_of(kind: kinds.Kind, version: str = "") -> Resource:
    """A kind that is followed, in *version*, or by default in the best of those that are served."""
    return Resource(kind.group, version or kind.versions[0], kind.plural, kind.name, kind.namespaced)


POD = resource_of(kinds.POD)
SERVICE = resource_of(kinds.SERVICE)
CONFIG_MAP = resource_of(kinds.CONFIG_MAP)
GATEWAY = resource_of(kinds.GATEWAY)
GATEWAY_CLASS = resource_of(kinds.GATEWAY_CLASS)
SERVICE_ENTRY = resource_of(kinds.SERVICE_ENTRY)
WORKLOAD_ENTRY = resource_of(kinds.WORKLOAD_ENTRY)

SECRET = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENT = Resource("", "v1", "events", "Event")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
DISRUPTION_BUDGET = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALER = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DEFINITION = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
