"""From the first sync to the first dial: what changes in between is not lost."""

import msgspec
import pytest

from peerd.app.federation import Federation
from peerd.app.parts import Parts
from peerd.derive.commit import Commit
from peerd.encode.peering import encode_federated_service, encode_peer_info
from peerd.model.changes import ImportChange, PeerChange
from peerd.model.config import ServeConfig
from peerd.model.federation import PeerInfo, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO
from peerd.peering.keeper import Stored
from peerd.peering.persistence import ImportJournal
from peerd.protocol.envelope import parse_delta_response
from peerd.serve.connections import ConnectionRegistry
from tests.support.delta import FakeClock
from tests.support.peering import service

WEST = RemotePeer(
    key=ObjectKey("istio-system", "peer-west"),
    cluster="west",
    network="west-net",
    addresses=("127.0.0.1",),
    port=15012,
    trust_domain="cluster.local",
    namespace="istio-system",
    service_account="peerd",
)
NAME = str(WEST.key)
REVIEWS = service("reviews", 3)


class NoSource:
    async def run(self, _sink):
        raise AssertionError("nobody reads objects here")


async def at_once():
    """Nobody derives here."""


class East:
    """A federation that has not begun to speak, over a state directory."""

    def __init__(self, state, *, peering=True):
        self.heard = []
        self.federation = Federation(
            ServeConfig(source="dir:none", state_dir=str(state), cluster_id="east", peering=peering),
            Parts(NoSource(), clock=FakeClock()),
            lineage="lineage-of-east",
            replica="replica-of-east",
            epoch="epoch",
            emit=self.heard.extend,
            derived=at_once,
            registry=ConnectionRegistry(),
        )


@pytest.fixture
async def kept(tmp_path):
    """A state directory that holds west's PeerInfo and one service."""
    journal = ImportJournal(tmp_path / "imports")
    info = encode_peer_info(PeerInfo("west", "west-net", "cluster.local", "lineage-of-west"))
    for type_url, made in ((PEER_INFO, info), (FEDERATED_SERVICE, encode_federated_service(REVIEWS))):
        (sent,) = parse_delta_response(made.frame).resources
        journal.put(Stored(WEST.key, type_url, sent.name, sent.version, sent.payload), replaces=False)
    journal.heartbeat(WEST.key, FakeClock().time())
    journal.complete(WEST.key, now=True)
    journal.close()
    return tmp_path


@pytest.fixture
async def east(tmp_path):
    east = East(tmp_path)
    east.federation.restore()
    yield east
    await east.federation.close()


async def test_a_gateway_of_the_first_derivation_is_waited_for(east):
    """D13: it has not synced, and nothing was kept of it."""
    east.federation.committed(Commit(1, peers=((NAME, WEST),)))
    assert not east.federation.unsynced()
    east.federation.follow_gateways()
    assert east.federation.unsynced()
    assert east.federation.forgotten()


async def test_a_gateway_deleted_before_the_first_dial_is_not_waited_for(east):
    """The dialler never knew it, so nobody else would withdraw it."""
    east.federation.committed(Commit(1, peers=((NAME, WEST),)))
    east.federation.follow_gateways()
    east.federation.committed(Commit(2, peers=((NAME, None),)))
    assert not east.federation.unsynced()
    assert east.heard[-1] == PeerChange(WEST.key, None)


async def test_a_gateway_added_before_the_first_dial_is_waited_for(east):
    east.federation.follow_gateways()
    east.federation.committed(Commit(2, peers=((NAME, WEST),)))
    assert east.federation.unsynced()


async def test_a_peer_that_synced_is_waited_for_until_its_word_is_served(east):
    """In between, a resuming ztunnel would be told that what the peer brings is gone (D13)."""
    seen = []

    async def served():
        seen.append((east.federation.unsynced(), bool(east.federation.forgotten())))

    east.federation.committed(Commit(1, peers=((NAME, WEST),)))
    east.federation.follow_gateways()
    await east.federation.settle(served)
    assert seen == []
    assert east.federation.unsynced()
    east.federation._importer.synced(WEST.key)
    assert east.federation.unsynced()
    await east.federation.settle(served)
    assert seen == [(True, True)]
    assert not east.federation.unsynced()
    assert not east.federation.forgotten()


async def test_a_peer_that_syncs_while_another_ones_word_is_awaited_has_its_own_turn(east):
    """What it said came too late for the wait that was under way."""
    north = msgspec.structs.replace(WEST, key=ObjectKey("istio-system", "peer-north"))
    importer = east.federation._importer

    async def served():
        importer.synced(north.key)

    async def again():
        assert east.federation.unsynced()

    east.federation.committed(Commit(1, peers=((NAME, WEST), (str(north.key), north))))
    east.federation.follow_gateways()
    importer.synced(WEST.key)
    await east.federation.settle(served)
    assert east.federation.unsynced()
    await east.federation.settle(again)
    assert not east.federation.unsynced()


async def test_what_was_kept_is_part_of_the_first_derivation(kept):
    """Before any Gateway is known; and its peer is no peer of which nothing is known (D13)."""
    east = East(kept)
    changes = east.federation.restore()
    assert ImportChange(WEST.key, REVIEWS.resource_name, REVIEWS) in changes
    east.federation.committed(Commit(1, peers=((NAME, WEST),)))
    east.federation.follow_gateways()
    assert east.federation.unsynced()
    assert not east.federation.forgotten()
    assert [each for each in east.heard if each == ImportChange(WEST.key, "shop/reviews", None)] == []
    await east.federation.close()


async def test_what_was_kept_and_does_not_fit_an_edited_gateway_is_taken_back_and_counts_as_forgotten(kept):
    """Its names are then withheld from ztunnels that hold them, until it has spoken (D13)."""
    east = East(kept)
    east.federation.restore()
    edited = msgspec.structs.replace(WEST, network="another")
    east.federation.committed(Commit(1, peers=((NAME, edited),)))
    east.federation.follow_gateways()
    assert ImportChange(WEST.key, "shop/reviews", None) in east.heard
    assert east.federation.unsynced()
    assert east.federation.forgotten()
    await east.federation.close()


async def test_what_was_kept_of_a_gateway_that_is_gone_is_withdrawn_before_anybody_is_served(kept):
    """And is not there at the next start."""
    east = East(kept)
    east.federation.restore()
    east.federation.committed(Commit(1))
    east.federation.follow_gateways()
    assert east.heard == [ImportChange(WEST.key, "shop/reviews", None), PeerChange(WEST.key, None)]
    await east.federation.close()
    again = East(kept)
    assert again.federation.restore() == []
    await again.federation.close()


async def test_without_peering_nobody_is_waited_for(tmp_path):
    """Gateways are derived, and that is all."""
    east = East(tmp_path, peering=False)
    assert east.federation.restore() == []
    east.federation.committed(Commit(1, peers=((NAME, WEST),)))
    east.federation.follow_gateways()
    east.federation.committed(Commit(2, peers=((NAME, WEST),)))
    assert not east.federation.unsynced()
    assert east.heard == []
    await east.federation.close()


async def test_what_the_cluster_says_of_itself_carries_its_lineage(east):
    """Derivation does not know it; a later revision without a change keeps it."""
    east.federation.committed(Commit(1, info=PeerInfo("east", "east-net", "cluster.local", "")))
    east.federation.committed(Commit(2))
    assert east.federation.info is not None
    assert east.federation.info.lineage == "lineage-of-east"
    assert east.federation.domains() == {"mesh.internal"}


async def test_what_a_gateways_peer_says_of_its_segment_is_held_against_streams_that_say_otherwise(kept):
    """From what was kept on, until the Gateway is gone (D25)."""
    east = East(kept)
    east.federation.restore()
    segments = east.federation._places
    assert segments.in_segment("west", "")
    assert not segments.in_segment("west", "blue")
    assert segments.in_segment("north", "blue")
    east.federation.committed(Commit(1))
    east.federation.follow_gateways()
    assert segments.in_segment("west", "blue")
    await east.federation.close()
