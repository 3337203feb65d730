"""What every view must come to once nothing changes any more: derivation from scratch, without any network.

Each cluster's objects give its exports, everybody's exports and the links give each cluster's resources. Of
the running peerds only their allocations are asked, for which address a host got is history.
"""

import msgspec

from peerd.app.settings import settings_of
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import encode_address
from peerd.encode.policy import encode_policy
from peerd.model.changes import Change, ImportChange, PeerChange
from peerd.model.federation import Freshness, PeerView
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION
from tests.simulation.cluster import SimCluster
from tests.simulation.replica import Replica
from tests.simulation.truth import Truth
from tests.support.ztunnel_rules import world_violations


class Oracle:
    """Of one moment of the truth; make a new one when that changes."""

    def __init__(self, clusters: dict[str, SimCluster], truth: Truth) -> None:
        self._truth = truth
        self._own = {name: _derive(each, list(each.objects.values())) for name, each in clusters.items()}
        self._made: dict[tuple[str, tuple[Change, ...]], dict[str, dict[str, str]]] = {}

    def versions(self, replica: Replica) -> dict[str, dict[str, str]]:
        """What *replica* must serve: per type, resource name -> version."""
        peerd = replica.peerd
        assert peerd is not None
        allocations = tuple(peerd._allocator.restore())
        key = replica.cluster.name, allocations
        if key not in self._made:
            self._made[key] = self._derived(replica.cluster, allocations)
        return self._made[key]

    def _derived(self, cluster: SimCluster, allocations: tuple[Change, ...]) -> dict[str, dict[str, str]]:
        changes: list[Change] = list(cluster.objects.values())
        for peer in sorted(self._truth.links[cluster.name]):
            key = gateway_key(peer)
            exports = self._own[peer]
            assert exports.info is not None
            info = msgspec.structs.replace(exports.info, lineage="any", version="any")
            changes.append(PeerChange(key, PeerView(key, info, Freshness.FRESH)))
            changes += [ImportChange(key, host, service) for host, service in exports.exports]
        changes += allocations
        commit = _derive(cluster, changes)
        broken = world_violations(
            (record for _, record in commit.addresses if record is not None),
            (policy for _, policy in commit.policies if policy is not None),
            network=commit.network,
        )
        assert broken == [], broken
        return {
            ADDRESS: {each: encode_address(record).version for each, record in commit.addresses if record},
            AUTHORIZATION: {
                each: encode_policy(policy).version for each, policy in commit.policies if policy
            },
        }


def gateway_key(peer: str) -> ObjectKey:
    """The istio-remote Gateway that leads to *peer*."""
    return ObjectKey("istio-system", f"peer-{peer}")


def _derive(cluster: SimCluster, changes: list[Change]) -> Commit:
    world = World(settings_of(cluster.replicas[0].config()))
    world.apply(changes)
    assert world.work()
    return world.commit()
