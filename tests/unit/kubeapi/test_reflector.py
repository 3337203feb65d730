"""Following one kind, fault by fault, in virtual time: what the handler hears, what the server is asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest

from peerd.kubeapi import reflector as under_test
from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.lists import Head
from peerd.kubeapi.objects import Resource
from peerd.kubeapi.reflector import ABSENT_SECONDS, PAGE_SECONDS, SILENCE_SECONDS, Reflector, Target
from peerd.limits import LIST_PAGE_OBJECTS
from peerd.model.kube.meta import ObjectKey
from tests.simulation.loop import run
from tests.support.fake_apiserver import FakeApiServer, Scripted, kinds
from tests.support.fake_apiserver.faults import error_event, status
from tests.support.fake_apiserver.server import FakeTransport
from tests.support.virtual import virtual

PODS = Target((Resource("", "v1", "pods", "Pod"),))
ENTRIES = Target(
    tuple(
        Resource("networking.istio.io", version, "serviceentries", "ServiceEntry")
        for version in ("v1", "v1beta1")
    ),
    defined=True,
)
WATCH = "/api/v1/pods"


class Heard:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.events: list[str] = []
        self.lists = 0
        self.problem = ""
        self.problems: list[str] = []
        self._more = asyncio.Event()

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        tree = json.loads(bytes(raw))
        tree = tree["object"] if event else tree
        self.objects[head.key.name] = (tree.get("status") or tree.get("spec") or {}).get("podIP", "")
        self.events.append(f"+{head.key.name}")
        self._more.set()

    def delete(self, key: ObjectKey) -> None:
        del self.objects[key.name]
        self.events.append(f"-{key.name}")
        self._more.set()

    def listed(self) -> None:
        self.lists += 1
        self._more.set()

    def trouble(self, problem: str) -> None:
        self.problem = problem
        if problem:
            self.problems.append(problem)
        self._more.set()

    async def until(self, holds: Callable[[], bool], seconds: float = 2000.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await self._more.wait()
                self._more.clear()


class Bench:
    """A server with faults, a reflector on it, and what it told."""

    def __init__(self, *, streams_lists: bool = True) -> None:
        self.server: FakeApiServer = kinds.cluster(streams_lists=streams_lists)
        self.faults = Scripted()
        self.transport: FakeTransport = self.server.transport(self.faults)
        self.heard = Heard()

    @asynccontextmanager
    async def following(self, target: Target = PODS) -> AsyncIterator[Heard]:
        continuity = Continuity(self.transport, "istio-system")
        reflector = Reflector(self.transport, target, self.heard, continuity, Random(1))
        task = asyncio.ensure_future(reflector.run())
        try:
            yield self.heard
        finally:
            assert not task.done(), task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert self.transport.streams == 0

    def put(self, *names: str, address: str = "10.0.0.1") -> None:
        for name in names:
            self.server.put(kinds.pod(name, address))

    def watches(self) -> list[dict[str, str]]:
        return [
            json.loads(query)
            for method, path, query in self.server.requests
            if method == "WATCH" and path == WATCH
        ]

    def lists(self) -> list[dict[str, str]]:
        return [
            json.loads(query)
            for method, path, query in self.server.requests
            if method == "GET" and path == WATCH
        ]


# -- lists -----------------------------------------------------------------------------------------------


@virtual
async def test_a_list_is_streamed_where_the_server_can() -> None:
    """One watch gives both the objects and what follows; nothing is listed."""
    bench = Bench()
    bench.put("a", "b")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert heard.objects.keys() == {"a", "b"}
        bench.put("c")
        await heard.until(lambda: "c" in heard.objects)
    assert bench.lists() == []
    (query,) = bench.watches()
    assert query.items() >= {
        ("sendInitialEvents", "true"),
        ("resourceVersionMatch", "NotOlderThan"),
        ("allowWatchBookmarks", "true"),
    }
    assert "resourceVersion" not in query


@virtual
async def test_a_list_is_paged_where_the_server_cannot_stream_it() -> None:
    """Asked once whether it can; then pages of a bounded size, and a watch from the list's version."""
    bench = Bench(streams_lists=False)
    bench.put(*(f"p{number}" for number in range(1203)))
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert len(heard.objects) == 1203
        bench.put("late")
        await heard.until(lambda: "late" in heard.objects)
    assert [query["limit"] for query in bench.lists()] == [str(LIST_PAGE_OBJECTS.value)] * 3
    assert "resourceVersion" in bench.watches()[-1]


@virtual
async def test_a_watch_that_gives_plain_bookmarks_first_does_not_stream_lists() -> None:
    """A server that passes over what it does not know would never end the list."""
    bench = Bench()
    bench.put("a")
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}'
    bench.faults.line(WATCH, lambda line: [bookmark, line])
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert heard.objects.keys() == {"a"}
    assert len(bench.lists()) == 1


@virtual
async def test_a_streamed_list_that_fails_again_and_again_is_paged() -> None:
    """In case streaming is what fails; the next list is streamed again."""
    bench = Bench()
    bench.put("a")
    for _ in range(3):
        bench.faults.line(WATCH, lambda _line: [ApiUnreachableError("reset")])
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
    assert len(bench.lists()) == 1


@virtual
async def test_a_list_that_expires_between_pages_is_taken_in_one_piece() -> None:
    """410 for a continuation: what was read counts for nothing, and is not read in pages again."""
    bench = Bench(streams_lists=False)
    bench.put(*(f"p{number}" for number in range(600)))
    bench.faults.answer("never", 0.0)
    async with bench.following() as heard:
        while not any("continue" in query for _, _, query in bench.server.requests):
            if bench.lists():
                bench.server.compact()
            await asyncio.sleep(0)
        await heard.until(lambda: heard.lists == 1)
        assert len(heard.objects) == 600
    assert "limit" not in bench.lists()[-1]


@virtual
async def test_a_list_that_breaks_deletes_nothing() -> None:
    """Objects that were not named before it broke are not missing."""
    bench = Bench()
    bench.put("a", "b", "c")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.faults.line(WATCH, lambda _line: [error_event(410, "Expired", "too old")])
        bench.faults.line(WATCH, lambda line: [line, ApiUnreachableError("reset")])
        bench.put("d")
        await heard.until(lambda: heard.lists == 2)
        assert heard.events == ["+a", "+b", "+c", "+d"]


@virtual
async def test_a_streamed_list_that_goes_silent_is_begun_anew() -> None:
    """After the time that a page may take."""
    bench = Bench()
    bench.put("a")
    bench.faults.line(WATCH, lambda line: [1e6, line])
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert PAGE_SECONDS <= asyncio.get_running_loop().time() < PAGE_SECONDS + 5


@virtual
async def test_a_page_that_never_comes_is_given_up() -> None:
    """And asked for again."""
    bench = Bench(streams_lists=False)
    bench.put("a")
    async with bench.following() as heard:
        bench.faults.answer(WATCH, Response(422, status(422, "Invalid", "")))
        bench.faults.answer(WATCH, 1e6)
        await heard.until(lambda: heard.lists == 1)
        assert PAGE_SECONDS <= asyncio.get_running_loop().time() < PAGE_SECONDS + 5


# -- what is gone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_event", [True, False])
def test_410_lists_again_and_tells_only_differences(as_event: bool) -> None:
    """As HTTP status and as ERROR event; what is known stays told meanwhile."""

    async def test() -> None:
        bench = Bench()
        bench.put("kept", "changed", "gone")
        async with bench.following() as heard:
            await heard.until(lambda: heard.lists == 1)
            bench.server.stop()
            bench.put("changed", address="10.0.0.2")
            bench.server.delete("Pod", "shop", "gone")
            bench.put("new")
            bench.server.compact()
            if not as_event:
                bench.faults.answer("/api/v1/namespaces", 0.0)
                bench.faults.answer(WATCH, Response(410, status(410, "Expired", "too old")))
            bench.server.start()
            heard.events.clear()
            await heard.until(lambda: heard.lists == 2)
            assert sorted(heard.events) == ["+changed", "+new", "-gone"]
            assert heard.objects == {"kept": "10.0.0.1", "changed": "10.0.0.2", "new": "10.0.0.1"}

    run(test())


@virtual
async def test_an_emptied_server_takes_nothing_away() -> None:
    """Its list is complete and lacks everything, our own system Namespace too: that proves nothing."""
    bench = Bench()
    bench.put("a", "b")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        backup = bench.server.storage.snapshot()
        bench.server.stop()
        bench.server.lose_etcd()
        bench.server.start()
        await asyncio.sleep(600)
        assert heard.events == ["+a", "+b"]
        assert "istio-system" in heard.problem
        bench.server.stop()
        bench.server.storage.restore(backup)
        bench.server.start()
        await heard.until(lambda: heard.problem == "")
        assert heard.events == ["+a", "+b"]


@virtual
async def test_another_cluster_in_its_place_is_believed() -> None:
    """Once it has a system Namespace, with whatever uid: what it lacks is gone."""
    bench = Bench()
    bench.put("a", "b")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.stop()
        bench.server.lose_etcd()
        bench.server.start()
        bench.server.storage.version += 10_000  # versions alone would tell nothing
        bench.server.put(kinds.namespace("istio-system"))
        bench.put("b", address="10.0.0.7")
        await heard.until(lambda: heard.objects == {"b": "10.0.0.7"})


class LostBeforeListing(Scripted):
    """From `armed` on, etcd is lost after the look and before the list."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench
        self.armed = False
        self.backup = bench.server.storage.snapshot()

    async def before(self, method: str, path: str) -> Response | None:
        if self.armed and method == "GET" and path == WATCH:
            self.armed = False
            self.backup = self._bench.server.storage.snapshot()
            self._bench.server.storage.empty()
        return await super().before(method, path)


@virtual
async def test_a_cluster_lost_while_it_was_listed_takes_nothing_away() -> None:
    """The look before the list saw it whole; the look before deleting does not."""
    bench = Bench(streams_lists=False)
    faults = bench.faults = bench.transport.faults = LostBeforeListing(bench)
    bench.put("a")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        faults.armed = True
        faults.answer(WATCH, Response(410, status(410, "Expired", "too old")))
        bench.server.restart()
        await asyncio.sleep(60)
        assert not faults.armed
        assert heard.events == ["+a"]
        bench.server.storage.restore(faults.backup)
        await heard.until(lambda: heard.problem == "" and heard.lists >= 2)
        assert heard.events == ["+a"]


@virtual
async def test_a_server_that_went_back_in_time_is_listed_again() -> None:
    """A watch from a version that it has not reached yet would stay silent."""
    bench = Bench()
    bench.put("a")
    backup = bench.server.storage.snapshot()
    bench.server.storage.version += 100
    async with bench.following() as heard:
        bench.put("b")
        await heard.until(lambda: "b" in heard.objects)
        bench.server.stop()
        bench.server.storage.restore(backup)
        bench.server.start()
        await heard.until(lambda: heard.objects.keys() == {"a"})


# -- watches ---------------------------------------------------------------------------------------------


@virtual
async def test_a_broken_watch_goes_on_where_it_stopped() -> None:
    """Nothing is listed again, nothing is told twice."""
    bench = Bench()
    bench.put("a")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.put("b")
        await heard.until(lambda: "b" in heard.objects)
        bench.server.restart()
        bench.put("c")
        await heard.until(lambda: "c" in heard.objects)
    assert heard.lists == 1
    assert heard.events == ["+a", "+b", "+c"]
    assert len(bench.watches()) == 2


@virtual
async def test_watches_end_by_themselves_at_different_times() -> None:
    """Asked for between five and ten minutes, and taken up again from the last bookmark."""
    bench = Bench()
    async with bench.following():
        await asyncio.sleep(3600)
    times = [int(query["timeoutSeconds"]) for query in bench.watches()]
    assert 6 <= len(times) <= 12
    assert len(set(times)) > len(times) / 2
    assert all(300 <= each <= 600 for each in times)
    versions = {query["resourceVersion"] for query in bench.watches()[1:]}
    assert versions == {str(bench.server.storage.version)}


@virtual
async def test_a_silent_watch_is_given_up() -> None:
    """Not even bookmarks: the connection is dead, whatever TCP thinks."""
    bench = Bench()
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.faults.line(WATCH, lambda line: [1e6, line])
        bench.put("a")  # its event is the line that never comes
        began = asyncio.get_running_loop().time()
        await heard.until(lambda: "a" in heard.objects)
        assert SILENCE_SECONDS <= asyncio.get_running_loop().time() - began < SILENCE_SECONDS + 5
        assert heard.lists == 1


@pytest.mark.parametrize(
    "mangled",
    [
        lambda line: [line[:40]],
        lambda _line: [b"\xff\x00"],
        lambda _line: [b"<html>bad gateway</html>"],
        lambda _line: [error_event(500, "InternalError", "etcd has no leader")],
        lambda _line: [ApiUnreachableError("reset")],
    ],
)
def test_a_line_that_cannot_be_read_ends_the_watch_and_loses_nothing(
    mangled: Callable[[bytes], list[bytes | Exception | float]],
) -> None:
    """Cut short, rubbish, an error that is no 410, a reset: it goes on from the last good event."""

    async def test() -> None:
        bench = Bench()
        async with bench.following() as heard:
            await heard.until(lambda: heard.lists == 1)
            bench.faults.line(WATCH, mangled)
            bench.put("a")
            await heard.until(lambda: "a" in heard.objects)
            assert heard.events == ["+a"]
            assert heard.lists == 1

    run(test())


@virtual
async def test_events_twice_are_told_once() -> None:
    """Also a deletion."""
    bench = Bench()
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        for _ in range(2):
            bench.faults.line(WATCH, lambda line: [line, line])
        bench.put("a")
        bench.server.delete("Pod", "shop", "a")
        await heard.until(lambda: "-a" in heard.events)
        assert heard.events == ["+a", "-a"]


@virtual
async def test_an_event_that_cannot_be_placed_makes_a_new_list() -> None:
    """Of an object that we do not have, older than what was heard: is it new, or long gone?"""
    bench = Bench()
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        held: list[bytes] = []
        bench.faults.line(WATCH, lambda line: held.append(line) or [])  # type: ignore[func-returns-value]
        bench.faults.line(WATCH, lambda line: [line, held[0]])
        bench.put("a")
        bench.put("b")
        await heard.until(lambda: heard.lists == 2)
        assert heard.objects.keys() == {"a", "b"}


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_that_asks_for_patience_is_given_it(code: int) -> None:
    """Retry-After, whether of a list or of a watch."""

    async def test() -> None:
        bench = Bench()
        bench.put("a")
        bench.faults.answer(WATCH, Response(code, b"later", retry_after=11.0))
        async with bench.following() as heard:
            await heard.until(lambda: heard.lists == 1)
            assert asyncio.get_running_loop().time() >= 11.0

    run(test())


@virtual
async def test_an_error_event_may_ask_for_patience_too() -> None:
    """`details.retryAfterSeconds` of its Status."""
    bench = Bench()
    error = json.loads(error_event(429, "TooManyRequests", "later"))
    error["object"]["details"] = {"retryAfterSeconds": 7}
    bench.faults.line(WATCH, lambda _line: [json.dumps(error).encode()])
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert asyncio.get_running_loop().time() >= 7.0


@virtual
async def test_troubles_are_told_when_they_last_and_when_they_are_over() -> None:
    """One failure is nobody's business."""
    bench = Bench()
    bench.put("a")
    bench.faults.answer(WATCH, ApiUnreachableError("refused"))
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        assert heard.problems == []
        bench.server.stop()
        await heard.until(lambda: heard.problem != "")
        assert "refused" in heard.problem
        bench.server.start()
        await heard.until(lambda: heard.problem == "")


@virtual
async def test_what_we_may_not_see_is_told_at_once_and_taken_up_when_we_may() -> None:
    """RBAC that lacks a verb: nothing is synced, and the reason is the server's."""
    bench = Bench()
    bench.put("a")
    bench.server.forbidden = {("watch", "pods"), ("list", "pods")}
    async with bench.following() as heard:
        await heard.until(lambda: "Forbidden" in heard.problem)
        await asyncio.sleep(100)
        assert heard.lists == 0
        bench.server.forbidden = set()
        await heard.until(lambda: heard.lists == 1)
        assert heard.problem == ""


@virtual
async def test_where_namespaces_may_not_be_listed_a_watch_goes_on_all_the_same() -> None:
    """Nobody can look up whether history is still the same: a new list waits for that, a watch does not."""
    bench = Bench()
    bench.put("a", "b")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.forbidden = {("list", "namespaces")}
        bench.server.restart()
        bench.put("c")
        await heard.until(lambda: "c" in heard.objects)
        bench.server.delete("Pod", "shop", "a")
        await heard.until(lambda: "a" not in heard.objects)
        await asyncio.sleep(2000)  # other watches, one after the other
        bench.put("d")
        await heard.until(lambda: "d" in heard.objects)
        bench.server.stop()
        bench.server.delete("Pod", "shop", "b")
        bench.server.compact()
        bench.server.start()
        await heard.until(lambda: 'cannot list resource "namespaces"' in heard.problem)
        await asyncio.sleep(100)
        assert heard.lists == 1
        assert "b" in heard.objects
        bench.server.forbidden = set()
        await heard.until(lambda: heard.lists == 2)
        assert "b" not in heard.objects
        assert heard.problem == ""


@virtual
async def test_a_trouble_that_lasts_is_told_once() -> None:
    """However often it is tried again."""
    bench = Bench()
    bench.server.forbidden = {("watch", "pods"), ("list", "pods")}
    async with bench.following() as heard:
        await asyncio.sleep(1000)
        assert len(heard.problems) == 2, heard.problems  # of the watch, then of the list


@virtual
async def test_credentials_that_expired_keep_everything_and_are_told() -> None:
    """401 for minutes, of requests and watches; once they are renewed, the watch goes on where it stopped."""
    bench = Bench()
    bench.put("a", "b")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.refuse_tokens = True
        bench.server.restart()
        await heard.until(lambda: "401 Unauthorized" in heard.problem)
        await asyncio.sleep(300)
        bench.server.delete("Pod", "shop", "b")
        assert heard.objects.keys() == {"a", "b"}
        bench.server.refuse_tokens = False
        await heard.until(lambda: heard.problem == "" and heard.objects.keys() == {"a"})
        assert heard.lists == 1


# -- kinds that need not be there ------------------------------------------------------------------------


@virtual
async def test_a_kind_that_is_not_defined_is_complete_and_looked_for() -> None:
    """One small question every few seconds; when its definition appears, so do its objects."""
    bench = Bench()
    bench.server.undefine("serviceentries", "networking.istio.io")
    async with bench.following(ENTRIES) as heard:
        await heard.until(lambda: heard.lists == 1)
        assert heard.problem == ""
        before = len(bench.server.requests)
        await asyncio.sleep(100)
        assert 10 <= len(bench.server.requests) - before <= 100 / ABSENT_SECONDS[0] + 1
        for each in kinds.DEFINED:
            bench.server.define(each)
        bench.server.put(kinds.service_entry("e", "e.example"))
        await heard.until(lambda: "e" in heard.objects, seconds=ABSENT_SECONDS[1] + 5)


@virtual
async def test_an_older_version_of_a_kind_will_do() -> None:
    """The best one that the server has."""
    bench = Bench()
    bench.server.undefine("serviceentries", "networking.istio.io")
    (entries,) = [each for each in kinds.DEFINED if each.kind == "ServiceEntry"]
    bench.server.define(type(entries)(entries.group, "v1beta1", entries.plural, entries.kind))
    bench.server.put({**kinds.service_entry("e", "e.example"), "apiVersion": "networking.istio.io/v1beta1"})
    async with bench.following(ENTRIES) as heard:
        await heard.until(lambda: "e" in heard.objects)


@virtual
async def test_a_404_alone_takes_nothing_away() -> None:
    """A server that is starting knows definitions before it serves them."""
    bench = Bench()
    bench.server.put(kinds.service_entry("e", "e.example"))
    async with bench.following(ENTRIES) as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.compact()
        bench.server.restart()
        path = "v1/serviceentries"
        bench.faults.answer(path, Response(404, status(404, "NotFound", "not found")), times=8)
        await heard.until(lambda: bool(heard.problems))
        assert "does not serve" in heard.problems[0]
        await heard.until(lambda: heard.problem == "" and heard.lists > 1)
        assert heard.events == ["+e"]


@virtual
async def test_a_definition_that_is_deleted_takes_its_objects_along() -> None:
    """Those whose deletion was not heard, too."""
    bench = Bench()
    bench.server.put(kinds.service_entry("e", "e.example"))
    async with bench.following(ENTRIES) as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.stop()
        bench.server.undefine("serviceentries", "networking.istio.io")
        bench.server.start()
        await heard.until(lambda: heard.events == ["+e", "-e"])


@virtual
async def test_where_definitions_may_not_be_read_absence_proves_nothing() -> None:
    """Nothing known: then it is absent. Something known: it stays."""
    bench = Bench()
    bench.server.forbidden = {("get", "customresourcedefinitions")}
    bench.server.undefine("serviceentries", "networking.istio.io")
    async with bench.following(ENTRIES) as heard:
        await heard.until(lambda: heard.lists == 1)
        for each in kinds.DEFINED:
            bench.server.define(each)
        bench.server.put(kinds.service_entry("e", "e.example"))
        await heard.until(lambda: "e" in heard.objects)
        bench.server.stop()
        bench.server.storage.delete("serviceentries.networking.istio.io", ("shop", "e"))
        bench.server.undefine("serviceentries", "networking.istio.io")
        bench.server.start()
        await asyncio.sleep(200)
        assert heard.events == ["+e"]
        assert heard.problem


@virtual
async def test_a_kind_of_kubernetes_itself_must_be_there() -> None:
    """A 404 for Pods is a broken server, not an empty cluster."""
    bench = Bench()
    bench.put("a")
    async with bench.following() as heard:
        await heard.until(lambda: heard.lists == 1)
        bench.server.compact()
        bench.server.restart()
        bench.faults.answer(WATCH, Response(404, b"404 page not found"), times=6)
        await heard.until(lambda: bool(heard.problems))
        await heard.until(lambda: heard.problem == "")
        assert heard.events == ["+a"]


@virtual
async def test_a_long_run_of_lines_gives_the_loop_back() -> None:
    """Others have a turn at least every few milliseconds, however many lines are there at once."""
    bench = Bench()
    bench.put(*(f"p{number}" for number in range(3000)))
    turns: list[float] = []

    async def other() -> None:
        while True:
            turns.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    real = under_test.SLICE_MS
    under_test.SLICE_MS = real._replace(value=0)
    try:
        async with bench.following() as heard:
            await heard.until(lambda: heard.lists == 1)
    finally:
        under_test.SLICE_MS = real
        task.cancel()
    assert len(turns) > 3000
