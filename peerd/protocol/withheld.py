"""What a resuming client is told nothing of for now: a peer that has not spoken may know better (D13).

Found when its versions are compared; kept back from what changes afterwards too, for the first of two missing
peers to speak makes a resource that still lacks the other. Only a change of what the name is *here* goes out.
"""

from collections.abc import Iterable

from peerd.protocol.subscription import Subscription


def withhold(subscription: Subscription, names: Iterable[str]) -> frozenset[str]:
    """Those of *names*, which the client holds otherwise than they are, that are kept from it from now on."""
    rule = subscription.rules.withheld
    if rule is None:
        return frozenset()
    kept = frozenset(name for name in names if rule(subscription.type_url, name))
    for name in kept:
        subscription.withheld[name] = _definition(subscription, name)
    return kept


def still_withheld(subscription: Subscription, names: Iterable[str]) -> frozenset[str]:
    """Those of changed *names* that stay kept back; the others of them are so no longer."""
    kept = set()
    for name in names:
        if name in subscription.withheld:
            if _may_go(subscription, name):
                del subscription.withheld[name]
            else:
                kept.add(name)
    return frozenset(kept)


def release(subscription: Subscription) -> tuple[str, ...]:
    """The names that may go now: nobody is waited for any more, or what they are here has changed."""
    found = tuple(name for name in subscription.withheld if _may_go(subscription, name))
    for name in found:
        del subscription.withheld[name]
    return found


def _may_go(subscription: Subscription, name: str) -> bool:
    rule = subscription.rules.withheld
    if rule is None or not rule(subscription.type_url, name):
        return True
    # That our own definition is gone is no word on those of peers.
    present = subscription.source.get(name) is not None
    return present and _definition(subscription, name) != subscription.withheld[name]


def _definition(subscription: Subscription, name: str) -> object:
    definition = subscription.rules.definition
    if definition is not None:
        return definition(subscription.type_url, name)
    resource = subscription.source.get(name)
    return resource.version if resource is not None else ""
