"""What a client is told nothing of for now: a peer that has not spoken may know better (decision D13).

Found when a resuming client's versions are compared; kept back from what changes afterwards too, for the
first of two missing peers to speak makes a resource that still lacks the other.
"""

from collections.abc import Iterable

from peerd.protocol.subscription import Subscription

_REDEFINED = object()
"""Told again since it was withheld, or never withheld at all: only its removal waits."""


def withhold(subscription: Subscription, names: Iterable[str]) -> frozenset[str]:
    """Those of *names*, which the client holds otherwise than they are, that are kept from it from now on."""
    rule = subscription.rules.withheld
    if not rule.active():
        return frozenset()
    kept = tuple(name for name in names if rule(subscription.type_url, name))
    for name in kept:  # in the order of the names, for they are released in this one
        subscription.withheld[name] = rule.definition(subscription.type_url, name)
    return frozenset(kept)


def keep_back(subscription: Subscription, puts: Iterable[str], removals: Iterable[str]) -> frozenset[str]:
    """Those of the changed names that the client is not told of now."""
    rule = subscription.rules.withheld
    kept, url, withheld = set(), subscription.type_url, subscription.withheld
    for name in puts if withheld else ():
        if name in withheld:
            if not rule(url, name):
                del withheld[name]
            elif not _redefined(subscription, name):
                kept.add(name)
    for name in removals:
        if rule(url, name) if name in withheld else rule.lingers(url, name):
            withheld.setdefault(name, _REDEFINED)
            kept.add(name)
        else:
            withheld.pop(name, None)
    return frozenset(kept)


def release(subscription: Subscription) -> tuple[str, ...]:
    """The names that may go now: nobody is waited for any more, or what they are here has changed."""
    rule, withheld = subscription.rules.withheld, subscription.withheld
    found = []
    for name, definition in list(withheld.items()):
        if not rule(subscription.type_url, name):
            del withheld[name]
            if definition is not _REDEFINED or subscription.source.get(name) is None:
                found.append(name)
        elif definition is not _REDEFINED and _redefined(subscription, name):
            found.append(name)
    return tuple(found)


def _redefined(subscription: Subscription, name: str) -> bool:
    """Whether our own word on it changed. That it is gone is no word on those of peers."""
    rule, before = subscription.rules.withheld, subscription.withheld[name]
    if before is _REDEFINED or subscription.source.get(name) is None:
        return before is _REDEFINED
    now = rule.definition(subscription.type_url, name)
    if now is None or now == before:
        return False
    subscription.withheld[name] = _REDEFINED
    return True
