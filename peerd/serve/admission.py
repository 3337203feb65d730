"""Who may start now: new streams a second, streams at all, memory, bytes of first answers in flight."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from peerd.limits import (
    FIRST_ANSWER_BYTES,
    FIRST_ANSWERS_WAITING,
    NEW_STREAMS_PER_S,
    STREAMS,
    hit,
)
from peerd.model.clock import Clock
from peerd.transport.base import StatusCode, StreamClosed

_PATIENCE = 1.0  # how long a new stream may wait for its turn, as with istiod (wire-contract §5.3)


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """`memory` is the resident size, in bytes, above which no stream is added; 0 = no bound."""

    streams_per_second: float = NEW_STREAMS_PER_S.value
    streams: int = STREAMS.value
    memory: int = 0
    first_answer_bytes: int = FIRST_ANSWER_BYTES.value
    first_answers_waiting: int = FIRST_ANSWERS_WAITING.value


class Admission:
    """Decides on new streams. `ready` gives why not yet, empty once it is; `resident` the memory in use."""

    def __init__(
        self,
        limits: AdmissionLimits,
        clock: Clock,
        *,
        ready: Callable[[], str] = lambda: "",
        resident: Callable[[], int] = lambda: 0,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._ready = ready
        self._resident = resident
        self._draining = False
        self._streams = 0
        self._next_turn = 0.0  # when the bucket, a second's worth of streams deep, would be empty

    def drain(self) -> None:
        """From now on refuse everybody."""
        self._draining = True

    async def enter(self) -> None:
        """Take a place, waiting up to a second for a turn; `leave` gives it back.

        Raises:
            StreamClosed: UNAVAILABLE while not ready or draining, RESOURCE_EXHAUSTED with the limit met.
        """
        if self._draining:
            raise StreamClosed(StatusCode.UNAVAILABLE, "draining: this replica is stopping, use another")
        if reason := self._ready():
            raise StreamClosed(StatusCode.UNAVAILABLE, f"not ready: {reason}")
        limits = self._limits
        if self._streams >= limits.streams:
            hit(STREAMS)
            raise _exhausted(f"{limits.streams} streams are open, which is the limit")
        if limits.memory and (resident := self._resident()) > limits.memory:
            raise _exhausted(f"{resident} bytes of memory are in use, the limit is {limits.memory}")
        now = self._clock.monotonic()
        turn = max(self._next_turn, now - 1.0) + 1.0 / limits.streams_per_second
        if turn - now > _PATIENCE:
            hit(NEW_STREAMS_PER_S)
            raise _exhausted(f"more than {limits.streams_per_second:g} new streams a second")
        self._next_turn = turn
        self._streams += 1
        try:
            await asyncio.sleep(max(0.0, turn - now))
        except BaseException:
            self._streams -= 1
            raise

    def leave(self) -> None:
        """A stream that entered has ended."""
        self._streams -= 1


class FirstAnswers:
    """Bounds the bytes of first answers that are being written at once (decision D9); others wait in turn."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limit = limits.first_answer_bytes
        self._places = limits.first_answers_waiting
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Bytes in flight."""
        return self._used

    async def take(self, size: int) -> None:
        """Wait until *size* bytes may be written; one answer may always be, whatever its size.

        Raises:
            StreamClosed: RESOURCE_EXHAUSTED where too many wait already.
        """
        if not self._waiting and self._fits(size):
            self._used += size
            return
        hit(FIRST_ANSWER_BYTES)
        if len(self._waiting) >= self._places:
            hit(FIRST_ANSWERS_WAITING)
            raise _exhausted(f"{self._places} first answers are waiting for {self._limit} bytes in flight")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._waiting.remove(place)
            raise

    def give(self, size: int) -> None:
        """*size* bytes are written, or will not be."""
        self._used -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            waiting, turn = self._waiting.popleft()
            if not turn.done():
                self._used += waiting
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit


def _exhausted(reason: str) -> StreamClosed:
    return StreamClosed(StatusCode.RESOURCE_EXHAUSTED, reason)
