"""JSON Web Tokens as service accounts use them: RS256 and ES256, keys as JWKS (RFC 7515, 7517, 7518).

Signatures only; what a token's claims mean is serve/tokens.py's business. An algorithm is bound to the type
of the key, never chosen by the token alone, and `none` does not exist here.
"""

import base64
import binascii
import json
from hashlib import sha256
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from peerd.ca.pem import MIN_RSA_BITS

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Keys = dict[str, PublicKey]

_P256_BYTES = 32


class JwtError(ValueError):
    """A token or key set that is not what it should be."""


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""


def verify(token: str, keys: Keys) -> dict[str, Any]:
    """The claims of *token*, once its signature was checked with one of *keys* (by key id).

    A token without key id is tried against every key.

    Raises:
        JwtError: no token, an algorithm we do not speak, an unknown key, or a signature that does not fit.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise JwtError("is no JSON Web Token")
    signed = f"{parts[0]}.{parts[1]}".encode("ascii", "replace")
    try:
        header = msgspec.json.decode(_decode(parts[0]), type=_Header)
        claims = msgspec.json.decode(_decode(parts[1]), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JwtError(f"cannot be read: {error}") from error
    signature = _decode(parts[2])
    if header.kid:
        if header.kid not in keys:
            raise JwtError(f"is signed with key {header.kid!r}, which is not known here")
        candidates = [keys[header.kid]]
    else:
        candidates = list(keys.values())
    if not any(_fits(header.alg, key, signature, signed) for key in candidates):
        raise JwtError(f"has a signature ({header.alg}) that does not fit")
    return claims


def sign(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """An ES256 token over *claims*; *key* is on P-256."""
    header = {"alg": "ES256", "typ": "JWT", "kid": key_id(key.public_key())}
    signed = f"{_encode(_json(header))}.{_encode(_json(claims))}"
    r, s = utils.decode_dss_signature(key.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
    return f"{signed}.{_encode(raw)}"


def read_jwks(content: bytes) -> Keys:
    """The usable keys of a JWKS document, by key id; keys of other types and uses are passed over.

    Raises:
        JwtError: not a JWKS, or one without a key that could verify RS256 or ES256.
    """
    try:
        document = json.loads(content)
        entries = document["keys"]
    except (ValueError, KeyError, TypeError) as error:
        raise JwtError("is no JSON Web Key Set (an object with `keys`)") from error
    keys: Keys = {}
    for entry in entries if isinstance(entries, list) else ():
        key = _public_key(entry) if isinstance(entry, dict) else None
        if key is not None:
            keys[str(entry.get("kid") or key_id(key))] = key
    if not keys:
        raise JwtError("holds no RSA or P-256 key for signatures")
    return keys


def write_jwks(key: ec.EllipticCurvePublicKey) -> bytes:
    """A JWKS document of one P-256 key."""
    numbers = key.public_numbers()
    entry = {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": key_id(key),
        "x": _encode(numbers.x.to_bytes(_P256_BYTES, "big")),
        "y": _encode(numbers.y.to_bytes(_P256_BYTES, "big")),
    }
    return json.dumps({"keys": [entry]}, indent=2).encode("ascii") + b"\n"


def key_id(key: PublicKey) -> str:
    """A key id made of the key itself."""
    numbers = key.public_numbers()
    return sha256(repr(numbers).encode("ascii")).hexdigest()[:16]


def _fits(algorithm: str, key: PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        if (
            algorithm == "ES256"
            and isinstance(key, ec.EllipticCurvePublicKey)
            and len(signature) == 2 * _P256_BYTES
        ):
            r, s = signature[:_P256_BYTES], signature[_P256_BYTES:]
            der = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            key.verify(der, signed, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        return False
    return False


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    if entry.get("use", "sig") != "sig":
        return None
    try:
        if entry.get("kty") == "RSA":
            key = rsa.RSAPublicNumbers(_number(entry, "e"), _number(entry, "n")).public_key()
            return key if key.key_size >= MIN_RSA_BITS else None
        if entry.get("kty") == "EC" and entry.get("crv") == "P-256":
            return ec.EllipticCurvePublicNumbers(
                _number(entry, "x"), _number(entry, "y"), ec.SECP256R1()
            ).public_key()
    except (KeyError, ValueError, TypeError) as error:
        raise JwtError(f"holds a {entry.get('kty')} key that cannot be read: {error}") from error
    return None


def _number(entry: dict[str, Any], field: str) -> int:
    return int.from_bytes(_decode(str(entry[field])), "big")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise JwtError("is not base64url where it should be") from error


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8")
