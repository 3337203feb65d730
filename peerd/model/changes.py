"""The inputs of derivation, as one stream of changes to frozen records."""

from peerd.model.federation import Allocation, FederatedService, PeerView
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.model.record import Record


class ObjectChange(Record, frozen=True):
    """An object of the local cluster put, or with None deleted. `kind` is `Kind.name`."""

    kind: str
    key: ObjectKey
    object: KubeObject | None


class ImportChange(Record, frozen=True):
    """A service of a peer put or, with None, withdrawn. `peer` is the key of the istio-remote Gateway."""

    peer: ObjectKey
    name: str
    service: FederatedService | None


class PeerChange(Record, frozen=True):
    """What is known of a peer changed, or with None its Gateway is gone."""

    peer: ObjectKey
    view: PeerView | None


class AllocationChange(Record, frozen=True):
    """Addresses were allocated to a host name (and recorded), or with None freed."""

    host: str
    allocation: Allocation | None


Change = ObjectChange | ImportChange | PeerChange | AllocationChange
