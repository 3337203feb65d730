"""Imports on disk (decision D22): a log in the state directory, written at most 5 s late.

What is written is what came, the resources' own bytes, so that a later version reads what it understands of
them and asks for the rest again. None of it is kept in memory: it is read at the start only.
"""

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import structlog

from peerd.model.kube.meta import ObjectKey
from peerd.peering.keeper import Keeper, Stored, StoredPeer
from peerd.state.disk import DISK, Disk
from peerd.state.errors import StateError
from peerd.state.keyed_log import KeyedLog
from peerd.transport.tasks import in_turns

log = structlog.get_logger(__name__)

LAG = 5.0
_HEARTBEAT_EVERY = 10.0
_SLICE = 1_000
"""Resources written at once, about a millisecond: a first sync of many peers brings a hundred thousand."""
_HEARTBEAT = "heartbeat"  # a resource's name in the log has a type before a zero byte
_COMPLETE = "complete"


class ImportJournal(Keeper):
    """Keeps imports in *path*. `run` writes; `close` writes what is left.

    Raises:
        StateError: the file cannot be opened or is corrupt.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self._log = KeyedLog(path, disk=disk)
        self._heartbeats: dict[ObjectKey, float] = {}
        self._complete: set[ObjectKey] = set()
        self._failing = False
        self._dirty = asyncio.Event()

    def load(self) -> list[StoredPeer]:
        """What the last process kept, handed over once."""
        found: list[StoredPeer] = []
        for group, names in sorted(self._log.load().items()):
            namespace, _, gateway = group.partition("/")
            key = ObjectKey(namespace, gateway)
            resources: list[Stored] = []
            for name, value in names.items():
                if name == _HEARTBEAT:
                    self._heartbeats[key] = msgspec.msgpack.decode(value, type=float)
                    continue
                if name == _COMPLETE:
                    self._complete.add(key)
                    continue
                type_url, _, resource = name.partition("\0")
                version, payload = msgspec.msgpack.decode(value, type=tuple[str, bytes])
                resources.append(Stored(key, type_url, resource, version, payload))
            heartbeat, complete = self._heartbeats.get(key, 0.0), key in self._complete
            found.append(StoredPeer(key, heartbeat, tuple(resources), complete))
        return found

    def put(self, stored: Stored, *, replaces: bool) -> None:
        """`Keeper.put`."""
        value = msgspec.msgpack.encode((stored.version, stored.payload))
        self._log.put(str(stored.peer), _name(stored.type_url, stored.name), value, replaces=replaces)
        self._dirty.set()

    def delete(self, peer: ObjectKey, type_url: str, name: str) -> None:
        """`Keeper.delete`."""
        self._log.delete(str(peer), _name(type_url, name))
        self._dirty.set()

    def heartbeat(self, peer: ObjectKey, at: float) -> None:
        """`Keeper.heartbeat`: each one of the protocol's, or a quick restart would make every peer stale."""
        before = self._heartbeats.get(peer)
        if before is not None and 0 <= at - before < _HEARTBEAT_EVERY:
            return
        self._heartbeats[peer] = at
        self._log.put(str(peer), _HEARTBEAT, msgspec.msgpack.encode(at), replaces=before is not None)
        self._dirty.set()

    def complete(self, peer: ObjectKey, *, now: bool) -> None:
        """`Keeper.complete`."""
        if now is (peer in self._complete):
            return
        if now:
            self._complete.add(peer)
            self._log.put(str(peer), _COMPLETE, b"", replaces=False)
        else:
            self._complete.discard(peer)
            self._log.delete(str(peer), _COMPLETE)
        self._dirty.set()

    def forget(self, peer: ObjectKey, held: int) -> None:
        """`Keeper.forget`."""
        known = (self._heartbeats.pop(peer, None) is not None) + (peer in self._complete)
        self._complete.discard(peer)
        self._log.forget(str(peer), held + known)
        self._dirty.set()

    async def run(self) -> None:
        """Write what changed, in batches, and compact what grew, until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(LAG / 2)
            self._dirty.clear()
            await in_turns(self._flushing())
            if self._log.mostly_history:
                await self._compact()

    def flush(self, *, sync: bool = True) -> None:
        """Write now, with *sync* through to the disk. A failure is logged once, and `run` tries again."""
        self._flush(sync=sync)

    def _flush(self, *, sync: bool, at_most: int | None = None) -> bool:
        try:
            self._log.flush(sync=sync, at_most=at_most)
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
        return not self._failing

    def _flushing(self) -> Generator[None, None, None]:
        while self._flush(sync=False, at_most=_SLICE) and self._log.dirty:
            yield

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._log.close()

    async def _compact(self) -> None:
        """In slices, and what waits for the disk in a thread: two hundred thousand records take a second."""
        try:
            compaction = await in_turns(self._log.compacting())
            try:
                await _uninterrupted(compaction.sync)
                compaction.finish()
            finally:
                compaction.abandon()
        except StateError as error:
            log.warning("imports_not_compacted", reason=str(error))


async def _uninterrupted(work: Callable[[], None]) -> None:
    """Run *work* in a thread, and wait for it also when cancelled: what it uses is about to be closed."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _name(type_url: str, name: str) -> str:
    return f"{type_url}\0{name}"
