"""The table of dialled peers: one link at a time writes a row."""

import pytest

from peerd.model.federation import RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.peering.importer import Importer
from peerd.peering.peers import PeerTable, PeerTraffic
from peerd.peering.validation import LocalCluster
from peerd.protocol.peer_state import PeerEvent, PeerState

KEY = ObjectKey("istio-system", "west")
REMOTE = RemotePeer(KEY, "west", "net", ("192.0.2.1",), 15012, "cluster.local", "istio-system", "peerd")


class Stopped:
    def time(self) -> float:
        return 7.0

    def monotonic(self) -> float:
        return 7.0


@pytest.fixture
def table() -> PeerTable:
    importer = Importer(LocalCluster("east", "istio-system", "lineage"), lambda _changes: None)
    importer.configure(KEY, REMOTE, 7.0)
    table = PeerTable(importer, Stopped())
    table.put(REMOTE)
    return table


def test_a_link_writes_the_row_of_its_gateway(table: PeerTable) -> None:
    entry = table.entry(KEY)
    entry.fire(PeerEvent.OPENED)
    entry.traffic(PeerTraffic("192.0.2.1:15012", 5))
    entry.attempt(3, 9.0)
    (row,) = table.snapshot()
    assert (row.status.state, row.traffic.received_bytes) == (PeerState.SYNCING, 5)
    assert (row.attempts, row.next_attempt) == (3, 9.0)


@pytest.mark.parametrize("how", ["another link", "leave", "drop", "drop and put"])
def test_what_an_earlier_link_still_says_is_dropped(table: PeerTable, how: str) -> None:
    """A cancelled link ends after its Gateway's edit or deletion, and says its last word then."""
    entry = table.entry(KEY)
    if how == "another link":
        table.entry(KEY)
    elif how == "leave":
        table.leave(KEY)
    else:
        table.drop(KEY)
        if how == "drop and put":
            table.put(REMOTE)
    before = table.snapshot()
    entry.fire(PeerEvent.OPENED)
    entry.traffic(PeerTraffic("192.0.2.9:15012", 5))
    entry.attempt(3, 9.0)
    assert table.snapshot() == before


def test_a_new_link_starts_with_figures_of_its_own(table: PeerTable) -> None:
    table.entry(KEY).traffic(PeerTraffic("192.0.2.1:15012", 5))
    table.entry(KEY)
    assert table.snapshot()[0].traffic == PeerTraffic()
