"""The HTTP listener answers who may ask, and nothing a caller does takes it down."""

import asyncio
import contextlib

import pytest

from peerd import limits
from peerd.observe.http import HttpServer


class Peerd:
    """What the listener asks, set by the test."""

    def __init__(self):
        self.not_ready = "waiting for the source"
        self.asked = []

    async def authorise(self, headers, address):
        self.asked.append((headers.get("authorization", ""), address))
        return "" if headers.get("authorization") == "Bearer good" else "show a token of the system namespace"


@pytest.fixture
async def served():
    peerd = Peerd()
    server = HttpServer(
        "127.0.0.1",
        0,
        ready=lambda: peerd.not_ready,
        metrics=lambda: b"metric 1\n",
        views={"peers": lambda: [{"state": "live"}], "syncz": list},
        authorise=peerd.authorise,
    )
    peerd.port = int((await server.start()).rpartition(":")[2])
    yield peerd
    await server.close()


async def ask(peerd, raw):
    reader, writer = await asyncio.open_connection("127.0.0.1", peerd.port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body.decode()


async def get(peerd, path, *headers):
    lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return await ask(peerd, "\r\n".join(lines).encode())


async def test_ready_is_503_with_the_reason_and_then_200(served):
    """Probes and people read the same line."""
    assert await get(served, "/ready") == (503, "waiting for the source\n")
    served.not_ready = ""
    assert await get(served, "/ready") == (200, "ready\n")


async def test_metrics_need_no_token(served):
    """As ready: open by decision D42."""
    assert await get(served, "/metrics") == (200, "metric 1\n")
    assert served.asked == []


@pytest.mark.parametrize(
    "path", ["/debug", "/debug/peers", "/debug/nothing", "//debug/peers", "/debug/peers?x=1"]
)
async def test_debug_is_refused_without_a_token_whatever_the_path(served, path):
    """Not even which views there are is told."""
    status, body = await get(served, path)
    assert status in {401, 404}
    assert "live" not in body
    assert "syncz" not in body


async def test_debug_views_are_json_for_who_may(served):
    """The list, a view, and a name that is none."""
    token = "Authorization: Bearer good"
    assert await get(served, "/debug", token) == (200, '[\n  "peers",\n  "syncz"\n]\n')
    assert await get(served, "/debug/peers", token) == (200, '[\n  {\n    "state": "live"\n  }\n]\n')
    assert await get(served, "/debug/x", token) == (404, "no such view; there are peers, syncz\n")
    assert served.asked[0] == ("Bearer good", "127.0.0.1")


async def test_head_gives_the_length_and_no_body(served):
    """As HTTP wants."""
    assert await ask(served, b"HEAD /metrics HTTP/1.1\r\n\r\n") == (200, "")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST /ready HTTP/1.1\r\n\r\n", 405),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET ready HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /ready HTTP/2\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
    ],
)
async def test_what_is_not_a_request_for_us_is_answered_and_closed(served, raw, status):
    """And the next caller is served."""
    assert (await ask(served, raw))[0] == status
    assert (await get(served, "/metrics"))[0] == 200


async def test_a_head_beyond_the_limit_is_refused_and_counted(served):
    """The port is open to the whole cluster."""
    before = limits.hits(limits.HTTP_HEADER_BYTES)
    size = limits.HTTP_HEADER_BYTES.value
    status, _ = await ask(served, b"GET /ready HTTP/1.1\r\nX: " + b"a" * size + b"\r\n\r\n")
    assert status == 431
    assert limits.hits(limits.HTTP_HEADER_BYTES) == before + 1


async def test_a_caller_that_never_finishes_is_let_go_and_counted(served, monkeypatch):
    """It holds its connection for the limit and no longer."""
    monkeypatch.setattr(limits, "HTTP_SECONDS", limits.HTTP_SECONDS._replace(value=0))
    before = limits.hits(limits.HTTP_SECONDS)
    assert await ask(served, b"GET /ready HTTP/1.1\r\n") == (0, "")
    assert limits.hits(limits.HTTP_SECONDS) == before + 1


async def test_connections_beyond_the_limit_are_refused_and_counted(served, monkeypatch):
    """The others stay."""
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", limits.HTTP_CONNECTIONS._replace(value=1))
    before = limits.hits(limits.HTTP_CONNECTIONS)
    _, idle = await asyncio.open_connection("127.0.0.1", served.port)
    with contextlib.suppress(ConnectionResetError):
        while (answer := await get(served, "/metrics"))[0] == 200:
            pass  # the idle connection had not been accepted yet
        assert answer == (0, "")
    assert limits.hits(limits.HTTP_CONNECTIONS) == before + 1
    idle.close()
    await idle.wait_closed()
