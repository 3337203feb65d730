"""Single names on demand: look-ups, what a client holds of them, and what changed of that (decision D12)."""

from collections.abc import Iterable

from peerd.limits import NAMES_PER_STREAM, hit
from peerd.model.frame import Frame
from peerd.protocol.envelope import Node
from peerd.protocol.errors import LimitExceededError
from peerd.protocol.interest import Follower, Interest
from peerd.protocol.subscription import Subscription
from peerd.protocol.withheld import keep_back


class Names:
    """The names of one stream's subscriptions. Under the wildcard nothing is followed: it covers all."""

    __slots__ = ("_interest", "_stream")

    def __init__(self, interest: Interest, stream: Follower) -> None:
        self._interest = interest
        self._stream = stream

    def follow(self, subscription: Subscription, tokens: Iterable[str]) -> None:
        """Hear of changes to *tokens*: names, aliases, groups.

        Raises:
            LimitExceededError: more than one stream may follow.
        """
        if subscription.wildcard:
            return
        for token in tokens:
            if token not in subscription.tokens:
                if len(subscription.tokens) >= NAMES_PER_STREAM.value:
                    hit(NAMES_PER_STREAM)
                    raise LimitExceededError(
                        f"{subscription.type_url}: more than {NAMES_PER_STREAM.value} names on one stream;"
                        " subscribe to the wildcard instead"
                    )
                subscription.tokens.add(token)
                self._interest.follow(subscription.type_url, token, self._stream)

    def unfollow(self, subscription: Subscription, name: str) -> None:
        """Hear no longer of *name*, unless the client asked for it."""
        if name not in subscription.subscribed:
            tokens = subscription.tokens & {name, *member_groups(subscription, name)}
            subscription.tokens -= tokens
            self._interest.leave(subscription.type_url, tokens, self._stream)

    def forget(self, subscription: Subscription) -> None:
        """The wildcard begins, or the stream ends."""
        self._interest.leave(subscription.type_url, subscription.tokens, self._stream)
        subscription.tokens, subscription.dirty, subscription.held = set(), set(), {}

    def hold(self, subscription: Subscription, name: str, version: str) -> None:
        """The client says it holds *name*: to hold is to follow."""
        subscription.held[name] = version
        self.follow(subscription, (name, *member_groups(subscription, name)))

    def first(self, subscription: Subscription, node: Node) -> tuple[Frame, ...]:
        """The first answer: the node's own resources, what was asked for, what differs; never none."""
        groups = subscription.rules.own_groups
        own = groups(node) if groups is not None else ()
        self.follow(subscription, own)
        subscription.dirty.update(own)
        return self.answer(subscription, always=True)

    def answer(self, subscription: Subscription, *, always: bool = False) -> tuple[Frame, ...]:
        """Answers to look-ups, and changes to what is followed."""
        source = subscription.source
        puts: dict[str, None] = {}
        # What a resuming client held of what is gone; it may have come back since that was found.
        removals = {name: None for name in subscription.removals if source.get(name) is None}
        puts.update(dict.fromkeys(name for name in subscription.removals if name not in removals))
        subscription.removals = ()
        keys, subscription.keys = subscription.keys, {}
        dirty, subscription.dirty = subscription.dirty, set()
        for key in keys:
            found = source.resolve(key)
            if key not in found:
                # Nothing has that very name: its removal is what ends the client's wait for it.
                removals[key] = None
            puts.update(dict.fromkeys(found))
        if not subscription.wildcard:
            self._changed(subscription, puts, removals, sorted(dirty))
            self._with_members(subscription, puts)
            subscription.cursor = source.revision
        if not (puts or removals or always):
            return ()
        subscription.said_again(puts)
        view = None if subscription.wildcard else subscription.view
        return source.answer(subscription.span("d"), puts, removals, aliases=True, view=view)

    def _changed(
        self,
        subscription: Subscription,
        puts: dict[str, None],
        removals: dict[str, None],
        dirty: Iterable[str],
    ) -> None:
        """Add what changed behind *dirty* tokens."""
        source, held = subscription.source, subscription.held
        for token in dirty:
            if token in held and source.get(token) is None and not keep_back(subscription, (), (token,)):
                del held[token]
                removals[token] = None
                self.unfollow(subscription, token)
            for name in (*source.resolve(token), *source.members(token)):
                resource = subscription.get(name)
                if resource is None or held.get(name) == resource.version:
                    continue
                if not keep_back(subscription, (name,), ()):
                    puts[name] = None

    def _with_members(self, subscription: Subscription, puts: dict[str, None]) -> None:
        """Note that the client holds *puts*; a name it did not hold brings its members with it."""
        source, held = subscription.source, subscription.held
        waiting = list(puts)
        while waiting:
            name = waiting.pop()
            resource = subscription.get(name)
            if resource is None:
                continue
            known, held[name] = name in held, resource.version
            if known and not resource.revives:
                continue
            groups = member_groups(subscription, name)
            self.follow(subscription, (name, *groups))
            for member in (member for group in groups for member in source.members(group)):
                if member not in puts and (resource.revives or member not in held):
                    puts[member] = None
                    waiting.append(member)


def member_groups(subscription: Subscription, name: str) -> tuple[str, ...]:
    """The groups that come with *name*."""
    groups = subscription.rules.member_groups
    return groups(name) if groups is not None else ()
