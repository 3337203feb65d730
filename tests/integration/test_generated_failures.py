"""Whatever fails and whenever the process dies, generated objects end as they should: none lost, no orphan.

One table for two API servers: the one in memory, and a real one in which every request that is let through is
really answered, by every rule of the CustomResourceDefinitions.
"""

import contextlib

import pytest

from peerd.kubeapi.base import ApiUnreachableError
from tests.support.fake_objects import status
from tests.support.generated_objects import NOBODY, NORTH, Process, endpoints, entry, key_of, puts

HISTORY = [
    puts(entry(), endpoints()),
    puts(entry("ratings"), endpoints(NORTH), endpoints(weight=5)),
    puts(entry(sans=())),
    [(key_of(endpoints(NORTH)), None), *puts(endpoints(name="ratings"))],
    [(key_of(entry("ratings")), None), (key_of(endpoints(name="ratings")), None)],
]
FINAL = {
    ("serviceentries", "shop", "autogen.shop.reviews"),
    ("workloadentries", "shop", endpoints().name),
}
REQUESTS = 15  # of the history without a failure: a look at each of five new objects, and
WRITES = 10
LOST = "its answer is lost"
FAILURES = {
    "500": status(500, "InternalError"),
    "429": status(429, "TooManyRequests", 1.0),
    "409": status(409, "Conflict"),
    "403": status(403, "Forbidden"),
    "no answer": ApiUnreachableError("connection reset"),
    LOST: None,
}


class KilledError(Exception):
    """The process ends here."""


def interrupt(api, *, before=lambda _number, _method: None, after=lambda _number, _method: None):
    """Call *before* and *after* around each request with its number, from 0; either may raise."""
    original, numbers = api.request, iter(range(10_000))

    async def request(method, *args, **named):
        number = next(numbers)
        before(number, method)
        answer = await original(method, *args, **named)
        after(number, method)
        return answer

    api.request = request
    return original


async def start(api, *found):
    """A process that has heard of everything."""
    process = Process(api)
    process.kept.put(puts(*found))
    process.kept.settle(NOBODY)
    await process.settle()
    return process


def check(api):
    """What is there is what was wanted last."""
    there = api.objects
    assert set(there) == FINAL, "no orphan, nothing missing"
    assert there["workloadentries", "shop", endpoints().name]["spec"]["weight"] == 5
    assert "subjectAltNames" not in there["serviceentries", "shop", "autogen.shop.reviews"]["spec"]


async def test_history_without_failures(either_api):
    """What the tables below vary: their length is how many requests and writes it takes."""
    process = await start(either_api)
    for step in HISTORY:
        process.kept.put(step)
        await process.settle()
    check(either_api)
    assert (len(either_api.requests), len(either_api.writes)) == (REQUESTS, WRITES)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_each_request_fails_once(either_api, at, failure):
    """Every write of the history, and every look before one, fails once in every way: the end is the same."""
    process = await start(either_api)
    failed = False

    def refuse(number, _method):
        nonlocal failed
        failed = failed or number == at
        if number == at and failure != LOST:
            either_api.fail = [FAILURES[failure]]

    def lose(number, _method):
        if number == at and failure == LOST:
            raise ApiUnreachableError("connection reset")

    interrupt(either_api, before=refuse, after=lose)
    for step in HISTORY:
        process.kept.put(step)
        await process.settle(5)
    await process.settle(120)
    assert failed
    check(either_api)


@pytest.mark.parametrize("lost", [False, True], ids=["after the write", "before its answer is heard"])
@pytest.mark.parametrize("at", range(WRITES))
async def test_process_dies_after_each_write(either_api, at, lost):
    """It is killed after a write, with or without having heard the answer; the next one ends the same."""
    process = await start(either_api)
    written = 0

    def alive(_number=0, _method=""):
        if written > at:
            raise KilledError

    def count(_number, method):
        nonlocal written
        written += method != "GET"
        if lost:
            alive()

    original = interrupt(either_api, before=alive, after=count)
    with contextlib.suppress(KilledError):
        for step in HISTORY:
            process.kept.put(step)
            await process.settle()
            alive()
    assert written == at + 1
    either_api.request = original
    wanted = dict(pair for step in HISTORY for pair in step)  # what derivation says at the end, all at once
    again = await start(either_api, *(found for found in wanted.values() if found is not None))
    await again.settle(5)
    check(either_api)
