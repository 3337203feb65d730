"""What every view must come to once nothing changes any more: derivation from scratch, without any network.

Each cluster's objects give its exports, everybody's exports and the links give each cluster's resources. Of
the running peerds only their allocations are asked, for which address a host got is history.
"""

import msgspec

from peerd.app.settings import settings_of
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import encode_address
from peerd.encode.envoy import encode_cluster, encode_endpoints
from peerd.encode.envoy_listeners import encode_listener, encode_route
from peerd.encode.policy import encode_policy
from peerd.model.changes import Change, ImportChange, ImportedWorkloadChange, PeerChange
from peerd.model.federation import FederationScope, Freshness, PeerView
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION, CLUSTER, ENDPOINT, LISTENER, ROUTE
from peerd.model.workload import Workload
from tests.simulation.cluster import SimCluster
from tests.simulation.replica import Replica
from tests.simulation.truth import Truth
from tests.support.ztunnel_rules import world_violations

_Allocated = tuple[Change, ...]


class Oracle:
    """Of one moment of the truth; make a new one when that changes."""

    def __init__(self, clusters: dict[str, SimCluster], truth: Truth) -> None:
        self._clusters = clusters
        self._truth = truth
        self._own = {name: _derive(each, list(each.objects.values())) for name, each in clusters.items()}
        self._flat: dict[tuple[str, _Allocated], Commit] = {}
        self._made: dict[tuple[str, tuple[_Allocated, ...]], dict[str, dict[str, str]]] = {}

    def versions(self, replica: Replica) -> dict[str, dict[str, str]]:
        """What *replica* must serve: per type, resource name -> version."""
        name = replica.cluster.name
        flat = {peer: _allocated(self._clusters[peer].replicas[0]) for peer in self._neighbours(name)}
        key = name, (_allocated(replica), *flat.values())
        if key not in self._made:
            self._made[key] = self._derived(replica.cluster, _allocated(replica), flat)
        return self._made[key]

    def _neighbours(self, name: str) -> list[str]:
        """Linked clusters on its network that are not too old: they tell it of their Pods (decision D31)."""
        clusters, here = self._clusters, self._clusters[name].network
        peers = sorted(self._truth.links[name])
        return [peer for peer in peers if clusters[peer].network == here and not clusters[peer].older]

    def _pods(
        self, peer: str, allocated: _Allocated, *, near: bool
    ) -> tuple[tuple[str, Workload | None], ...]:
        """What a cluster tells of them: Pods join a global name once that has an address."""
        if (peer, allocated) not in self._flat:
            cluster = self._clusters[peer]
            self._flat[peer, allocated] = _derive(cluster, [*cluster.objects.values(), *allocated])
        commit = self._flat[peer, allocated]
        return commit.segment_flat_exports if near else commit.flat_exports

    def _derived(
        self, cluster: SimCluster, allocated: _Allocated, flat: dict[str, _Allocated]
    ) -> dict[str, dict[str, str]]:
        changes: list[Change] = list(cluster.objects.values())
        for peer in sorted(self._truth.links[cluster.name]):
            key = gateway_key(peer)
            exports = self._own[peer]
            assert exports.info is not None
            info = msgspec.structs.replace(exports.info, lineage="any", version="any")
            changes.append(PeerChange(key, PeerView(key, info, Freshness.FRESH)))
            near = self._truth.segments[peer] == self._truth.segments[cluster.name]
            changes += [
                ImportChange(key, host, service)
                for host, service in exports.exports
                if near or (service is not None and service.scope is FederationScope.GLOBAL)
            ]
            if peer in flat:
                pods = self._pods(peer, flat[peer], near=near)
                changes += [ImportedWorkloadChange(key, uid, found) for uid, found in pods]
        changes += allocated
        commit = _derive(cluster, changes)
        broken = world_violations(
            (record for _, record in commit.addresses if record is not None),
            (policy for _, policy in commit.policies if policy is not None),
            network=commit.network,
        )
        assert broken == [], broken
        made = {
            ADDRESS: {each: encode_address(record).version for each, record in commit.addresses if record},
            AUTHORIZATION: {
                each: encode_policy(policy).version for each, policy in commit.policies if policy
            },
        }
        return made | _for_gateways(commit) if cluster.gateway else made


def gateway_key(peer: str) -> ObjectKey:
    """The istio-remote Gateway that leads to *peer*."""
    return ObjectKey("istio-system", f"peer-{peer}")


def _for_gateways(commit: Commit) -> dict[str, dict[str, str]]:
    route = encode_route()
    return {
        CLUSTER: {name: encode_cluster(each).version for name, each in commit.gateway_clusters if each},
        ENDPOINT: {name: encode_endpoints(each).version for name, each in commit.gateway_endpoints if each},
        LISTENER: {name: encode_listener(each).version for name, each in commit.gateway_listeners if each},
        ROUTE: {route.name: route.version},
    }


def _allocated(replica: Replica) -> _Allocated:
    return () if replica.peerd is None else tuple(replica.peerd._allocator.restore())


def _derive(cluster: SimCluster, changes: list[Change]) -> Commit:
    world = World(settings_of(cluster.replicas[0].config()))
    world.apply(changes)
    assert world.work()
    return world.commit()
