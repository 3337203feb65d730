"""The states of a dialled peer, and every way from one to another, in one table."""

from enum import StrEnum

from peerd.model.record import Record


class PeerState(StrEnum):
    """What people are told about a peer."""

    CONNECTING = "connecting"
    """No stream, and what was imported, if anything, is fresh."""
    SYNCING = "syncing"
    """The streams are open, the first sync on them is not complete."""
    LIVE = "live"
    """In sync, heartbeats arrive."""
    STALE = "stale"
    """No stream, and the last heartbeat is 45 s ago or more: imports count little (decision D21)."""
    EXPIRED = "expired"
    """No stream for so long that the imports were withdrawn."""
    REFUSED = "refused"
    """One side does not want the other; the reason says why. Dialled again all the same."""
    SELF = "self"
    """The Gateway leads to this very cluster: nothing to import."""


class PeerEvent(StrEnum):
    """What happens to a peer."""

    OPENED = "opened"  # both streams are open and the peer's certificate is the expected one
    SYNCED = "synced"  # every type is in sync
    LOST = "lost"  # the streams ended, or could not be opened
    REFUSED = "refused"  # identity, versions or authorisation do not fit, on either side
    SELF = "self"  # the peer turned out to be this cluster
    GREW_STALE = "grew stale"  # 45 s since the last heartbeat
    EXPIRED = "expired"  # the Gateway's expiry since the last heartbeat
    CHANGED = "changed"  # the Gateway was edited: everything said so far may be wrong


_S, _E = PeerState, PeerEvent

TRANSITIONS: dict[tuple[PeerState, PeerEvent], PeerState] = {
    (_S.CONNECTING, _E.OPENED): _S.SYNCING,
    (_S.CONNECTING, _E.LOST): _S.CONNECTING,
    (_S.CONNECTING, _E.REFUSED): _S.REFUSED,
    (_S.CONNECTING, _E.SELF): _S.SELF,
    (_S.CONNECTING, _E.GREW_STALE): _S.STALE,
    (_S.CONNECTING, _E.EXPIRED): _S.EXPIRED,
    (_S.CONNECTING, _E.CHANGED): _S.CONNECTING,
    (_S.SYNCING, _E.SYNCED): _S.LIVE,
    (_S.SYNCING, _E.LOST): _S.CONNECTING,
    (_S.SYNCING, _E.REFUSED): _S.REFUSED,
    (_S.SYNCING, _E.SELF): _S.SELF,
    (_S.SYNCING, _E.CHANGED): _S.CONNECTING,
    (_S.LIVE, _E.SYNCED): _S.LIVE,
    (_S.LIVE, _E.LOST): _S.CONNECTING,
    (_S.LIVE, _E.REFUSED): _S.REFUSED,
    (_S.LIVE, _E.SELF): _S.SELF,
    (_S.LIVE, _E.CHANGED): _S.CONNECTING,
    (_S.STALE, _E.OPENED): _S.SYNCING,
    (_S.STALE, _E.LOST): _S.STALE,
    (_S.STALE, _E.REFUSED): _S.REFUSED,
    (_S.STALE, _E.SELF): _S.SELF,
    (_S.STALE, _E.EXPIRED): _S.EXPIRED,
    (_S.STALE, _E.CHANGED): _S.STALE,
    (_S.EXPIRED, _E.OPENED): _S.SYNCING,
    (_S.EXPIRED, _E.LOST): _S.EXPIRED,
    (_S.EXPIRED, _E.REFUSED): _S.REFUSED,
    (_S.EXPIRED, _E.SELF): _S.SELF,
    (_S.EXPIRED, _E.CHANGED): _S.EXPIRED,
    (_S.REFUSED, _E.OPENED): _S.SYNCING,
    (_S.REFUSED, _E.LOST): _S.REFUSED,
    (_S.REFUSED, _E.REFUSED): _S.REFUSED,
    # A refusal is what people must see; that the imports were withdrawn shows beside it.
    (_S.REFUSED, _E.EXPIRED): _S.REFUSED,
    (_S.REFUSED, _E.CHANGED): _S.CONNECTING,
    (_S.SELF, _E.CHANGED): _S.CONNECTING,
}

CONNECTED = frozenset({PeerState.SYNCING, PeerState.LIVE})


class PeerStatus(Record, frozen=True):
    """A state, since when (wall clock, seconds), and the last error in words, kept until the next sync."""

    state: PeerState = PeerState.CONNECTING
    since: float = 0.0
    last_error: str = ""


class ImpossibleTransitionError(Exception):
    """An event that cannot happen in the present state: a bug of ours."""


def follow(status: PeerStatus, event: PeerEvent, now: float, error: str = "") -> PeerStatus:
    """The status after *event*. A state that stays keeps its `since`; SYNCED clears the error.

    Raises:
        ImpossibleTransitionError: the table has no such transition.
    """
    try:
        state = TRANSITIONS[status.state, event]
    except KeyError:
        raise ImpossibleTransitionError(f"{event} while {status.state}") from None
    last_error = "" if event is PeerEvent.SYNCED else error or status.last_error
    return PeerStatus(state, status.since if state is status.state else now, last_error)
