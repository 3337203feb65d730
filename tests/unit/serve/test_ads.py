"""The discovery service on the in-memory transport: a stream's life from admission to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from peerd.derive.service_entries import PASSTHROUGH
from peerd.encode.address import decode_address, encode_address
from peerd.model import service as services
from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION, DEBUG_SYNCZ, DELTA_METHOD, FEDERATED_SERVICE
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_response
from peerd.protocol.server import DeltaServer
from peerd.serve.admission import AdmissionLimits
from peerd.serve.ads import AdsService, ztunnel_rules
from peerd.serve.authorisation import Authorisation
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.debug_types import DebugTypes
from peerd.transport.base import ClientStream, StatusCode, Stream, StreamClosed
from peerd.transport.memory import MemoryNetwork, MemoryServer
from tests.support.delta import NODE, FakeClock, Missing, drop, names, policy, put, ztunnel_store

ZTUNNEL = Caller(CallerKind.WORKLOAD, SpiffeId("cluster.local", "istio-system", "ztunnel"))
LOOPBACK = Caller(CallerKind.LOOPBACK)


class Service:
    """A running service and a network that leads to it."""

    def __init__(self, caller: Caller | StreamClosed = LOOPBACK, **options: Any) -> None:
        self.clock = FakeClock()
        self.caller = caller
        self.store = ztunnel_store()
        self.registry = ConnectionRegistry()
        self.ads = AdsService(
            self.store,
            options.pop("rules", None) or ztunnel_rules(),
            authenticate=self._authenticate,
            allowed=Authorisation(("istio-system/ztunnel",), "istio-system").allowed,
            registry=self.registry,
            debug=DebugTypes(self.registry, "replica-1", self._view),
            clock=self.clock,
            sweep_seconds=0.05,
            **options,
        )
        self.network = MemoryNetwork()
        self.server = MemoryServer(self.network, "ads", self.ads.handlers)

    async def open(self, *requests: bytes, method: str = DELTA_METHOD) -> ClientStream:
        stream = await self.network.channel("ads").open(method)
        for request in requests:
            await stream.send(request)
        return stream

    async def ztunnel(self) -> tuple[ClientStream, DeltaClient]:
        """A ztunnel that has taken both first answers."""
        client = DeltaClient((ADDRESS, AUTHORIZATION), NODE)
        stream = await self.open(*client.start())
        for _ in range(2):
            await stream.send(client.accept(await response(stream)))
        return stream, client

    def publish(self, *changes: Any) -> None:
        self.store.commit(changes)
        self.ads.window.publish()

    async def _authenticate(self, _stream: Stream) -> Caller:
        if isinstance(self.caller, StreamClosed):
            raise self.caller
        return self.caller

    @staticmethod
    def _view(name: str, argument: str) -> bytes | None:
        return f"{name}:{argument}".encode() if name in {"config_dump", "page"} else None


@asynccontextmanager
async def running(*arguments: Any, **options: Any) -> AsyncIterator[Service]:
    service = Service(*arguments, **options)
    await service.ads.start()
    await service.server.start()
    try:
        yield service
    finally:
        await service.server.close(0)
        await service.ads.close()


async def response(stream: ClientStream) -> DeltaResponse:
    message = await asyncio.wait_for(stream.receive(), 30)
    assert message is not None
    return parse_delta_response(message)


async def ending(stream: ClientStream) -> StreamClosed:
    try:
        while await asyncio.wait_for(stream.receive(), 30) is not None:
            pass
    except StreamClosed as closed:
        return closed
    return StreamClosed(StatusCode.OK)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (the state of another task has no event)
            await asyncio.sleep(0)


async def test_a_window_closes_by_itself_and_merges_what_came_while_it_was_open() -> None:
    async with running() as service:
        stream, client = await service.ztunnel()
        service.store.commit([put("a")])
        service.store.commit([put("b")])
        pushed = await response(stream)
        assert names(pushed) == ["a", "b"]
        await stream.send(client.accept(pushed))


async def test_who_cannot_be_authenticated_gets_that_status_and_leaves_no_trace() -> None:
    async with running(StreamClosed(StatusCode.UNAUTHENTICATED, "authentication failure")) as service:
        stream = await service.open(*DeltaClient((ADDRESS,), NODE).start())
        closed = await ending(stream)
        assert (closed.code, closed.message) == (StatusCode.UNAUTHENTICATED, "authentication failure")
        assert len(service.registry) == 0


async def test_while_not_ready_streams_are_refused_with_the_reason() -> None:
    async with running(ready=lambda: "sources are being read") as service:
        closed = await ending(await service.open())
        assert (closed.code, closed.message) == (StatusCode.UNAVAILABLE, "not ready: sources are being read")
        assert service.registry.refused["UNAVAILABLE"] == 1


@pytest.mark.parametrize(
    "node",
    [
        None,
        Node(),
        Node("ztunnel"),
        Node("toaster~10.0.0.1~a.b~b.svc"),
        Node("ztunnel~nowhere~a.b~b.svc", "", {"INSTANCE_IPS": "x,y"}),
    ],
)
async def test_the_first_request_must_say_who_asks(node: Node | None) -> None:
    async with running() as service:
        stream = await service.open(delta_request(ADDRESS, node=node))
        assert (await ending(stream)).code is StatusCode.INVALID_ARGUMENT


async def test_an_ip_among_the_instance_s_is_enough() -> None:
    node = Node("ztunnel~nowhere~a.b~b.svc", "", {"INSTANCE_IPS": "x,fd00::1"})
    async with running() as service:
        stream = await service.open(delta_request(AUTHORIZATION, node=node))
        assert (await response(stream)).type_url == AUTHORIZATION


async def test_a_node_of_another_namespace_than_its_caller_is_refused() -> None:
    async with running(ZTUNNEL) as service:
        stream = await service.open(delta_request(ADDRESS, node=Node("ztunnel~10.0.0.1~a.b~b.svc.x")))
        closed = await ending(stream)
        assert closed.code is StatusCode.PERMISSION_DENIED
        assert "istio-system/sa/ztunnel" in closed.message


@pytest.mark.parametrize(
    ("account", "type_url"),
    [
        ("app", ADDRESS),
        ("app", AUTHORIZATION),
        ("ztunnel", FEDERATED_SERVICE),
        ("app", "type.googleapis.com/new.Type"),
    ],
)
async def test_a_type_that_a_caller_may_not_have_ends_the_stream(account: str, type_url: str) -> None:
    caller = Caller(CallerKind.WORKLOAD, SpiffeId("cluster.local", "istio-system", account))
    async with running(caller) as service:
        stream = await service.open(delta_request(type_url, node=NODE))
        assert (await ending(stream)).code is StatusCode.PERMISSION_DENIED
        assert service.registry.refused["PERMISSION_DENIED"] == 1


async def test_a_ztunnel_newer_than_us_is_answered_with_nothing() -> None:
    async with running(ZTUNNEL) as service:
        stream = await service.open(delta_request("type.googleapis.com/new.Type", node=NODE))
        answer = await response(stream)
        assert (answer.type_url, answer.resources) == ("type.googleapis.com/new.Type", ())


async def test_bytes_that_are_no_request_end_that_stream_and_no_other() -> None:
    async with running() as service:
        good, _client = await service.ztunnel()
        bad = await service.open(b"\xff\xff\xff")
        assert (await ending(bad)).code is StatusCode.INVALID_ARGUMENT
        service.publish(put("a"))
        assert names(await response(good)) == ["a"]


async def test_the_registry_shows_how_far_each_stream_has_got() -> None:
    async with running() as service:
        stream, client = await service.ztunnel()
        (connection,) = service.registry
        assert connection.proxy == "ztunnel-1.istio-system"
        assert connection.connected_at == service.clock.time()
        service.publish(put("a"), policy("ns/p"))
        await stream.send(client.accept(await response(stream)))
        refused = await response(stream)
        await stream.send(client.reject(refused, {"a": "no"}))
        await until(lambda: service.registry.rejects[ADDRESS] == 1)
        policies, addresses = connection.views()
        assert policies.sent == policies.acked != ""
        assert policies.sent_at == service.clock.time()
        assert (addresses.sent, addresses.error, addresses.rejected) == (
            refused.nonce,
            "a: no",
            (("a", "no"),),
        )
        assert service.registry.pushes == {ADDRESS: 2, AUTHORIZATION: 2}
        await stream.half_close()
        assert await stream.receive() is None
        await until(lambda: len(service.registry) == 0)


async def test_an_older_ztunnel_is_told_services_in_its_words() -> None:
    """It would reject PASSTHROUGH and never be ready (wire-contract §6 no. 9, 18); a newer one takes it."""
    through = encode_address(services.Service("p", "ns", "p.ns", load_balancing=PASSTHROUGH))
    async with running() as service:
        service.publish(ResourceChange(ADDRESS, through.name, through))
        modes = {}
        for version in ("1.27.5", "1.28.0"):
            node = Node(NODE.id, "", {**NODE.metadata, "ISTIO_VERSION": version})
            stream = await service.open(delta_request(ADDRESS, node=node), delta_request(AUTHORIZATION))
            await response(stream)
            (resource,) = (await response(stream)).resources
            record = decode_address(resource.payload)
            assert isinstance(record, services.Service)
            assert record.load_balancing is not None
            modes[version] = record.load_balancing.mode
            assert resource.version == through.version
            await stream.cancel()
        assert modes == {"1.27.5": services.Mode.UNSPECIFIED, "1.28.0": services.Mode.PASSTHROUGH}


async def test_a_refusal_is_counted_once_for_each_response() -> None:
    """And logged where it is counted: who repeats it, or refuses what was never sent, fills no log."""
    async with running() as service:
        stream, client = await service.ztunnel()
        service.publish(put("a"))
        refusal = client.reject(await response(stream), {"a": "no"})
        for message in (refusal, refusal, delta_request(ADDRESS, nonce="never", error="no"), refusal):
            await stream.send(message)
        await until(lambda: service.registry.stale_nonces == 3)
        assert service.registry.rejects == {ADDRESS: 1}


async def test_an_overdue_ack_ends_the_stream() -> None:
    async with running() as service:
        stream = await service.open(*DeltaClient((AUTHORIZATION,), NODE).start())
        await response(stream)
        await until(lambda: service.registry.pushes[AUTHORIZATION] == 1)
        service.clock.now += 31
        closed = await ending(stream)
        assert closed.code is StatusCode.ABORTED, "ztunnel backs off on it"
        assert "no ACK" in closed.message


async def test_a_reader_that_stops_reading_costs_its_one_frame_and_ends() -> None:
    """Others go on meanwhile; what it misses is not kept anywhere."""
    async with running() as service:
        slow, client = await service.ztunnel()
        other, other_client = await service.ztunnel()
        for index in range(5):
            service.publish(put("a", b"%d" % index))
            pushed = await response(other)
            assert names(pushed) == ["a"]
            await other.send(other_client.accept(pushed))
        # The memory transport takes one message; the machine is waiting for its ACK and queues nothing.
        stream = next(iter(service.ads._streams))
        assert all(not each.queue for each in stream.machine._ordered)
        pushed = await response(slow)
        await slow.send(client.accept(pushed))
        merged = await response(slow)
        assert merged.resources[0].payload == b"4"


async def test_a_response_that_is_never_read_ends_the_stream() -> None:
    async with running() as service:
        stream = await service.open(*DeltaClient((ADDRESS, AUTHORIZATION), NODE).start())
        # One response waits in the transport, the next one is being written.
        await until(lambda: service.registry.pushes[AUTHORIZATION] == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        service.clock.now += 61
        await until(lambda: len(service.registry) == 0)
        await stream.cancel()


async def test_a_client_that_asks_for_addresses_alone_waits_its_second() -> None:
    async with running() as service:
        service.publish(put("a"))
        stream = await service.open(*DeltaClient((ADDRESS,), NODE).start())
        await until(lambda: len(service.registry) == 1)
        receiving = asyncio.ensure_future(stream.receive())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not receiving.done()
        service.clock.now += 1.0
        service.ads.window.publish()
        assert names(parse_delta_response(await asyncio.wait_for(receiving, 30) or b"")) == ["a"]


async def test_a_large_resume_is_taken_apart_in_turns_beside_others() -> None:
    """Versions of 20,000 names, and a small stream that is answered while they are compared."""
    held = {
        f"Kubernetes//Pod/a-namespace/a-deployment-{index}": "0123456789abcdef" for index in range(20_000)
    }
    async with running() as service:
        service.publish(put("new"))
        large = DeltaClient((AUTHORIZATION, ADDRESS), NODE, {ADDRESS: held})
        stream = await service.open(*large.start())
        small, _client = await service.ztunnel()
        policies = await response(stream)
        await stream.send(large.accept(policies))
        answer = await response(stream)
        assert names(answer) == ["new"]
        assert len(answer.removed) == 20_000
        await small.cancel()


async def test_draining_refuses_new_streams_and_ends_the_open_ones_unavailable() -> None:
    """Never OK: ztunnel would come back without a pause (wire-contract §1.4)."""
    async with running() as service:
        streams = [(await service.ztunnel())[0] for _ in range(3)]
        draining = asyncio.ensure_future(service.ads.drain(0.03))
        codes = [(await ending(stream)).code for stream in streams]
        assert codes == [StatusCode.UNAVAILABLE] * 3
        assert (await ending(await service.open())).message.startswith("draining")
        await draining


async def test_streams_past_the_limit_are_refused() -> None:
    async with running(limits=AdmissionLimits(streams=1)) as service:
        first, _client = await service.ztunnel()
        assert (await ending(await service.open())).code is StatusCode.RESOURCE_EXHAUSTED
        await first.cancel()
        await until(lambda: len(service.registry) == 0)
        await service.ztunnel()


async def test_withheld_names_are_looked_at_again_by_themselves() -> None:
    missing = Missing("remote")
    async with running(rules=ztunnel_rules(missing)) as service:
        client = DeltaClient((AUTHORIZATION, ADDRESS), NODE, {ADDRESS: {"remote": "1"}})
        stream = await service.open(*client.start())
        for _ in range(2):
            first = await response(stream)
            await stream.send(client.accept(first))
            assert not first.removed
        missing.names.clear()
        assert (await response(stream)).removed == ("remote",)


async def test_a_failure_of_one_stream_on_a_tick_is_its_own() -> None:
    """A client so far behind that the log has forgotten it."""
    async with running() as service:
        service.store.collection(ADDRESS).log._limit = 2
        behind, client = await service.ztunnel()
        service.publish(put("a"))
        outstanding = await response(behind)
        for index in range(4):
            service.publish(put(f"b{index}"))
        await behind.send(client.accept(outstanding))
        closed = await ending(behind)
        assert closed.code is StatusCode.UNAVAILABLE
        assert "horizon" in closed.message
        fresh, _client = await service.ztunnel()
        service.publish(drop("a"))
        assert (await response(fresh)).removed == ("a",)


@pytest.mark.parametrize("where", ["answering", "pushing"])
async def test_a_bug_while_writing_ends_the_stream_and_no_other(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERNAL, and logged: never a stream that stays open and says nothing more."""
    async with running() as service:
        stream, _ = await service.ztunnel()
        (machine,) = [each.machine for each in service.ads._streams]

        step = "written" if where == "answering" else "next"
        sound = getattr(DeltaServer, step)

        def broken(each: DeltaServer, now: float) -> object:
            if each is machine:
                raise KeyError("a bug")
            return sound(each, now)

        with capture_logs() as logs:
            monkeypatch.setattr(DeltaServer, step, broken)
            other, _ = await service.ztunnel()
            service.publish(put("a"))
            closed = await ending(stream)
        assert (closed.code, closed.message) == (StatusCode.INTERNAL, "internal error")
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["stream_failed"]
        assert names(await response(other)) == ["a"]


async def test_debug_types_are_served_state_of_the_world_only_to_who_may() -> None:
    from peerd.api.envoy import discovery_pb2 as discovery
    from peerd.model.types import DEBUG, DEBUG_CONFIG_DUMP, STATE_OF_THE_WORLD_METHOD

    async def ask(service: Service, type_url: str, *argument: str) -> discovery.DiscoveryResponse:
        request = discovery.DiscoveryRequest(type_url=type_url, resource_names=argument)
        stream = await service.open(request.SerializeToString(), method=STATE_OF_THE_WORLD_METHOD)
        message = await stream.receive()
        await stream.half_close()
        return discovery.DiscoveryResponse.FromString(message or b"")

    async with running() as service:
        assert (await ask(service, DEBUG, "page")).resources[0].value == b"page:"
        dump = await ask(service, DEBUG_CONFIG_DUMP, "pod.ns")
        assert dump.resources[0].value == b"config_dump:pod.ns"
        dump = await ask(service, DEBUG, "config_dump?proxyID=pod.ns")
        assert dump.resources[0].value == b"config_dump:pod.ns"
        with pytest.raises(StreamClosed, match="there is no debug page 'nothing'"):
            await ask(service, DEBUG, "nothing")
        with pytest.raises(StreamClosed, match="not served state-of-the-world"):
            await ask(service, ADDRESS)
        stream = await service.open(b"\xff", method=STATE_OF_THE_WORLD_METHOD)
        assert (await ending(stream)).code is StatusCode.INVALID_ARGUMENT
    async with running(ZTUNNEL) as service:
        with pytest.raises(StreamClosed, match="PERMISSION_DENIED"):
            await ask(service, DEBUG_SYNCZ)
