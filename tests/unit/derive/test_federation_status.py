"""What people are told of a global name: who serves it, what is outside the mesh, and nothing that churns."""

from typing import Any

from peerd.derive.commit import Commit
from peerd.limits import STATUS_NAMES
from peerd.model.changes import Change, ObjectChange
from peerd.model.federation import FederatedName
from peerd.model.generated import Generate
from peerd.model.kube.meta import ObjectKey
from tests.support.clusters import Cluster, gone, pod, remote_gateway, service, system

NAME = "shop/reviews.shop.mesh.internal"
GLOBAL = {"solo.io/service-scope": "global"}


class Watched(Cluster):
    """A cluster that also keeps its commits' status of names."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.names: dict[str, FederatedName] = {}
        super().__init__(*args, generate=Generate.STANDALONE, **settings)

    def _derive(self, changes: list[Change]) -> None:
        commit = self.world.commit
        told: list[Commit] = []
        self.world.commit = lambda: told.append(commit()) or told[0]  # type: ignore[method-assign]
        super()._derive(changes)
        self.world.commit = commit  # type: ignore[method-assign]
        for name, found in told[0].federation:
            if found is None:
                del self.names[name]
            else:
                self.names[name] = found


def exporter(cluster: str, *more: Change) -> Cluster:
    return Cluster(cluster, [system(cluster), service("reviews", GLOBAL), *more])


def test_our_own_export_and_peers_are_named() -> None:
    """By cluster, ours apart; what is withdrawn is named no more."""
    east = Watched("east", [system("east"), service("reviews", GLOBAL), remote_gateway("west", "west")])
    assert east.names == {NAME: FederatedName("shop/reviews", "reviews.shop.mesh.internal", True, (), 0)}
    east.pull("west", exporter("west"))
    assert east.names[NAME].clusters == ("west",)
    east.apply([gone("Service", "shop", "reviews")])
    assert (east.names[NAME].own, east.names[NAME].clusters) == (False, ("west",))
    east.apply([gone("Gateway", "istio-system", "west")])
    assert east.names == {}


def test_many_clusters_are_counted() -> None:
    """STATUS_NAMES are named, by name; the rest shows in the number."""
    count = STATUS_NAMES.value + 5
    gateways = [remote_gateway(f"c{i:02}", f"c{i:02}", f"198.51.100.{i}") for i in range(1, count + 1)]
    east = Watched("east", [system("east"), *gateways])
    for i in range(1, count + 1):
        east.pull(f"c{i:02}", exporter(f"c{i:02}"))
    assert east.names[NAME].others == count
    assert east.names[NAME].clusters == tuple(f"c{i:02}" for i in range(1, STATUS_NAMES.value + 1))


def test_workloads_outside_the_mesh_are_named_by_what_made_them() -> None:
    """Their replaced Pods change nothing, nor do any others (D27): the status must not churn."""
    inside = [pod(f"in-{i}", "reviews", f"10.5.0.{i + 1}") for i in range(3)]
    outside = [pod(f"out-{i}", "reviews", f"10.5.1.{i + 1}", ambient=False) for i in range(3)]
    east = Watched("east", [system("east"), service("reviews", GLOBAL), *inside, *outside])
    named = east.names[NAME].outside
    assert named
    east.names.clear()  # only what changes is told again
    for i in range(1, 3):
        east.apply([gone("Pod", "shop", f"in-{i}"), pod(f"in-{i}x", "reviews", f"10.6.0.{i + 1}")])
    assert east.names == {}
    east.apply([gone("Pod", "shop", f"out-{i}") for i in range(3)])
    assert east.names[NAME].outside == ()


def test_without_a_cluster_to_write_to_nothing_of_it_is_derived() -> None:
    """A directory as the source has no status to show."""
    east = Cluster("east", [system("east")])
    east.world.apply([service("reviews", GLOBAL)])
    assert east.world.work()
    assert east.world.commit().federation == ()


def test_ways_into_other_networks_are_told() -> None:
    """Whoever probes them needs address, port and identity."""
    east = Cluster("east", [system("east")])
    east.world.apply([remote_gateway("west", "west", "198.51.100.20")])
    assert east.world.work()
    ((key, way),) = east.world.commit().ways
    assert key == ("istio-system", "west", 0)
    assert way is not None
    assert (way.value, way.address.hbone_mtls_port, way.gateway) == (
        "198.51.100.20",
        15008,
        ObjectKey("istio-system", "west"),
    )
    east.world.apply([ObjectChange("Gateway", ObjectKey("istio-system", "west"), None)])
    assert east.world.work()
    assert east.world.commit().ways == ((key, None),)
