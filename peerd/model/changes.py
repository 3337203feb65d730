"""The inputs of derivation, as one stream of changes to frozen records."""

from typing import Any

from peerd.model.federation import Allocation, FederatedService, PeerView, Takeover
from peerd.model.generated import IstiodFlags
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.model.record import Record
from peerd.model.workload import Workload


class ObjectChange(Record, frozen=True):
    """An object of the local cluster put, or with None deleted. `kind` is `Kind.name`."""

    kind: str
    key: ObjectKey
    object: KubeObject | None


class OwnChange(Record, frozen=True):
    """An object that peerd generated, as it lies in the cluster, or with None deleted (decision D5).

    No input of derivation. `object` is its JSON, without `metadata.managedFields`.
    """

    kind: str
    key: ObjectKey
    object: dict[str, Any] | None


class ImportChange(Record, frozen=True):
    """A service of a peer put or, with None, withdrawn. `peer` is the key of the istio-remote Gateway."""

    peer: ObjectKey
    name: str
    service: FederatedService | None


class ImportedWorkloadChange(Record, frozen=True):
    """An endpoint of a peer on our own (flat) network put or, with None, withdrawn (decision D31).

    `peer` is the key of the istio-remote Gateway, `uid` the exporter's. The Workload is as the peer told it:
    its services are the exporter's global names, `<namespace>/<global host>`.
    """

    peer: ObjectKey
    uid: str
    workload: Workload | None


class PeerChange(Record, frozen=True):
    """What is known of a peer changed, or with None its Gateway is gone."""

    peer: ObjectKey
    view: PeerView | None


class AllocationChange(Record, frozen=True):
    """Addresses were allocated to a host name (and recorded), or with None freed."""

    host: str
    allocation: Allocation | None


class TakeoverChange(Record, frozen=True):
    """That a local name is taken over was recorded, or with None forgotten (decision D23).

    `service` is `<namespace>/<name>` of the Service. Derivation says what to record (`Commit.takeovers`).
    """

    service: str
    takeover: Takeover | None


class IstiodChange(Record, frozen=True):
    """What is known of the istiod beside us changed (decision D41)."""

    flags: IstiodFlags


Change = (
    ObjectChange
    | ImportChange
    | ImportedWorkloadChange
    | PeerChange
    | AllocationChange
    | TakeoverChange
    | IstiodChange
)
