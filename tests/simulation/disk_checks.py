"""What a peerd keeps on its disk, and what it says of one that fails ("Kept").

Words of the import journal are noted as they are said, and looked for when the next process begins. Addresses
of global names are held against what was told before, over every crash.
"""

from collections.abc import Callable
from ipaddress import ip_address

from peerd.app.allocator import Allocator
from peerd.app.peerd import Peerd
from peerd.derive.allocation import GLOBAL_POOL, POOLS
from peerd.model.service import Service
from peerd.model.types import ADDRESS
from peerd.protocol.envelope import DeltaResponse
from tests.simulation.guarantees import KEPT
from tests.simulation.history import History, Violation
from tests.simulation.loop import Process
from tests.simulation.replica import Replica
from tests.simulation.ztunnel import SimZtunnel

Guard = Callable[[Callable[[], None]], None]

SAYS = {
    "imports": "imports_not_kept",
    "allocations": "allocations_not_recorded",
    "takeovers": "allocations_not_recorded",
}
"""What is logged, by the file that cannot be written."""

_SAID_WITHIN = 3.0  # seconds


class DiskChecks:
    """Of all replicas of one run."""

    def __init__(self, history: History, replicas: dict[str, Replica]) -> None:
        self._history = history
        self._replicas = replicas
        self._generation: dict[str, int] = {}  # of a replica's disk
        self._words: dict[str, dict[tuple[str, str], tuple[float, bytes | None]]] = {}
        self._said: dict[tuple[str, str], float] = {}  # by replica and event
        self._addresses: dict[tuple[str, int], dict[str, bytes]] = {}

    # -- imports -----------------------------------------------------------------------------------------

    def watch(self, replica: Replica, peerd: Peerd, guard: Guard) -> None:
        """Look over a new peerd's shoulder."""
        if self._generation.get(replica.name) != replica.disk.generation:
            self._generation[replica.name] = replica.disk.generation
            self._words.pop(replica.name, None)
        guard(lambda: self._recorded(replica, peerd))
        for event in SAYS.values():
            self._said.pop((replica.name, event), None)
        words = self._words.setdefault(replica.name, {})
        log, now = peerd.federation._journal._log, replica.loop.time
        load, put, delete, forget = log.load, log.put, log.delete, log.forget

        def see_load() -> dict[str, dict[str, bytes]]:
            found = load()
            guard(lambda: self._loaded(replica, found))
            return found

        def see_put(group: str, name: str, value: bytes, *, replaces: bool) -> None:
            words[group, name] = now(), value
            put(group, name, value, replaces=replaces)

        def see_delete(group: str, name: str) -> None:
            words[group, name] = now(), None
            delete(group, name)

        def see_forget(group: str, held: int) -> None:
            words.update({key: (now(), None) for key in words if key[0] == group})
            forget(group, held)

        log.load, log.put, log.delete, log.forget = see_load, see_put, see_delete, see_forget  # type: ignore[method-assign]

    def _loaded(self, replica: Replica, found: dict[str, dict[str, bytes]]) -> None:
        """*found* is what a new process begins with."""
        words, now = self._words[replica.name], replica.loop.time()
        for (group, name), (said, value) in words.items():
            if said > replica.written_until:
                continue
            self._history.checks[KEPT] += 1
            if found.get(group, {}).get(name) != value:
                raise Violation(
                    KEPT,
                    f"{replica.name} forgot what it was told of {group} {now - said:.0f} s ago: {name!r}",
                )
        before = dict(words)
        words.clear()
        for group, names in found.items():
            for name, value in names.items():
                said, known = before.get((group, name), (now, None))
                words[group, name] = (said if known == value else now), value

    # -- addresses ---------------------------------------------------------------------------------------

    def after(self, client: SimZtunnel, response: DeltaResponse) -> None:
        """A ztunnel was told of these, by the replica that it is connected to."""
        replica = self._replicas.get(client.at)
        if response.type_url != ADDRESS or replica is None:
            return
        if replica.peerd is None or client.opened_at < replica.started:
            return  # it is the word of a process that is no more
        told = self._addresses.setdefault((replica.name, replica.disk.generation), {})
        for each in response.resources:
            record = client.addresses[each.name]
            if not isinstance(record, Service):
                continue
            for address in record.addresses:
                if len(address.address) == 4 and ip_address(address.address) in POOLS[GLOBAL_POOL].ipv4:
                    self._history.checks[KEPT] += 1
                    if told.setdefault(record.hostname, address.address) != address.address:
                        raise Violation(
                            KEPT, f"{replica.name} gives {record.hostname} another address than before"
                        )

    def _recorded(self, replica: Replica, peerd: Peerd) -> None:
        """A new process has read what its disk has: every address that was told."""
        assert isinstance(peerd._allocator, Allocator)
        found = peerd._allocator._allocations._entries
        told = self._addresses.get((replica.name, replica.disk.generation), {})
        for host, address in told.items():
            if replica.set_back and host not in found:
                continue  # to what its clock had said before, a freed one has rested
            self._history.checks[KEPT] += 1
            if host not in found or found[host].ipv4 != address:
                raise Violation(KEPT, f"{replica.name} has told the address of {host}, and forgot it")

    # -- words of trouble --------------------------------------------------------------------------------

    def says(self, process: Process | None, event: str) -> bool:
        """An error was logged; whether it is what a failing disk should cause."""
        replica = next((each for each in self._replicas.values() if each.process is process), None)
        files = [file for file, said in SAYS.items() if said == event]
        if replica is None or not files:
            return False
        disk, now = replica.disk, replica.loop.time()
        if all(now - disk.failed.get(file, float("-inf")) > _SAID_WITHIN + disk.slow for file in files):
            return False
        self._history.checks[KEPT] += 1
        before, self._said[replica.name, event] = self._said.get((replica.name, event)), now
        if before is not None and all(disk.flushed.get(file, -1.0) <= before for file in files):
            raise Violation(
                KEPT, f"{replica.name} says {event} again, and nothing could be written meanwhile"
            )
        self._history.note(replica.name, event)
        return True

    def look(self, now: float) -> None:
        """What must have been said by now."""
        for replica in self._replicas.values():
            if not replica.running or now - replica.disturbed_at < _SAID_WITHIN:
                continue
            disk = replica.disk
            for file, event in SAYS.items():
                failed = disk.failed.get(file, -1.0)
                if failed <= replica.started or now - failed <= _SAID_WITHIN + disk.slow:
                    continue
                self._history.checks[KEPT] += 1
                said = self._said.get((replica.name, event), -1.0)
                # Of the tables a flush may have failed though a write did not.
                again = file == "imports" and said < disk.flushed.get(file, -1.0) < failed
                if said < replica.started or again:
                    raise Violation(KEPT, f"{replica.name} does not say that it could not write its {file}")
