"""Service account tokens: what a verified one says, and who can verify (wire-contract §5.3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from peerd import limits
from peerd.ca import jwt
from peerd.ca.jwt import JwtError, Keys
from peerd.model.clock import Clock
from peerd.model.record import Record

_SUBJECT = "system:serviceaccount:"

# Clocks of the issuer and of ours differ; a token is taken a little early, never late.
_EARLY_SECONDS = 60


class TokenRefusedError(Exception):
    """A token does not prove what it should; the text is for our log, not for the caller."""


class VerifiedToken(Record, frozen=True):
    """The account that a token proves, and the Pod it is bound to, empty where it is bound to none."""

    namespace: str
    service_account: str
    pod_name: str = ""
    pod_uid: str = ""


class TokenVerifier(Protocol):
    """Verifies tokens: here against a key set, in a cluster by TokenReview."""

    async def verify(self, token: str) -> VerifiedToken:
        """What *token* proves; raises TokenRefusedError with the reason."""
        ...


class JwksVerifier:
    """Verifies against the keys in a JWKS file, which is read again when it changes.

    A token must be signed by one of the keys, be meant for one of *audiences*, come from *issuer* (empty: any
    that signs with these keys), be within its time, and name an account.

    Raises:
        TokenRefusedError: at the start the file must hold keys.
    """

    def __init__(self, path: Path, audiences: tuple[str, ...], clock: Clock, issuer: str = "") -> None:
        self._path = path
        self._audiences = frozenset(audiences)
        self._issuer = issuer
        self._clock = clock
        self._state: tuple[int, int] | None = None
        self._keys: Keys = {}
        self._refresh()
        if not self._keys:
            raise TokenRefusedError(self.problem)

    problem = ""
    """What is wrong with the file at present, empty where nothing is; the last good keys stay in use."""

    async def verify(self, token: str) -> VerifiedToken:
        """What *token* proves; raises TokenRefusedError with the reason."""
        limit = limits.TOKEN_BYTES
        if len(token) > limit.value:
            limits.hit(limit)
            raise TokenRefusedError(f"the token is larger than {limit.value} bytes")
        self._refresh()
        try:
            claims = jwt.verify(token, self._keys)
        except JwtError as error:
            raise TokenRefusedError(f"the token {error}") from error
        return read_claims(claims, self._audiences, self._issuer, self._clock.time())

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state == self._state:
                return
            self._keys = jwt.read_jwks(self._path.read_bytes())
        except OSError as error:
            self.problem = f"{self._path}: cannot be read: {error.strerror}"
        except JwtError as error:
            self.problem = f"{self._path}: {error}"
        else:
            self._state, self.problem = state, ""


def read_claims(
    claims: Mapping[str, Any], audiences: frozenset[str], issuer: str, now: float
) -> VerifiedToken:
    """Check the claims of a token whose signature is good. *now* is in Unix seconds.

    Raises:
        TokenRefusedError: issuer, audience, time, or claims that name no account or contradict each other.
    """
    if issuer and claims.get("iss") != issuer:
        raise TokenRefusedError(f"the token was issued by {claims.get('iss')!r}, expected {issuer!r}")
    meant = claims.get("aud")
    meant = {meant} if isinstance(meant, str) else {each for each in meant or () if isinstance(each, str)}
    if not meant & audiences:
        raise TokenRefusedError(
            f"the token is meant for {', '.join(sorted(meant)) or 'nobody'},"
            f" expected {' or '.join(sorted(audiences))}"
        )
    expires, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    if expires is None:
        raise TokenRefusedError("the token never expires; bound tokens do")
    if now >= expires:
        raise TokenRefusedError(f"the token expired {now - expires:.0f} s ago")
    if begins is not None and now + _EARLY_SECONDS < begins:
        raise TokenRefusedError(f"the token is valid in {begins - now:.0f} s only; check the clocks")
    return _account(claims)


def _account(claims: Mapping[str, Any]) -> VerifiedToken:
    subject = claims.get("sub")
    namespace, _, account = str(subject).removeprefix(_SUBJECT).partition(":")
    if not (str(subject).startswith(_SUBJECT) and namespace and account):
        raise TokenRefusedError(f"the token's subject {subject!r} is no service account")
    bound = _object(claims, "kubernetes.io")
    if bound:
        said = (_text(bound, "namespace"), _text(_object(bound, "serviceaccount"), "name"))
        if said != (namespace, account):
            raise TokenRefusedError(
                f"the token's subject {subject!r} contradicts its bound account {'/'.join(said)!r}"
            )
    pod = _object(bound, "pod")
    return VerifiedToken(namespace, account, _text(pod, "name"), _text(pod, "uid"))


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefusedError(f"the token's {name} {value!r} is no time")
    return float(value)


def _object(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = claims.get(name)
    return value if isinstance(value, dict) else {}


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""
