"""The peer port: what this cluster exports, served to other control planes (api/peering/v1/README.md)."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from peerd.limits import PEER_REST_S, PEERS_INBOUND, hit
from peerd.model.caller import Caller, CallerKind
from peerd.model.clock import Clock
from peerd.model.federation import FederatedService, PeerInfo
from peerd.model.identity import parse_spiffe_id
from peerd.model.record import Record
from peerd.model.types import ADDRESS, DELTA_METHOD, FEDERATED_SERVICE, SEGMENT
from peerd.model.workload import Workload
from peerd.protocol.envelope import parse_delta_request
from peerd.protocol.errors import ProtocolError
from peerd.protocol.heartbeat import HeartbeatRules
from peerd.protocol.interest import Interest
from peerd.protocol.peer_wire import (
    HEARTBEAT_METHOD,
    Hello,
    PeerProtocolError,
    decode_heartbeat,
    encode_heartbeat,
    node_of,
)
from peerd.protocol.server import DeltaServer
from peerd.protocol.subscription import TypeStatus
from peerd.serve.connections import Connection, ConnectionRegistry, TypeView
from peerd.serve.peer_acceptance import Acceptance
from peerd.serve.peer_exports import PeerExports, View
from peerd.serve.peer_places import PeerPlaces
from peerd.transport.base import Handler, PeerCertificate, StatusCode, Stream, StreamClosed
from peerd.transport.tasks import first_of

log = structlog.get_logger(__name__)

_CHECK_EVERY = 5.0

# What istioctl is shown (decision D19): PeerInfo is left out, unknown types are printed as they are.
_SHOWN = {FEDERATED_SERVICE: "FSDS", SEGMENT: "SGDS", ADDRESS: ADDRESS}


class InboundPeer(Record, frozen=True):
    """One served peer. Times are wall-clock seconds; `last_heartbeat` 0 is none yet."""

    cluster: str
    instance: str
    software: str
    identity: str
    remote: str
    node: str
    since: float
    last_heartbeat: float
    types: tuple[TypeStatus, ...]
    sent_bytes: int
    received_bytes: int


class _Session:
    """A data stream that is being served."""

    def __init__(
        self,
        hello: Hello,
        certificate: PeerCertificate,
        stream: Stream,
        *,
        view: View,
        server: DeltaServer,
        now: float,
    ) -> None:
        self.hello = hello
        self.certificate = certificate
        self.stream = stream
        self.view = view
        self.server = server
        self.since = now
        self.last_heartbeat = 0.0
        self.heard = 0.0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.wake = asyncio.Event()
        self.end: StreamClosed | None = None
        self.connection: Connection | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.hello.cluster, self.hello.instance

    def close(self, reason: StreamClosed) -> None:
        self.end = self.end or reason
        self.wake.set()


class PeerService:
    """Handlers for the peer port. Nothing is answered before `commit_info` and `sources_synced` were called.

    `epoch` is this process run's own (decision D24), `lineage` the cluster's (decision D18).
    """

    def __init__(
        self,
        *,
        acceptance: Acceptance,
        clock: Clock,
        epoch: str,
        lineage: str,
        registry: ConnectionRegistry | None = None,
        places: PeerPlaces | None = None,
        rules: HeartbeatRules | None = None,
    ) -> None:
        self._rules = rules or HeartbeatRules()
        self._acceptance = acceptance
        self._clock = clock
        self._registry = registry or ConnectionRegistry()
        self._places = places or PeerPlaces()
        self._places.watch(self._places_changed)
        self._exports = PeerExports(epoch, lineage)
        self._info: PeerInfo | None = None
        self._synced = False
        self._draining = False
        self._sessions: dict[tuple[str, str], _Session] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """What the peer port's server runs."""
        return {DELTA_METHOD: self.data, HEARTBEAT_METHOD: self.heartbeats}

    def commit(self, exports: Iterable[tuple[str, FederatedService | None]]) -> None:
        """Announce exports, or with None their end."""
        self._exports.commit(exports)
        self._wake()

    def commit_workloads(self, changes: Iterable[tuple[str, Workload | None]], *, same_segment: bool) -> None:
        """Announce our endpoints, at once (decision D20), to peers on our own network.

        Those of our segment are told others than those of other segments.
        """
        self._exports.commit_workloads(changes, same_segment=same_segment)
        self._wake()

    def commit_info(self, info: PeerInfo) -> None:
        """What this cluster says of itself. A new segment ends all streams, for who may see what changed.

        So does a new network those that see something else with it.
        """
        before, self._info = self._info, info
        self._exports.commit_info(before, info)
        if before is not None and before.segment != info.segment:
            for session in self._sessions.values():
                session.close(StreamClosed(StatusCode.UNAVAILABLE, "this cluster's segment changed"))
        self._places_changed()
        self._wake()

    def sources_synced(self) -> None:
        """Exports are complete: peers may be answered (decision D18)."""
        self._synced = True
        self._wake()

    def drain(self) -> None:
        """End every stream with status OK: the peers come back, to us or to another replica."""
        self._draining = True
        self._exports.close()
        self._wake()

    def inbound(self) -> tuple[InboundPeer, ...]:
        """Served peers, by cluster and instance."""
        return tuple(
            InboundPeer(
                cluster=session.hello.cluster,
                instance=session.hello.instance,
                software=session.hello.software,
                identity=next(iter(session.certificate.uris), ""),
                remote=session.stream.remote,
                node=session.server.node.id,
                since=session.since,
                last_heartbeat=session.last_heartbeat,
                types=session.server.statuses(),
                sent_bytes=session.sent_bytes,
                received_bytes=session.received_bytes,
            )
            for _, session in sorted(self._sessions.items())
        )

    def _admit(self, stream: Stream) -> tuple[Hello, PeerCertificate]:
        try:
            return self._acceptance.admit(stream)
        except StreamClosed as refused:
            log.warning("peer_refused", remote=stream.remote, reason=refused.message)
            raise

    async def data(self, stream: Stream) -> None:
        """One data stream, from admission to its end."""
        hello, certificate = self._admit(stream)
        if len(self._sessions) >= PEERS_INBOUND.value:
            hit(PEERS_INBOUND)
            raise StreamClosed(StatusCode.RESOURCE_EXHAUSTED, f"{PEERS_INBOUND.value} peers are being served")
        if self._on_our_network(hello):
            await self._exports.encoded()
        session = self._session(hello, certificate, stream)
        log.info("peer_accepted", cluster=hello.cluster, instance=hello.instance, remote=stream.remote)
        try:
            await first_of(
                (asyncio.ensure_future(self._read(session)), asyncio.ensure_future(self._write(session)))
            )
        except (ProtocolError, PeerProtocolError) as error:
            code = StatusCode(getattr(error, "code", StatusCode.INVALID_ARGUMENT))
            log.warning(
                "peer_stream_ended", cluster=hello.cluster, instance=hello.instance, reason=str(error)
            )
            raise StreamClosed(code, str(error)) from None
        finally:
            session.server.close()
            if session.connection is not None:
                self._registry.remove(session.connection)
            if self._sessions.get(session.key) is session:
                del self._sessions[session.key]
            log.info("peer_gone", cluster=hello.cluster, instance=hello.instance, remote=stream.remote)

    async def heartbeats(self, stream: Stream) -> None:
        """Answer heartbeats, whatever the data stream does (decision D17)."""
        hello, certificate = self._admit(stream)
        key = hello.cluster, hello.instance
        missed = False
        while True:
            try:
                async with asyncio.timeout(self._rules.stale_after):
                    message = await stream.receive()
            except TimeoutError:
                raise StreamClosed(StatusCode.UNAVAILABLE, self._silence()) from None
            if message is None:
                return
            try:
                answer = encode_heartbeat(decode_heartbeat(message))
            except PeerProtocolError as error:
                raise StreamClosed(StatusCode.INVALID_ARGUMENT, str(error)) from None
            session = self._sessions.get(key)
            if session is not None:
                _check_issuer(session, certificate)
                session.last_heartbeat = self._clock.time()
                session.heard = self._clock.monotonic()
            elif missed:
                # Answers would keep a peer content whose data comes from nowhere.
                raise StreamClosed(StatusCode.UNAVAILABLE, "no data stream of this instance is served")
            missed = session is None  # the first may come before its data stream is entered
            await stream.send(answer)

    def _session(self, hello: Hello, certificate: PeerCertificate, stream: Stream) -> _Session:
        """Enter a stream; the newest of an instance wins, if the same issuer vouches for it (D14, D16)."""
        before = self._sessions.get((hello.cluster, hello.instance))
        if before is not None:
            _check_issuer(before, certificate)
            before.close(StreamClosed(StatusCode.ABORTED, "displaced by a newer stream of this instance"))
        view = self._visible(hello)
        server = DeltaServer(
            view.store,
            view.rules,
            Interest(),
            ack_overdue=PEER_REST_S,
            write_deadline=PEER_REST_S,
        )
        session = _Session(hello, certificate, stream, view=view, server=server, now=self._clock.time())
        session.heard = self._clock.monotonic()
        self._sessions[session.key] = session
        identity = parse_spiffe_id(certificate.uris[0])
        caller = Caller(
            CallerKind.PEER,
            identity,
            pod_name=hello.instance,
            issuer_key_sha256=certificate.issuer_key_sha256,
        )
        session.connection = self._registry.add(
            caller, stream.remote, session.since, lambda: self._views(session)
        )
        return session

    def _visible(self, hello: Hello) -> View:
        """What a cluster may see: services of scope `segment` only where nothing says it is elsewhere."""
        segment = self._info.segment if self._info is not None else ""
        same_segment = hello.segment == segment
        if same_segment and not self._places.in_segment(hello.cluster, segment):
            log.warning("peer_segment_contradicted", cluster=hello.cluster, instance=hello.instance)
            same_segment = False
        return self._exports.view(same_segment=same_segment, same_network=self._on_our_network(hello))

    def _on_our_network(self, hello: Hello) -> bool:
        """Clusters without a network's name share none (decision D31)."""
        network = self._info.network if self._info is not None else ""
        return bool(network) and hello.network == network and self._places.on_network(hello.cluster, network)

    def _places_changed(self) -> None:
        for session in self._sessions.values():
            if session.view is not self._visible(session.hello):
                session.close(StreamClosed(StatusCode.UNAVAILABLE, "what you may see of us changed"))

    def _views(self, session: _Session) -> tuple[TypeView, ...]:
        past = self._clock.time() - self._clock.monotonic()

        def moment(at: float | None) -> float:
            return 0.0 if at is None else at + past

        return tuple(
            TypeView(
                _SHOWN[status.type_url],
                sent=status.sent,
                sent_at=moment(status.sent_at),
                acked=status.acked,
                acked_at=moment(status.acked_at),
                error=status.error,
                error_at=moment(status.error_at),
                rejected=status.rejections,
            )
            for status in session.server.statuses()
            if status.type_url in _SHOWN
        )

    async def _read(self, session: _Session) -> None:
        while (message := await session.stream.receive()) is not None:
            session.received_bytes += len(message)
            session.server.receive(parse_delta_request(message), self._clock.monotonic())
            if session.connection is not None:
                session.connection.node = node_of(session.hello, session.server.node)
            for _ in session.server.compare():
                await asyncio.sleep(0)
            session.wake.set()

    async def _write(self, session: _Session) -> None:
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                session.wake.clear()
                if session.end is not None:
                    raise session.end
                if self._draining:
                    return
                now = self._clock.monotonic()
                self._check(session, now)
                if writing is not None and writing.done():
                    writing.result()
                    session.server.written(now)
                    writing = None
                if writing is None and self._synced and self._info is not None:
                    outgoing = session.server.next(now)
                    if outgoing is not None:
                        self._registry.pushes[outgoing.type_url] += 1
                        self._registry.pushed_bytes[outgoing.type_url] += len(outgoing.frame.message)
                        session.sent_bytes += len(outgoing.frame.message)
                        # In a task of its own, so that a peer that does not read can still be judged.
                        writing = asyncio.ensure_future(session.stream.send(outgoing.frame.message))
                        writing.add_done_callback(lambda _: session.wake.set())
                await _wait(session.wake, min(_CHECK_EVERY, self._rules.interval))
        finally:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def _check(self, session: _Session, now: float) -> None:
        session.server.check(now)
        if now - session.heard > self._rules.stale_after:
            raise StreamClosed(StatusCode.UNAVAILABLE, self._silence())

    def _silence(self) -> str:
        return f"no heartbeat for {self._rules.stale_after:g} seconds"

    def _wake(self) -> None:
        for session in self._sessions.values():
            session.wake.set()


def _check_issuer(session: _Session, certificate: PeerCertificate) -> None:
    """Names are self-declared: who speaks for a session has a certificate of the same issuer (D14)."""
    if session.certificate.issuer_key_sha256 != certificate.issuer_key_sha256:
        raise StreamClosed(
            StatusCode.ALREADY_EXISTS,
            f"instance {session.hello.instance} of cluster {session.hello.cluster} is connected with a"
            " certificate of another issuer; cluster ids must be unique",
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
