"""Addresses given to host names, recorded in the state directory before anything is served (decision D28).

Which address a host gets is a pure choice (peerd/derive); this is its one writer: existing records always
win, a new one is on disk before derivation hears of it, a freed address rests for an hour.
"""

from collections.abc import Collection, Iterable

import msgspec

from peerd.model.changes import AllocationChange
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation
from peerd.model.record import Record
from peerd.publish.pools import REST_SECONDS, Choose, exhausted
from peerd.state.errors import StateError
from peerd.state.table import Table


class _Entry(Record, frozen=True, omit_defaults=True):
    """One host in the table: its pool, its addresses, and when it was freed (Unix seconds, 0 = in use)."""

    pool: str
    ipv4: bytes
    ipv6: bytes
    freed: float = 0.0


class Allocations:
    """The records of one cluster.

    Args:
        table: where they are kept.
        choose: picks addresses for a new host.
        clock: tells when a freed address has rested.

    Raises:
        StateError: the table holds something else.
    """

    def __init__(self, table: Table, choose: Choose, clock: Clock) -> None:
        self._table = table
        self._choose = choose
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, str] = {}  # host -> pool: wanted, and the pool had no address
        self._unsaid: dict[str, Allocation | None] = {}  # decided, told once it is on disk
        try:
            for host, raw in table.load().items():
                self._entries[host] = msgspec.msgpack.decode(raw, type=_Entry)
        except msgspec.DecodeError as error:
            raise StateError(table.path, f"holds no allocations ({error})", "move it away") from error
        self._resting = {host: None for host, entry in self._entries.items() if entry.freed}
        self._taken = {address for entry in self._entries.values() for address in _addresses(entry)}

    def restore(self) -> list[AllocationChange]:
        """Every allocation in use, for derivation's first run."""
        return [
            AllocationChange(host, Allocation(entry.ipv4, entry.ipv6))
            for host, entry in sorted(self._entries.items())
            if not entry.freed
        ]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Hosts that have no address because their pool is exhausted."""
        return exhausted(self._waiting)

    def want(self, hosts: Iterable[tuple[str, str | None]]) -> None:
        """Take what derivation wants: (host, pool), or (host, None) where it is no longer wanted."""
        for host, pool in hosts:
            if pool is None:
                self._waiting.pop(host, None)
                self._free(host)
            else:
                self._waiting[host] = pool

    def retain(self, hosts: Collection[str]) -> None:
        """Free what is recorded and not among *hosts*: only once everything that could want it has synced."""
        for host, entry in list(self._entries.items()):
            if not entry.freed and host not in hosts and host not in self._waiting:
                self._free(host)

    def record(self) -> list[AllocationChange]:
        """Choose for what is wanted, write it down, and only then give it back for derivation.

        Raises:
            StateError: it could not be written. Nothing is given; the next call tries again.
        """
        self._forget_rested()
        for host, pool in sorted(self._waiting.items()):
            if self._grant(host, pool):
                del self._waiting[host]
        self._table.flush()
        changes = [AllocationChange(host, self._unsaid[host]) for host in sorted(self._unsaid)]
        self._unsaid.clear()
        return changes

    def _grant(self, host: str, pool: str) -> bool:
        entry = self._entries.get(host)
        if entry is not None and not entry.freed:
            return True  # an existing one always wins, whatever pool is wanted now
        if entry is None:
            chosen = self._choose(host, pool, self._taken)
            if chosen is None:
                return False
            entry = _Entry(pool, chosen.ipv4, chosen.ipv6)
            self._taken.update(_addresses(entry))
        self._store(host, msgspec.structs.replace(entry, freed=0.0))
        self._unsaid[host] = Allocation(entry.ipv4, entry.ipv6)
        return True

    def _free(self, host: str) -> None:
        entry = self._entries.get(host)
        if entry is not None and not entry.freed:
            self._store(host, msgspec.structs.replace(entry, freed=self._clock.time()))
            self._unsaid[host] = None

    def _forget_rested(self) -> None:
        now = self._clock.time()
        for host in list(self._resting):
            entry = self._entries[host]
            if entry.freed > now:
                # The wall clock went back: the rest begins anew rather than never ending.
                self._store(host, msgspec.structs.replace(entry, freed=now))
            elif now - entry.freed >= REST_SECONDS:
                del self._entries[host], self._resting[host]
                self._table.delete(host)
                self._taken.difference_update(_addresses(entry))

    def _store(self, host: str, entry: _Entry) -> None:
        known = host in self._entries
        self._entries[host] = entry
        if entry.freed:
            self._resting[host] = None
        else:
            self._resting.pop(host, None)
        self._table.put(host, msgspec.msgpack.encode(entry), replaces=known)


def _addresses(entry: _Entry) -> tuple[bytes, ...]:
    return tuple(address for address in (entry.ipv4, entry.ipv6) if address)
