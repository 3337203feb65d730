"""A second implementation of the dialling side, written from api/peering/v1/README.md and nothing else.

It shares no code with peerd: raw h2, hand-made protobuf, the standard library's TLS. What it cannot do, the
document does not say.
"""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.settings
import xxhash

DATA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
BEATS = "/peerd.peering.v1.PeeringService/Heartbeat"
PREFIX = "type.googleapis.com/"
PEER_INFO = PREFIX + "peerd.peering.v1.PeerInfo"
SERVICES = PREFIX + "peerd.peering.v1.FederatedService"
SEGMENTS = PREFIX + "peerd.peering.v1.Segment"
WORKLOADS = PREFIX + "istio.workload.Address"
ALL_TYPES = (PEER_INFO, SERVICES, SEGMENTS, WORKLOADS)
COMPLETE, VERSIONS_WANTED = 1, 2


# -- protobuf, as far as it is needed -----------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(number: int, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def fields(message: bytes) -> dict[int, list[bytes | int]]:
    """Field number -> values; length-delimited ones as bytes, varints as int."""
    found: dict[int, list[bytes | int]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        match tag & 7:
            case 0:
                found.setdefault(tag >> 3, []).append(number())
            case 2:
                length = number()
                found.setdefault(tag >> 3, []).append(message[at : at + length])
                at += length
            case other:
                raise AssertionError(f"wire type {other}")
    return found


def string(message: Mapping[int, list[bytes | int]], number: int) -> str:
    value = message.get(number, [b""])[0]
    assert isinstance(value, bytes)
    return value.decode()


def digest(versions: Mapping[str, str]) -> str:
    """§3."""
    lines = "".join(f"{name}\0{version}\0" for name, version in sorted(versions.items()))
    return xxhash.xxh3_128_hexdigest(lines.encode())


def request(
    type_url: str,
    *,
    subscribe: bool = False,
    versions: Mapping[str, str] | None = None,
    nonce: str = "",
    error: str = "",
    node: bytes = b"",
) -> bytes:
    """§2, §3, §5."""
    parts = [text(1, node)] if node else []
    parts.append(text(2, type_url))
    if subscribe:
        parts.append(text(3, "*"))
    parts += [text(5, text(1, name) + text(2, version)) for name, version in (versions or {}).items()]
    if nonce:
        parts.append(text(6, nonce))
    if error:
        parts.append(text(7, text(2, error)))
    return b"".join(parts)


@dataclass
class Response:
    """A DeltaDiscoveryResponse; `sync` is (state, digest)."""

    type_url: str
    nonce: str
    system_version: str
    resources: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    sync: tuple[int, str] | None = None

    @classmethod
    def parse(cls, message: bytes) -> "Response":
        top = fields(message)
        made = cls(string(top, 4), string(top, 5), string(top, 1))
        for raw in top.get(2, []):
            assert isinstance(raw, bytes)
            resource = fields(raw)
            any_ = fields(resource.get(2, [b""])[0])  # type: ignore[arg-type]
            payload = any_.get(2, [b""])[0]
            assert isinstance(payload, bytes)
            name = string(resource, 3)
            if name == "@sync":
                assert string(any_, 1) == PREFIX + "peerd.peering.v1.Sync"
                marker = fields(payload)
                made.sync = (int(marker[1][0]), string(marker, 2))
            else:
                made.resources[name] = (string(resource, 1), payload)
        made.removed = [raw.decode() for raw in top.get(6, []) if isinstance(raw, bytes)]
        return made


@dataclass
class Ended(Exception):  # noqa: N818 (how a stream ended, good or bad)
    """A stream's status."""

    code: int
    message: str


class Connection:
    """§1: TLS 1.3, ALPN h2, our certificate, windows as demanded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._buffers: dict[int, bytearray] = {}
        self._ended: dict[int, Ended] = {}
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.hold: set[int] = set()  # streams we do not read

    @classmethod
    async def open(
        cls, host: str, port: int, certificate: bytes | None, key: bytes, roots: bytes
    ) -> "Connection":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=roots.decode())
        if certificate is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "tls.pem"
                path.write_bytes(certificate + key)
                context.load_cert_chain(path)
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        self = cls(reader, writer)
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        self.h2.increment_flow_control_window((16 << 20) - 65535)
        self._flush()
        self._task = asyncio.create_task(self._run())
        return self

    def uris(self) -> list[str]:
        """The server's URI SANs."""
        shown = self._writer.get_extra_info("peercert")
        return [value for kind, value in shown["subjectAltName"] if kind == "URI"]

    def start(self, method: str, metadata: Mapping[str, str]) -> int:
        stream = self.h2.get_next_available_stream_id()
        self._buffers[stream] = bytearray()
        headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", method),
            (":authority", "peer"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata.items(),
        ]
        self.h2.send_headers(stream, headers)
        self._flush()
        return stream

    def send(self, stream: int, message: bytes) -> None:
        """For messages that fit the window."""
        data = b"\0" + len(message).to_bytes(4, "big") + message
        for at in range(0, len(data), 16_000):
            self.h2.send_data(stream, data[at : at + 16_000])
        self._flush()

    async def receive(self, stream: int) -> bytes:
        """The next message; raises Ended."""
        buffer = self._buffers[stream]
        async with self._news:
            while True:
                if len(buffer) >= 5:
                    assert buffer[0] == 0, "uncompressed"
                    length = int.from_bytes(buffer[1:5], "big")
                    if len(buffer) >= 5 + length:
                        message = bytes(buffer[5 : 5 + length])
                        del buffer[: 5 + length]
                        return message
                if stream in self._ended:
                    raise self._ended[stream]
                await self._news.wait()

    async def close(self) -> None:
        self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(OSError, ssl.SSLError):
            await self._writer.wait_closed()

    async def _run(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._handle(event)
                self._flush()
                async with self._news:
                    self._news.notify_all()
        async with self._news:
            for stream in self._buffers:
                self._ended.setdefault(stream, Ended(14, "connection lost"))
            self._news.notify_all()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._buffers[event.stream_id] += event.data
                if event.stream_id not in self.hold:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                headers = dict(event.headers)
                if "grpc-status" in headers:
                    status = Ended(int(headers["grpc-status"]), unquote(headers.get("grpc-message", "")))
                    self._ended[event.stream_id] = status
            case h2.events.StreamReset():
                self._ended.setdefault(event.stream_id, Ended(1, "reset"))

    def _flush(self) -> None:
        self._writer.write(self.h2.data_to_send())


@dataclass
class Holding:
    """What an importer keeps of one type."""

    versions: dict[str, str] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)


class SpecClient:
    """An importer by the document: §2 to §5."""

    def __init__(self, cluster: str, instance: str, segment: str = "", network: str = "") -> None:
        self.metadata = {
            "peering-versions": "1",
            "peering-cluster": cluster,
            "peering-instance": instance,
            **({"peering-segment": segment} if segment else {}),
            **({"peering-network": network} if network else {}),
        }
        self.node = text(1, f"peerd~0.0.0.0~{instance}.istio-system~{cluster}") + text(2, cluster)
        self.held = {type_url: Holding() for type_url in ALL_TYPES}
        self.lineage = ""
        self.order: list[str] = []  # types in the order of their COMPLETE
        self.transcript: list[tuple[str, bytes]] = []
        self._connection: Connection | None = None
        self._stream = 0
        self._seen: dict[str, set[str]] = {}
        self._full: set[str] = set()
        self._refused: dict[str, dict[str, str]] = {}
        self.system_versions: list[str] = []

    def start(self, connection: Connection) -> None:
        """PeerInfo first."""
        self._connection = connection
        self._stream = connection.start(DATA, self.metadata)
        self.order = []
        self._refused = {}
        self._ask(PEER_INFO, self.node)

    def _ask(self, type_url: str, node: bytes = b"") -> None:
        held = self.held[type_url].versions
        offer = {"@digest": f"{self.lineage}/{digest(held)}"} if held and self.lineage else {}
        if not offer:
            self._full.add(type_url)
        self._seen[type_url] = set()
        self._send(request(type_url, subscribe=True, versions=offer, node=node))

    async def step(self, refuse: Mapping[str, str] | None = None) -> Response:
        """Take one response, apply it, answer it."""
        assert self._connection is not None
        message = await self._connection.receive(self._stream)
        self.transcript.append(("server", message))
        response = Response.parse(message)
        self.system_versions.append(response.system_version)
        holding = self.held[response.type_url]
        if response.type_url != PEER_INFO:
            assert PEER_INFO in self.order, "§2: nothing else was asked for"
        reasons = []
        refused = self._refused.setdefault(response.type_url, {})
        for name, (version, payload) in response.resources.items():
            self._seen[response.type_url].add(name)
            if refuse and name in refuse:
                reasons.append(f"{name}: {refuse[name]}")
                refused[name] = version
            else:
                refused.pop(name, None)
                holding.versions[name] = version
                holding.payloads[name] = payload
        for name in response.removed:
            holding.versions.pop(name, None)
            holding.payloads.pop(name, None)
            refused.pop(name, None)
        self._send(request(response.type_url, nonce=response.nonce, error="; ".join(reasons)))
        if response.sync is not None:
            self._sync(response, refused)
        return response

    async def sync(self) -> None:
        """Until every type is complete."""
        while set(self.order) != set(ALL_TYPES):
            await self.step()

    def _sync(self, response: Response, refused: Mapping[str, str]) -> None:
        assert response.sync is not None
        state, theirs = response.sync
        holding, type_url = self.held[response.type_url], response.type_url
        if state == VERSIONS_WANTED:
            self._send(request(type_url, subscribe=True, versions=holding.versions))
            return
        if type_url in self._full:
            for name in set(holding.versions) - self._seen[type_url]:
                del holding.versions[name], holding.payloads[name]
            self._full.discard(type_url)
        assert digest({**holding.versions, **refused}) == theirs, "§4"
        self.order.append(type_url)
        if type_url == PEER_INFO:
            # What is held was held of the lineage known before; the offers say so.
            for other in ALL_TYPES[1:]:
                self._ask(other)
            self.lineage = string(fields(self.held[PEER_INFO].payloads["self"]), 4)

    def _send(self, message: bytes) -> None:
        assert self._connection is not None
        self.transcript.append(("client", message))
        self._connection.send(self._stream, message)
