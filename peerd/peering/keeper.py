"""What outlives a restart of what peers told us, and the seam to where it is kept."""

from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record


class Stored(Record, frozen=True):
    """A resource as it came, for the state directory. `peer` is the Gateway's key."""

    peer: ObjectKey
    type_url: str
    name: str
    version: str
    payload: bytes


class StoredPeer(Record, frozen=True):
    """Everything kept of one peer; `complete` once a first sync was: before that there may be more of it."""

    peer: ObjectKey
    last_heartbeat: float
    resources: tuple[Stored, ...] = ()
    complete: bool = False


class Keeper:
    """Where imports are kept over restarts (persistence.py); this one keeps nothing."""

    def put(self, stored: Stored, *, replaces: bool) -> None:
        """A resource was accepted; *replaces* says whether one of its name was kept."""

    def delete(self, peer: ObjectKey, type_url: str, name: str) -> None:
        """A resource that was kept is gone."""

    def heartbeat(self, peer: ObjectKey, at: float) -> None:
        """The peer was alive *at* this wall-clock second."""

    def complete(self, peer: ObjectKey, *, now: bool) -> None:
        """Whether what is kept of the peer is all that it had to say at some moment."""

    def forget(self, peer: ObjectKey, held: int) -> None:
        """The Gateway is gone and everything with it, *held* resources."""
