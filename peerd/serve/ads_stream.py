"""One delta stream: the machine of `peerd/protocol` between a transport and the store.

The handler's task reads; a second task writes, one response at a time. Whoever wakes the stream (the merge
window, an ACK, a timer) asks the machine what is owed and hands it to the writer, so a stream that is owed
nothing costs no task switch.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from peerd.model.clock import Clock
from peerd.protocol.envelope import DeltaRequest, Node, parse_ack, parse_delta_request
from peerd.protocol.errors import ProtocolError
from peerd.protocol.server import DeltaServer, Outgoing
from peerd.serve.admission import FirstAnswers
from peerd.transport.base import StatusCode, Stream, StreamClosed

log = structlog.get_logger("peerd.ads")

_LARGE_REQUEST = 64 * 1024  # bytes past which requests are taken one at a time over all streams
_LARGE_ANSWER = 64 * 1024  # bytes past which a first answer counts as in flight


Wording = Callable[[Node], Callable[[str, bytes], bytes] | None]
"""From a client's node to what makes its messages, of a type URL and as everybody's are."""


class Judge(Protocol):
    """What a service has to say to a stream's requests."""

    def __call__(self, request: DeltaRequest, /) -> None:
        """Look at it before the machine does; raises StreamClosed to end the stream."""
        ...

    def refused(self, request: DeltaRequest, /) -> None:
        """It refuses what was sent."""
        ...


class AdsStream:
    """Runs one stream.

    Args:
        stream: the transport's.
        machine: made for this stream.
        clock: monotonic time.
        turns: held while a large request is taken apart, so that many at once do not hold up others.
        first_answers: the bound on bytes in flight.
        judge: sees each request before the machine does, and each refusal of what was sent.
        pushed: told of each response that was written.
        wording: how messages of a type are put to the client that a node is, None for as they are.
    """

    __slots__ = (
        "_clock",
        "_failure",
        "_first_answers",
        "_idle",
        "_judge",
        "_loop",
        "_pushed",
        "_reader",
        "_stream",
        "_timer",
        "_turns",
        "_wording",
        "_words",
        "machine",
    )

    def __init__(
        self,
        stream: Stream,
        machine: DeltaServer,
        clock: Clock,
        *,
        turns: asyncio.Lock,
        first_answers: FirstAnswers,
        judge: Judge,
        pushed: Callable[[Outgoing], None],
        wording: Wording | None = None,
    ) -> None:
        self.machine = machine
        self._stream = stream
        self._clock = clock
        self._turns = turns
        self._first_answers = first_answers
        self._judge = judge
        self._pushed = pushed
        self._wording = wording
        self._words: Callable[[str, bytes], bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[Outgoing] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[object] | None = None
        self._failure: StreamClosed | None = None

    async def run(self) -> None:
        """Serve until the client half-closes.

        Raises:
            StreamClosed: the stream ended otherwise, or must.
        """
        self._reader = asyncio.current_task()
        writer = self._loop.create_task(self._write())
        try:
            await self._read()
        except ProtocolError as error:
            raise _closed(error) from None
        except asyncio.CancelledError:
            if self._failure is not None and self._reader is not None:
                self._reader.uncancel()
                raise self._failure from None
            raise
        finally:
            self._reader = None
            if self._timer is not None:
                self._timer.cancel()
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            self.machine.close()

    def wake(self) -> None:
        """Hand the writer what the machine owes, if it is waiting; never raises."""
        idle = self._idle
        if idle is None or idle.done():
            return
        try:
            outgoing = self._next()
        except Exception as error:  # noqa: BLE001 (told to `end`; others are woken after this one)
            self.end(_closed(error))
            return
        if outgoing is not None:
            self._idle = None
            idle.set_result(outgoing)

    def check(self) -> None:
        """End the stream where the client neither reads nor answers in time."""
        try:
            self.machine.check(self._clock.monotonic())
            owed = self.machine.reviewable and self.machine.review()
        except Exception as error:  # noqa: BLE001 (told to `end`; others are checked after this one)
            self.end(_closed(error))
            return
        if owed:
            self.wake()

    def end(self, closed: StreamClosed) -> None:
        """End the stream with a status, from outside its tasks."""
        if self._failure is None and self._reader is not None:
            self._failure = closed
            self._reader.cancel()

    async def _read(self) -> None:
        while (message := await self._stream.receive()) is not None:
            if len(message) > _LARGE_REQUEST:
                async with self._turns:
                    self._take(message)
                    await self._compare()
            else:
                self._take(message)
                if self.machine.comparing:
                    async with self._turns:
                        await self._compare()
            self.wake()

    async def _compare(self) -> None:
        for _ in self.machine.compare():
            await asyncio.sleep(0)

    def _take(self, message: bytes) -> None:
        ack = parse_ack(message)
        if ack is not None and self.machine.acknowledge(*ack, self._clock.monotonic()):
            return
        request = parse_delta_request(message)
        self._judge(request)
        if request.node is not None and self._wording is not None:
            self._words = self._wording(request.node)
        if self.machine.receive(request, self._clock.monotonic()):
            self._judge.refused(request)

    async def _write(self) -> None:
        try:
            while True:
                outgoing = self._next()
                if outgoing is None:
                    self._idle = self._loop.create_future()
                    outgoing = await self._idle
                await self._send(outgoing)
                self.machine.written(self._clock.monotonic())
                self._pushed(outgoing)
        except Exception as error:  # noqa: BLE001 (a stream without its writer would stay open and mute)
            self.end(_closed(error))

    async def _send(self, outgoing: Outgoing) -> None:
        message = outgoing.frame.message
        if self._words is not None:
            message = self._words(outgoing.type_url, message)
        if not outgoing.first or len(message) < _LARGE_ANSWER:
            await self._stream.send(message)
            return
        await self._first_answers.take(len(message))
        try:
            self.machine.writing(self._clock.monotonic())
            await self._stream.send(message)
        finally:
            self._first_answers.give(len(message))

    def _next(self) -> Outgoing | None:
        now = self._clock.monotonic()
        outgoing = self.machine.next(now)
        if outgoing is None and self.machine.wake_at is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, self.machine.wake_at - now), self.wake)
        return outgoing


def _closed(error: Exception) -> StreamClosed:
    match error:
        case StreamClosed():
            return error
        case ProtocolError():
            return StreamClosed(StatusCode(error.code), str(error))
        case _:
            log.error("stream_failed", exc_info=error)
            return StreamClosed(StatusCode.INTERNAL, "internal error")
