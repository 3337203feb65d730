"""How far a peer's word is trusted, from the age of its last heartbeat (decision D21)."""

from peerd.model.federation import Freshness
from peerd.protocol.heartbeat import HeartbeatRules

_RULES = HeartbeatRules()


def freshness(
    last_heartbeat: float, now: float, expire_after: int, rules: HeartbeatRules = _RULES
) -> Freshness:
    """Freshness at *now*; both are wall-clock seconds, since the age outlives the process.

    `last_heartbeat` 0 is never: stale. An age below zero means that a clock was set back, so nothing is
    known: stale too, and never expired. `expire_after` 0 never expires.
    """
    if not last_heartbeat:
        return Freshness.STALE
    age = now - last_heartbeat
    if age < 0:
        return Freshness.STALE
    if expire_after and age >= expire_after:
        return Freshness.EXPIRED
    return Freshness.STALE if age >= rules.stale_after else Freshness.FRESH
