"""Service-account-like tokens from a key of our own, for trying things without Kubernetes.

A peerd started with the issuer's JWKS (`--jwks-file`) takes them where an API server's tokens would be taken;
they say exactly what a projected, Pod-bound token says (wire-contract §5.3).
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from peerd.ca import authority, jwt, pem
from peerd.ca.bundle import BundleError

AUDIENCE = "istio-ca"
ISSUER = "https://tokens.peerd.local"
ISSUER_FILES = ("token-key.pem", "jwks.json")
TTL = 43_200  # as the ztunnel chart asks for


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """The key that signs tokens."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def jwks(self) -> bytes:
        """The key set that verifies them."""
        return jwt.write_jwks(self.key.public_key())


def make_issuer() -> TokenIssuer:
    """A new issuer."""
    return TokenIssuer(ec.generate_private_key(ec.SECP256R1()))


def issuer_files(issuer: TokenIssuer) -> dict[str, bytes]:
    """The key and the key set as files."""
    return dict(zip(ISSUER_FILES, (pem.write_key(issuer.key), issuer.jwks), strict=True))


def load_issuer(directory: Path) -> TokenIssuer:
    """Read what `issuer_files` gave; raises BundleError naming the file."""
    path = directory / ISSUER_FILES[0]
    key = authority.read_key_file(path, "`peerd certs token-issuer` makes it")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != ec.SECP256R1.name:
        raise BundleError(f"{path}: is no P-256 key; tokens are signed with ES256")
    return TokenIssuer(key)


def service_account_token(
    issuer: TokenIssuer,
    namespace: str,
    service_account: str,
    now: float,
    *,
    pod_name: str = "",
    pod_uid: str = "",
    ttl: int = TTL,
    audience: str = AUDIENCE,
) -> str:
    """A token for an account, bound to a Pod where one is named; *now* in Unix seconds, *ttl* in seconds."""
    kubernetes: dict[str, object] = {
        "namespace": namespace,
        "serviceaccount": {"name": service_account, "uid": ""},
    }
    if pod_name:
        kubernetes["pod"] = {"name": pod_name, "uid": pod_uid}
    return jwt.sign(
        {
            "iss": ISSUER,
            "aud": [audience],
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + ttl,
            "kubernetes.io": kubernetes,
        },
        issuer.key,
    )
