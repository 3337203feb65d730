"""One type of one client: where it is, what it was sent, what it said of it."""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from peerd.limits import REJECTIONS_PER_STREAM, hit
from peerd.model.frame import Frame
from peerd.model.record import Record
from peerd.model.resource import Resource
from peerd.protocol.envelope import Node
from peerd.protocol.errors import UnexpectedRequestError
from peerd.protocol.rules import Offer, TypeRules, View
from peerd.protocol.source import TypeSource


class State(Enum):
    """Where a subscription is."""

    NEW = "new"  # nothing was asked yet
    COMPARING = "comparing"  # the client's versions are being compared
    DUE = "due"  # a first answer is owed: of the wildcard, or to a client that begins without it
    ASKING = "asking"  # a request for the versions behind a digest is owed
    ASKED = "asked"  # the client was asked for its versions
    LIVE = "live"  # answered; changes follow


class Event(Enum):
    """What moves a subscription."""

    PLAIN = "plain"  # a beginning that names no versions
    VERSIONS = "versions"  # a beginning with versions
    EQUAL = "equal"  # a beginning whose digest is ours
    WANTED = "wanted"  # a beginning whose digest is not ours
    COMPARED = "compared"  # the comparison is done
    ANSWERED = "answered"  # what was owed is on its way


_BEGINNINGS = {
    Event.PLAIN: State.DUE,
    Event.VERSIONS: State.COMPARING,
    Event.EQUAL: State.DUE,
    Event.WANTED: State.ASKING,
}
# Every transition there is. A client may begin again (subscribe to `*` anew) whenever it likes.
TRANSITIONS: dict[tuple[State, Event], State] = {
    **{(state, event): then for state in State for event, then in _BEGINNINGS.items()},
    (State.COMPARING, Event.COMPARED): State.DUE,
    (State.DUE, Event.ANSWERED): State.LIVE,
    (State.ASKING, Event.ANSWERED): State.ASKED,
}


class Outstanding:
    """A response that was not answered.

    `base` is where the client was before it, `written` None while it is being written, `again` the names it
    holds whatever the client said of them before.
    """

    __slots__ = ("again", "base", "written")

    def __init__(self, base: int, again: tuple[str, ...]) -> None:
        self.base = base
        self.written: float | None = None
        self.again = again


class Rejection(Record, frozen=True):
    """A resource the client refused, in which version ("" for none that can be told), and why."""

    version: str
    reason: str


class TypeStatus(Record, frozen=True):
    """What status pages show of a subscription; moments are monotonic seconds, nonces empty where none."""

    type_url: str
    wildcard: bool
    sent: str
    sent_at: float | None
    acked: str
    acked_at: float | None
    error: str
    error_at: float | None
    rejections: tuple[tuple[str, str], ...]
    outstanding: int


class Subscription:
    """State of one type; `server.py` drives it. Slots: a thousand streams are walked at every push."""

    __slots__ = (
        "_accepted",
        "_acked",
        "_acked_at",
        "_again",
        "_error",
        "_error_at",
        "_lags",
        "_sent",
        "_sent_at",
        "answers",
        "asked_at",
        "base",
        "compared",
        "cursor",
        "dirty",
        "held",
        "keys",
        "lacking",
        "late",
        "offer",
        "outstanding",
        "puts",
        "queue",
        "rejections",
        "removals",
        "removed",
        "resumed",
        "rules",
        "source",
        "state",
        "subscribed",
        "tokens",
        "type_url",
        "versions",
        "view",
        "whole",
        "wildcard",
        "withheld",
    )

    def __init__(self, type_url: str, rules: TypeRules, source: TypeSource, now: float) -> None:
        self.type_url = type_url
        self.rules = rules
        self.source = source
        self.asked_at = now
        self._lags = bool(rules.removals_after)
        self.state = State.NEW
        self.view: View | None = None
        self.wildcard = False
        self.base = 0  # where the client was before the answer that `queue` is of
        self.cursor = 0  # what the client has, once it applied all that was sent
        self.removed = 0  # the same for removals, where they go by themselves
        self.answers = 0  # makes nonces of this stream's own answers unique
        self.queue: tuple[Frame, ...] = ()  # the rest of an answer that comes in several
        self.outstanding: dict[str, Outstanding] = {}
        self._again: tuple[str, ...] = ()
        self.rejections: dict[str, Rejection] = {}
        self._accepted = 0
        # A first answer in the making.
        self.versions: Sequence[bytes] = ()
        self.puts: tuple[str, ...] = ()
        self.removals: tuple[str, ...] = ()
        self.lacking: frozenset[str] = frozenset()  # those of `puts` that the client does not hold at all
        self.whole = False  # `puts` are everything, and much
        self.resumed = False  # the client held something; `compared` says at which revision it was compared
        self.compared = 0
        self.offer = Offer.NONE
        self.late: tuple[str, ...] = ()  # removals of a resume that wait for another type's ACK
        self.withheld: dict[str, object] = {}  # name -> what it was here when it was withheld
        # Single names.
        self.keys: dict[str, None] = {}  # to be answered, in the order they were asked
        self.subscribed: set[str] = set()
        self.tokens: set[str] = set()
        self.held: dict[str, str] = {}
        self.dirty: set[str] = set()
        self._sent = self._acked = self._error = ""
        self._sent_at: float | None = None
        self._acked_at: float | None = None
        self._error_at: float | None = None

    def get(self, name: str) -> Resource | None:
        """A resource as this client is told it under its name."""
        resource = self.source.get(name)
        return resource if resource is None or self.view is None or self.wildcard else self.view(resource)

    def look(self, node: Node) -> bool:
        """Take the view that the client has now; whether it is another one."""
        view = None if self.rules.view is None else self.rules.view(node)
        changed, self.view = view != self.view, view
        return changed

    def move(self, event: Event) -> None:
        """Take a transition.

        Raises:
            UnexpectedRequestError: the table has none.
        """
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise UnexpectedRequestError(f"{self.type_url}: {event.value} while {self.state.value}") from None

    def passes(self, revision: int) -> bool:
        """Whether nothing is owed up to *revision*, as is most often so; moves the cursor there."""
        log = self.source.log
        if (
            self.state is not State.LIVE
            or log.newest > self.cursor
            or (self._lags and (self.late or log.newest_removal > self.removed))
            or self.queue
            or self.keys
            or self.dirty
            or self.puts
            or self.removals
        ):
            return False
        self.cursor = revision
        return True

    def settled(self) -> int:
        """Up to which revision the client took everything it was sent."""
        if not self.rejections:
            if self.outstanding:
                self._accepted = next(iter(self.outstanding.values())).base
            elif not self.queue:
                self._accepted = self.cursor
        return self._accepted

    def span(self, prefix: str) -> str:
        """A name for an answer of this stream's own."""
        self.answers += 1
        return f"{prefix}{self.answers}"

    def sending(self, frame: Frame) -> None:
        """*frame* is handed to the transport."""
        self._sent = frame.nonce
        self.outstanding[frame.nonce] = Outstanding(self.base, self._again)
        if not self.queue:
            self._again = ()

    def written(self, nonce: str, now: float) -> None:
        """The transport took all of it. Its answer may have come first."""
        self._sent_at = now
        outstanding = self.outstanding.get(nonce)
        if outstanding is not None:
            outstanding.written = now

    def acknowledge(self, nonce: str, now: float) -> bool:
        """The client took *nonce*, and with it those before; False where the nonce is stale."""
        if not self._answer(nonce):
            return False
        self._acked, self._acked_at = nonce, now
        if self.rejections:
            self._forget_rejections()
        return True

    def reject(self, nonce: str, error: str, now: float) -> bool:
        """The client refused part of *nonce*; False where the nonce is stale (wire-contract §1.4)."""
        self.settled()
        if not self._answer(nonce):
            return False
        self._error, self._error_at = error, now
        for name, reason in self._reasons(error):
            resource = self.get(name) if name else None
            if len(self.rejections) >= REJECTIONS_PER_STREAM.value and name not in self.rejections:
                hit(REJECTIONS_PER_STREAM)
                continue
            self.rejections[name] = Rejection(resource.version if resource else "", reason)
        return True

    def said_again(self, names: Iterable[str]) -> None:
        """The next answer holds *names* whatever the client said of them; what it says to that counts."""
        self._again = tuple(names)

    def status(self) -> TypeStatus:
        """For status pages."""
        return TypeStatus(
            self.type_url,
            self.wildcard,
            self._sent,
            self._sent_at,
            self._acked,
            self._acked_at,
            self._error if self.rejections else "",
            self._error_at if self.rejections else None,
            tuple((name, rejection.reason) for name, rejection in self.rejections.items()),
            len(self.outstanding),
        )

    def _answer(self, nonce: str) -> bool:
        if nonce not in self.outstanding:
            return False
        for earlier, outstanding in list(self.outstanding.items()):
            del self.outstanding[earlier]
            for name in outstanding.again:
                self.rejections.pop(name, None)
            if earlier == nonce:
                break
        return True

    def _forget_rejections(self) -> None:
        """A rejection lasts until its resource changed and the client took that."""
        for name, rejection in list(self.rejections.items()):
            resource = self.get(name)
            if (resource.version if resource else "") != rejection.version or not name:
                del self.rejections[name]

    def _reasons(self, error: str) -> Iterator[tuple[str, str]]:
        """`name: reason; name: reason`; what follows no known name belongs to the reason before it."""
        name = ""
        reason: list[str] = []
        for part in error.split("; "):
            candidate, colon, rest = part.partition(": ")
            if colon and self.source.get(candidate) is not None:
                if name or reason:
                    yield name, "; ".join(reason)
                name, reason = candidate, [rest]
            elif part:
                reason.append(part)
        yield name, "; ".join(reason)
