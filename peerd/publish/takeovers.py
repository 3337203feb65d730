"""Takeovers that outlive the Services that asked for them, recorded in the state directory (decision D23).

Beside an API server they are recorded in generated ServiceEntries instead (peerd/publish/generated.py).
"""

from collections.abc import Collection, Iterable

import msgspec

from peerd.model.changes import TakeoverChange
from peerd.model.federation import Takeover
from peerd.state.errors import StateError
from peerd.state.table import Table


class RecordedTakeovers:
    """The records of one cluster, under `<namespace>/<name>` of the Service.

    Raises:
        StateError: the table holds something else.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: dict[str, Takeover] = {}
        self._unsaid: dict[str, Takeover | None] = {}  # decided, told once it is on disk
        try:
            for service, raw in table.load().items():
                self._found[service] = msgspec.msgpack.decode(raw, type=Takeover)
        except msgspec.DecodeError as error:
            raise StateError(table.path, f"holds no takeovers ({error})", "move it away") from error

    def restore(self) -> list[TakeoverChange]:
        """Every record, for derivation's first run."""
        return [TakeoverChange(service, found) for service, found in sorted(self._found.items())]

    def want(self, changes: Iterable[tuple[str, Takeover | None]]) -> None:
        """Take what derivation wants recorded, or with None forgotten (`Commit.takeovers`)."""
        for service, found in changes:
            if self._found.get(service) == found:
                continue
            if found is None:
                del self._found[service]
                self._table.delete(service)
            else:
                known = service in self._found
                self._found[service] = found
                self._table.put(service, msgspec.msgpack.encode(found), replaces=known)
            self._unsaid[service] = found

    def retain(self, services: Collection[str]) -> None:
        """Forget what is not among *services*: only once everything that could want it has spoken."""
        self.want([(service, None) for service in self._found.keys() - services])

    def record(self) -> list[TakeoverChange]:
        """Write it down, and only then give it to derivation.

        Raises:
            StateError: it could not be written. Nothing is given; the next call tries again.
        """
        self._table.flush()
        changes = [TakeoverChange(service, self._unsaid[service]) for service in sorted(self._unsaid)]
        self._unsaid.clear()
        return changes
