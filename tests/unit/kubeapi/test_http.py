"""The real transport, over sockets: certificates, tokens that are replaced, lines cut anywhere, limits."""

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from kubernetes_asyncio.config import incluster_config

from peerd import limits
from peerd.kubeapi import http
from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.credentials import Credentials, CredentialsError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.http import HttpTransport
from tests.support.apiserver import keys

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def certificates() -> Path:
    """A CA, a server's certificate, a client's."""
    root = Path(tempfile.mkdtemp())
    keys.write(root)
    return root


@asynccontextmanager
async def server(certificates: Path, handler: Handler) -> AsyncIterator[str]:
    """An HTTPS server on loopback; yields its URL."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.verify_mode = ssl.CERT_OPTIONAL
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def kubeconfig(path: Path, url: str, ca: Path, user: dict[str, str], context: str = "main") -> Path:
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        "current-context": context,
    }
    path.write_text(yaml.safe_dump(tree))
    return path


@asynccontextmanager
async def transport(config: Path, context: str = "") -> AsyncIterator[HttpTransport]:
    credentials = Credentials(str(config), context)
    await credentials.load()
    made = HttpTransport(credentials)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def connected(certificates: Path, tmp_path: Path, handler: Handler) -> AsyncIterator[HttpTransport]:
    async with server(certificates, handler) as url:
        config = kubeconfig(tmp_path / "config", url, certificates / "ca.pem", {"token": "secret"})
        async with transport(config) as made:
            yield made


async def all_lines(made: HttpTransport) -> list[bytes]:
    async with aclosing(made.stream("/watch", query={"watch": "true"})) as lines:
        return [line async for line in lines]


async def test_a_request_carries_method_query_body_and_token(certificates: Path, tmp_path: Path) -> None:
    """And the answer its status, body and Retry-After."""
    seen: dict[str, object] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=await request.read(),
            type=request.headers["Content-Type"],
            token=request.headers["Authorization"],
            encoding=request.headers["Accept-Encoding"],
        )
        return web.Response(status=409, body=b"{}", headers={"Retry-After": "7"})

    async with connected(certificates, tmp_path, handler) as made:
        response = await made.request(
            "PATCH",
            "/api/v1/x",
            query={"a": "b=c&d"},
            body=b"{}",
            content_type="application/merge-patch+json",
        )
    assert (response.status, response.body, response.retry_after) == (409, b"{}", 7.0)
    assert seen == {
        "method": "PATCH",
        "path": "/api/v1/x",
        "query": {"a": "b=c&d"},
        "body": b"{}",
        "type": "application/merge-patch+json",
        "token": "Bearer secret",
        "encoding": "identity",
    }


@pytest.mark.parametrize(
    "pieces",
    [
        [b"one\ntwo\nthree\n"],
        [b"o", b"ne", b"\n", b"two\nth", b"ree\n"],
        [b"one\n\n\ntwo\nthree"],  # blank lines are nothing, and the last one need not end
    ],
)
async def test_a_stream_is_cut_into_lines_wherever_the_pieces_end(
    certificates: Path, tmp_path: Path, pieces: list[bytes]
) -> None:
    """A piece of the network may hold a part of a line, or many."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    async with connected(certificates, tmp_path, handler) as made:
        assert await all_lines(made) == [b"one", b"two", b"three"]


async def test_a_stream_that_is_refused_raises_before_its_first_line(
    certificates: Path, tmp_path: Path
) -> None:
    """With the Status that the server gave."""
    status = {"kind": "Status", "reason": "Expired", "message": "too old resource version"}

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(status, status=410)

    async with connected(certificates, tmp_path, handler) as made:
        with pytest.raises(ApiError, match="410 Expired: too old resource version") as raised:
            await all_lines(made)
        assert raised.value.status == 410


async def test_a_stream_that_breaks_says_so(certificates: Path, tmp_path: Path) -> None:
    """A body that was not finished is no end of a watch."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\ntw")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with connected(certificates, tmp_path, handler) as made:
        with pytest.raises(ApiUnreachableError):
            await all_lines(made)


async def test_a_stream_that_is_left_leaves_no_connection(certificates: Path, tmp_path: Path) -> None:
    """Closed by us or cancelled: the server sees the end of it."""
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"line\n")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with connected(certificates, tmp_path, handler) as made:
        async with aclosing(made.stream("/watch", query={})) as lines:
            assert await anext(lines) == b"line"
        await asyncio.wait_for(ended.wait(), 30)
        ended.clear()

        async def read() -> None:
            async with aclosing(made.stream("/watch", query={})) as lines:
                async for _ in lines:
                    reading.set()

        reading = asyncio.Event()
        task = asyncio.ensure_future(read())
        await reading.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), 30)


async def test_nobody_there_an_answer_that_never_comes_and_another_ca_are_unreachable(
    certificates: Path, tmp_path: Path
) -> None:
    """Each says what it was."""

    async def handler(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with connected(certificates, tmp_path, handler) as made:
        with pytest.raises(ApiUnreachableError, match="Timeout"):
            await made.request("GET", "/slow", timeout=0.1)
    config = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", certificates / "ca.pem", {"token": "t"})
    async with transport(config) as made:
        with pytest.raises(ApiUnreachableError, match=r"127\.0\.0\.1:1"):
            await made.request("GET", "/")
    other = tmp_path / "other"
    other.mkdir()
    keys.write(other)
    async with server(certificates, handler) as url:
        config = kubeconfig(tmp_path / "config", url, other / "ca.pem", {"token": "t"})
        async with transport(config) as made:
            with pytest.raises(ApiUnreachableError, match=r"(?i)certificate verify failed"):
                await made.request("GET", "/")


async def test_a_token_that_is_refused_is_read_again_at_once(certificates: Path, tmp_path: Path) -> None:
    """Nobody above notices, whether it was a request or a stream; a token that stays bad is a 401."""
    good = "second"

    async def handler(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {good}":
            return web.json_response({"reason": "Unauthorized"}, status=401)
        return web.Response(body=b"line\n")

    token = tmp_path / "token"
    token.write_text("first")
    async with server(certificates, handler) as url:
        config = kubeconfig(tmp_path / "config", url, certificates / "ca.pem", {"tokenFile": str(token)})
        async with transport(config) as made:
            token.write_text("second")
            made._credentials._loaded_at = -60.0
            assert (await made.request("GET", "/")).status == 200
            good = "third"
            token.write_text("third")
            made._credentials._loaded_at = -60.0
            assert await all_lines(made) == [b"line"]
            good = "fourth"
            made._credentials._loaded_at = -60.0
            assert (await made.request("GET", "/")).status == 401


async def test_a_client_certificate_proves_us_too(certificates: Path, tmp_path: Path) -> None:
    """As admins' kubeconfigs have it."""

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peercert")
        return web.json_response([name[0][1] for name in peer["subject"]])

    async with server(certificates, handler) as url:
        user = {
            "client-certificate": str(certificates / "admin.pem"),
            "client-key": str(certificates / "admin.key"),
        }
        config = kubeconfig(tmp_path / "config", url, certificates / "ca.pem", user)
        async with transport(config) as made:
            assert "admin" in json.loads((await made.request("GET", "/")).body)


async def test_a_context_other_than_the_current_one_may_be_named(certificates: Path, tmp_path: Path) -> None:
    """And one that is not there is an error that names the file."""
    config = kubeconfig(tmp_path / "config", "https://h", certificates / "ca.pem", {"token": "t"}, "other")
    async with transport(config, "other") as made:
        assert made._credentials.host == "https://h"
    with pytest.raises(CredentialsError, match=f"kubeconfig {config}: .*absent"):
        await Credentials(str(config), "absent").load()


@pytest.mark.parametrize("content", [None, "", "- a", "{", "a: b"])
async def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    """Missing, empty, of another shape."""
    config = tmp_path / "config"
    if content is not None:
        config.write_text(content)
    with pytest.raises(CredentialsError, match=f"kubeconfig {config}: "):
        await Credentials(str(config)).load()


async def test_a_pod_finds_its_server_by_its_service_account(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment and mounted files; the token is read again when it is replaced."""

    async def handler(request: web.Request) -> web.Response:
        good = request.headers["Authorization"] == f"Bearer {token.read_text()}"
        return web.Response(status=200 if good else 401)

    token = tmp_path / "token"
    token.write_text("first")
    with pytest.raises(CredentialsError, match="service account of this Pod"):
        await Credentials().load()
    async with server(certificates, handler) as url:
        host, _, port = url.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        defaults = {"token_filename": str(token), "cert_filename": str(certificates / "ca.pem")}
        real = incluster_config.InClusterConfigLoader
        monkeypatch.setattr(
            incluster_config, "InClusterConfigLoader", lambda **given: real(**{**given, **defaults})
        )
        credentials = Credentials()
        await credentials.load()
        made = HttpTransport(credentials)
        assert (await made.request("GET", "/")).status == 200
        token.write_text("second")
        credentials._loaded_at = -60.0
        assert (await made.request("GET", "/")).status == 200
        await made.close()


async def test_a_line_or_an_answer_without_end_is_cut_off(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits api_line_bytes and api_answer_bytes: nobody can fill our memory."""
    monkeypatch.setattr(http, "API_LINE_BYTES", limits.API_LINE_BYTES._replace(value=100_000))
    monkeypatch.setattr(http, "API_ANSWER_BYTES", limits.API_ANSWER_BYTES._replace(value=100_000))
    before = limits.hits(limits.API_LINE_BYTES), limits.hits(limits.API_ANSWER_BYTES)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    async with connected(certificates, tmp_path, handler) as made:
        with pytest.raises(ApiUnreachableError, match="a line of more than 100000 bytes"):
            await all_lines(made)
        with pytest.raises(ApiUnreachableError, match="more than 100000 bytes"):
            await made.request("GET", "/list")
    assert (limits.hits(limits.API_LINE_BYTES), limits.hits(limits.API_ANSWER_BYTES)) == (
        before[0] + 1,
        before[1] + 1,
    )
