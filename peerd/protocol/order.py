"""Which type goes first on a stream: policies before workloads, and removed ones after them (decision D8)."""

from collections.abc import Mapping

from peerd.protocol.subscription import State, Subscription


class Order:
    """What one type's answers wait for of another's; `subscriptions` by type URL, those of one stream."""

    __slots__ = ("_subscriptions", "wake_at")

    def __init__(self, subscriptions: Mapping[str, Subscription]) -> None:
        self._subscriptions = subscriptions
        self.wake_at: float | None = None  # when waiting for a type nobody has asked for ends

    def predecessor_sent(self, subscription: Subscription, now: float) -> bool:
        """Whether the type that goes first has sent all of the present revision."""
        rules = subscription.rules
        if not rules.puts_after:
            return True
        before = self._subscriptions.get(rules.puts_after)
        if before is None:
            return self._patience_over(subscription, now)
        return (
            before.state is State.LIVE and not before.queue and before.cursor == subscription.source.revision
        )

    def removals_until(self, subscription: Subscription, now: float) -> int:
        """Up to which revision removals that go by themselves may go; -1 for none."""
        rules, revision = subscription.rules, subscription.source.revision
        due = subscription.late or subscription.source.log.newest_removal > subscription.removed
        if not rules.removals_after or not due:
            return -1
        cause = self._subscriptions.get(rules.removals_after)
        if cause is None:
            return revision if self._patience_over(subscription, now) else -1
        return cause.settled() if cause.state is State.LIVE else -1

    def _patience_over(self, subscription: Subscription, now: float) -> bool:
        until = subscription.asked_at + subscription.rules.patience
        if now < until:
            self.wake_at = until if self.wake_at is None else min(until, self.wake_at)
            return False
        return True
