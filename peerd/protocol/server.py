"""The answering side of a delta stream, without IO and without a clock.

`receive` takes requests; `next` gives one response at a time, to be written and then reported by `written`.
Nothing is queued per client: what a stream is owed is its cursor's distance to the last closed window, made
into a response when the stream can take one (decision D4).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from peerd.limits import NAMES_PER_STREAM, TYPES_PER_STREAM, hit
from peerd.model.frame import Frame
from peerd.model.record import Record
from peerd.model.wire import field, read_map_entry
from peerd.protocol.envelope import DeltaRequest, Node
from peerd.protocol.errors import BehindError, LimitExceededError, MalformedMessageError, OverdueError
from peerd.protocol.interest import Interest
from peerd.protocol.rules import Offer, TypeRules
from peerd.protocol.source import Source
from peerd.protocol.subscription import Event, State, Subscription, TypeStatus

WILDCARD = "*"
_SLICE = 2_000  # map entries between two chances for others
_OFFERS = {Offer.NONE: Event.VERSIONS, Offer.EQUAL: Event.EQUAL, Offer.WANTED: Event.WANTED}


class Outgoing(Record, frozen=True):
    """A response to write. `first` marks those of a first answer, which are bounded together (D9)."""

    type_url: str
    frame: Frame
    first: bool


class DeltaServer:
    """One stream. `rules` names the types served, in the order in which they go out."""

    def __init__(
        self,
        source: Source,
        rules: Mapping[str, TypeRules],
        interest: Interest,
        *,
        ack_overdue: float,
        write_deadline: float,
        stale: Callable[[], None] = lambda: None,
    ) -> None:
        self.node = Node()
        self._source = source
        self._rules = rules
        self._interest = interest
        self._ack_overdue = ack_overdue
        self._write_deadline = write_deadline
        self._stale = stale
        self._subscriptions: dict[str, Subscription] = {}
        self._ordered: tuple[Subscription, ...] = ()
        self._strangers: dict[str, bool] = {}  # types we do not serve -> whether their answer is due
        self._writing: tuple[Subscription | None, str] | None = None
        self._writing_since = 0.0
        self._started = False
        self.wake_at: float | None = None  # when `next` may have something though nothing happened
        self._comparing: set[str] = set()

    # -- what comes in ------------------------------------------------------------------------------------

    def receive(self, request: DeltaRequest, now: float) -> None:
        """Take a request.

        Raises:
            MalformedMessageError: no type URL.
            LimitExceededError: too many types or names.
        """
        if request.node is not None and not self._started:
            self.node = request.node
        self._started = True
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscribe(request, now)
            if subscription is None:
                return
            first = True
        else:
            first = False
            if request.nonce:
                self._answered(subscription, request, now)
                if not (request.subscribe or request.unsubscribe or request.versions):
                    return
        self._names(subscription, request, first=first)

    @property
    def comparing(self) -> bool:
        """Whether `compare` has work."""
        return bool(self._comparing)

    def compare(self) -> Iterator[None]:
        """Compare the versions of resuming clients, in slices; to be run to its end.

        Raises:
            MalformedMessageError: versions that are no map entries.
            LimitExceededError: too many names without the wildcard.
        """
        while self._comparing:
            subscription = self._subscriptions[self._comparing.pop()]
            versions, subscription.versions = subscription.versions, ()
            try:
                if subscription.wildcard:
                    yield from self._compare_all(subscription, versions)
                else:
                    yield from self._compare_named(subscription, versions)
            except ValueError as error:
                raise MalformedMessageError(f"{subscription.type_url}: {error}") from None
            if subscription.state is State.COMPARING:
                subscription.move(Event.COMPARED)

    def affected(self, type_url: str, token: str) -> None:
        """`Interest` found this stream: something behind *token* changed."""
        self._subscriptions[type_url].dirty.add(token)

    # -- what goes out ------------------------------------------------------------------------------------

    def next(self, now: float) -> Outgoing | None:
        """The next response, or None where nothing is owed now; the caller writes it, then calls `written`.

        Raises:
            BehindError: the change log no longer reaches back to where the client is.
            LimitExceededError: too many names without the wildcard.
        """
        if self._writing is not None:
            return None
        self.wake_at = None
        again = True
        while again:
            again = False
            for subscription in self._ordered:
                first = subscription.state is State.DUE
                settled = subscription.settled()
                if not subscription.queue:
                    subscription.base = subscription.cursor
                    subscription.queue.extend(self._owed(subscription, now))
                if subscription.queue:
                    return self._send(subscription, first=first, now=now)
                # A cursor that moved without a word may let another type's removals go.
                again = again or subscription.settled() != settled
        return self._next_stranger(now)

    def writing(self, now: float) -> None:
        """The last response waited for its turn and is written only now."""
        self._writing_since = now

    def written(self, now: float) -> None:
        """The transport took the last response whole."""
        if self._writing is not None:
            subscription, nonce = self._writing
            if subscription is not None:
                subscription.written(nonce, now)
            self._writing = None

    def check(self, now: float) -> None:
        """Raises OverdueError where the client neither reads nor answers in time (decision D8)."""
        if self._writing is not None and now - self._writing_since > self._write_deadline:
            raise OverdueError(f"a response was not read within {self._write_deadline:g} s")
        for subscription in self._ordered:
            for nonce, outstanding in subscription.outstanding.items():
                if outstanding.written is not None and now - outstanding.written > self._ack_overdue:
                    raise OverdueError(
                        f"no ACK of {subscription.type_url} {nonce} within {self._ack_overdue:g} s"
                    )
                break

    def review(self) -> bool:
        """What was withheld (decision D13) may be so no longer; returns whether something is owed now."""
        owed = False
        for subscription in self._ordered:
            withheld = subscription.rules.withheld
            if not subscription.withheld or withheld is None:
                continue
            for name, version in list(subscription.withheld.items()):
                resource = subscription.source.get(name)
                if (resource.version if resource else "") != version:
                    del subscription.withheld[name]  # it changed since, and went out with the changes
                elif not withheld(subscription.type_url, name):
                    del subscription.withheld[name]
                    if resource:
                        subscription.puts += (name,)
                    else:
                        subscription.removals += (name,)
                    owed = True
        return owed

    def close(self) -> None:
        """The stream ended."""
        for subscription in self._ordered:
            self._interest.leave(subscription.type_url, subscription.tokens, self)

    @property
    def withholding(self) -> int:
        """How many names are withheld from this client."""
        return sum(len(subscription.withheld) for subscription in self._ordered)

    def statuses(self) -> tuple[TypeStatus, ...]:
        """Per type, for status pages."""
        return tuple(subscription.status() for subscription in self._ordered)

    # -- requests -----------------------------------------------------------------------------------------

    def _subscribe(self, request: DeltaRequest, now: float) -> Subscription | None:
        url = request.type_url
        if not url:
            raise MalformedMessageError("a request without type_url")
        rules = self._rules.get(url)
        if url not in self._strangers and (
            len(self._subscriptions) + len(self._strangers) >= TYPES_PER_STREAM.value
        ):
            hit(TYPES_PER_STREAM)
            raise LimitExceededError(f"more than {TYPES_PER_STREAM.value} types on one stream")
        if rules is None:
            if not request.nonce:
                self._strangers.setdefault(url, True)
            return None
        subscription = Subscription(url, rules, self._source.collection(url), now)
        self._subscriptions[url] = subscription
        self._ordered = tuple(self._subscriptions[u] for u in self._rules if u in self._subscriptions)
        return subscription

    def _answered(self, subscription: Subscription, request: DeltaRequest, now: float) -> None:
        if request.error is None:
            current = subscription.acknowledge(request.nonce, now)
        else:
            current = subscription.reject(request.nonce, request.error, now)
        if not current:
            self._stale()

    def _names(self, subscription: Subscription, request: DeltaRequest, *, first: bool) -> None:
        """Wildcard and names: what a request subscribes to counts before what it unsubscribes from."""
        had = subscription.wildcard
        # An empty list on the first request is the wildcard (wire-contract §5.5).
        on = WILDCARD in request.subscribe or (first and not request.subscribe)
        off = WILDCARD in request.unsubscribe
        subscription.wildcard = (on or had) and not off
        begins = first or (
            subscription.wildcard and (not had or (subscription.rules.resume is not None and on))
        )
        if had and not subscription.wildcard:
            subscription.cursor = subscription.source.revision
            self._follow(subscription, subscription.subscribed)
        elif subscription.wildcard and not had:
            self._interest.leave(subscription.type_url, subscription.tokens, self)
            subscription.tokens, subscription.dirty, subscription.held = set(), set(), {}
        for name in request.subscribe:
            if name != WILDCARD:
                subscription.subscribed.add(name)
                subscription.keys[name] = None
                self._follow(subscription, (name,))
        for name in request.unsubscribe:
            if name == WILDCARD:
                continue
            if name in subscription.subscribed:
                subscription.subscribed.discard(name)
                if subscription.wildcard:
                    # Still held through the wildcard, so its state is said again (xDS: unsubscribing).
                    subscription.keys[name] = None
                else:
                    subscription.keys.pop(name, None)
                    subscription.held.pop(name, None)
                    self._unfollow(subscription, name)
        if begins:
            self._begin(subscription, request)

    def _begin(self, subscription: Subscription, request: DeltaRequest) -> None:
        subscription.puts = subscription.removals = subscription.late = ()
        subscription.resumed = False
        subscription.queue.clear()
        self._comparing.discard(subscription.type_url)
        resume = subscription.rules.resume
        offer = resume.judge(subscription.type_url, request.versions) if resume else Offer.NONE
        subscription.offer = offer
        if offer is Offer.NONE and not request.versions:
            subscription.move(Event.PLAIN)
            return
        subscription.move(_OFFERS[offer])
        subscription.resumed = True
        subscription.compared = subscription.source.revision
        if subscription.state is State.COMPARING:
            subscription.versions = request.versions
            self._comparing.add(subscription.type_url)
            if len(request.versions) <= _SLICE:
                for _ in self.compare():
                    pass

    def _compare_all(self, subscription: Subscription, versions: tuple[bytes, ...]) -> Iterator[None]:
        held: set[bytes] = set()
        for start in range(0, len(versions), _SLICE):
            held.update(versions[start : start + _SLICE])
            yield
        source, url = subscription.source, subscription.type_url
        difference = source.difference(held)
        subscription.compared = source.revision
        puts, removals = difference.puts, difference.removals
        withheld = subscription.rules.withheld
        if withheld is not None and (removals or difference.differing):
            kept = {name for name in (*removals, *difference.differing) if withheld(url, name)}
            for name in kept:
                resource = source.get(name)
                subscription.withheld[name] = resource.version if resource else ""
            puts = tuple(name for name in puts if name not in kept)
            removals = tuple(name for name in removals if name not in kept)
        subscription.puts, subscription.removals = puts, removals

    def _compare_named(self, subscription: Subscription, versions: tuple[bytes, ...]) -> Iterator[None]:
        """A client without the wildcard: what it holds is what it follows."""
        source, withheld = subscription.source, subscription.rules.withheld
        removals = []
        for index, entry in enumerate(versions):
            if index % _SLICE == 0:
                yield
            name, version = read_map_entry(entry)
            subscription.held[name] = version
            self._follow(subscription, (name, *self._member_groups(subscription, name)))
            resource = source.get(name)
            if resource is not None:
                subscription.dirty.add(name)
            elif withheld is not None and withheld(subscription.type_url, name):
                subscription.withheld[name] = ""
            else:
                removals.append(name)
        subscription.removals = tuple(removals)
        subscription.compared = source.revision

    # -- responses ----------------------------------------------------------------------------------------

    def _send(self, subscription: Subscription, *, first: bool, now: float) -> Outgoing:
        frame = subscription.queue.popleft()
        subscription.sending(frame)
        self._writing, self._writing_since = (subscription, frame.nonce), now
        return Outgoing(subscription.type_url, frame, first)

    def _next_stranger(self, now: float) -> Outgoing | None:
        """The one, empty answer to a type we do not serve: a newer client may wait for it."""
        for type_url, due in self._strangers.items():
            if due:
                self._strangers[type_url] = False
                message = field(4, type_url.encode()) + field(5, b"unserved")
                self._writing, self._writing_since = (None, ""), now
                return Outgoing(type_url, Frame("unserved", message, 0, 0, 0), first=False)
        return None

    def _owed(self, subscription: Subscription, now: float) -> tuple[Frame, ...]:
        """What the subscription is owed and may have now; moves its cursor over it."""
        if subscription.state is State.DUE:
            if not self._predecessor_sent(subscription, now):
                return ()
            frames = self._first(subscription)
            subscription.move(Event.ANSWERED)
            return frames
        if subscription.state is State.ASKING:
            subscription.move(Event.ANSWERED)
            return subscription.source.notice(subscription.span("w"), (self._notice(subscription),))
        if subscription.state is not State.LIVE or not self._predecessor_sent(subscription, now):
            return ()
        if subscription.keys or (subscription.dirty and not subscription.wildcard):
            return self._named(subscription, always=False)
        if not subscription.wildcard:
            subscription.cursor = subscription.source.revision
            return ()
        if subscription.rules.waits_for_ack and subscription.outstanding:
            return ()
        if subscription.puts or subscription.removals:
            return self._released(subscription)
        return self._changes(subscription) or self._late_removals(subscription, now)

    def _predecessor_sent(self, subscription: Subscription, now: float) -> bool:
        """Whether the type that goes first has sent all of the present revision (decision D8)."""
        rules = subscription.rules
        if not rules.puts_after:
            return True
        before = self._subscriptions.get(rules.puts_after)
        if before is None:
            return self._patience_over(subscription, now)
        return (
            before.state is State.LIVE and not before.queue and before.cursor == subscription.source.revision
        )

    def _patience_over(self, subscription: Subscription, now: float) -> bool:
        until = subscription.asked_at + subscription.rules.patience
        if now < until:
            self.wake_at = until if self.wake_at is None else min(until, self.wake_at)
            return False
        return True

    def _first(self, subscription: Subscription) -> tuple[Frame, ...]:
        source = subscription.source
        if not subscription.wildcard:
            groups = subscription.rules.own_groups
            own = groups(self.node) if groups is not None else ()
            self._follow(subscription, own)
            subscription.dirty.update(own)
            frames = self._named(subscription, always=True)
        elif subscription.resumed:
            frames = self._resumed(subscription)
        else:
            frames = source.snapshot()
            subscription.removed = source.revision
        subscription.cursor = source.revision
        subscription.resumed = False
        if subscription.rules.resume is not None:
            frames += source.notice(subscription.span("s"), (self._notice(subscription),))
        return frames

    def _resumed(self, subscription: Subscription) -> tuple[Frame, ...]:
        """What the comparison found, and what changed since it was made."""
        source = subscription.source
        self._check_horizon(subscription, subscription.compared)
        since = source.net(subscription.compared)
        puts = dict.fromkeys((*subscription.puts, *since.puts))
        lacking = set(subscription.puts)
        removals = tuple(
            name
            for name in dict.fromkeys((*subscription.removals, *since.removals))
            if source.get(name) is None and name not in lacking
        )
        subscription.puts = subscription.removals = ()
        subscription.removed = source.revision
        if subscription.rules.removals_after:
            subscription.late, removals = removals, ()
        if subscription.rules.resume is not None and not puts and not removals:
            return ()  # the notice that follows says it all
        return source.answer(subscription.span("r"), puts, removals)

    def _released(self, subscription: Subscription) -> tuple[Frame, ...]:
        """Names that were withheld and no longer are."""
        removals = tuple(name for name in subscription.removals if subscription.source.get(name) is None)
        puts, subscription.puts, subscription.removals = subscription.puts, (), ()
        if subscription.rules.removals_after:
            subscription.late, removals = (*subscription.late, *removals), ()
        return subscription.source.answer(subscription.span("h"), puts, removals) if puts or removals else ()

    def _changes(self, subscription: Subscription) -> tuple[Frame, ...]:
        source = subscription.source
        if subscription.cursor == source.revision:
            return ()
        self._check_horizon(subscription, subscription.cursor)
        frames = source.changes(subscription.cursor, removals=not subscription.rules.removals_after)
        subscription.cursor = source.revision
        return frames

    def _late_removals(self, subscription: Subscription, now: float) -> tuple[Frame, ...]:
        """Removals that waited until the client took what caused them (decision D8)."""
        if not subscription.rules.removals_after:
            return ()
        source = subscription.source
        cause = self._subscriptions.get(subscription.rules.removals_after)
        if cause is not None:
            if cause.state is not State.LIVE:
                return ()
            until = cause.settled()
        elif subscription.late or subscription.removed < source.revision:
            if not self._patience_over(subscription, now):
                return ()
            until = source.revision
        else:
            return ()
        if until < subscription.removed or (until == subscription.removed and not subscription.late):
            return ()
        self._check_horizon(subscription, subscription.removed)
        since, subscription.removed = subscription.removed, until
        late, subscription.late = subscription.late, ()
        late = tuple(name for name in late if source.get(name) is None)
        if not late:
            return source.removals(since, until)
        return source.answer(subscription.span("x"), (), (*late, *source.gone(since, until)))

    def _check_horizon(self, subscription: Subscription, cursor: int) -> None:
        if cursor < subscription.source.log.horizon:
            raise BehindError(
                f"{subscription.type_url}: revision {cursor} is past the change log's horizon"
                f" {subscription.source.log.horizon}; reconnect with your versions"
            )

    def _notice(self, subscription: Subscription) -> bytes:
        resume = subscription.rules.resume
        return resume.notice(subscription.type_url, subscription.offer) if resume is not None else b""

    # -- single names -------------------------------------------------------------------------------------

    def _named(self, subscription: Subscription, *, always: bool) -> tuple[Frame, ...]:
        """Answers to look-ups, and changes to what is followed (decision D12)."""
        source = subscription.source
        puts: dict[str, None] = {}
        removals: dict[str, None] = dict.fromkeys(subscription.removals)
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
            self._update(subscription, puts, removals, sorted(dirty))
            subscription.cursor = source.revision
        if not (puts or removals or always):
            return ()
        return source.answer(subscription.span("d"), puts, removals, aliases=True)

    def _update(
        self,
        subscription: Subscription,
        puts: dict[str, None],
        removals: dict[str, None],
        dirty: Iterable[str],
    ) -> None:
        """Add what changed behind *dirty* tokens, and the members that names in *puts* bring with them."""
        source, held = subscription.source, subscription.held
        waiting = list(puts)
        for token in dirty:
            if token in held and source.get(token) is None:
                del held[token]
                removals[token] = None
                self._unfollow(subscription, token)
            waiting += source.resolve(token)
            waiting += source.members(token)
        while waiting:
            name = waiting.pop()
            resource = source.get(name)
            if resource is None or (held.get(name) == resource.version and name not in puts):
                continue
            puts[name] = None
            known, held[name] = name in held, resource.version
            if not known:
                groups = self._member_groups(subscription, name)
                self._follow(subscription, (name, *groups))
                for group in groups:
                    waiting += [member for member in source.members(group) if member not in puts]

    def _member_groups(self, subscription: Subscription, name: str) -> tuple[str, ...]:
        groups = subscription.rules.member_groups
        return groups(name) if groups is not None else ()

    def _follow(self, subscription: Subscription, tokens: Iterable[str]) -> None:
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
                self._interest.follow(subscription.type_url, token, self)

    def _unfollow(self, subscription: Subscription, name: str) -> None:
        """Follow *name* no longer, unless the client asked for it by name."""
        if name not in subscription.subscribed:
            tokens = subscription.tokens & {name, *self._member_groups(subscription, name)}
            subscription.tokens -= tokens
            self._interest.leave(subscription.type_url, tokens, self)
