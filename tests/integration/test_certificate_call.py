"""CreateCertificate on the wire: a foreign unary client, and refusals as it sees them."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from peerd.ca import authority, tokens
from peerd.ca.bundle import load_bundle
from peerd.ca.issue import server_certificate
from peerd.ca.tokens import TokenIssuer
from peerd.encode.certificates import decode_certificate_response, encode_certificate_request
from peerd.model.certificate import CertificateRequest
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.serve.authentication import by_token, chain
from peerd.serve.certificates import CertificateService
from peerd.serve.own_tls import OwnTls
from peerd.serve.tokens import JwksVerifier
from peerd.transport.grpcaio import GrpcServer
from tests.support import cas
from tests.support.identities import START, new_root
from tests.support.peering import SystemClock
from tests.support.pods import REVIEWS, TRUSTED, Pods
from tests.support.ztunnel_ca_rules import check_answer

Call = Callable[..., "grpc.aio.UnaryUnaryCall"]


@pytest.fixture
def issuer() -> TokenIssuer:
    return tokens.make_issuer()


@pytest.fixture
async def call(tmp_path: Path, issuer: TokenIssuer) -> AsyncIterator[Call]:
    """One unary call over TLS, as ztunnel's stack makes it: method path, request, metadata."""
    authority.write_new(tmp_path / "ca", cas.cluster_files(new_root(), "east", START))
    bundle = load_bundle(tmp_path / "ca", time.time())
    (tmp_path / "jwks.json").write_bytes(issuer.jwks)
    clock, pods = SystemClock(), Pods()
    pods.synced = True
    verifier = JwksVerifier(tmp_path / "jwks.json", ("istio-ca",), clock)
    authenticate = chain(by_token(verifier, lambda: "td", lambda: ("east",)))
    service = CertificateService(lambda: bundle, authenticate, pods, TRUSTED, clock)
    tls = OwnTls(lambda: bundle, lambda ca, now: server_certificate(ca, ("localhost",), now), clock)
    server = GrpcServer("127.0.0.1:0", {CREATE_CERTIFICATE_METHOD: service.handle}, tls=tls)
    address = await server.start()
    credentials = grpc.ssl_channel_credentials(bundle.roots_pem)
    channel = grpc.aio.secure_channel(
        address, credentials, options=[("grpc.ssl_target_name_override", "localhost")]
    )

    def unary(request: CertificateRequest, **metadata: str) -> grpc.aio.UnaryUnaryCall:
        method = channel.unary_unary(CREATE_CERTIFICATE_METHOD)
        return method(encode_certificate_request(request), metadata=tuple(metadata.items()), timeout=60)

    yield unary
    await channel.close()
    await server.close(1.0)
    service.close()


def _bearer(issuer: TokenIssuer, **options: object) -> dict[str, str]:
    named = {"pod_name": "zt-1", "pod_uid": "u-1", **options}
    token = tokens.service_account_token(issuer, "istio-system", "ztunnel", time.time(), **named)  # type: ignore[arg-type]
    return {"authorization": f"Bearer {token}", "clusterid": "east"}


async def test_a_foreign_client_gets_what_ztunnel_demands(call: Call, issuer: TokenIssuer) -> None:
    """A unary call with a token: the chain passes ztunnel's rules and `openssl verify`."""
    csr = cas.csr(uri=REVIEWS)

    answer = await call(CertificateRequest(csr, 86_400, REVIEWS), **_bearer(issuer))

    chain_ = decode_certificate_response(answer)
    check_answer(chain_, csr, REVIEWS, time.time())
    cas.openssl_verify(chain_, time.time(), purpose="sslclient")


@pytest.mark.parametrize(
    ("request_", "options", "code", "text"),
    [
        (
            CertificateRequest(cas.csr()),
            None,
            grpc.StatusCode.UNAUTHENTICATED,
            "request authenticate failure",
        ),
        (
            CertificateRequest(cas.csr()),
            {"ttl": -5},
            grpc.StatusCode.UNAUTHENTICATED,
            "request authenticate failure",
        ),
        (
            CertificateRequest(cas.csr()),
            {"audience": "vault"},
            grpc.StatusCode.UNAUTHENTICATED,
            "request authenticate failure",
        ),
        (
            CertificateRequest(cas.csr(), 0, "spiffe://td/ns/shop/sa/ratings"),
            {},
            grpc.StatusCode.UNAUTHENTICATED,
            "request impersonation authentication failure",
        ),
        (
            CertificateRequest(cas.csr(), 0, REVIEWS),
            {"pod_uid": "u-0"},
            grpc.StatusCode.UNAUTHENTICATED,
            "request impersonation authentication failure",
        ),
        (
            CertificateRequest("x"),
            {},
            grpc.StatusCode.INVALID_ARGUMENT,
            "CSR signing error (certificate signing request is not properly encoded)",
        ),
    ],
    ids=["no token", "expired", "audience", "other node", "old pod", "csr"],
)
async def test_refusals_arrive_with_code_and_text(
    *,
    call: Call,
    issuer: TokenIssuer,
    request_: CertificateRequest,
    options: dict[str, object] | None,
    code: grpc.StatusCode,
    text: str,
) -> None:
    """istiod's, so that ztunnel logs its hints and its operators find them."""
    metadata = {} if options is None else _bearer(issuer, **options)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request_, **metadata)

    assert (caught.value.code(), caught.value.details()) == (code, text)
