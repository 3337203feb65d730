"""What derivation is told of a peer's resources that came or went; of Segments and PeerInfo nothing."""

from collections.abc import Iterable, Iterator

from peerd.model.changes import Change, ImportChange, ImportedWorkloadChange
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, FEDERATED_SERVICE
from peerd.model.workload import Workload
from peerd.peering.holdings import Holdings, Imported


def change_of(key: ObjectKey, name: str, record: Imported) -> Change:
    """What derivation is told of a record that was taken in."""
    if isinstance(record, Workload):
        return ImportedWorkloadChange(key, name, record)
    return ImportChange(key, name, record)


def changes_of(key: ObjectKey, holdings: Holdings) -> Iterator[Change]:
    """What derivation is told of all that is held of a peer."""
    for _, name, entry in holdings.items():
        if entry.record is not None:
            yield change_of(key, name, entry.record)


def withdrawals(key: ObjectKey, names: Iterable[tuple[str, str]]) -> list[Change]:
    """What derivation is told of resources, by type and name, that are gone."""
    changes: list[Change] = []
    for type_url, name in names:
        if type_url == FEDERATED_SERVICE:
            changes.append(ImportChange(key, name, None))
        elif type_url == ADDRESS:
            changes.append(ImportedWorkloadChange(key, name, None))
    return changes
