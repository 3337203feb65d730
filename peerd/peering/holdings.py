"""What is held of one peer, by type and name, and how much more it may be (limits.py)."""

from collections.abc import Iterator, Mapping

from peerd.limits import (
    PEER_BYTES,
    PEER_NAME_CHARACTERS,
    PEER_REASON_CHARACTERS,
    PEER_REFUSALS,
    PEER_RESOURCE_BYTES,
    PEER_RESOURCES,
    PEER_WORKLOADS,
    hit,
)
from peerd.model.federation import FederatedService
from peerd.model.record import Record
from peerd.model.types import ADDRESS, FEDERATED_SERVICE
from peerd.model.workload import Workload

Imported = FederatedService | Workload


class Entry(Record, frozen=True):
    """A resource that was accepted: its version, its bytes on the wire, and the record that it became.

    PeerInfo and Segment become none.
    """

    version: str
    size: int
    record: Imported | None = None


class Holdings:
    """The accepted resources of one peer, and the refused ones with reasons."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of all payloads and versions."""
        self._entries: dict[str, dict[str, Entry]] = {}
        self._refused: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def of(self, type_url: str) -> Mapping[str, Entry]:
        """Entries of one type by name."""
        return self._entries.get(type_url, {})

    def items(self) -> Iterator[tuple[str, str, Entry]]:
        """Type, name and entry of everything."""
        for type_url, entries in self._entries.items():
            for name, entry in entries.items():
                yield type_url, name, entry

    def versions(self) -> dict[str, dict[str, str]]:
        """Versions by type and name."""
        return {
            type_url: {name: entry.version for name, entry in entries.items()}
            for type_url, entries in self._entries.items()
        }

    def over_quota(self, type_url: str, name: str, size: int) -> str:
        """Why a resource of *size* bytes is over quota; empty where it is not."""
        if size > PEER_RESOURCE_BYTES.value:
            hit(PEER_RESOURCE_BYTES)
            return f"over quota: {size} bytes, at most {PEER_RESOURCE_BYTES.value} for one resource"
        entries = self.of(type_url)
        held = entries.get(name)
        most = PEER_WORKLOADS if type_url == ADDRESS else PEER_RESOURCES
        if held is None and len(entries) >= most.value:
            hit(most)
            return f"over quota: more than {most.value} resources"
        if self.bytes - (held.size if held is not None else 0) + size > PEER_BYTES.value:
            hit(PEER_BYTES)
            return f"over quota: more than {PEER_BYTES.value} bytes in all"
        return ""

    def enter(self, type_url: str, name: str, entry: Entry) -> Entry | None:
        """A resource was accepted; returns the one it replaces."""
        self._refused.pop((type_url, _short(name)), None)
        entries = self._entries.setdefault(type_url, {})
        before = entries.get(name)
        entries[name] = entry
        self.bytes += entry.size - (before.size if before is not None else 0)
        return before

    def remove(self, type_url: str, name: str) -> Entry | None:
        """A resource is gone; returns what it was, None where it was not held."""
        self._refused.pop((type_url, _short(name)), None)
        entries = self._entries.get(type_url)
        entry = entries.pop(name, None) if entries is not None else None
        if entry is not None:
            self.bytes -= entry.size
        return entry

    def pop(self, at_most: int) -> list[tuple[str, str]]:
        """Forget up to so many resources; returns type and name of each.

        Workloads first: a service may have thousands, and with it they would all go at once.
        """
        gone: list[tuple[str, str]] = []
        while self._entries and len(gone) < at_most:
            type_url = ADDRESS if ADDRESS in self._entries else next(reversed(self._entries))
            entries = self._entries[type_url]
            if entries:
                name, entry = entries.popitem()
                self.bytes -= entry.size
                gone.append((type_url, name))
            else:
                del self._entries[type_url]
        return gone

    def refuse(self, type_url: str, name: str, reason: str) -> str:
        """Remember that a resource was refused, for people to see; what they see is bounded."""
        key = type_url, _short(name)
        reason = reason[: PEER_REASON_CHARACTERS.value]
        if key in self._refused or len(self._refused) < PEER_REFUSALS.value:
            self._refused[key] = reason
        else:
            hit(PEER_REFUSALS)
        return reason

    def refused(self) -> tuple[tuple[str, str], ...]:
        """Refused resources with reasons; those of other types than FederatedService as `<type> <name>`."""
        return tuple(sorted((_label(*key), reason) for key, reason in self._refused.items()))


def _short(name: str) -> str:
    return name[: PEER_NAME_CHARACTERS.value]


def _label(type_url: str, name: str) -> str:
    return name if type_url == FEDERATED_SERVICE else f"{type_url.rpartition('.')[2]} {name}"
