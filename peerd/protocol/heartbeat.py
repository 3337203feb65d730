"""When to send heartbeats and what their silence means (decisions D17, D21)."""

from peerd.model.record import Record
from peerd.protocol.peer_wire import PeerProtocolError, decode_heartbeat, encode_heartbeat


class HeartbeatRules(Record, frozen=True):
    """Seconds between heartbeats, and of silence after which the far end counts as stale (D21)."""

    interval: float = 15.0
    stale_after: float = 45.0


def heartbeat_rules(interval: float) -> HeartbeatRules:
    """The rules where a heartbeat is due every *interval* seconds: three of them missed is silence."""
    return HeartbeatRules(interval, 3 * interval)


class HeartbeatClient:
    """The dialling side: asks every 15 s, counts an answer as a sign of life. Monotonic seconds."""

    def __init__(self, now: float, rules: HeartbeatRules | None = None) -> None:
        self._rules = rules or HeartbeatRules()
        self.last_heard = now
        self._next = now
        self._sequence = 0
        self._sent_at: dict[int, float] = {}
        self.round_trip: float | None = None

    def due(self, now: float) -> bytes | None:
        """The heartbeat to send now, if one is due."""
        if now < self._next:
            return None
        self._next = now + self._rules.interval
        self._sequence += 1
        self._sent_at[self._sequence] = now
        return encode_heartbeat(self._sequence)

    def wait(self, now: float) -> float:
        """Seconds until something is due: a heartbeat, or the verdict that the peer is silent."""
        return max(0.0, min(self._next, self.last_heard + self._rules.stale_after) - now)

    def heard(self, message: bytes, now: float) -> float:
        """An answer came; returns how long ago its question was sent.

        Raises:
            PeerProtocolError: it is no answer to anything that was asked.
        """
        sequence = decode_heartbeat(message)
        sent = self._sent_at.pop(sequence, None)
        if sent is None:
            raise PeerProtocolError(f"heartbeat {sequence} answers nothing that was asked")
        # Answers come in order, so what is older will not be answered any more.
        self._sent_at = {number: at for number, at in self._sent_at.items() if number > sequence}
        self.round_trip = round_trip = now - sent
        self.last_heard = now
        return round_trip

    def silent(self, now: float) -> bool:
        """Whether nothing was heard for 45 s."""
        return now - self.last_heard >= self._rules.stale_after
