"""Service account tokens: each claim has its refusal, and the key file may be replaced."""

from pathlib import Path

import pytest

from peerd import limits
from peerd.ca import jwt, tokens
from peerd.serve.tokens import JwksVerifier, TokenRefusedError, VerifiedToken, read_claims
from tests.support.cas import NOW, Turned

ISSUER = tokens.make_issuer()


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(ISSUER.jwks)
    return path


def _replace(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def _claims(**changes: object) -> dict[str, object]:
    claims: dict[str, object] = {
        "iss": "https://issuer",
        "aud": ["istio-ca"],
        "sub": "system:serviceaccount:istio-system:ztunnel",
        "nbf": NOW,
        "exp": NOW + 600,
        "kubernetes.io": {
            "namespace": "istio-system",
            "serviceaccount": {"name": "ztunnel", "uid": "s"},
            "pod": {"name": "zt-1", "uid": "u-1"},
        },
    }
    claims.update(changes)
    return {name: value for name, value in claims.items() if value is not None}


async def test_a_projected_token_proves_account_and_pod(jwks: Path) -> None:
    """What `peerd certs token` and an API server make."""
    verifier = JwksVerifier(jwks, ("istio-ca",), Turned(), issuer=tokens.ISSUER)
    token = tokens.service_account_token(
        ISSUER, "istio-system", "ztunnel", NOW, pod_name="zt-1", pod_uid="u-1"
    )

    assert await verifier.verify(token) == VerifiedToken("istio-system", "ztunnel", "zt-1", "u-1")


@pytest.mark.parametrize(
    "claims",
    [
        _claims(),
        _claims(aud="istio-ca"),
        _claims(aud=["other", "istio-ca"]),
        _claims(nbf=None),
        _claims(nbf=NOW + 59),
    ],
)
def test_claims_that_hold(claims: dict[str, object]) -> None:
    """One audience as text, several as list, no begin, a begin within the tolerance of clocks."""
    read = read_claims(claims, frozenset({"istio-ca"}), "", NOW)

    assert read == VerifiedToken("istio-system", "ztunnel", "zt-1", "u-1")


def test_a_token_that_is_bound_to_no_pod() -> None:
    """A plain token proves the account, and no Pod."""
    read = read_claims(_claims(**{"kubernetes.io": None}), frozenset({"istio-ca"}), "", NOW)

    assert read == VerifiedToken("istio-system", "ztunnel")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "https://other"}, "issued by 'https://other', expected 'https://issuer'"),
        ({"aud": None}, "meant for nobody, expected istio-ca"),
        ({"aud": "vault"}, "meant for vault"),
        ({"aud": [1, None]}, "meant for nobody"),
        ({"exp": None}, "never expires"),
        ({"exp": NOW}, "expired 0 s ago"),
        ({"exp": NOW - 3600}, "expired 3600 s ago"),
        ({"exp": "soon"}, "exp 'soon' is no time"),
        ({"exp": True}, "exp True is no time"),
        ({"nbf": NOW + 61}, "valid in 61 s only"),
        ({"sub": None}, "no service account"),
        ({"sub": "alice"}, "'alice' is no service account"),
        ({"sub": "system:serviceaccount:x"}, "no service account"),
        ({"sub": "system:node:a:b"}, "no service account"),
        ({"sub": "system:serviceaccount:other:ztunnel"}, "contradicts its bound account"),
        ({"kubernetes.io": {"namespace": "istio-system"}}, "contradicts"),
    ],
)
def test_claims_that_do_not_hold_say_which(changes: dict[str, object], told: str) -> None:
    """Issuer, audience, times, subject, bound account."""
    with pytest.raises(TokenRefusedError, match=told):
        read_claims(_claims(**changes), frozenset({"istio-ca"}), "https://issuer", NOW)


async def test_tokens_of_others_are_refused(jwks: Path) -> None:
    """Another key, a changed text, a text beyond any token."""
    verifier = JwksVerifier(jwks, ("istio-ca",), Turned())
    foreign = tokens.service_account_token(tokens.make_issuer(), "a", "b", NOW)

    with pytest.raises(TokenRefusedError, match="not known here"):
        await verifier.verify(foreign)
    with pytest.raises(TokenRefusedError, match="is no JSON Web Token"):
        await verifier.verify("hello")
    before = limits.hits(limits.TOKEN_BYTES)
    with pytest.raises(TokenRefusedError, match="larger than 16384 bytes"):
        await verifier.verify("x" * (limits.TOKEN_BYTES.value + 1))
    assert limits.hits(limits.TOKEN_BYTES) == before + 1


async def test_a_replaced_key_file_is_taken_up_and_a_broken_one_is_not(jwks: Path) -> None:
    """The API server rotates its keys; a half-written file keeps the last good keys."""
    verifier = JwksVerifier(jwks, ("istio-ca",), Turned())
    old = tokens.service_account_token(ISSUER, "a", "b", NOW)
    following = tokens.make_issuer()
    new = tokens.service_account_token(following, "a", "b", NOW)

    _replace(jwks, following.jwks[:40])
    assert await verifier.verify(old)
    assert "jwks.json: is no JSON Web Key Set" in verifier.problem
    _replace(jwks, following.jwks)
    assert await verifier.verify(new)
    assert verifier.problem == ""
    with pytest.raises(TokenRefusedError):
        await verifier.verify(old)
    _replace(jwks, None)
    assert await verifier.verify(new)
    assert "cannot be read" in verifier.problem


def test_at_the_start_the_file_must_hold_keys(tmp_path: Path) -> None:
    """Named, so that a wrong flag is found at once."""
    (tmp_path / "empty.json").write_text('{"keys": []}')

    for name in ("missing.json", "empty.json"):
        with pytest.raises(TokenRefusedError, match=name):
            JwksVerifier(tmp_path / name, ("istio-ca",), Turned())
    assert jwt.read_jwks(ISSUER.jwks)
