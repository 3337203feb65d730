"""The specification is complete: a client written from it alone syncs, updates, resumes and is refused.

`spec_client.py` imports nothing of peerd; the server under test is peerd's.
"""

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerd.model.federation import FederationScope
from tests.conformance.peering import spec_client as spec
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, renamed, service, workload


@pytest.fixture
def root() -> Authority:
    return Authority("root")


@pytest.fixture
async def west(root: Authority) -> AsyncIterator[PeeringCluster]:
    cluster = PeeringCluster("west", Authority("west", root))
    await cluster.start(service("reviews", 3), service("ratings"))
    yield cluster
    await cluster.stop()


class Dial:
    """Connections of one test, closed with it."""

    def __init__(self, root: Authority) -> None:
        self.authority = Authority("east", root)
        self.open: list[spec.Connection] = []

    async def __call__(
        self, cluster: PeeringCluster, uri: str = "spiffe://cluster.local/ns/istio-system/sa/peerd"
    ) -> spec.Connection:
        host, _, port = cluster.address.rpartition(":")
        material = self.authority.leaf(uri)
        connection = await spec.Connection.open(
            host, int(port), material.certificate_chain, material.private_key, material.roots
        )
        self.open.append(connection)
        return connection


@pytest.fixture
async def dial(root: Authority) -> AsyncIterator[Dial]:
    made = Dial(root)
    yield made
    for connection in made.open:
        await connection.close()


def test_the_client_shares_no_code_with_peerd() -> None:
    tree = ast.parse(Path(spec.__file__).read_text())
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.split(".")[0] in {"peerd", "tests"}]


async def test_it_syncs_and_reads_what_the_document_promises(west: PeeringCluster, dial: Dial) -> None:
    connection = await dial(west)
    assert connection.uris() == ["spiffe://cluster.local/ns/istio-system/sa/peerd"]
    client = spec.SpecClient("east", "one")
    client.start(connection)
    await client.sync()
    assert client.order[0] == spec.PEER_INFO
    assert set(client.held[spec.SERVICES].versions) == {"shop/reviews", "shop/ratings"}
    summary = spec.fields(spec.fields(client.held[spec.SERVICES].payloads["shop/reviews"])[1][0])
    assert spec.string(summary, 3) == "reviews.shop.mesh.internal"
    info = spec.fields(client.held[spec.PEER_INFO].payloads["self"])
    assert (spec.string(info, 1), spec.string(info, 4)) == ("west", west.lineage)
    assert set(client.held[spec.SEGMENTS].versions) == {"default"}
    assert client.held[spec.WORKLOADS].versions == {}
    assert all(version.startswith(f"{west.epoch}/") for version in client.system_versions)


async def test_updates_and_removals_follow(west: PeeringCluster, dial: Dial) -> None:
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    await client.sync()
    before = dict(client.held[spec.SERVICES].versions)
    west.service.commit([("shop/reviews", service("reviews", 9)), ("shop/ratings", None)])
    response = await client.step()
    assert (set(response.resources), response.removed) == ({"shop/reviews"}, ["shop/ratings"])
    assert client.held[spec.SERVICES].versions["shop/reviews"] != before["shop/reviews"]


async def test_changes_wait_for_the_answer_and_are_merged(west: PeeringCluster, dial: Dial) -> None:
    client = spec.SpecClient("east", "one")
    connection = await dial(west)
    client.start(connection)
    await client.sync()
    west.service.commit([("shop/reviews", service("reviews", 4))])
    held_back = spec.Response.parse(await connection.receive(client._stream))
    for healthy in range(5, 9):
        west.service.commit([("shop/reviews", service("reviews", healthy))])
    connection.send(client._stream, spec.request(spec.SERVICES, nonce=held_back.nonce))
    response = await client.step()
    capacity = spec.fields(response.resources["shop/reviews"][1])[2][0]
    assert spec.fields(capacity)[3] == [8]


async def test_it_resumes_for_nothing_and_by_difference(west: PeeringCluster, dial: Dial) -> None:
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    await client.sync()
    held = dict(client.held[spec.SERVICES].versions)
    client.transcript.clear()
    client.start(await dial(west))
    await client.sync()
    assert client.held[spec.SERVICES].versions == held
    for end in ("client", "server"):
        assert sum(len(message) for who, message in client.transcript if who == end) <= 1024

    await dial.open[-1].close()
    west.service.commit([("shop/new", service("new")), ("shop/ratings", None)])
    client.start(await dial(west))
    responses = []
    while set(client.order) != set(spec.ALL_TYPES):
        responses.append(await client.step())
    moved = [r for r in responses if r.type_url == spec.SERVICES]
    assert moved[0].sync is not None
    assert moved[0].sync[0] == spec.VERSIONS_WANTED
    assert not moved[0].resources
    assert {name for r in moved for name in r.resources} == {"shop/new"}
    assert [name for r in moved for name in r.removed] == ["shop/ratings"]


async def test_a_lineage_of_another_cluster_is_no_match(west: PeeringCluster, dial: Dial) -> None:
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    await client.sync()
    client.lineage = "another"
    client.start(await dial(west))
    states = set()
    while set(client.order) != set(spec.ALL_TYPES):
        response = await client.step()
        if response.type_url == spec.SERVICES and response.sync is not None:
            states.add(response.sync[0])
    assert states == {spec.VERSIONS_WANTED, spec.COMPLETE}
    assert client.lineage == west.lineage


async def test_a_partial_refusal_is_remembered_and_sent_again_with_the_next_stream(
    west: PeeringCluster, dial: Dial
) -> None:
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    while set(client.order) != set(spec.ALL_TYPES):
        await client.step(refuse={"shop/ratings": "not today"})
    assert set(client.held[spec.SERVICES].versions) == {"shop/reviews"}
    client.start(await dial(west))
    await client.sync()
    assert set(client.held[spec.SERVICES].versions) == {"shop/reviews", "shop/ratings"}


async def test_large_exports_come_in_several_messages_and_one_sync(root: Authority, dial: Dial) -> None:
    west = PeeringCluster("west", Authority("west", root))
    fat = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 40}{n}" for n in range(100))
    await west.start(*(service(f"s{number}", identities=fat) for number in range(400)))
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    messages = 0
    while set(client.order) != set(spec.ALL_TYPES):
        response = await client.step()
        messages += response.type_url == spec.SERVICES
    assert messages > 2
    assert len(client.held[spec.SERVICES].versions) == 400
    assert max(len(message) for _, message in client.transcript) < 4 << 20
    await west.stop()


async def test_heartbeats_are_answered_while_nobody_reads_the_data(root: Authority, dial: Dial) -> None:
    west = PeeringCluster("west", Authority("west", root))
    fat = tuple(f"spiffe://cluster.local/ns/shop/sa/{'x' * 40}{n}" for n in range(100))
    await west.start(*(service(f"s{number}", identities=fat) for number in range(800)))
    connection = await dial(west)
    client = spec.SpecClient("east", "one")
    data = connection.start(spec.DATA, client.metadata)
    connection.hold.add(data)
    connection.send(data, spec.request(spec.SERVICES, subscribe=True))
    beats = connection.start(spec.BEATS, client.metadata)
    for sequence in range(1, 20):
        connection.send(beats, b"\x08" + spec.varint(sequence))
        answer = await asyncio.wait_for(connection.receive(beats), 30)
        assert spec.fields(answer) == {1: [sequence]}
    await west.stop()


async def test_a_type_nobody_knows_is_answered_once_and_empty(west: PeeringCluster, dial: Dial) -> None:
    connection = await dial(west)
    client = spec.SpecClient("east", "one")
    stream = connection.start(spec.DATA, client.metadata)
    connection.send(stream, spec.request("type.googleapis.com/of.the.Future", subscribe=True))
    response = spec.Response.parse(await connection.receive(stream))
    assert (response.type_url, response.resources) == ("type.googleapis.com/of.the.Future", {})


async def test_services_of_a_segment_are_for_that_segment(root: Authority, dial: Dial) -> None:
    west = PeeringCluster("west", Authority("west", root))
    west.info = renamed(west.info, segment="blue", segment_domain="blue.internal")
    await west.start(service("open"), service("closed", scope=FederationScope.SEGMENT))
    for segment, expected in (("", {"shop/open"}), ("blue", {"shop/open", "shop/closed"})):
        client = spec.SpecClient("east", f"one{segment}", segment)
        client.start(await dial(west))
        await client.sync()
        assert set(client.held[spec.SERVICES].versions) == expected
        assert set(client.held[spec.SEGMENTS].versions) == {"blue"}
    await west.stop()


async def test_workloads_are_for_a_dialler_on_the_same_network(west: PeeringCluster, dial: Dial) -> None:
    """Others, and those that name none, get none; a changed Pod is one resource, a resume moves nothing."""
    one, two = workload("west", 1), workload("west", 2)
    west.export((one.uid, one), (two.uid, two))
    for network in ("", "east-net"):
        stranger = spec.SpecClient("east", f"one{network}", network=network)
        stranger.start(await dial(west))
        await stranger.sync()
        assert stranger.held[spec.WORKLOADS].versions == {}
    client = spec.SpecClient("north", "one", network="west-net")
    client.start(await dial(west))
    await client.sync()
    assert set(client.held[spec.WORKLOADS].versions) == {one.uid, two.uid}
    address = spec.fields(client.held[spec.WORKLOADS].payloads[one.uid])
    assert list(address) == [1], "a Workload, as istio.workload.Address has it"
    three = workload("west", 3)
    west.export((two.uid, None), (three.uid, three))
    response = await client.step()
    assert (set(response.resources), response.removed) == ({three.uid}, [two.uid])
    client.transcript.clear()
    client.start(await dial(west))
    await client.sync()
    for end in ("client", "server"):
        assert sum(len(message) for who, message in client.transcript if who == end) <= 1024


@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ({"peering-versions": "2,3"}, 9, "cluster east speaks version 2, 3, this cluster 1"),
        ({"peering-versions": ""}, 3, "peering-versions"),
        ({"peering-cluster": ""}, 3, "peering-cluster"),
        ({"peering-instance": ""}, 3, "peering-instance"),
        ({"peering-instance": "x" * 300}, 3, "longer than 253"),
    ],
)
@pytest.mark.parametrize("method", [spec.DATA, spec.BEATS])
async def test_it_is_refused_as_written(  # noqa: PLR0917 (the table's columns)
    west: PeeringCluster, dial: Dial, metadata: dict[str, str], code: int, words: str, method: str
) -> None:
    connection = await dial(west)
    asked = {**spec.SpecClient("east", "one").metadata, **metadata}
    stream = connection.start(method, {key: value for key, value in asked.items() if value})
    with pytest.raises(spec.Ended) as ended:
        await connection.receive(stream)
    assert ended.value.code == code
    assert words in ended.value.message


async def test_an_identity_that_is_not_accepted_is_refused_as_written(
    west: PeeringCluster, dial: Dial
) -> None:
    connection = await dial(west, "spiffe://cluster.local/ns/shop/sa/reviews")
    stream = connection.start(spec.DATA, spec.SpecClient("east", "one").metadata)
    with pytest.raises(spec.Ended) as ended:
        await connection.receive(stream)
    assert ended.value.code == 7
    assert "accepted here: spiffe://cluster.local/ns/istio-system/sa/peerd" in ended.value.message


async def test_without_a_certificate_there_is_no_connection(west: PeeringCluster, root: Authority) -> None:
    host, _, port = west.address.rpartition(":")
    connection = await spec.Connection.open(host, int(port), None, b"", root.pem)
    stream = connection.start(spec.DATA, spec.SpecClient("east", "one").metadata)
    with pytest.raises(spec.Ended) as ended:
        await connection.receive(stream)
    assert ended.value.code == 14
    await connection.close()


async def test_the_newest_stream_of_an_instance_wins(west: PeeringCluster, dial: Dial) -> None:
    old, new = spec.SpecClient("east", "one"), spec.SpecClient("east", "one")
    connection = await dial(west)
    old.start(connection)
    await old.sync()
    new.start(await dial(west))
    await new.sync()
    with pytest.raises(spec.Ended) as ended:
        await old.step()
    assert ended.value.code == 10


async def test_a_shutdown_on_purpose_ends_with_ok(west: PeeringCluster, dial: Dial) -> None:
    client = spec.SpecClient("east", "one")
    client.start(await dial(west))
    await client.sync()
    west.service.drain()
    with pytest.raises(spec.Ended) as ended:
        await client.step()
    assert ended.value.code == 0
