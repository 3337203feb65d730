"""Tokens verified by the cluster's own API server: TokenReview, and its answers kept for a while.

The API server knows what keys alone do not: that a Pod or an account was deleted, and its tokens with it.
What it said is kept for a minute, so that a storm of reconnecting ztunnels is not a storm there; a token that
is taken back is so refused within that time.
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from peerd.kubeapi.base import ApiTransport, ApiUnreachableError, Response
from peerd.kubeapi.errors import ApiError
from peerd.limits import TOKEN_BYTES, TOKEN_REVIEWS_AT_ONCE, TOKEN_REVIEWS_KEPT, hit
from peerd.model.clock import Clock
from peerd.model.record import Record
from peerd.serve.tokens import TokenRefusedError, VerifiedToken

GOOD_SECONDS = 60.0
"""How long a token is taken without asking again."""
BAD_SECONDS = 10.0
"""How long one is refused without asking again: a client that retries in a loop costs a question each."""

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_SECONDS = 10.0
_GROUP = "system:serviceaccounts"
_ACCOUNT = "system:serviceaccount:"


class _User(Record, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Status(Record, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()
    error: str = ""


class _Review(Record, frozen=True):
    status: _Status = _Status()


class _Claims(Record, frozen=True):
    exp: float


class _Kept(Record, frozen=True):
    """What was found of one token: an account, or why not; and until when that holds."""

    until: float
    account: VerifiedToken | None
    reason: str = ""


class TokenReviewVerifier:
    """`peerd.serve.tokens.TokenVerifier` that asks the API server for one of *audiences*.

    A question that gets no answer refuses the token and is not kept: the caller comes again.
    """

    def __init__(self, transport: ApiTransport, audiences: Sequence[str], clock: Clock) -> None:
        self._transport = transport
        self._audiences = tuple(audiences)
        self._clock = clock
        # Apart, so that whoever floods us with bad ones does not push out the good.
        self._good: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bad: OrderedDict[bytes, _Kept] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[_Kept]] = {}
        self._turns = asyncio.Semaphore(TOKEN_REVIEWS_AT_ONCE.value)

    async def verify(self, token: str) -> VerifiedToken:
        """What *token* proves; raises TokenRefusedError with the reason."""
        if len(token) > TOKEN_BYTES.value:
            hit(TOKEN_BYTES)
            raise TokenRefusedError(f"the token is larger than {TOKEN_BYTES.value} bytes")
        digest = sha256(token.encode()).digest()  # the token itself is kept nowhere
        kept = self._good.get(digest) or self._bad.get(digest)
        if kept is None or self._clock.monotonic() >= kept.until:
            kept = await self._once(digest, token)
        if kept.account is None:
            raise TokenRefusedError(kept.reason)
        return kept.account

    async def _once(self, digest: bytes, token: str) -> _Kept:
        """One question for all who wait for the same token."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(token))
            self._asking[digest] = asking
            asking.add_done_callback(lambda done: self._answered(digest, done))
        return await asyncio.shield(asking)

    def _answered(self, digest: bytes, done: "asyncio.Future[_Kept]") -> None:
        del self._asking[digest]
        if done.cancelled() or done.exception() is not None:
            return
        found = done.result()
        self._good.pop(digest, None)
        self._bad.pop(digest, None)
        table = self._bad if found.account is None else self._good
        table[digest] = found
        if len(table) > TOKEN_REVIEWS_KEPT.value:
            hit(TOKEN_REVIEWS_KEPT)
            table.popitem(last=False)

    async def _ask(self, token: str) -> _Kept:
        if self._turns.locked():
            hit(TOKEN_REVIEWS_AT_ONCE)
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": self._audiences},
        }
        async with self._turns:
            try:
                response = await self._transport.request(
                    "POST", _PATH, body=msgspec.json.encode(review), timeout=_SECONDS
                )
                status = _read(response)
            except (ApiError, ApiUnreachableError, msgspec.DecodeError) as error:
                raise TokenRefusedError(f"the token could not be reviewed: {error}") from error
        now = self._clock.monotonic()
        try:
            account = read_status(status, self._audiences)
            return _Kept(now + min(GOOD_SECONDS, _left(token, self._clock.time())), account)
        except TokenRefusedError as refused:
            return _Kept(now + BAD_SECONDS, None, str(refused))


def _read(response: Response) -> _Status:
    if not 200 <= response.status < 300:
        raise ApiError("review a token", response)
    return msgspec.json.decode(response.body, type=_Review).status


def _left(token: str, now: float) -> float:
    """Seconds until a token that was found good expires; without end where it does not say."""
    try:
        _, claims, _ = token.split(".")
        padded = claims + "=" * (-len(claims) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).exp - now
    except (ValueError, msgspec.DecodeError):
        return float("inf")


def read_status(status: _Status, audiences: Sequence[str]) -> VerifiedToken:
    """The account that a review names (wire-contract §5.3); raises TokenRefusedError."""
    if not status.authenticated:
        raise TokenRefusedError(f"the API server refuses the token: {status.error or 'no reason given'}")
    if not set(status.audiences) & set(audiences):
        # An API server that knows no audiences says nothing of them: its word is not enough.
        raise TokenRefusedError(
            f"the token is meant for {', '.join(status.audiences) or 'nobody in particular'},"
            f" expected {' or '.join(sorted(audiences))}"
        )
    user = status.user
    namespace, _, account = user.username.removeprefix(_ACCOUNT).partition(":")
    if _GROUP not in user.groups or not (user.username.startswith(_ACCOUNT) and namespace and account):
        raise TokenRefusedError(f"the token's user {user.username!r} is no service account")
    return VerifiedToken(namespace, account, _extra(user, "pod-name"), _extra(user, "pod-uid"))


def _extra(user: _User, name: str) -> str:
    values = user.extra.get(f"authentication.kubernetes.io/{name}", ())
    return values[0] if values else ""
