"""Following all objects of one kind: a list, then a watch, for ever.

The handler hears what changed and nothing twice. Rules:

1. An object is gone when the server says so, or when a complete list lacks it *and* the server still holds
   the cluster that we know (peerd/kubeapi/continuity.py). What cannot be read is not gone.
2. A kind is gone when its CustomResourceDefinition is: a 404 alone may be a server that is still starting.
3. A broken watch goes on where it stopped. Where the server no longer knows that place (410, as status or as
   event), where it went back in time, or where events cannot be put in order, all is listed again: what is
   known stays told meanwhile, and only differences are.
4. Lists are streamed where the server can (`sendInitialEvents`), and paged otherwise.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from random import Random
from typing import Protocol

import msgspec

from peerd.kubeapi.backoff import Backoff
from peerd.kubeapi.base import ApiTransport, ApiUnreachableError, Response
from peerd.kubeapi.continuity import Continuity, Look
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.known import Known, Word
from peerd.kubeapi.lists import EXPIRED, Event, GarbledError, Head, read_event, read_page
from peerd.kubeapi.objects import NOT_FOUND, Resource
from peerd.kubeapi.resources import DEFINITION
from peerd.limits import LIST_PAGE_OBJECTS, SLICE_MS
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record

WATCH_SECONDS = (300.0, 600.0)
"""A watch is asked to end after a time drawn from these, so that watches do not all begin anew at once."""
SILENCE_SECONDS = 150.0
"""A watch on which not even a bookmark came for so long (servers send one a minute) is taken for dead."""
PAGE_SECONDS = 60.0
"""How long one page of a list may take."""
ABSENT_SECONDS = (5.0, 10.0)
"""How often a kind without a CustomResourceDefinition is looked for."""
_FORBIDDEN = 403
_UNAUTHORIZED = 401
_CANNOT_STREAM = frozenset({400, 422})
_PAGED_AFTER = 3  # a streamed list that failed so often is tried in pages, in case streaming is what fails
_PATIENCE = 3  # failures in a row that are nobody's business yet


class Target(Record, frozen=True):
    """What is followed: one resource, in the first of *versions* that is served.

    `namespace` empty: in all. `field_selector` as the API has it. `defined`: by a CustomResourceDefinition,
    so that it need not be there.
    """

    versions: tuple[Resource, ...]
    namespace: str = ""
    field_selector: str = ""
    defined: bool = False

    @property
    def name(self) -> str:
        """`plural.group`, as kubectl and CustomResourceDefinitions name it."""
        first = self.versions[0]
        return f"{first.plural}.{first.group}" if first.group else first.plural


class Handler(Protocol):
    """Whom a reflector tells. Calls must not block."""

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        """An object is new or changed. *raw* is its JSON or, with *event*, a line whose `object` it is."""
        ...

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""
        ...

    def listed(self) -> None:
        """All that existed has been told, again and again after each list."""
        ...

    def trouble(self, problem: str) -> None:
        """Why the kind cannot be followed at present; empty where it can."""
        ...


class ListAgainError(Exception):
    """Only a new list helps; says why."""


class Reflector:
    """Follows *target* and tells *handler*.

    Args:
        transport: the API server.
        target: what to follow.
        handler: whom to tell.
        continuity: tells whether lists can be believed; shared by all reflectors of a cluster.
        random: spreads time-outs and attempts.
    """

    def __init__(
        self,
        transport: ApiTransport,
        target: Target,
        handler: Handler,
        continuity: Continuity,
        random: Random,
    ) -> None:
        self._transport = transport
        self._target = target
        self._handler = handler
        self._continuity = continuity
        self._random = random
        self._backoff = Backoff(random)
        self._known = Known()
        self._resource = target.versions[0]
        self._streams = True  # until the server says that it cannot
        self._pages = True  # False: a list in pages took so long that it expired
        self._lineage = ""  # whose history `_known` is
        self._trouble = ""  # as it was told

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if not self._known.version:
                    await self._list()
                else:
                    await self._resume()
            except ListAgainError as why:
                self._known.forget()
                await self._rest(str(why))
            except (GarbledError, ApiUnreachableError) as error:
                await self._rest(str(error))
            except ApiError as error:
                await self._refused(error)

    # -- troubles ----------------------------------------------------------------------------------------

    async def _refused(self, error: ApiError) -> None:
        if error.status in {EXPIRED, NOT_FOUND}:
            self._known.forget()
        elif error.status in _CANNOT_STREAM and not self._known.version and self._streams:
            self._streams = False
            return
        problem = str(error)
        if error.status in {_FORBIDDEN, _UNAUTHORIZED}:
            problem = f"the API server refuses: {problem}"
            self._tell(problem)
        await self._rest(problem, error.retry_after)

    async def _rest(self, problem: str, at_least: float = 0.0) -> None:
        if self._backoff.failures >= _PATIENCE:
            self._tell(problem)
        await asyncio.sleep(self._backoff.next(at_least))

    def _tell(self, problem: str) -> None:
        if problem != self._trouble:
            self._trouble = problem
            self._handler.trouble(problem)

    def _progress(self) -> None:
        if self._backoff.failures:
            self._backoff.reset()
        if self._trouble:
            self._tell("")

    # -- lists -------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        """Have all objects, or know that the kind is not defined."""
        look = await self._continuity.look()
        if not look.lineage:
            raise GarbledError(
                f"the API server has no Namespace {self._continuity.namespace}, which is ours:"
                " what is known stays until it is back"
            )
        for version in self._target.versions:
            self._resource = version
            try:
                if self._streams and self._backoff.failures < _PAGED_AFTER:
                    await self._watch(self._stream_query(), look)
                else:
                    await self._list_pages(look)
            except ApiError as error:
                if error.status == NOT_FOUND:
                    continue
                raise
            return
        await self._absent(look)

    async def _list_pages(self, look: Look) -> None:
        self._known.begin()
        after = ""
        while True:
            query = dict(self._query())
            if self._pages:
                query["limit"] = str(LIST_PAGE_OBJECTS.value)
            if after:
                query["continue"] = after
            path = self._resource.path(self._target.namespace)
            response = await self._transport.request("GET", path, query=query, timeout=PAGE_SECONDS)
            if response.status == EXPIRED and after:
                # It took longer than the server remembers: next time in one piece.
                self._pages = False
                raise ListAgainError("the list expired between two pages")
            if response.status != 200:
                raise ApiError(f"list {self._target.name}", response)
            page = read_page(response.body)
            slice_end = self._slice_end()
            for head, raw in page.items:
                if self._known.note(head) is Word.NEWS:
                    self._handler.put(head, raw, event=False)
                slice_end = await self._breathe(slice_end)
            after = page.after
            if not after:
                await self._complete(page.version, look)
                return

    async def _complete(self, version: str, look: Look) -> None:
        """A list is whole: what it lacks is gone, if this is still our cluster."""
        missing = self._known.missing
        if missing:
            now = await self._continuity.look()
            if not now.lineage or now.lineage != look.lineage:
                raise ListAgainError(
                    f"{len(missing)} {self._target.name} are not in a list of an API server that has lost our"
                    f" Namespace {self._continuity.namespace}; they stay until it is back"
                )
        for key in missing:
            self._handler.delete(key)
        self._known.complete(version)
        self._lineage = look.lineage
        self._pages = True
        self._progress()
        self._handler.listed()

    async def _absent(self, look: Look) -> None:
        """The server knows no version of the kind: believe it where the definition is not there either."""
        if not self._target.defined:
            raise GarbledError(f"the API server does not know {self._target.name}, which it must")
        absent = await self._undefined()
        if absent is False or (absent is None and len(self._known)):
            raise GarbledError(f"the API server does not serve {self._target.name} at present")
        self._known.begin()
        await self._complete("", look)
        while absent:
            await asyncio.sleep(self._random.uniform(*ABSENT_SECONDS))
            absent = await self._undefined()
        if absent is None:
            await asyncio.sleep(self._random.uniform(*ABSENT_SECONDS))

    async def _undefined(self) -> bool | None:
        """Whether there is no CustomResourceDefinition of the kind; None where we may not know."""
        response = await self._transport.request("GET", DEFINITION.path(name=self._target.name))
        if response.status not in {200, NOT_FOUND, _FORBIDDEN}:
            raise ApiError(f"get CustomResourceDefinition {self._target.name}", response)
        return {200: False, NOT_FOUND: True}.get(response.status)

    # -- watches -----------------------------------------------------------------------------------------

    def _query(self) -> Mapping[str, str]:
        selector = self._target.field_selector
        return {"fieldSelector": selector} if selector else {}

    def _watch_query(self) -> dict[str, str]:
        return {
            **self._query(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(self._random.uniform(*WATCH_SECONDS))),
        }

    def _stream_query(self) -> Mapping[str, str]:
        return {
            **self._watch_query(),
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
        }

    def _resume_query(self) -> Mapping[str, str]:
        return {**self._watch_query(), "resourceVersion": self._known.version}

    async def _resume(self) -> None:
        """Go on where the last watch stopped, if the server's history still leads on from there."""
        try:
            look = await self._continuity.look()
        except ApiError as error:
            if error.status != _FORBIDDEN:
                raise
            # Rights are part of that history: a cluster that lost it would not let us watch this kind either.
        else:
            if not look.follows(self._lineage, self._known.version):
                raise ListAgainError("the API server went back in time, or holds another cluster")
        await self._watch(self._resume_query())

    async def _watch(self, query: Mapping[str, str], listing: Look | None = None) -> None:
        """One watch until it ends; with *listing* it begins with all objects.

        A watch that ends in peace has told something, or lasted; one that did not is a failure like others.
        """
        if listing is not None:
            self._known.begin()
        patience = SILENCE_SECONDS if listing is None else PAGE_SECONDS
        loop = asyncio.get_running_loop()
        began = loop.time()
        slice_end = self._slice_end()
        heard = False
        path = self._resource.path(self._target.namespace)
        try:
            async with (
                asyncio.timeout(patience) as silence,
                aclosing(self._transport.stream(path, query=query)) as lines,
            ):
                armed = began
                async for line in lines:
                    now = loop.time()
                    if now - armed > 1.0:
                        armed = now
                        silence.reschedule(now + patience)
                    event = read_event(line)
                    if event.type == "ERROR":
                        raise _failed(self._target.name, event)
                    if listing is None:
                        self._take(event, line)
                        heard = True
                        self._progress()
                    elif self._take_listed(event, line):
                        await self._complete(event.head.version, listing)
                        listing, patience = None, SILENCE_SECONDS
                        armed = loop.time()
                        silence.reschedule(armed + patience)
                        heard = True
                    slice_end = await self._breathe(slice_end)
        except TimeoutError:
            raise ApiUnreachableError(f"nothing was heard for {patience:.0f} s") from None
        if listing is not None:
            raise GarbledError("the stream ended before all objects were told")
        if not heard and loop.time() - began < WATCH_SECONDS[0] / 2:
            raise ApiUnreachableError("the watch ended early")

    def _take(self, event: Event, line: bytes) -> None:
        known, head = self._known, event.head
        if event.type == "BOOKMARK":
            known.advance(head.version)
        elif event.type == "DELETED":
            if known.delete(head) is Word.NEWS:
                self._handler.delete(head.key)
        else:
            word = known.put(head)
            if word is Word.NEWS:
                self._handler.put(head, line, event=True)
            elif word is Word.UNPLACED:
                raise ListAgainError(f"an event about {head.key} came out of order")

    def _take_listed(self, event: Event, line: bytes) -> bool:
        """Take an event of a streamed list; True for the one that ends it."""
        if event.type == "BOOKMARK":
            if not event.ends:
                self._streams = False
                raise GarbledError("the API server does not stream lists")
            return True
        if event.type == "DELETED":
            self._known.unnote(event.head.key)
        elif self._known.note(event.head) is Word.NEWS:
            self._handler.put(event.head, line, event=True)
        return False

    @staticmethod
    def _slice_end() -> float:
        return asyncio.get_running_loop().time() + SLICE_MS.value / 1000

    async def _breathe(self, slice_end: float) -> float:
        """Give the loop back where a slice is over: lines that are there already are read without a pause."""
        if asyncio.get_running_loop().time() < slice_end:
            return slice_end
        await asyncio.sleep(0)
        return self._slice_end()


def _failed(what: str, event: Event) -> ApiError:
    """An ERROR event as the refusal that it is, with the status it would have had."""
    body = msgspec.json.encode({"message": event.message})
    return ApiError(f"watch {what}", Response(event.code, body, event.retry_after))
