"""What a reconnect with nothing changed costs: to the same replica, another one, a restarted one.

At most 1 KiB of gRPC message bytes each way, counted by both ends' sessions, whatever the number of services.
"""

import pytest

from peerd.model.changes import ImportChange
from peerd.protocol.peer_state import PeerState
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, renamed, service

LIMIT = 1024
MARGIN = 64  # what is added later must fit too, with the longest names


def west(name: str, authority: Authority, instance: str) -> PeeringCluster:
    """A replica, or a process, of one cluster: they have the lineage in common and nothing else."""
    made = PeeringCluster(name, authority, instance=instance)
    made.info = renamed(made.info, version="v" * 40 if len(name) == 63 else made.info.version)
    return made


@pytest.mark.parametrize("services", [10, 10_000])
@pytest.mark.parametrize("names", ["usual", "longest"])
async def test_a_reconnect_with_nothing_changed_costs_a_kibibyte_each_way(names: str, services: int) -> None:
    """Names of clusters have 63 characters at most, and each goes over the wire more than once."""
    longest = names == "longest"
    root = Authority("root")
    name = "w" * 63 if longest else "west"
    authority = Authority(name, root)
    east = PeeringCluster("e" * 63 if longest else "east", Authority("east", root), instance="peerd-0123abcd")
    one, two, again = (west(name, authority, f"peerd-0000000{number}") for number in range(3))
    exports = [service(f"s{number}", 3) for number in range(services)]
    await east.start()
    for replica in (one, two):
        await replica.start(*exports)
    key = east.link(one)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE, "the first sync", 60)
    assert len(east.imports[key]) == services
    east.changes.clear()
    costs: dict[str, tuple[int, int]] = {}

    async def reconnected(how: str, to: PeeringCluster) -> None:
        await east.until(lambda: east.row(key).traffic.epoch == to.epoch, how, 30)
        await east.until(lambda: east.row(key).status.state is PeerState.LIVE, how, 30)
        traffic = east.row(key).traffic
        costs[how] = traffic.received_bytes, traffic.sent_bytes

    await one.hang_up()
    await east.until(lambda: not east.row(key).connected)
    await one.listen(one.address)
    await reconnected("the same replica", one)

    east.dialer.configure([(key, east.gateway(two, key=key))])
    await reconnected("another replica", two)

    await two.hang_up()
    await east.until(lambda: not east.row(key).connected)
    again.service.commit([(each.resource_name, each) for each in exports])
    again.service.commit_info(again.info)
    again.service.sources_synced()
    await again.listen(two.address)
    await reconnected("its restart", again)

    most = LIMIT - MARGIN if longest else LIMIT
    assert list(costs) == ["the same replica", "another replica", "its restart"]
    assert all(max(each) <= most for each in costs.values()), costs
    assert not [change for change in east.changes if isinstance(change, ImportChange)]
    for cluster in (east, one, two, again):
        await cluster.stop()
