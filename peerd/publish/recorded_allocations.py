"""Addresses of host names, recorded in the status of ServiceEntries (decision D28).

In Kubernetes the record is the object: `status.addresses` of our generated ServiceEntries for global names,
of users' own for theirs, as istiod writes it. Every replica reads it, so all serve the same; one chooses and
writes. What is recorded always wins, whoever wrote it. Derivation hears of an address when it is read back.

A freed address rests for an hour. That is remembered by each process; when all replicas restart within that
hour it is forgotten, and only a name whose hash met the same address could be given it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from peerd.derive.service_entries import allocatable, status_addresses
from peerd.model.address import ip_text, parse_ip
from peerd.model.changes import AllocationChange, ObjectChange, OwnChange
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Allocation
from peerd.model.kube.istio import ServiceEntry
from peerd.model.record import Record
from peerd.publish.pools import REST_SECONDS, Choose, exhausted

KIND = "ServiceEntry"

Addresses = dict[str, tuple[str, ...]]
Recorder = Callable[[str, Addresses | None], None]
"""Takes `ServiceEntry/<namespace>/<name>` and its addresses by host; None: the object is gone."""


class _Entry(Record, frozen=True):
    """A ServiceEntry in the cluster: the hosts that may have addresses, and those that are recorded."""

    hosts: tuple[str, ...]
    recorded: dict[str, Allocation]


class RecordedAllocations:
    """The allocations of one cluster.

    Args:
        record: writes a status.
        emit: takes what derivation is to hear.
        choose: picks addresses for a new host (peerd/derive/allocation.py).
        may_choose: whether this replica is the one that writes.
        clock: tells when a freed address has rested.
    """

    def __init__(
        self,
        *,
        record: Recorder,
        emit: Callable[[Sequence[AllocationChange]], None],
        choose: Choose,
        may_choose: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._record = record
        self._emit = emit
        self._choose = choose
        self._may_choose = may_choose
        self._clock = clock
        self._own: dict[str, _Entry] = {}
        self._users: dict[str, _Entry] = {}
        self._recorded: dict[str, dict[str, Allocation]] = {}  # by host, of which of our entries
        self._known: dict[str, Allocation] = {}  # read from a status of ours, served
        self._chosen: dict[str, Allocation] = {}  # not read back yet
        self._wanted: dict[str, str] = {}
        self._resting: dict[str, tuple[Allocation, float]] = {}
        self._exhausted: dict[str, str] = {}
        self._pending = False  # something may lack an address

    # -- what is recorded --------------------------------------------------------------------------------

    def own(self, changes: Sequence[OwnChange]) -> None:
        """Generated objects as they lie in the cluster (`Sink.own`)."""
        touched: set[str] = set()
        for change in changes:
            if change.kind != KIND:
                continue
            self._pending = True
            key = f"{KIND}/{change.key}"
            touched |= self._forget(key)
            if change.object is None:
                self._record(key, None)
                continue
            self._own[key] = entry = _of_tree(change.object)
            for host, found in entry.recorded.items():
                self._recorded.setdefault(host, {})[key] = found
                touched.add(host)
        self._read(touched)

    def _forget(self, key: str) -> set[str]:
        """Forget one of our entries; returns the hosts it recorded."""
        before = self._own.pop(key, None)
        for host in () if before is None else before.recorded:
            del self._recorded[host][key]
            if not self._recorded[host]:
                del self._recorded[host]
        return set() if before is None else set(before.recorded)

    def users(self, changes: Iterable[ObjectChange]) -> None:
        """ServiceEntries of users. Their recorded addresses reach derivation with the objects themselves."""
        for change in changes:
            if change.kind != KIND:
                continue
            key = f"{KIND}/{change.key}"
            if isinstance(change.object, ServiceEntry):
                self._pending = True
                self._users[key] = _of_entry(change.object)
            elif self._users.pop(key, None) is not None:
                self._record(key, None)

    def _read(self, hosts: Set[str]) -> None:
        """What the statuses say of *hosts* now; an address belongs to the first host by name."""
        changes: list[AllocationChange] = []
        taken = {address: host for host, each in self._known.items() for address in _addresses(each)}
        for host in sorted(hosts):
            records = self._recorded.get(host)
            # Of two records, as while an entry moves, the one that is served stays.
            found = None if records is None else records[min(records)]
            if records is not None and self._known.get(host) in records.values():
                found = self._known[host]
            if found is None:
                if host not in self._wanted:
                    changes += self._free(host)
                continue
            if any(taken.get(address, host) < host for address in _addresses(found)):
                continue
            self._chosen.pop(host, None)
            self._resting.pop(host, None)
            if self._known.get(host) != found:
                self._known[host] = found
                taken |= dict.fromkeys(_addresses(found), host)
                changes.append(AllocationChange(host, found))
        if changes:
            self._emit(changes)

    # -- what is wanted ----------------------------------------------------------------------------------

    def want(self, hosts: Iterable[tuple[str, str | None]]) -> None:
        """What derivation wants: (host, pool), or (host, None) where it is no longer wanted."""
        changes: list[AllocationChange] = []
        for host, pool in hosts:
            if pool is not None:
                self._pending = True
                self._wanted[host] = pool
                continue
            self._wanted.pop(host, None)
            self._chosen.pop(host, None)
            self._exhausted.pop(host, None)
            if host not in self._recorded:
                changes += self._free(host)
        if changes:
            self._emit(changes)

    def settle(self) -> None:
        """Choose for what is wanted and not recorded, if it is this replica's turn, and have it written."""
        if not self._pending or not self._may_choose():
            return
        self._pending = False
        now = self._clock.time()
        # The wall clock may go back: a rest that begins in the future begins now.
        self._resting = {
            host: (each, min(since, now))
            for host, (each, since) in self._resting.items()
            if now - since < REST_SECONDS
        }
        taken: set[bytes] | None = None
        for entries in (self._own, self._users):
            for key, entry in sorted(entries.items()):
                lacking = [host for host in entry.hosts if self._lacks(host, entry, own=entries is self._own)]
                if not lacking:
                    continue
                taken = self._taken() if taken is None else taken
                for host in lacking:
                    self._pick(host, taken)
                self._say(key, entry)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Hosts that have no address because their pool is exhausted."""
        return exhausted(self._exhausted)

    def _lacks(self, host: str, entry: _Entry, *, own: bool) -> bool:
        """Whether a wanted host has no record there, or one of ours that is not what is served."""
        recorded = entry.recorded.get(host)
        return host in self._wanted and (recorded is None or (own and self._known.get(host) != recorded))

    def _pick(self, host: str, taken: set[bytes]) -> None:
        if host in self._known or host in self._chosen:
            return
        pool = self._wanted[host]
        rested = self._resting.get(host)
        found = rested[0] if rested is not None else self._choose(host, pool, taken)
        if found is None:
            self._exhausted[host] = pool
            self._pending = True  # a freed address may have rested by then
            return
        self._exhausted.pop(host, None)
        self._chosen[host] = found
        taken.update(_addresses(found))

    def _say(self, key: str, entry: _Entry) -> None:
        found: Addresses = {}
        for host in entry.hosts:
            each = self._known.get(host) or self._chosen.get(host) or entry.recorded.get(host)
            if each is not None:
                found[host] = tuple(map(ip_text, _addresses(each)))
        self._record(key, found)

    def _taken(self) -> set[bytes]:
        held = [*self._known.values(), *self._chosen.values()]
        held += [each for each, _ in self._resting.values()]
        for entries in (self._own, self._users):
            held += [each for entry in entries.values() for each in entry.recorded.values()]
        return {address for each in held for address in _addresses(each)}

    def _free(self, host: str) -> list[AllocationChange]:
        found = self._known.pop(host, None)
        if found is None:
            return []
        self._resting[host] = (found, self._clock.time())
        return [AllocationChange(host, None)]


def _of_tree(tree: Mapping[str, object]) -> _Entry:
    """One of our own objects. Odd statuses are passed over: they are not of our making."""
    spec, status = tree.get("spec"), tree.get("status")
    hosts = spec.get("hosts") if isinstance(spec, Mapping) else None
    listed = status.get("addresses") if isinstance(status, Mapping) else None
    found: dict[str, list[bytes]] = {}
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, Mapping):
            address = parse_ip(str(each.get("value", "")))
            if address is not None:
                found.setdefault(str(each.get("host", "")), []).append(address)
    names = tuple(map(str, hosts)) if isinstance(hosts, list) else ()
    recorded = {host: _allocation(addresses) for host, addresses in found.items() if host in names}
    return _Entry(names, recorded)


def _of_entry(entry: ServiceEntry) -> _Entry:
    hosts = tuple(host for host in entry.spec.hosts if allocatable(entry, host))
    found = {host: status_addresses(entry, host) for host in hosts}
    return _Entry(hosts, {host: _allocation(addresses) for host, addresses in found.items() if addresses})


def _allocation(addresses: Iterable[bytes]) -> Allocation:
    found = list(addresses)
    ipv4 = next((address for address in found if len(address) == 4), b"")
    ipv6 = next((address for address in found if len(address) == 16), b"")
    return Allocation(ipv4, ipv6)


def _addresses(found: Allocation) -> tuple[bytes, ...]:
    return tuple(address for address in (found.ipv4, found.ipv6) if address)
