"""The aggregated discovery service: delta for ztunnels, state of the world for istioctl's debug types."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from peerd.encode.older_ztunnel import rejects_passthrough, without_passthrough
from peerd.limits import ACK_OVERDUE_S, WRITE_DEADLINE_S
from peerd.model.caller import Caller
from peerd.model.clock import Clock
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD, STATE_OF_THE_WORLD_METHOD
from peerd.protocol.envelope import DeltaRequest, Node
from peerd.protocol.interest import Interest
from peerd.protocol.rules import NOTHING_WITHHELD, TypeRules, Withheld
from peerd.protocol.server import DeltaServer, Outgoing
from peerd.protocol.subscription import TypeStatus
from peerd.resources.store import ResourceStore
from peerd.serve.admission import Admission, AdmissionLimits, FirstAnswers
from peerd.serve.ads_stream import AdsStream
from peerd.serve.authorisation import GOVERNED
from peerd.serve.connections import Connection, ConnectionRegistry, TypeView
from peerd.serve.debug_types import DebugTypes
from peerd.serve.memory import memory_bound, resident_bytes
from peerd.serve.node import check_node
from peerd.serve.window import MergeWindow
from peerd.transport.base import Handler, StatusCode, Stream, StreamClosed

log = structlog.get_logger("peerd.ads")

Authenticate = Callable[[Stream], Awaitable[Caller]]
Allowed = Callable[[Caller, str], bool]

_SWEEP_SECONDS = 5.0  # an ACK is overdue after 30 s; looking more often would cost as much as a push


def _own_pods(node: Node) -> tuple[str, ...]:
    name = node.text("NODE_NAME")
    return (f"node/{name}",) if name else ()


def ztunnel_rules(withheld: Withheld = NOTHING_WITHHELD) -> dict[str, TypeRules]:
    """How ztunnel's two types are served (decisions D8, D10, D12).

    *withheld* says what a ztunnel is not told for now (decision D13). Policies come from this cluster alone.
    """
    return {
        # A policy that a workload names and ztunnel does not know is skipped: it fails open.
        AUTHORIZATION: TypeRules(waits_for_ack=False, removals_after=ADDRESS),
        ADDRESS: TypeRules(
            puts_after=AUTHORIZATION,
            own_groups=_own_pods,
            member_groups=lambda name: (f"service/{name}",),
            withheld=withheld,
        ),
    }


def _refusal(caller: Caller, type_url: str) -> str:
    return f"{caller.identity or caller.kind} may not have {type_url}"


class AdsService:
    """Serves a store's resources on any transport.

    Args:
        store: what is served; its windows are closed here.
        rules: how each of its types is.
        authenticate: who calls; raises StreamClosed.
        allowed: whether a caller may have a type, and `refusal` what to say where not.
        registry: where open streams are seen.
        debug: answers istioctl's debug types.
        clock: monotonic and wall time.
        limits: admission; by default with the bound of memory that the container has.
        check: raises StreamClosed where a node is not what its caller may say.
        ready: why streams are not served yet, empty once they are.
        resident: the memory in use, in bytes.
        window_seconds: the merge window, where it is not the usual one.
        sweep_seconds: how often overdue clients are looked for.
    """

    def __init__(
        self,
        store: ResourceStore,
        rules: Mapping[str, TypeRules],
        *,
        authenticate: Authenticate,
        allowed: Allowed,
        registry: ConnectionRegistry,
        debug: DebugTypes,
        clock: Clock,
        limits: AdmissionLimits | None = None,
        refusal: Callable[[Caller, str], str] = _refusal,
        check: Callable[[Node | None, Caller], None] = check_node,
        ready: Callable[[], str] = lambda: "",
        resident: Callable[[], int] = resident_bytes,
        window_seconds: float | None = None,
        sweep_seconds: float = _SWEEP_SECONDS,
    ) -> None:
        bounds = limits or AdmissionLimits(memory=memory_bound())
        self._store = store
        self._rules = dict(rules)
        self._authenticate = authenticate
        self._allowed = allowed
        self._refusal = refusal
        self._check_node = check
        self._registry = registry
        self._debug = debug
        self._clock = clock
        self._admission = Admission(bounds, clock, ready=ready, resident=resident)
        self._first_answers = FirstAnswers(bounds)
        self._turns = asyncio.Lock()
        self._streams: dict[AdsStream, None] = {}
        self._interest = Interest()
        options = {} if window_seconds is None else {"seconds": window_seconds}
        self.window = MergeWindow(store, self._interest, lambda: self._streams, **options)
        self._sweep_seconds = sweep_seconds
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """For a transport's server."""
        return self.handlers_for(self._authenticate)

    def handlers_for(self, authenticate: Authenticate) -> Mapping[str, Handler]:
        """For the server of a second listener, whose callers prove themselves in another way."""

        async def delta(stream: Stream) -> None:
            await self.delta(stream, authenticate)

        async def state_of_the_world(stream: Stream) -> None:
            await self.state_of_the_world(stream, authenticate)

        return {DELTA_METHOD: delta, STATE_OF_THE_WORLD_METHOD: state_of_the_world}

    async def start(self) -> None:
        """Begin to watch over streams; call it on the loop that serves them."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def drain(self, seconds: float) -> None:
        """Refuse new streams and end the open ones one by one over *seconds*, so that no storm follows.

        ztunnel backs off on UNAVAILABLE and does not after a clean end (wire-contract §1.4).
        """
        self._admission.drain()
        streams = list(self._streams)
        for stream in streams:
            stream.end(StreamClosed(StatusCode.UNAVAILABLE, "draining: this replica is stopping"))
            await asyncio.sleep(seconds / len(streams))

    async def close(self) -> None:
        """Stop watching; streams end with their transport."""
        self.window.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None

    async def delta(self, stream: Stream, authenticate: Authenticate) -> None:
        """Handle a delta stream; raises StreamClosed to end it with a status."""
        try:
            await self._admission.enter()
        except StreamClosed as closed:
            self._registry.refused[closed.code.name] += 1
            raise
        try:
            caller = await authenticate(stream)
            await self._serve(stream, caller)
        except StreamClosed as closed:
            self._registry.ended[closed.code.name] += 1
            if closed.code is not StatusCode.CANCELLED:
                log.info("stream ended", remote=stream.remote, status=closed.code.name, why=closed.message)
            raise
        finally:
            self._admission.leave()

    async def state_of_the_world(self, stream: Stream, authenticate: Authenticate) -> None:
        """Handle istioctl's debug requests."""
        caller = await authenticate(stream)
        await self._debug.serve(stream, lambda type_url: self._judge_type(caller, type_url))

    async def _serve(self, stream: Stream, caller: Caller) -> None:
        machine = DeltaServer(
            self._store,
            self._rules,
            self._interest,
            ack_overdue=ACK_OVERDUE_S,
            write_deadline=WRITE_DEADLINE_S,
            stale=self._count_stale,
        )
        connection = self._registry.add(
            caller, stream.remote, self._clock.time(), lambda: self._views(machine.statuses())
        )
        running = AdsStream(
            stream,
            machine,
            self._clock,
            turns=self._turns,
            first_answers=self._first_answers,
            judge=_Judge(self, caller, connection),
            pushed=self._count_push,
            wording=_wording,
        )
        self._streams[running] = None
        try:
            await running.run()
        finally:
            del self._streams[running]
            self._registry.remove(connection)

    def withheld(self) -> int:
        """How many names are withheld at this moment, counted for each client (decision D13)."""
        return sum(stream.machine.withholding for stream in self._streams)

    @property
    def followed(self) -> int:
        """How many names, aliases and groups are followed by streams without the wildcard."""
        return len(self._interest)

    def judge(self, caller: Caller, connection: Connection, request: DeltaRequest) -> None:
        """Look at a request before the machine does; raises StreamClosed where it is refused."""
        if request.type_url not in connection.asked:
            if not connection.node.id:
                self._check_node(request.node, caller)
                if request.node is not None:
                    connection.node = request.node
            self._judge_type(caller, request.type_url)
            connection.asked += (request.type_url,)

    def refused(self, connection: Connection, request: DeltaRequest) -> None:
        """A client refused, in part, what it was sent: once at most for each response."""
        self._registry.rejects[request.type_url] += 1
        log.warning(
            "client refused resources",
            client=connection.proxy,
            type=request.type_url,
            nonce=request.nonce,
            reasons=(request.error or "")[:2000],
        )

    def _judge_type(self, caller: Caller, type_url: str) -> None:
        if self._allowed(caller, type_url):
            return
        if type_url not in GOVERNED and any(self._allowed(caller, served) for served in self._rules):
            return  # a newer client asks for what nobody has: the machine answers it with nothing
        self._registry.refused[StatusCode.PERMISSION_DENIED.name] += 1
        raise StreamClosed(StatusCode.PERMISSION_DENIED, self._refusal(caller, type_url))

    def _count_push(self, outgoing: Outgoing) -> None:
        self._registry.pushes[outgoing.type_url] += 1
        self._registry.pushed_bytes[outgoing.type_url] += len(outgoing.frame.message)
        if not outgoing.first:
            age = self.window.age(outgoing.frame.revision)
            if age is not None:
                self._registry.convergence.observe(age)

    def _count_stale(self) -> None:
        self._registry.stale_nonces += 1

    def _views(self, statuses: tuple[TypeStatus, ...]) -> tuple[TypeView, ...]:
        offset = self._clock.time() - self._clock.monotonic()

        def wall(moment: float | None) -> float:
            return 0.0 if moment is None else moment + offset

        return tuple(
            TypeView(
                status.type_url,
                status.sent,
                wall(status.sent_at),
                status.acked,
                wall(status.acked_at),
                status.error,
                wall(status.error_at),
                status.rejections,
            )
            for status in statuses
        )

    async def _sweep(self) -> None:
        for turn in itertools.count():
            await asyncio.sleep(self._sweep_seconds)
            for stream in list(self._streams):
                stream.check()
            if turn % 2 and not self._first_answers.used:
                self._store.forget_frames()


def _wording(node: Node) -> Callable[[str, bytes], bytes] | None:
    return _for_older_ztunnels if rejects_passthrough(node.text("ISTIO_VERSION")) else None


def _for_older_ztunnels(type_url: str, message: bytes) -> bytes:
    return without_passthrough(message) if type_url == ADDRESS else message


class _Judge:
    """`AdsService.judge` and `refused` for one stream; a slotted object is a fraction of a closure's size."""

    __slots__ = ("_caller", "_connection", "_service")

    def __init__(self, service: AdsService, caller: Caller, connection: Connection) -> None:
        self._service = service
        self._caller = caller
        self._connection = connection

    def __call__(self, request: DeltaRequest) -> None:
        self._service.judge(self._caller, self._connection, request)

    def refused(self, request: DeltaRequest) -> None:
        self._service.refused(self._connection, request)
