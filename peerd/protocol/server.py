"""The answering side of a delta stream, without IO and without a clock.

`receive` takes requests; `next` gives one response at a time, to be written and then reported by `written`.
Nothing is queued per client: what a stream is owed is its cursor's distance to the last closed window, made
into a response when the stream can take one (decision D4).
"""

from collections.abc import Callable, Iterator, Mapping

from peerd.limits import CHANGE_LOG_NAMES, TYPES_PER_STREAM, Limit, hit
from peerd.model.frame import Frame
from peerd.model.horizon import BehindHorizonError
from peerd.model.record import Record
from peerd.model.wire import field, map_entry
from peerd.protocol import wildcard
from peerd.protocol.envelope import DeltaRequest, Node
from peerd.protocol.errors import BehindError, LimitExceededError, MalformedMessageError, OverdueError
from peerd.protocol.interest import Interest
from peerd.protocol.named import Names
from peerd.protocol.order import Order
from peerd.protocol.resuming import Resuming
from peerd.protocol.rules import TypeRules
from peerd.protocol.source import Source
from peerd.protocol.subscription import Event, State, Subscription, TypeStatus
from peerd.protocol.withheld import release

WILDCARD = "*"
_SERVED = (State.DUE, State.LIVE)


class Outgoing(Record, frozen=True):
    """A response to write. `first` marks those of a first answer, which are bounded together (D9)."""

    type_url: str
    frame: Frame
    first: bool


class DeltaServer:
    """One stream. `rules` names the types served, in the order in which they go out."""

    __slots__ = (
        "_ack_overdue",
        "_by_name",
        "_by_url",
        "_order",
        "_ordered",
        "_rest_at",
        "_resuming",
        "_rules",
        "_source",
        "_stale",
        "_started",
        "_strangers",
        "_subscriptions",
        "_write_deadline",
        "_writing",
        "_writing_since",
        "node",
    )

    def __init__(
        self,
        source: Source,
        rules: Mapping[str, TypeRules],
        interest: Interest,
        *,
        ack_overdue: Limit,
        write_deadline: Limit,
        stale: Callable[[], None] = lambda: None,
    ) -> None:
        self.node = Node()
        self._source = source
        self._rules = rules
        self._by_name = Names(interest, self)
        self._ack_overdue = ack_overdue
        self._write_deadline = write_deadline
        self._stale = stale
        self._resuming = Resuming(self._by_name)
        self._subscriptions: dict[str, Subscription] = {}
        self._order = Order(self._subscriptions)
        self._by_url: dict[bytes, Subscription] = {}
        self._ordered: tuple[Subscription, ...] = ()
        self._strangers: dict[str, bool] = {}  # types we do not serve -> whether their answer is due
        self._writing: tuple[Subscription | None, str] | None = None
        self._writing_since = 0.0
        self._started = False
        # At this revision nothing is owed whatever is ACKed: most streams, most of the time.
        self._rest_at = -1

    # -- what comes in ------------------------------------------------------------------------------------

    def receive(self, request: DeltaRequest, now: float) -> bool:
        """Take a request; whether it refuses, in part, what it was sent and had not answered.

        Raises:
            MalformedMessageError: no type URL.
            LimitExceededError: too many types or names.
        """
        self._rest_at = -1
        if request.node is not None and not self._started:
            self.node = request.node
        self._started = True
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscribe(request, now)
            if subscription is not None:
                self._names(subscription, request, first=True)
            return False
        refused = bool(request.nonce) and self._answered(subscription, request, now)
        self._names(subscription, request, first=False)
        return refused

    def acknowledge(self, type_url: bytes, nonce: str, now: float) -> bool:
        """Take an ACK that says nothing else; False where it must go through `receive`."""
        subscription = self._by_url.get(type_url)
        if subscription is None or not nonce:
            return False
        if not subscription.acknowledge(nonce, now):
            self._stale()
        return True

    @property
    def comparing(self) -> bool:
        """Whether `compare` has work."""
        return self._resuming.waiting

    def compare(self) -> Iterator[None]:
        """Compare the versions of resuming clients, in slices; to be run to its end.

        Raises:
            MalformedMessageError: versions that are no map entries.
            LimitExceededError: too many names without the wildcard.
        """
        return self._resuming.compare()

    def affected(self, type_url: str, token: str) -> None:
        """`Interest` found this stream: something behind *token* changed."""
        self._rest_at = -1
        self._subscriptions[type_url].dirty.add(token)

    # -- what goes out ------------------------------------------------------------------------------------

    def next(self, now: float) -> Outgoing | None:
        """The next response, or None where nothing is owed now; the caller writes it, then calls `written`.

        Raises:
            BehindError: the change log no longer reaches back to where the client is.
            LimitExceededError: too many names without the wildcard.
        """
        revision = self._source.revision
        if self._writing is not None or self._rest_at == revision:
            return None
        self._order.wake_at = None
        moved = True
        while moved:
            moved, rest = False, True
            for subscription in self._ordered:
                base = subscription.cursor
                if subscription.passes(revision):
                    moved = moved or base != revision
                    continue
                first = subscription.state is State.DUE
                if not subscription.queue:
                    subscription.base = base
                    try:
                        subscription.queue = self._owed(subscription, now)
                    except BehindHorizonError as error:
                        hit(CHANGE_LOG_NAMES)
                        raise BehindError(
                            f"{subscription.type_url}: {error}; reconnect with your versions"
                        ) from None
                if subscription.queue:
                    outgoing = self._send(subscription, first=first, now=now)
                    if rest and subscription is self._ordered[-1] and subscription.passes(revision):
                        self._rest_at = revision
                    return outgoing
                rest = False
                # A cursor that moved without a word may let another type's removals go.
                moved = moved or subscription.cursor != base
        last = self._next_stranger(now) if self._strangers else None
        if rest and last is None:
            self._rest_at = revision
        return last

    @property
    def wake_at(self) -> float | None:
        """When `next` may have something though nothing happened; None for never."""
        return self._order.wake_at

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
        if self._writing is not None and now - self._writing_since > self._write_deadline.value:
            hit(self._write_deadline)
            raise OverdueError(f"a response was not read within {self._write_deadline.value} s")
        for subscription in self._ordered:
            for nonce, outstanding in subscription.outstanding.items():
                if outstanding.written is not None and now - outstanding.written > self._ack_overdue.value:
                    hit(self._ack_overdue)
                    raise OverdueError(
                        f"no ACK of {subscription.type_url} {nonce} within {self._ack_overdue.value} s"
                    )
                break

    def review(self) -> bool:
        """What was withheld (decision D13) may be so no longer, and what a client is told may look otherwise.

        Returns whether something is owed now.
        """
        owed, self._rest_at = False, -1
        for subscription in self._ordered:
            if subscription.look(self.node) and not subscription.wildcard:
                subscription.dirty |= subscription.subscribed
                owed = True
            for name in release(subscription):
                if not subscription.wildcard:
                    subscription.dirty.add(name)
                elif subscription.source.get(name) is not None:
                    subscription.puts += (name,)
                else:
                    subscription.removals += (name,)
                owed = True
        return owed

    def close(self) -> None:
        """The stream ended."""
        for subscription in self._ordered:
            self._by_name.forget(subscription)

    @property
    def reviewable(self) -> bool:
        """Whether `review` may find anything."""
        return any(each.withheld or each.rules.view is not None for each in self._ordered)

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
        subscription.look(self.node)
        self._subscriptions[url] = subscription
        self._by_url[url.encode()] = subscription
        self._ordered = tuple(self._subscriptions[u] for u in self._rules if u in self._subscriptions)
        return subscription

    def _answered(self, subscription: Subscription, request: DeltaRequest, now: float) -> bool:
        if request.error is None:
            current = subscription.acknowledge(request.nonce, now)
        else:
            current = subscription.reject(request.nonce, request.error, now)
        if not current:
            self._stale()
        return current and request.error is not None

    def _names(self, subscription: Subscription, request: DeltaRequest, *, first: bool) -> None:
        """Wildcard and names: what a request subscribes to counts before what it unsubscribes from."""
        had = subscription.wildcard
        # An empty list on the first request is the wildcard (wire-contract §5.5).
        on = WILDCARD in request.subscribe or (first and not request.subscribe)
        off = WILDCARD in request.unsubscribe
        subscription.wildcard = (on or had) and not off and not subscription.rules.own_only
        begins = first or (
            subscription.wildcard and (not had or (subscription.rules.resume is not None and on))
        )
        if had and not subscription.wildcard:
            subscription.cursor = subscription.source.revision
            self._by_name.follow(subscription, subscription.subscribed)
        versions = request.versions
        if subscription.wildcard and not had and (subscription.held or subscription.removals):
            # What it held by name it resumes from.
            held = (map_entry(name, version) for name, version in subscription.held.items())
            versions = (*versions, *held, *(map_entry(name, "") for name in subscription.removals))
            self._by_name.forget(subscription)
        for name in request.subscribe:
            if name != WILDCARD and not subscription.rules.own_only:
                subscription.subscribed.add(name)
                subscription.keys[name] = None
                self._by_name.follow(subscription, (name,))
        for name in request.unsubscribe:
            if name in subscription.subscribed:
                subscription.subscribed.discard(name)
                if subscription.wildcard:
                    # Still held through the wildcard, so its state is said again (xDS: unsubscribing).
                    subscription.keys[name] = None
                else:
                    subscription.keys.pop(name, None)
                    subscription.held.pop(name, None)
                    self._by_name.unfollow(subscription, name)
        if begins:
            self._resuming.begin(subscription, versions)

    # -- responses ----------------------------------------------------------------------------------------

    def _send(self, subscription: Subscription, *, first: bool, now: float) -> Outgoing:
        frame, subscription.queue = subscription.queue[0], subscription.queue[1:]
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
        state = subscription.state
        if state is State.ASKING:
            subscription.move(Event.ANSWERED)
            return self._notice(subscription, "w")
        if state not in _SERVED or not self._order.predecessor_sent(subscription, now):
            return ()
        if state is State.DUE:
            frames = self._first(subscription)
            subscription.move(Event.ANSWERED)
            return frames
        return self._live(subscription, now)

    def _first(self, subscription: Subscription) -> tuple[Frame, ...]:
        if subscription.wildcard:
            frames = wildcard.first(subscription)
        else:
            frames = self._by_name.first(subscription, self.node)
        subscription.cursor = subscription.source.revision
        subscription.resumed = False
        return frames + self._notice(subscription, "s")

    def _live(self, subscription: Subscription, now: float) -> tuple[Frame, ...]:
        if subscription.keys or (subscription.dirty and not subscription.wildcard):
            return self._by_name.answer(subscription)
        if not subscription.wildcard:
            subscription.cursor = subscription.source.revision
            return ()
        if subscription.rules.waits_for_ack and subscription.outstanding:
            return ()
        if subscription.puts or subscription.removals:
            return wildcard.released(subscription)
        return wildcard.changes(subscription) or wildcard.late_removals(
            subscription, self._order.removals_until(subscription, now)
        )

    def _notice(self, subscription: Subscription, prefix: str) -> tuple[Frame, ...]:
        resume = subscription.rules.resume
        if resume is None:
            return ()
        notice = resume.notice(subscription.type_url, subscription.offer)
        return subscription.source.notice(subscription.span(prefix), (notice,))
