"""What people should be told of a peer: `PeerState` in words, from what happened and without its table."""

from peerd.protocol.peer_state import PeerEvent, PeerState


class Standing:
    """The facts behind one row of a peer table."""

    def __init__(self) -> None:
        self._stream = self._synced = self._refused = self._itself = False
        self._aged = PeerState.CONNECTING

    def take(self, event: PeerEvent) -> None:
        """Something happened."""
        match event:
            case PeerEvent.OPENED:
                self._stream, self._synced, self._refused = True, False, False
            case PeerEvent.SYNCED:
                self._synced = True
            case PeerEvent.LOST:
                self._over()
            case PeerEvent.REFUSED:
                self._over()
                self._refused, self._aged = True, PeerState.CONNECTING
            case PeerEvent.SELF:
                self._over()
                self._itself, self._refused, self._aged = True, False, PeerState.CONNECTING
            case PeerEvent.CHANGED:
                self._over()
                self._refused = self._itself = False
            case PeerEvent.GREW_STALE | PeerEvent.EXPIRED if not self._refused:
                expired = event is PeerEvent.EXPIRED
                self._aged = PeerState.EXPIRED if expired else PeerState.STALE

    def words(self) -> PeerState:
        """What it is called."""
        if self._itself:
            return PeerState.SELF
        if self._stream:
            return PeerState.LIVE if self._synced else PeerState.SYNCING
        return PeerState.REFUSED if self._refused else self._aged

    def _over(self) -> None:
        if self._stream:
            # How old the last sign of life is will be told of itself.
            self._stream, self._aged = False, PeerState.CONNECTING
