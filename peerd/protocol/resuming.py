"""Where a client that begins, or begins again, is: the versions it names against those there are."""

from collections.abc import Iterator, Sequence

from peerd.model.wire import read_map_entry
from peerd.protocol import wildcard
from peerd.protocol.errors import MalformedMessageError
from peerd.protocol.named import Names, member_groups
from peerd.protocol.rules import Offer
from peerd.protocol.subscription import Event, State, Subscription
from peerd.protocol.withheld import withhold

_OFFERS = {Offer.NONE: Event.VERSIONS, Offer.EQUAL: Event.EQUAL, Offer.WANTED: Event.WANTED}


class Resuming:
    """The beginnings of one stream's subscriptions. Long lists of versions wait for `compare`."""

    __slots__ = ("_names", "_waiting")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._waiting: dict[str, Subscription] = {}

    @property
    def waiting(self) -> bool:
        """Whether `compare` has work."""
        return bool(self._waiting)

    def begin(self, subscription: Subscription, versions: Sequence[bytes]) -> None:
        """The client begins and holds *versions*, map entries as they came; short lists are compared at once.

        Raises:
            MalformedMessageError: versions that are no map entries.
            LimitExceededError: too many names without the wildcard.
        """
        subscription.puts = subscription.removals = subscription.late = ()
        subscription.lacking = frozenset()
        subscription.resumed = subscription.whole = False
        subscription.queue = ()
        self._waiting.pop(subscription.type_url, None)
        resume = subscription.rules.resume
        offer = resume.judge(subscription.type_url, versions) if resume else Offer.NONE
        subscription.offer = offer
        if offer is Offer.NONE and not versions:
            subscription.move(Event.PLAIN)
            return
        subscription.move(_OFFERS[offer])
        subscription.resumed = True
        subscription.compared = subscription.source.revision
        if subscription.state is State.COMPARING:
            subscription.versions = versions
            self._waiting[subscription.type_url] = subscription
            if len(versions) <= wildcard.SLICE and subscription.source.indexed:
                for _ in self.compare():
                    pass

    def compare(self) -> Iterator[None]:
        """Compare what waits, in slices; to be run to its end. Raises as `begin` does."""
        while self._waiting:
            _, subscription = self._waiting.popitem()
            versions, subscription.versions = subscription.versions, ()
            try:
                if subscription.wildcard:
                    yield from wildcard.compare(subscription, versions)
                else:
                    yield from self._compare_named(subscription, versions)
            except ValueError as error:
                raise MalformedMessageError(f"{subscription.type_url}: {error}") from None
            if subscription.state is State.COMPARING:
                subscription.move(Event.COMPARED)

    def _compare_named(self, subscription: Subscription, versions: Sequence[bytes]) -> Iterator[None]:
        """A client without the wildcard: what it holds is what it follows."""
        source = subscription.source
        removals = []
        for index, entry in enumerate(versions):
            if index % wildcard.SLICE == 0:
                yield
            name, version = read_map_entry(entry)
            present = subscription.get(name)
            equal = present is not None and version == present.version
            kept = not equal and bool(withhold(subscription, (name,)))
            if present is None and not kept:
                removals.append(name)
                continue
            self._names.hold(subscription, name, version)
            subscription.dirty.update(member_groups(subscription, name))  # it may have got some meanwhile
            if equal or kept:
                subscription.keys.pop(name, None)  # it asks again for what it holds: no answer is owed
            if not kept:
                subscription.dirty.add(name)
        subscription.removals = tuple(removals)
        subscription.compared = source.revision
