"""What peerd generates, wired: commits to the writer, objects that lie in the cluster back to derivation."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from peerd.derive.allocation import choose
from peerd.derive.commit import Commit
from peerd.kubeapi.resources import SERVICE_ENTRY
from peerd.model.changes import Change, ObjectChange, OwnChange, TakeoverChange
from peerd.model.clock import Clock
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Takeover
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import takeover_of
from peerd.publish.permit import Permit
from peerd.publish.recorded_allocations import RecordedAllocations
from peerd.publish.writer import Writer


class Generation:
    """ServiceEntries and WorkloadEntries of one cluster, and what is recorded in them.

    It also is the allocator of a peerd in Kubernetes (peerd/app/allocator.py is that of a directory): an
    address is chosen by the replica that may write, recorded, and served by all as it is read back.

    Args:
        writer: the one that everything of this process is written by.
        permit: says whether this replica writes.
        emit: takes changes for derivation.
        clock: tells when a freed address has rested.
    """

    def __init__(
        self, writer: Writer, permit: Permit, emit: Callable[[Sequence[Change]], None], clock: Clock
    ) -> None:
        self._writer = writer
        self._emit = emit
        self._objects = GeneratedObjects(writer)
        # A service may have several entries, and two for a moment while one moves: each records its takeover.
        self._takeovers: dict[str, dict[str, Takeover]] = {}
        self._service_of: dict[str, str] = {}
        self._heard: dict[str, Takeover] = {}
        self._allocations = RecordedAllocations(
            record=self._objects.addresses,
            emit=emit,
            choose=choose,
            may_choose=lambda: permit.remaining() > 0,
            clock=clock,
        )

    async def run(self) -> None:
        """Write until cancelled."""
        await self._writer.run()

    def committed(self, commit: Commit) -> None:
        """Follow one revision of derivation."""
        self._objects.names(commit.federation)
        self._objects.put(commit.generated)
        self._objects.takeovers(commit.takeovers)

    def own(self, changes: Sequence[OwnChange]) -> None:
        """Generated objects as they lie in the cluster: what is recorded there, derivation hears (D5)."""
        self._objects.observe(changes)
        self._allocations.own(changes)
        remembered = [told for change in changes for told in self._takeover(change)]
        if remembered:
            self._emit(remembered)

    def users(self, changes: Iterable[ObjectChange]) -> None:
        """Objects of users, of which ServiceEntries may want addresses."""
        self._allocations.users(changes)

    def _takeover(self, change: OwnChange) -> Iterator[Change]:
        """The takeovers that ServiceEntries record, where they changed: over with the last record (D23)."""
        if change.kind != SERVICE_ENTRY.kind:
            return
        name = str(change.key)
        service, found = ("", None) if change.object is None else takeover_of(change.object)
        before = self._service_of.pop(name, None)
        if before is not None:
            del self._takeovers[before][name]
        if found is not None:
            self._service_of[name] = service
            self._takeovers.setdefault(service, {})[name] = found
        for each in sorted(self._takeovers.keys() & {before, service}):
            records = self._takeovers[each]
            if not records:
                del self._takeovers[each]
                del self._heard[each]
                yield TakeoverChange(each, None)
            elif (now := records[min(records)]) != self._heard.get(each):
                self._heard[each] = now
                yield TakeoverChange(each, now)

    def look(self, unheard: frozenset[str], unsynced: frozenset[str] = frozenset()) -> None:
        """All that sources and known peers say is derived; once a second, for a Lease may have been gained.

        *unsynced* are the Gateways of peers that have yet to tell everything, *unheard* those of them that
        left nothing behind (decision D13).
        """
        self._objects.settle(unheard, unsynced)
        self._allocations.settle()

    @property
    def problems(self) -> tuple[Diagnostic, ...]:
        """What cannot be written, and who is in the way."""
        refused = (
            Diagnostic(str(notice.ref), "(whole object)", notice.message, "see the reason; it is tried again")
            for notice in self._writer.problems()
        )
        return (*self._objects.diagnostics, *refused)

    # -- as an allocator ---------------------------------------------------------------------------------

    def restore(self) -> list[Change]:
        """Nothing: what is recorded comes with the objects."""
        return []

    def want(self, hosts: Iterable[tuple[str, str | None]]) -> None:
        """`Allocator.want`."""
        self._allocations.want(hosts)

    def remember(self, takeovers: Iterable[tuple[str, Takeover | None]]) -> None:
        """Nothing: `committed` has them recorded."""

    async def settle(self) -> list[Change]:
        """`Allocator.settle`; derivation hears of an address when it is read back."""
        self._allocations.settle()
        return []

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """`Allocator.diagnostics`."""
        return self._allocations.diagnostics

    def retain_wanted(self) -> None:
        """Nothing: an address goes with its object."""

    async def recorded(self) -> bool:
        """Nothing is written to a disk."""
        return False

    async def close(self) -> None:
        """Nothing is pending here."""
