"""Two clusters' peering over real sockets and mutual TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerd.model.changes import ImportChange
from peerd.model.federation import FederationScope, Freshness, RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import DELTA_METHOD, FEDERATED_SERVICE
from peerd.peering.persistence import ImportJournal
from peerd.peering.turn import TURN
from peerd.protocol.envelope import delta_request
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.peer_state import PeerState
from peerd.protocol.peer_wire import HEARTBEAT_METHOD, Hello, decode_heartbeat, encode_heartbeat
from peerd.transport.base import ClientStream, StatusCode, StreamClosed
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, renamed, service
from tests.support.stepping import SteppedTime

Pair = tuple[PeeringCluster, PeeringCluster]


@pytest.fixture
def root() -> Authority:
    return Authority("root")


@pytest.fixture
async def pair(root: Authority) -> AsyncIterator[Pair]:
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start(service("reviews", 3), service("ratings"))
    yield east, west
    await east.stop()
    await west.stop()


async def linked(pair: Pair, **fields: object):
    east, west = pair
    key = east.link(west, **fields)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE, "live")
    return east, west, key


async def test_a_dialled_peers_services_arrive_under_its_gateway(pair: Pair) -> None:
    east, west, key = await linked(pair)
    assert east.imports == {key: {s.resource_name: s for s in (service("reviews", 3), service("ratings"))}}
    assert east.row(key).counts.info == west.info
    assert east.row(key).counts.freshness is Freshness.FRESH


async def test_changes_and_removals_follow(pair: Pair) -> None:
    east, west, key = await linked(pair)
    west.service.commit([("shop/reviews", service("reviews", 9)), ("shop/ratings", None)])
    await east.until(lambda: east.imports[key] == {"shop/reviews": service("reviews", 9)})


async def test_a_change_of_peer_info_that_leaves_the_peer_who_it_is_is_an_update(pair: Pair) -> None:
    east, west, key = await linked(pair)
    west.service.commit_info(renamed(west.info, version="newer"))
    await east.until(lambda: east.row(key).counts.info.version == "newer")
    assert east.row(key).status.state is PeerState.LIVE


async def test_a_lost_peer_loses_nothing_and_a_resync_moves_nothing(pair: Pair, root: Authority) -> None:
    """West dies, comes back as a new process (another epoch) on the same address: nothing is re-sent."""
    east, west, key = await linked(pair)
    held = dict(east.imports[key])
    address = west.address
    await west.hang_up()
    await east.until(lambda: not east.row(key).connected)
    assert east.imports[key] == held
    assert east.row(key).status.last_error
    again = PeeringCluster("west", west.authority, lineage=west.lineage)
    east.changes.clear()
    again.service.commit([(s.resource_name, s) for s in held.values()])
    again.service.commit_info(again.info)
    again.service.sources_synced()
    await again.listen(address)
    try:
        await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
        assert not [change for change in east.changes if isinstance(change, ImportChange)]
        traffic = east.row(key).traffic
        assert traffic.epoch == again.epoch
        assert traffic.received_bytes <= 1024
        assert traffic.sent_bytes <= 1024
    finally:
        await again.stop()


async def test_after_changes_behind_its_back_only_the_difference_is_sent(root: Authority) -> None:
    """The version map goes, what changed comes, what is gone is swept, the rest stays unsent."""
    east = PeeringCluster("east", Authority("east", root))
    authority = Authority("west", root)
    one, two = (PeeringCluster("west", authority) for _ in range(2))
    await east.start()
    await one.start(*(service(f"s{number}") for number in range(200)))
    await two.start(*(service(f"s{number}", 2 if number == 7 else 1) for number in range(1, 200)))
    key = east.link(one)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    east.changes.clear()
    east.dialer.configure([(key, east.gateway(two, key=key))])
    await east.until(lambda: east.row(key).traffic.epoch == two.epoch and east.row(key).connected)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    moved = [change for change in east.changes if isinstance(change, ImportChange)]
    assert {(change.name, change.service) for change in moved} == {
        ("shop/s0", None),
        ("shop/s7", service("s7", 2)),
    }
    assert east.row(key).traffic.received_bytes < 2_000
    for cluster in (east, one, two):
        await cluster.stop()


async def test_a_peer_whose_sources_are_not_complete_is_never_in_sync(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start(service("reviews"), synced=False)
    key = east.link(west)
    # Heartbeats are answered, so the link is up; resources are not. Nor is it known yet who answers.
    async with asyncio.timeout(30):
        while not any(peer.last_heartbeat for peer in west.service.inbound()):  # noqa: ASYNC110 (no event)
            await asyncio.sleep(0.01)
    assert east.row(key).status.state is PeerState.SYNCING
    assert east.row(key).counts.freshness is Freshness.STALE
    assert key not in east.imports
    west.service.sources_synced()
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    await east.stop()
    await west.stop()


async def test_resources_that_cannot_be_believed_are_refused_one_by_one(pair: Pair) -> None:
    east, west, key = await linked(pair)
    west.service.commit(
        [
            ("istio-system/istiod", service("istiod", namespace="istio-system")),
            ("shop/thief", service("thief", identities=("spiffe://cluster.other/ns/a/sa/b",))),
            ("shop/alias", service("alias", aliases=("bank.shop.svc.cluster.local",))),
            ("shop/good", service("good")),
        ]
    )
    await east.until(lambda: "shop/good" in east.imports[key])
    refused = dict(east.row(key).counts.refused)
    assert set(refused) == {"istio-system/istiod", "shop/thief", "shop/alias"}
    assert "system namespace" in refused["istio-system/istiod"]
    assert "trust domain" in refused["shop/thief"]
    assert set(east.imports[key]) == {"shop/reviews", "shop/ratings", "shop/good"}
    # The server was told, by name, and the link stays up.
    for _ in range(100):
        views = {view.type_url: view for peer in west.service.inbound() for view in peer.types}
        if views[FEDERATED_SERVICE].rejections:
            break
        await asyncio.sleep(0.01)
    assert {name for name, _ in views[FEDERATED_SERVICE].rejections} == set(refused)
    assert east.row(key).status.state is PeerState.LIVE


async def test_services_of_a_segment_are_shown_to_that_segment_only(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    west.info = renamed(west.info, segment="blue", segment_domain="blue.internal")
    here = service("shared", global_host="shared.shop.blue.internal")
    secret = service("secret", global_host="secret.shop.blue.internal", scope=FederationScope.SEGMENT)
    await east.start()
    await west.start(here, secret)
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert east.imports[key] == {"shop/shared": here}
    await east.stop()
    await west.stop()


async def test_a_change_of_our_own_segment_is_told_to_peers_by_new_streams(pair: Pair) -> None:
    east, west, key = await linked(pair)
    secret = service("secret", scope=FederationScope.SEGMENT)
    west.service.commit([(secret.resource_name, secret)])
    await east.until(lambda: "shop/secret" in east.imports[key], "both are in the default segment")
    east.dialer.join("", east.info.network)
    assert east.row(key).status.state is PeerState.LIVE, "nothing changed"
    east.dialer.join("blue", east.info.network)
    await east.until(lambda: "shop/secret" not in east.imports[key], "the other segment's view")
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert "shop/reviews" in east.imports[key]
    east.dialer.join("", east.info.network)
    await east.until(lambda: "shop/secret" in east.imports[key], "back again")


async def test_a_segment_that_a_peer_of_ours_is_known_not_to_be_in_is_not_shown_to_it(pair: Pair) -> None:
    """A Hello is its sender's word: what the cluster told us on our own link counts against it (D25)."""
    east, west, key = await linked(pair)
    secret = service("secret", scope=FederationScope.SEGMENT)
    west.service.commit([(secret.resource_name, secret)])
    await east.until(lambda: "shop/secret" in east.imports[key], "nothing is known of east yet")
    gateway = ObjectKey("istio-system", "peer-east")
    west.places.put(gateway, renamed(east.info, segment="red"))
    await east.until(lambda: "shop/secret" not in east.imports[key], "the running stream ended too")
    west.places.put(ObjectKey("istio-system", "peer-north"), renamed(east.info, cluster="north"))
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert "shop/secret" not in east.imports[key]
    west.places.put(gateway, None)
    await east.until(lambda: "shop/secret" in east.imports[key], "what was known is known no more")


async def test_heartbeats_of_another_issuer_keep_no_session_alive(root: Authority) -> None:
    """Cluster and instance are anybody's to say; the certificate is not (D14)."""
    east = PeeringCluster("east", Authority("east", root))
    mallory = PeeringCluster("mallory", Authority("mallory", root))
    west = PeeringCluster("west", Authority("west", root))
    await west.start(service("reviews"))
    metadata = Hello("east", "peerd-east").metadata()
    ours, theirs = east.connect(*_target(west)), mallory.connect(*_target(west))
    data = await ours.open(DELTA_METHOD, metadata)
    await data.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
    assert await asyncio.wait_for(data.receive(), 30)
    beats = await theirs.open(HEARTBEAT_METHOD, metadata)
    await beats.send(encode_heartbeat(1))
    with pytest.raises(StreamClosed, match="certificate of another issuer") as refused:
        await asyncio.wait_for(beats.receive(), 30)
    assert refused.value.code is StatusCode.ALREADY_EXISTS
    assert west.service.inbound()[0].last_heartbeat == 0
    await ours.close()
    await theirs.close()
    await west.stop()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "elsewhere"}, "topology.istio.io/network says 'elsewhere'"),
        ({"cluster": "north"}, "topology.istio.io/cluster says 'north'"),
        ({"trust_domain": "other.domain"}, "expected spiffe://other.domain/ns/istio-system/sa/peerd"),
        ({"service_account": "istiod"}, "expected spiffe://cluster.local/ns/istio-system/sa/istiod"),
        ({"issuer": "ab" * 32}, "peering.peerd.io/issuer-sha256"),
    ],
)
async def test_a_peer_that_is_not_who_its_gateway_says_is_refused_with_the_reason(
    pair: Pair, fields: dict[str, object], words: str
) -> None:
    east, west = pair
    key = east.link(west, **fields)
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED)
    assert words in east.row(key).status.last_error
    assert not east.imports.get(key)


async def test_a_refusal_ends_when_the_gateway_is_mended(pair: Pair) -> None:
    east, west = pair
    key = east.link(west, network="elsewhere")
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED)
    east.dialer.configure([(key, east.gateway(west, key=key))])
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)


async def test_a_certificate_of_another_root_is_refused_with_the_reason(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", Authority("another root")))
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED)
    assert "certificate verify failed" in east.row(key).status.last_error
    await east.stop()
    await west.stop()


async def test_our_certificate_refused_by_the_peer_is_named_as_the_likely_cause(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", Authority("another root")))
    east.tls.material = east.authority.leaf(roots=root.pem)
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start()
    key = east.link(west)
    await east.until(lambda: "refused our certificate" in east.row(key).status.last_error)
    await east.stop()
    await west.stop()


async def test_an_identity_the_server_does_not_accept_is_told_what_it_accepts(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", root))
    east.tls.material = east.authority.leaf("spiffe://cluster.local/ns/shop/sa/reviews")
    west = PeeringCluster("west", Authority("west", root))
    await east.start()
    await west.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED)
    error = east.row(key).status.last_error
    assert (
        "cluster west refuses cluster east: spiffe://cluster.local/ns/shop/sa/reviews is not a control"
        in error
    )
    assert "accepted here: spiffe://cluster.local/ns/istio-system/sa/peerd" in error
    await east.stop()
    await west.stop()


async def test_a_gateway_that_leads_back_to_us_is_self_and_dialled_no_more(pair: Pair) -> None:
    east, _ = pair
    key = east.link(east.address)
    await east.until(lambda: east.row(key).status.state is PeerState.SELF)
    assert not east.imports.get(key)


async def test_two_clusters_of_one_name_are_refused_not_merged(root: Authority) -> None:
    east = PeeringCluster("east", Authority("east", root))
    twin = PeeringCluster("east", Authority("twin", root), lineage="another")
    await east.start()
    await twin.start(service("reviews"))
    key = east.link(twin.address)
    await east.until(lambda: east.row(key).status.state is PeerState.REFUSED)
    assert "cluster ids must be unique" in east.row(key).status.last_error
    await east.stop()
    await twin.stop()


async def test_a_graceful_shutdown_is_no_error(pair: Pair) -> None:
    east, west, key = await linked(pair)
    west.service.drain()
    await east.until(lambda: not east.row(key).connected)
    assert east.row(key).status.last_error == ""
    assert set(east.imports[key]) == {"shop/reviews", "shop/ratings"}


async def test_unlinking_withdraws_everything_and_hangs_up(pair: Pair) -> None:
    east, west, key = await linked(pair)
    east.dialer.configure([(key, None)])
    assert east.imports[key] == {}
    assert east.views[key] is None
    for _ in range(2000):
        if not west.service.inbound():
            break
        await asyncio.sleep(0.01)
    assert west.service.inbound() == ()


async def test_the_second_of_two_addresses_is_tried(pair: Pair) -> None:
    east, west = pair
    calls: list[str] = []

    def connect(host: str, port: int):
        calls.append(host)
        return east.connect(host, port if host == "127.0.0.1" else 1)

    east.dialer._connect = connect
    key = east.link(west, addresses=("127.0.0.2", "127.0.0.1"))
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert calls == ["127.0.0.2", "127.0.0.1"]


async def test_a_name_is_resolved_anew_for_each_dial(root: Authority) -> None:
    """DNS changes while the peer moves: the old address is dead, the name leads to the new one."""
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    answers = [["127.0.0.9"], ["127.0.0.1"]]

    async def resolve(name: str) -> list[str]:
        assert name == "west.example"
        return answers.pop(0) if len(answers) > 1 else answers[0]

    east.dialer._resolve = resolve
    await east.start()
    await west.start(service("reviews"))
    key = east.link(west, addresses=("west.example",))
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert east.row(key).traffic.address.startswith("127.0.0.1:")
    await east.stop()
    await west.stop()


async def test_the_newest_stream_of_an_instance_wins_and_other_instances_stand_beside(pair: Pair) -> None:
    east, west = pair
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    channel = east.connect(*_target(west))
    stream = await channel.open(DELTA_METHOD, Hello("east", "another").metadata())
    await stream.send(b"")  # no type: refused, after it was admitted
    with pytest.raises(StreamClosed):
        await stream.receive()
    assert east.row(key).status.state is PeerState.LIVE
    twin = await channel.open(DELTA_METHOD, Hello("east", "peerd-east").metadata())
    await east.until(lambda: "displaced" in east.row(key).status.last_error)
    await twin.cancel()
    await channel.close()


async def test_an_instance_is_not_displaced_by_a_certificate_of_another_issuer(
    pair: Pair, root: Authority
) -> None:
    east, west, key = await linked(pair)
    thief = PeeringCluster("east", Authority("thief", root))
    channel = thief.connect(*_target(west))
    stream = await channel.open(DELTA_METHOD, Hello("east", "peerd-east").metadata())
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.ALREADY_EXISTS
    assert east.row(key).status.state is PeerState.LIVE
    await channel.close()


async def test_versions_that_have_none_in_common_are_refused_in_words_for_both_owners(pair: Pair) -> None:
    east, west = pair
    channel = east.connect(*_target(west))
    stream = await channel.open(DELTA_METHOD, Hello("east", "x", versions=("7", "8")).metadata())
    with pytest.raises(StreamClosed) as closed:
        await stream.receive()
    assert closed.value.code is StatusCode.FAILED_PRECONDITION
    assert "cluster east speaks version 7, 8, this cluster 1" in closed.value.message
    await channel.close()


async def test_heartbeats_alone_keep_a_peer_live_for_many_times_its_silence(root: Authority) -> None:
    """Its data stream is not read in all that time, and goes on where it was; without them it ends."""
    rules, clock = HeartbeatRules(4.0, 12.0), SteppedTime()
    west = PeeringCluster("west", Authority("west", root), rules=rules, clock=clock)
    east = PeeringCluster("east", Authority("east", root))
    fat = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 50}{n}" for n in range(100))
    await west.start(*(service(f"s{number}", identities=fat) for number in range(400)))
    channel = east.connect(*_target(west))
    metadata = Hello("east", "lazy").metadata()
    stream = await channel.open(DELTA_METHOD, metadata)
    await stream.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
    beats = await channel.open(HEARTBEAT_METHOD, metadata)
    for sequence in range(1, 16):
        await beats.send(encode_heartbeat(sequence))
        assert decode_heartbeat(await beats.receive() or b"") == sequence
        await clock.advance(rules.interval)
    assert clock.monotonic() == 5 * rules.stale_after
    assert [peer.instance for peer in west.service.inbound()] == ["lazy"]
    received = 0
    while received < west.service.inbound()[0].sent_bytes:
        received += len(await stream.receive() or b"")
    assert received > 1 << 20, "more than a window"
    await clock.advance(rules.stale_after + 1)
    west.service.commit([("shop/s0", None)])  # whatever wakes the session
    with pytest.raises(StreamClosed, match="no heartbeat for"):
        await asyncio.wait_for(_to_the_end(stream), 30)
    await channel.close()
    await west.stop()
    await east.stop()


async def test_a_data_stream_that_nobody_reads_does_not_hold_up_heartbeats(root: Authority) -> None:
    """More than a stream's window of exports waits; heartbeats on the same connection are answered."""
    east = PeeringCluster("east", Authority("east", root))
    west = PeeringCluster("west", Authority("west", root))
    fat = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 50}{n}" for n in range(100))
    await west.start(*(service(f"s{number}", identities=fat) for number in range(400)))
    channel = east.connect(*_target(west))
    metadata = Hello("east", "lazy").metadata()
    data = await channel.open(DELTA_METHOD, metadata)
    await data.send(delta_request(FEDERATED_SERVICE, subscribe=("*",)))
    beats = await channel.open(HEARTBEAT_METHOD, metadata)
    for sequence in range(1, 50):
        await beats.send(encode_heartbeat(sequence))
        message = await asyncio.wait_for(beats.receive(), 30)
        assert message is not None
        assert decode_heartbeat(message) == sequence
    assert west.service.inbound()[0].last_heartbeat > 0
    await channel.close()
    await west.stop()


async def test_imports_survive_a_restart_and_are_there_before_any_peer_answers(
    root: Authority, tmp_path: Path
) -> None:
    """D13, D22: what the last process kept is the first derivation's input, and the resume is free."""
    authority = Authority("east", root)
    west = PeeringCluster("west", Authority("west", root))
    await west.start(service("reviews", 3))
    journal = ImportJournal(tmp_path / "imports")
    east = PeeringCluster("east", authority, keeper=journal)
    await east.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    await east.until(lambda: east.row(key).counts.freshness is Freshness.FRESH)
    await east.stop()
    journal.close()

    journal = ImportJournal(tmp_path / "imports")
    again = PeeringCluster("east", authority, keeper=journal)
    again.importer.restore(journal.load())
    restored = again.importer.restored_changes(again.clock.time())
    assert ImportChange(key, "shop/reviews", service("reviews", 3)) in restored
    await again.start()
    assert again.link(west) == key
    assert again.imports[key] == {"shop/reviews": service("reviews", 3)}, "before the first answer"
    assert again.importer.unsynced() == (key,)
    again.importer.settle_restored()
    await again.until(lambda: again.row(key).status.state is PeerState.LIVE)
    assert again.importer.unsynced() == ()
    assert again.row(key).traffic.received_bytes <= 1024
    await again.stop()
    await west.stop()
    journal.close()


async def test_restored_imports_of_a_gateway_that_is_gone_are_withdrawn(
    root: Authority, tmp_path: Path
) -> None:
    authority = Authority("east", root)
    west = PeeringCluster("west", Authority("west", root))
    await west.start(service("reviews", 3))
    journal = ImportJournal(tmp_path / "imports")
    east = PeeringCluster("east", authority, keeper=journal)
    await east.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    await east.stop()
    await west.stop()
    journal.close()

    journal = ImportJournal(tmp_path / "imports")
    again = PeeringCluster("east", authority, keeper=journal)
    again.importer.restore(journal.load())
    again.importer.settle_restored()
    assert ImportChange(key, "shop/reviews", None) in again.changes
    journal.close()
    journal = ImportJournal(tmp_path / "imports")
    assert journal.load() == []
    journal.close()


async def _to_the_end(stream: ClientStream) -> None:
    while await stream.receive() is not None:
        continue


def _target(cluster: PeeringCluster) -> tuple[str, int]:
    remote: RemotePeer = cluster.gateway(cluster)
    return remote.addresses[0], remote.port


async def test_of_a_peer_with_much_to_say_little_waits_for_derivation_at_a_time(root: Authority) -> None:
    """Only so many of its changes are in any batch, first sync and removals alike: others go in between."""
    handed_on: list[int] = []

    async def derived() -> None:
        handed_on.append(len(east.changes) - sum(handed_on))
        await asyncio.sleep(0)

    east = PeeringCluster("east", Authority("east", root), derived=derived)
    west = PeeringCluster("west", Authority("west", root))
    names = [f"s{number}" for number in range(1000)]
    await west.start(*(service(name) for name in names))
    await east.start()
    key = east.link(west)
    await east.until(lambda: east.row(key).status.state is PeerState.LIVE)
    assert len(east.imports[key]) == 1000
    west.service.commit([(f"shop/{name}", None) for name in names])
    await east.until(lambda: not east.imports[key])
    assert len(handed_on) >= 2 * (1000 // TURN)
    assert max(handed_on) <= TURN + 4, "and what is known of the peer itself"
    await east.stop()
    await west.stop()
