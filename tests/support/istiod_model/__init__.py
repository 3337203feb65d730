"""What an unmodified istiod makes of the objects of one cluster: a model of its reading, as a test oracle.

Written from wire-contract §4 and what was measured of istiod (docs/beside-istiod.md);
tests/unit/support/test_istiod_model.py holds it against recordings of a real one. It covers what global
services need: Services, ServiceEntries, Pods, WorkloadEntries, inline endpoints, waypoints of services, and
gateways of other networks. Policies, slices and DNS endpoints are not in it. What its webhook refuses is in
tests/support/istiod_webhook.py.
"""

from collections.abc import Iterable

from peerd.model.kube.meta import KubeObject
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.istiod_model.definitions import served
from tests.support.istiod_model.networks import Networks
from tests.support.istiod_model.objects import Held
from tests.support.istiod_model.waypoints import Waypoints
from tests.support.istiod_model.workloads import Flags, Workloads

__all__ = ["Flags", "istiod"]


def istiod(
    objects: Iterable[KubeObject],
    flags: Flags | None = None,
    *,
    cluster: str = "Kubernetes",
    system: str = "istio-system",
    domain: str = "cluster.local",
) -> dict[str, Service | Workload]:
    """What istiod tells a ztunnel of *cluster*, by resource name."""
    held = Held(tuple(objects), system)
    definitions = served(held, Waypoints(held), domain)
    networks = Networks(held)
    found: dict[str, Service | Workload] = {each.service.resource_name: each.service for each in definitions}
    for workload in Workloads(held, definitions, networks, flags or Flags(), cluster).all():
        found[workload.uid] = workload
    for workload in networks.workloads():
        found[workload.uid] = workload
    return found
