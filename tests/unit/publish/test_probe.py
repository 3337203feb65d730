"""Probes of peers' gateways: who answers there, how often it is asked, and what is said of it."""

import asyncio
import random

import pytest

from peerd.limits import PROBES, hits
from peerd.model.address import GatewayAddress, NetworkAddress
from peerd.model.federation import NetworkGateway
from peerd.model.kube.meta import ObjectKey
from peerd.publish.gateway_status import Path
from peerd.publish.probe import GatewayProbes, ProbeError, tls_probe
from peerd.transport.tls import FixedTls, server_context
from tests.support.mesh_certs import Authority
from tests.support.stepping import SteppedTime

WEST = ObjectKey("istio-eastwest", "west")
IDENTITY = "spiffe://cluster.local/ns/istio-eastwest/sa/eastwest"


def way(value="192.0.2.1", position=0, *, account="eastwest", name="west", domain="", port=15008):
    gateway = NetworkGateway(
        network="west-net",
        address=GatewayAddress(NetworkAddress("west-net", b"\xc0\x00\x02\x01"), port),
        namespace="istio-eastwest",
        service_account=account,
        trust_domain=domain,
        gateway=ObjectKey("istio-eastwest", name),
        value=value,
    )
    return ("istio-eastwest", name, position), gateway


class Rig:
    def __init__(self):
        self.clock = SteppedTime()
        self.permitted = 9.0
        self.asked = []
        self.changed = []
        self.answers = {}  # value -> URIs, or why not
        self.probes = GatewayProbes(
            self._probe,
            clock=self.clock,
            source=random.Random(1),
            permit=self,
            changed=self.changed.append,
        )

    def remaining(self):
        return self.permitted

    async def _probe(self, host, port):
        self.asked.append((host, port))
        found = self.answers.get(host, (IDENTITY,))
        if isinstance(found, str):
            raise ProbeError(found)
        return found

    async def run(self, seconds):
        """A look each second."""
        for _ in range(seconds):
            self.probes.start_due()
            await self.clock.settle()
            await self.clock.advance(1)

    @property
    def path(self):
        return self.probes.facts(WEST).path


@pytest.fixture
def rig():
    return Rig()


async def test_the_expected_identity_makes_it_reached(rig):
    """Asked at once, then every half a minute; told when it changes only."""
    assert rig.path is Path.UNKNOWN
    rig.probes.ways([way()])
    assert rig.path is Path.PROBING
    await rig.run(1)
    assert rig.path is Path.REACHED
    assert rig.probes.facts(WEST).message == f"192.0.2.1:15008 answers as {IDENTITY}"
    rig.changed.clear()
    await rig.run(100)
    assert 4 <= len(rig.asked) <= 5
    assert rig.changed == []


async def test_another_identity_is_not_reached(rig):
    """As ztunnels will refuse it; the message names both."""
    rig.answers["192.0.2.1"] = ("spiffe://cluster.local/ns/x/sa/y",)
    rig.probes.ways([way()])
    await rig.run(1)
    assert rig.path is Path.UNREACHABLE
    said = rig.probes.facts(WEST).message
    assert said == f"192.0.2.1:15008: it proves to be spiffe://cluster.local/ns/x/sa/y, not {IDENTITY}"


async def test_the_trust_domain_of_the_annotation_is_demanded(rig):
    """The account's too: an edit asks anew at once."""
    rig.probes.ways([way(domain="west.local", account="gw")])
    await rig.run(1)
    assert "not spiffe://west.local/ns/istio-eastwest/sa/gw" in rig.probes.facts(WEST).message
    rig.probes.ways([way()])
    assert rig.path is Path.PROBING
    await rig.run(1)
    assert rig.path is Path.REACHED


async def test_one_lost_probe_is_none_two_are(rig):
    """The second one comes soon; recovery is believed at once."""
    rig.probes.ways([way()])
    await rig.run(1)
    rig.answers["192.0.2.1"] = "no answer within 5 s"
    seen = []
    for _ in range(60):
        await rig.run(1)
        seen.append((len(rig.asked), rig.path))
    assert (2, Path.REACHED) in seen
    assert (2, Path.UNREACHABLE) not in seen
    assert rig.path is Path.UNREACHABLE
    assert rig.probes.facts(WEST).message == "192.0.2.1:15008: no answer within 5 s"
    del rig.answers["192.0.2.1"]
    await rig.run(35)
    assert rig.path is Path.REACHED


async def test_one_address_of_several_is_enough(rig):
    """The others are named."""
    rig.answers["192.0.2.2"] = "connection refused"
    rig.probes.ways([way(), way("192.0.2.2", 1)])
    await rig.run(1)
    assert rig.path is Path.REACHED
    assert rig.probes.facts(WEST).message.endswith("; 192.0.2.2:15008: connection refused")
    rig.probes.ways([(way()[0], None)])
    assert rig.path is Path.UNREACHABLE
    rig.probes.ways([(way("", 1)[0], None)])
    assert rig.path is Path.UNKNOWN
    await rig.run(60)
    assert len(rig.asked) == 2


async def test_only_the_replica_that_writes_asks(rig):
    """The others write no status."""
    rig.permitted = 0.0
    rig.probes.ways([way()])
    await rig.run(60)
    assert rig.asked == []
    rig.permitted = 9.0
    await rig.run(1)
    assert rig.path is Path.REACHED


async def test_probes_a_second_are_bounded(rig):
    """PROBES; everybody's turn comes."""
    before = hits(PROBES)
    count = PROBES.value * 5
    rig.probes.ways([way(name=f"g{number}") for number in range(count)])
    await rig.run(1)
    assert len(rig.asked) == PROBES.value
    assert hits(PROBES) > before
    await rig.run(5)
    assert len(set(rig.changed)) == count
    assert len(rig.asked) == count


# -- on the wire ---------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway():
    """TLS servers as gateways are: each wants a client certificate."""
    servers = []

    async def serve(authority, refusals):
        async def accept(_reader, writer):
            writer.close()

        context = server_context(FixedTls(authority.leaf(IDENTITY)), refusals.append)
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield serve
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture(scope="module")
def mesh():
    return Authority("west", Authority("root"))


async def test_a_handshake_tells_who_answers(gateway, mesh):
    """Over mutual TLS, with the control plane's certificate."""
    refusals = []
    port = await gateway(mesh, refusals)
    uris = await tls_probe(FixedTls(mesh.leaf()))("127.0.0.1", port)
    assert uris == (IDENTITY,)
    assert refusals == []


async def test_another_root_is_refused(gateway, mesh):
    """In OpenSSL's words."""
    port = await gateway(Authority("other"), [])
    with pytest.raises(ProbeError, match=r"certificate is refused: (unable|self)"):
        await tls_probe(FixedTls(mesh.leaf()))("127.0.0.1", port)


async def test_nobody_there_is_said(mesh):
    """A closed port, and something that speaks no TLS."""
    probe = tls_probe(FixedTls(mesh.leaf()))

    async def shout(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ProbeError, match="TLS handshake failed"):
        await probe("127.0.0.1", port)
    server.close()
    await server.wait_closed()
    with pytest.raises(ProbeError, match=r"refused|Connect call failed"):
        await probe("127.0.0.1", port)
