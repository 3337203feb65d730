"""Answers under the wildcard: whole, resumed, changes, removals that had to wait (decisions D4, D8, D13)."""

from collections.abc import Iterator, Sequence

from peerd.model.frame import Frame
from peerd.protocol.subscription import Subscription
from peerd.protocol.withheld import keep_back, withhold

SLICE = 2_000  # map entries up to which a comparison is made at once: two milliseconds


def compare(subscription: Subscription, versions: Sequence[bytes]) -> Iterator[None]:
    """Find what a client that holds *versions* lacks, in slices. Raises ValueError for malformed entries."""
    source = subscription.source
    # What is published meanwhile is in the change log from here on.
    subscription.compared = source.revision
    found = yield from source.compare(versions)
    kept = withhold(subscription, (*found.removals, *found.differing))
    puts, removals = found.lacking + found.differing, found.removals
    if not found.whole:
        puts += _revived(subscription, puts)
    if kept:
        puts = tuple(name for name in puts if name not in kept)
        removals = tuple(name for name in removals if name not in kept)
    subscription.puts, subscription.removals = puts, removals
    subscription.lacking = frozenset(found.lacking)
    subscription.whole = found.whole and not kept


def _revived(subscription: Subscription, puts: tuple[str, ...]) -> tuple[str, ...]:
    """What the client holds as it is and may have thrown away, for it held one of *puts* in other words."""
    source = subscription.source
    groups = [r.revives for name in puts if (r := source.get(name)) is not None and r.revives]
    return tuple(dict.fromkeys(member for group in groups for member in source.members(group)))


def first(subscription: Subscription) -> tuple[Frame, ...]:
    """The first answer."""
    source = subscription.source
    since, subscription.removed = subscription.compared, source.revision
    subscription.said_again(list(subscription.rejections))
    if not subscription.resumed:
        return source.snapshot()
    # What the comparison found, and what changed since it began. What came and went meanwhile, too: it may
    # have been there when the client's word on it was looked at.
    net, gone = source.net(since), source.gone(since, source.revision)
    kept = keep_back(subscription, net.puts, gone)
    removals = tuple(
        name
        for name in dict.fromkeys((*subscription.removals, *gone))
        if source.get(name) is None and name not in subscription.lacking and name not in kept
    )
    whole = subscription.whole and not kept
    changed = () if whole else dict.fromkeys((*subscription.puts, *net.puts))
    puts = tuple(name for name in changed if source.get(name) and name not in kept)
    subscription.puts, subscription.removals, subscription.lacking = (), (), frozenset()
    if subscription.rules.removals_after:
        subscription.late, removals = removals, ()
    if whole:
        rest = source.answer(subscription.span("r"), (), removals) if removals else ()
        return source.snapshot() + rest
    if subscription.rules.resume is not None and not puts and not removals:
        return ()  # the notice that follows says it all
    return source.answer(subscription.span("r"), puts, removals)


def released(subscription: Subscription) -> tuple[Frame, ...]:
    """Names that were withheld and no longer are."""
    source = subscription.source
    puts = tuple(name for name in subscription.puts if source.get(name) is not None)
    removals = tuple(name for name in subscription.removals if source.get(name) is None)
    subscription.puts = subscription.removals = ()
    if subscription.rules.removals_after:
        subscription.late, removals = (*subscription.late, *removals), ()
    subscription.said_again(puts)
    return source.answer(subscription.span("h"), puts, removals) if puts or removals else ()


def changes(subscription: Subscription) -> tuple[Frame, ...]:
    """What changed since the cursor; nothing where nothing of this type did."""
    source = subscription.source
    if subscription.cursor == source.revision:
        return ()
    removals = not subscription.rules.removals_after
    rule = subscription.rules.withheld
    if subscription.withheld or rule.active():
        net = source.net(subscription.cursor)
        kept = keep_back(subscription, net.puts, net.removals if removals else ())
        if kept:
            subscription.cursor = source.revision
            puts = tuple(name for name in net.puts if name not in kept)
            gone = tuple(name for name in net.removals if name not in kept) if removals else ()
            return source.answer(subscription.span("k"), puts, gone) if puts or gone else ()
    frames = source.changes(subscription.cursor, removals=removals)
    subscription.cursor = source.revision
    return frames


def late_removals(subscription: Subscription, until: int) -> tuple[Frame, ...]:
    """Removals up to *until*, the revision whose cause the client took."""
    if until < subscription.removed or (until == subscription.removed and not subscription.late):
        return ()
    source = subscription.source
    since, subscription.removed = subscription.removed, until
    late = tuple(name for name in subscription.late if source.get(name) is None)
    subscription.late = ()
    if not late:
        return source.removals(since, until)
    return source.answer(subscription.span("x"), (), (*late, *source.gone(since, until)))
