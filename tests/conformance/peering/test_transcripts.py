"""What was recorded of earlier versions is still understood, by both sides: the test of version skew."""

import base64
import json
from pathlib import Path

import msgspec
import pytest

from peerd.model.federation import PeerInfo
from peerd.model.kube.meta import ObjectKey
from peerd.model.steps import whole
from peerd.model.types import ADDRESS, FEDERATED_SERVICE
from peerd.peering.importer import Importer
from peerd.peering.validation import LocalCluster
from peerd.protocol.envelope import parse_delta_request
from peerd.protocol.peer_session import PeerSession
from peerd.protocol.peer_wire import Hello
from tests.conformance.peering import spec_client as spec
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster, service, workload

TRANSCRIPTS = Path(__file__).parent / "transcripts"
# Recorded by a dialler on the server's own network.
FLAT = {"1-flat"}
VERSIONS = sorted(path.name for path in TRANSCRIPTS.iterdir())


def load(version: str, name: str) -> list[tuple[str, bytes]]:
    lines = json.loads((TRANSCRIPTS / version / f"{name}.json").read_text())
    return [(line["from"], base64.b64decode(line["bytes"])) for line in lines]


class Replayed:
    """Today's dialling side, fed with what a recorded server said."""

    def __init__(self) -> None:
        self.key = ObjectKey("istio-system", "peer-west")
        self.importer = Importer(LocalCluster("east", "istio-system", "east"), lambda changes: None)
        gateway = PeeringCluster("east", Authority("root")).gateway("192.0.2.1:15012")
        self.importer.configure(self.key, msgspec.structs.replace(gateway, key=self.key), 0.0)

    def stream(self, messages: list[tuple[str, bytes]]) -> PeerSession:
        session = PeerSession(Hello("east", "one"), "istio-system", self.importer.held(self.key))
        session.open()
        for end, message in messages:
            if end == "server":
                delivery = whole(session.receive(message))
                refused = self.importer.take(self.key, delivery.type_url, delivery.puts)
                settled = session.settle(delivery, refused)
                self.importer.remove(self.key, delivery.type_url, (*delivery.removed, *settled.swept))
                assert not refused
        return session

    def names(self, type_url: str) -> set[str]:
        return set(self.importer.held(self.key).versions.get(type_url, ()))


@pytest.mark.parametrize("version", VERSIONS)
def test_todays_dialler_understands_what_the_recorded_server_says(version: str) -> None:
    """First sync and updates, a resume for nothing, a resume by difference; digests add up on the way."""
    replayed = Replayed()
    replayed.importer.join("west-net")
    assert replayed.stream(load(version, "first")).in_sync
    assert replayed.names(FEDERATED_SERVICE) == {"shop/reviews", "shop/details"}
    assert replayed.names(ADDRESS) == (pods(1, 3) if version in FLAT else set())
    info = replayed.importer.counts(replayed.key).info
    assert isinstance(info, PeerInfo)
    assert (info.cluster, info.network) == ("west", "west-net")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["first", "resume", "difference"])
async def test_todays_server_understands_what_the_recorded_dialler_says(version: str, name: str) -> None:
    """Its requests, with today's nonces and today's offers put in, are answered with the same meaning."""
    root = Authority("root")
    west = PeeringCluster("west", Authority("west", root))
    await west.start(
        *{
            "first": (service("reviews", 3), service("ratings"), service("details", 2)),
            "resume": (service("reviews", 9), service("details", 2)),
            "difference": (service("reviews", 9), service("new")),
        }[name]
    )
    before = {"first": (1, 2), "resume": (1, 3), "difference": (1, 4)}[name]
    west.export(*((each.uid, each) for each in (workload("west", number) for number in before)))
    material = Authority("east", root).leaf()
    host, _, port = west.address.rpartition(":")
    connection = await spec.Connection.open(
        host, int(port), material.certificate_chain, material.private_key, material.roots
    )
    network = "west-net" if version in FLAT else ""
    stream = connection.start(spec.DATA, spec.SpecClient("east", "one", network=network).metadata)
    nonces: dict[str, str] = {}
    two, three = workload("west", 2), workload("west", 3)
    updates = iter(
        [
            lambda: west.service.commit([("shop/reviews", service("reviews", 9)), ("shop/ratings", None)]),
            lambda: west.service.commit([("shop/details", service("details", 5))]),
            lambda: west.export((two.uid, None), (three.uid, three)),
        ]
    )
    complete = 0
    for end, message in load(version, name):
        if end == "client":
            connection.send(stream, renonced(message, nonces))
            continue
        recorded = spec.Response.parse(message)
        if complete == len(spec.ALL_TYPES):
            next(updates)()
        live = spec.Response.parse(await connection.receive(stream))
        nonces[recorded.nonce] = live.nonce
        assert live.type_url == recorded.type_url
        assert set(live.resources) == set(recorded.resources)
        assert live.removed == recorded.removed
        assert (live.sync is None) == (recorded.sync is None)
        if live.sync is not None and recorded.sync is not None:
            assert live.sync[0] == recorded.sync[0]
            complete += live.sync[0] == spec.COMPLETE
    await connection.close()
    await west.stop()


def pods(*numbers: int) -> set[str]:
    return {workload("west", number).uid for number in numbers}


def renonced(message: bytes, nonces: dict[str, str]) -> bytes:
    """A recorded request with the nonce that today's server gave in the recorded one's place."""
    request = parse_delta_request(message)
    if not request.nonce:
        return message
    top = spec.fields(message)
    parts = [
        spec.text(number, nonces[request.nonce] if number == 6 else value)
        for number, values in sorted(top.items())
        for value in values
        if isinstance(value, bytes)
    ]
    return b"".join(parts)
