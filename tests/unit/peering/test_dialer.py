"""Links follow Gateways, and no input ends one for ever."""

import asyncio
import random

import msgspec
import pytest
from structlog.testing import capture_logs

from peerd.limits import PEER_ADDRESSES, PEER_DIALS, hits
from peerd.model.federation import RemotePeer
from peerd.model.kube.meta import ObjectKey
from peerd.peering import backoff
from peerd.peering.dialer import Dialer, resolve_host
from peerd.peering.importer import Importer
from peerd.peering.peers import PeerTable
from peerd.peering.validation import LocalCluster
from peerd.protocol.peer_state import PeerState
from peerd.protocol.peer_wire import Hello
from peerd.transport.base import Channel, PeerCertificate, StatusCode, Stream, StreamClosed
from peerd.transport.memory import MemoryNetwork, MemoryServer
from tests.support.peering import SystemClock

KEY = ObjectKey("istio-system", "west")
REMOTE = RemotePeer(KEY, "west", "net", ("west.test",), 15012, "cluster.local", "istio-system", "peerd")
CERTIFICATE = PeerCertificate(("spiffe://cluster.local/ns/istio-system/sa/peerd",), "0" * 64, 2e9)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST", 0.0)


class Dialling:
    """A dialer over the in-memory transport; `moved` is set whenever a row changes."""

    def __init__(self, **parts: object) -> None:
        self.network = MemoryNetwork()
        self.moved = asyncio.Event()
        importer = Importer(LocalCluster("east", "istio-system", "lineage"), lambda _changes: None)
        self.table = PeerTable(importer, SystemClock(), lambda _key: self.moved.set())
        self.dialer = Dialer(
            hello=Hello("east", "peerd-0"),
            namespace="istio-system",
            connect=self.connect,
            importer=importer,
            table=self.table,
            clock=SystemClock(),
            source=random.Random(7),
            **parts,  # type: ignore[arg-type]
        )

    def connect(self, host: str, port: int) -> Channel:
        return self.network.channel(f"{host}:{port}", certificate=CERTIFICATE)

    async def until(self, state: PeerState) -> None:
        async with asyncio.timeout(30):
            while self.table.state(KEY) is not state:
                self.moved.clear()
                await self.moved.wait()


async def _silent(stream: Stream) -> None:
    while await stream.receive() is not None:
        continue


async def _itself(host: str) -> list[str]:
    return [host]


async def test_deleting_the_gateway_of_an_open_stream_ends_its_link_without_a_word() -> None:
    dialling = Dialling(resolve=_itself)
    methods = (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        "/peerd.peering.v1.PeeringService/Heartbeat",
    )
    server = MemoryServer(
        dialling.network, "west.test:15012", dict.fromkeys(methods, _silent), certificate=CERTIFICATE
    )
    await server.start()
    with capture_logs() as logs:
        dialling.dialer.configure([(KEY, REMOTE)])
        await dialling.until(PeerState.SYNCING)
        dialling.dialer.configure([(KEY, None)])
        ending = list(dialling.dialer._ending)
        assert [type(each) for each in await asyncio.gather(*ending, return_exceptions=True)] == [
            asyncio.CancelledError
        ]
    assert dialling.table.snapshot() == ()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []
    await dialling.dialer.close()
    await server.close(0)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", ".west"])
async def test_what_is_no_host_name_is_an_error_of_resolving(host: str) -> None:
    with pytest.raises(OSError, match="no host name"):
        await resolve_host(host)


async def test_an_unexpected_error_of_a_round_is_logged_and_the_peer_dialled_again() -> None:
    asked = asyncio.Queue[str]()

    async def broken(host: str) -> list[str]:
        asked.put_nowait(host)
        raise RuntimeError("a bug")

    dialling = Dialling(resolve=broken)
    with capture_logs() as logs:
        dialling.dialer.configure([(KEY, REMOTE)])
        async with asyncio.timeout(30):
            for _ in range(3):
                await asked.get()
    assert dialling.table.snapshot()[0].status.last_error == "internal error: RuntimeError('a bug')"
    assert "peer_link_failed" in [entry["event"] for entry in logs if entry["log_level"] == "error"]
    await dialling.dialer.close()


async def test_of_a_name_with_many_addresses_the_first_are_tried() -> None:
    """PEER_ADDRESSES: one round of dialling ends, whatever DNS says; then it begins with the first again."""
    before = hits(PEER_ADDRESSES)
    many = [f"192.0.2.{number}" for number in range(PEER_ADDRESSES.value + 4)]
    tried = asyncio.Queue[str]()

    async def resolve(_host: str) -> list[str]:
        return many

    dialling = Dialling(resolve=resolve)

    def connect(host: str, port: int) -> Channel:
        tried.put_nowait(host)
        return dialling.connect(host, port)  # nobody listens

    dialling.dialer._connect = connect
    dialling.dialer.configure([(KEY, REMOTE)])
    async with asyncio.timeout(30):
        found = [await tried.get() for _ in range(PEER_ADDRESSES.value + 1)]
    assert found == [*many[: PEER_ADDRESSES.value], many[0]]
    assert hits(PEER_ADDRESSES) > before
    await dialling.dialer.close()


async def test_only_so_many_connections_are_made_at_once() -> None:
    """The others wait for their turn, and have it: nobody's handshake is starved by everybody's."""
    before = hits(PEER_DIALS)
    started, most = 0, 0
    going = asyncio.Event()
    enough = asyncio.Event()
    waiting = 0

    class Slow(Channel):
        async def open(self, method, metadata=None):  # noqa: ARG002 (the interface)
            nonlocal started, most, waiting
            started, waiting = started + 1, waiting + 1
            most = max(most, waiting)
            if waiting == PEER_DIALS.value or started == 2 * PEER_DIALS.value:
                enough.set()
            await going.wait()
            waiting -= 1
            raise StreamClosed(StatusCode.UNAVAILABLE, "not today")

        async def close(self) -> None:
            pass

    dialling = Dialling(resolve=_itself)
    dialling.dialer._connect = lambda _host, _port: Slow()
    keys = [ObjectKey("istio-system", f"peer-{number}") for number in range(2 * PEER_DIALS.value)]
    dialling.dialer.configure((key, msgspec.structs.replace(REMOTE, key=key)) for key in keys)
    await enough.wait()
    assert (started, most) == (PEER_DIALS.value, PEER_DIALS.value)
    assert hits(PEER_DIALS) == before + PEER_DIALS.value
    enough.clear()
    going.set()
    await enough.wait()
    assert most == PEER_DIALS.value
    await dialling.dialer.close()
