"""TokenReview: what a token proves, asked once for many, kept for a bounded while, by a bounded number."""

import asyncio
import base64
import json

import pytest

from peerd import limits
from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.serve import token_review
from peerd.serve.token_review import BAD_SECONDS, GOOD_SECONDS, TokenReviewVerifier
from peerd.serve.tokens import TokenRefusedError, VerifiedToken
from tests.simulation.loop import SimClock
from tests.support.fake_apiserver import FakeApiServer, Faults, Scripted, kinds
from tests.support.fake_apiserver.server import FakeToken
from tests.support.virtual import virtual

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ZTUNNEL = FakeToken("istio-system/ztunnel", pod=("ztunnel-1", "u1"))


def cluster(**tokens: FakeToken) -> FakeApiServer:
    server = kinds.cluster()
    server.tokens = dict(tokens)
    return server


def verifier(server: FakeApiServer, faults: Faults | None = None) -> TokenReviewVerifier:
    return TokenReviewVerifier(
        server.transport(faults),
        ("istio-ca",),
        SimClock(asyncio.get_running_loop()),  # type: ignore[arg-type]
    )


def asked(server: FakeApiServer) -> int:
    return sum(path == REVIEWS for _, path, _ in server.requests)


@virtual
async def test_a_good_token_names_account_and_pod() -> None:
    """From user name and extras (wire-contract §5.3)."""
    server = cluster(t=ZTUNNEL, plain=FakeToken("shop/web"))
    proves = verifier(server)
    assert await proves.verify("t") == VerifiedToken("istio-system", "ztunnel", "ztunnel-1", "u1")
    assert await proves.verify("plain") == VerifiedToken("shop", "web")


@virtual
async def test_a_bad_token_is_refused_with_the_servers_reason() -> None:
    """Unknown, expired, meant for somebody else."""
    server = cluster(
        other=FakeToken("shop/web", audiences=("vault",)), old=FakeToken("shop/web", expires=1.0)
    )
    proves = verifier(server)
    for token in ("nonsense", "other", "old"):
        with pytest.raises(TokenRefusedError, match="refuses the token: invalid bearer token"):
            await proves.verify(token)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"authenticated": True, "audiences": []}, "meant for nobody in particular"),
        ({"authenticated": True, "audiences": ["vault"]}, "meant for vault, expected istio-ca"),
        (
            {"authenticated": True, "audiences": ["istio-ca"], "user": {"username": "admin"}},
            "no service account",
        ),
        (
            {
                "authenticated": True,
                "audiences": ["istio-ca"],
                "user": {"username": "system:serviceaccount:a:b", "groups": ["system:authenticated"]},
            },
            "no service account",
        ),
        ({"authenticated": False}, "no reason given"),
    ],
)
def test_a_word_that_is_not_enough_is_refused(status: dict[str, object], reason: str) -> None:
    """An API server that knows no audiences, users that are no service accounts."""
    read = token_review._read(Response(201, json.dumps({"status": status}).encode()))
    with pytest.raises(TokenRefusedError, match=reason):
        token_review.read_status(read, ("istio-ca",))


@virtual
async def test_the_answer_is_kept_for_a_while() -> None:
    """A good one for a minute, a bad one for ten seconds."""
    server = cluster(t=ZTUNNEL)
    proves = verifier(server)
    for _ in range(3):
        await proves.verify("t")
        with pytest.raises(TokenRefusedError):
            await proves.verify("bad")
    assert asked(server) == 2
    await asyncio.sleep(BAD_SECONDS)
    with pytest.raises(TokenRefusedError):
        await proves.verify("bad")
    await proves.verify("t")
    assert asked(server) == 3
    await asyncio.sleep(GOOD_SECONDS)
    server.tokens.clear()  # its Pod was deleted
    with pytest.raises(TokenRefusedError):
        await proves.verify("t")


@virtual
async def test_no_answer_outlives_the_token() -> None:
    """The claim `exp`, of a token that the server found good."""
    clock = SimClock(asyncio.get_running_loop())  # type: ignore[arg-type]
    claims = base64.urlsafe_b64encode(json.dumps({"exp": clock.time() + 20}).encode()).decode().rstrip("=")
    token = f"head.{claims}.signature"
    server = cluster(**{token: FakeToken("shop/web", expires=clock.time() + 20)})
    proves = verifier(server)
    await proves.verify(token)
    await asyncio.sleep(21)
    with pytest.raises(TokenRefusedError):
        await proves.verify(token)


@virtual
async def test_many_who_show_one_token_at_once_are_one_question() -> None:
    """Also if some of them give up while it is asked."""
    server = cluster(t=ZTUNNEL)
    faults = Scripted()
    faults.answer(REVIEWS, 5.0)
    proves = verifier(server, faults)
    waiting = [asyncio.ensure_future(proves.verify("t")) for _ in range(50)]
    await asyncio.sleep(1)
    waiting.pop(0).cancel()
    assert {each.service_account for each in await asyncio.gather(*waiting)} == {"ztunnel"}
    assert asked(server) == 1


@pytest.mark.parametrize(
    "answer",
    [
        ApiUnreachableError("refused"),
        Response(500, b"no"),
        Response(403, b"{}"),
        Response(201, b"<html>"),
        60.0,
    ],
)
def test_no_answer_is_no_word(answer: Response | Exception | float) -> None:
    """Refused now, and asked anew for the next one who comes."""

    @virtual
    async def test() -> None:
        server = cluster(t=ZTUNNEL)
        faults = Scripted()
        faults.answer(REVIEWS, answer)
        proves = verifier(server, faults)
        with pytest.raises(TokenRefusedError, match="could not be reviewed"):
            await proves.verify("t")
        assert (await proves.verify("t")).service_account == "ztunnel"

    test()


@virtual
async def test_a_large_token_is_not_even_asked_about() -> None:
    """Limit token_bytes."""
    server = cluster()
    before = limits.hits(limits.TOKEN_BYTES)
    with pytest.raises(TokenRefusedError, match="larger than"):
        await verifier(server).verify("x" * (limits.TOKEN_BYTES.value + 1))
    assert limits.hits(limits.TOKEN_BYTES) == before + 1
    assert asked(server) == 0


def test_what_is_kept_is_bounded_and_bad_tokens_push_out_no_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit token_reviews_kept, hit by a flood of rubbish."""
    monkeypatch.setattr(token_review, "TOKEN_REVIEWS_KEPT", limits.TOKEN_REVIEWS_KEPT._replace(value=5))
    before = limits.hits(limits.TOKEN_REVIEWS_KEPT)

    @virtual
    async def test() -> None:
        server = cluster(t=ZTUNNEL)
        proves = verifier(server)
        await proves.verify("t")
        for number in range(12):
            with pytest.raises(TokenRefusedError):
                await proves.verify(f"rubbish {number}")
        questions = asked(server)
        await proves.verify("t")
        assert asked(server) == questions
        assert (len(proves._good), len(proves._bad)) == (1, 5)

    test()
    assert limits.hits(limits.TOKEN_REVIEWS_KEPT) == before + 7


def test_a_storm_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit token_reviews_at_once: the rest waits for its turn."""
    monkeypatch.setattr(token_review, "TOKEN_REVIEWS_AT_ONCE", limits.TOKEN_REVIEWS_AT_ONCE._replace(value=3))
    before = limits.hits(limits.TOKEN_REVIEWS_AT_ONCE)

    @virtual
    async def test() -> None:
        server = cluster(**{f"t{number}": ZTUNNEL for number in range(9)})
        most = 0

        class Slow(Faults):
            open = 0

            async def before(self, _method: str, _path: str) -> None:
                nonlocal most
                self.open += 1
                most = max(most, self.open)
                await asyncio.sleep(1)
                self.open -= 1

        proves = verifier(server, Slow())
        await asyncio.gather(*(proves.verify(f"t{number}") for number in range(9)))
        assert most == 3

    test()
    assert limits.hits(limits.TOKEN_REVIEWS_AT_ONCE) > before
