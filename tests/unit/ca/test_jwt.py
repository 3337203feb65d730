"""JSON Web Tokens: RS256 and ES256 as API servers sign them; everything else is no proof."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from peerd.ca import jwt
from peerd.ca.jwt import JwtError

KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = {jwt.key_id(KEY.public_key()): KEY.public_key()}


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _token(header: dict[str, object], claims: dict[str, object], signature: bytes) -> str:
    return ".".join((_b64(json.dumps(header).encode()), _b64(json.dumps(claims).encode()), _b64(signature)))


def test_what_was_signed_is_read_back() -> None:
    """ES256, the key found by its id in a JWKS document."""
    token = jwt.sign({"sub": "a", "n": 1}, KEY)

    assert jwt.verify(token, jwt.read_jwks(jwt.write_jwks(KEY.public_key()))) == {"sub": "a", "n": 1}


def test_the_published_es256_example_verifies() -> None:
    """RFC 7515 appendix A.3: a token and key made by others."""
    token = (
        "eyJhbGciOiJFUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    key = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }

    claims = jwt.verify(token, jwt.read_jwks(json.dumps({"keys": [key]}).encode()))

    assert claims["iss"] == "joe"


def test_rs256_verifies() -> None:
    """As an API server with an RSA key signs, without a key id too."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    entry = {
        "kty": "RSA",
        "kid": "api",
        "use": "sig",
        "n": _b64(numbers.n.to_bytes(256, "big")),
        "e": _b64(numbers.e.to_bytes(3, "big")),
    }
    keys = jwt.read_jwks(json.dumps({"keys": [entry]}).encode())
    for header in ({"alg": "RS256", "kid": "api"}, {"alg": "RS256"}):
        signed = f"{_b64(json.dumps(header).encode())}.{_b64(b'{}')}"
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())

        assert jwt.verify(f"{signed}.{_b64(signature)}", keys) == {}


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "is no JSON Web Token"),
        ("a.b", "is no JSON Web Token"),
        ("a.b.c.d", "is no JSON Web Token"),
        ("!!.e30.e30", "not base64url"),
        ("e30.e30.", "cannot be read"),
        (_token({"alg": "none"}, {}, b""), "does not fit"),
        (_token({"alg": "HS256"}, {}, b"x" * 32), "does not fit"),
        (_token({"alg": "RS256"}, {}, b"x" * 64), "does not fit"),
        (_token({"alg": "ES256", "kid": "other"}, {}, b"x" * 64), "key 'other', which is not known"),
        (_token({"alg": "ES256"}, {}, b"\0" * 64), "does not fit"),
        (_token({"alg": "ES256"}, {}, b"x" * 63), "does not fit"),
        (_token({"alg": 1}, {}, b""), "cannot be read"),
        ("W10.e30.e30", "cannot be read"),
        ("ünicode.ä.ö", "not base64url"),
    ],
)
def test_what_proves_nothing_is_refused(token: str, told: str) -> None:
    """No algorithm, a symmetric one, one for another key type, an unknown key, a wrong signature."""
    with pytest.raises(JwtError, match=told):
        jwt.verify(token, KEYS)


def test_a_changed_claim_breaks_the_signature() -> None:
    """Header, claims and signature are bound to each other."""
    header, _, signature = jwt.sign({"sub": "a"}, KEY).split(".")
    other = _b64(json.dumps({"sub": "b"}).encode())

    with pytest.raises(JwtError, match="does not fit"):
        jwt.verify(f"{header}.{other}.{signature}", KEYS)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_token_breaks_the_reader(content: bytes) -> None:
    """Whatever the header holds, the answer is JwtError."""
    with pytest.raises(JwtError):
        jwt.verify(content.decode("latin-1"), KEYS)
    with pytest.raises(JwtError):
        jwt.verify(f"{_b64(content)}.{_b64(content)}.{_b64(content)}", KEYS)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"", "no JSON Web Key Set"),
        (b"[]", "no JSON Web Key Set"),
        (b'{"keys": 3}', "no RSA or P-256 key"),
        (b'{"keys": []}', "no RSA or P-256 key"),
        (b'{"keys": [{"kty": "oct", "k": "AA"}]}', "no RSA or P-256 key"),
        (b'{"keys": [{"kty": "EC", "crv": "P-384"}]}', "no RSA or P-256 key"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "use": "enc"}]}', "no RSA or P-256 key"),
        (b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}', "RSA key that cannot be read|no RSA"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}', "EC key that cannot be read"),
        (b'{"keys": [{"kty": "RSA"}]}', "RSA key that cannot be read"),
    ],
)
def test_a_key_set_without_a_usable_key_is_refused(document: bytes, told: str) -> None:
    """With the reason, as the file's owner must mend it."""
    with pytest.raises(JwtError, match=told):
        jwt.read_jwks(document)
