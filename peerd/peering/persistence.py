"""Imports on disk (decision D22): a table in the state directory, written at most 5 s late.

What is written is what came, the resources' own bytes, so that a later version reads what it understands of
them and asks for the rest again.
"""

import asyncio
from pathlib import Path

import msgspec
import structlog

from peerd.model.kube.meta import ObjectKey
from peerd.peering.importer import Keeper, Stored, StoredPeer
from peerd.state.errors import StateError
from peerd.state.table import Table

log = structlog.get_logger(__name__)

LAG = 5.0
_HEARTBEAT_EVERY = 10.0
_HEARTBEAT = "heartbeat"
_RESOURCE = "resource"


class ImportJournal(Keeper):
    """Keeps imports in *path*. `run` writes; `close` writes what is left.

    Raises:
        StateError: the file cannot be opened or is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self._table = Table(path)
        self._heartbeats: dict[ObjectKey, float] = {}
        self._failing = False
        self._dirty = asyncio.Event()

    def load(self) -> list[StoredPeer]:
        """What the last process kept."""
        heartbeats: dict[ObjectKey, float] = {}
        resources: dict[ObjectKey, list[Stored]] = {}
        for name, value in self._table.items():
            kind, namespace, gateway, *rest = name.split("\0")
            key = ObjectKey(namespace, gateway)
            if kind == _HEARTBEAT:
                heartbeats[key] = msgspec.msgpack.decode(value, type=float)
            elif kind == _RESOURCE:
                version, payload = msgspec.msgpack.decode(value, type=tuple[str, bytes])
                resources.setdefault(key, []).append(Stored(key, rest[0], rest[1], version, payload))
        self._heartbeats = dict(heartbeats)
        return [
            StoredPeer(key, heartbeats.get(key, 0.0), tuple(resources.get(key, ())))
            for key in sorted({*heartbeats, *resources})
        ]

    def put(self, stored: Stored) -> None:
        """`Keeper.put`."""
        value = msgspec.msgpack.encode((stored.version, stored.payload))
        self._table.put(_name(_RESOURCE, stored.peer, stored.type_url, stored.name), value)
        self._dirty.set()

    def delete(self, peer: ObjectKey, type_url: str, name: str) -> None:
        """`Keeper.delete`."""
        self._table.delete(_name(_RESOURCE, peer, type_url, name))
        self._dirty.set()

    def heartbeat(self, peer: ObjectKey, at: float) -> None:
        """`Keeper.heartbeat`: each one of the protocol's, or a quick restart would make every peer stale."""
        if 0 <= at - self._heartbeats.get(peer, 0.0) < _HEARTBEAT_EVERY:
            return
        self._heartbeats[peer] = at
        self._table.put(_name(_HEARTBEAT, peer), msgspec.msgpack.encode(at))
        self._dirty.set()

    def forget(self, peer: ObjectKey) -> None:
        """`Keeper.forget`."""
        self._heartbeats.pop(peer, None)
        start = _name(_RESOURCE, peer, "")
        for name in [name for name in self._table if name.startswith(start)]:
            self._table.delete(name)
        self._table.delete(_name(_HEARTBEAT, peer))
        self._dirty.set()

    async def run(self) -> None:
        """Write what changed, in batches, until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(LAG / 2)
            self._dirty.clear()
            self.flush(sync=False)

    def flush(self, *, sync: bool = True) -> None:
        """Write now, with *sync* through to the disk. A failure is logged once, and `run` tries again."""
        try:
            self._table.flush(sync=sync)
        except StateError as error:
            if not self._failing:
                # A full disk is no bug of ours: the reason is enough.
                log.error("imports_not_kept", reason=str(error))  # noqa: TRY400
            self._failing = True
            self._dirty.set()
        else:
            if self._failing:
                log.info("imports_kept_again")
            self._failing = False

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._table.close()


def _name(kind: str, peer: ObjectKey, *rest: str) -> str:
    return "\0".join((kind, peer.namespace, peer.name, *rest))
