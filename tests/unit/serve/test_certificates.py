"""CreateCertificate: what is answered, and every refusal with its code and istiod's text."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from peerd import limits
from peerd.ca import authority
from peerd.ca.bundle import CaBundle
from peerd.ca.signer import MAX_TTL
from peerd.encode.certificates import decode_certificate_response, encode_certificate_request
from peerd.model.caller import Caller, CallerKind
from peerd.model.certificate import CertificateRequest
from peerd.serve import certificates
from peerd.serve.certificates import CertificateService
from peerd.serve.pods import PodIndex
from peerd.transport.base import StatusCode, Stream, StreamClosed
from tests.support import cas
from tests.support.cas import DAY, NOW, Turned
from tests.support.fake_stream import FakeStream
from tests.support.pods import REVIEWS, TRUSTED, ZTUNNEL, Pods
from tests.support.ztunnel_ca_rules import check_answer

OWN = "spiffe://td/ns/istio-system/sa/ztunnel"


def _service(
    caller: Caller | None = ZTUNNEL, pods: PodIndex | None = None, clock: Turned | None = None
) -> CertificateService:
    async def authenticate(stream: Stream) -> Caller:
        if caller is None:
            raise StreamClosed(StatusCode.UNAUTHENTICATED, "authentication failure")
        return caller

    bundle = cas.bundle_of(cas.cluster_files(authority.make_root("test", NOW), days=30))
    known = pods or Pods()
    known.synced = True
    return CertificateService(lambda: bundle, authenticate, known, TRUSTED, clock or Turned())


async def _call(service: CertificateService, request: CertificateRequest) -> tuple[str, ...]:
    stream = FakeStream([encode_certificate_request(request)])
    await service.handle(stream)
    (answer,) = stream.sent
    return decode_certificate_response(answer)


async def test_the_caller_gets_its_own_identity() -> None:
    """Without impersonation the SAN is the caller's, whatever the request says."""
    service, csr = _service(), cas.csr(uri="spiffe://td/ns/kube-system/sa/admin")

    check_answer(await _call(service, CertificateRequest(csr)), csr, OWN, NOW)
    assert service.counts == {"requests": 1, "issued": 1}


async def test_a_ztunnel_gets_the_identity_of_a_workload_of_its_node() -> None:
    """With `ImpersonatedIdentity` in the metadata, as shared mode sends it."""
    csr = cas.csr(uri=REVIEWS)

    chain = await _call(_service(), CertificateRequest(csr, 3600, REVIEWS))

    leaf = check_answer(chain, csr, REVIEWS, NOW)
    assert leaf.not_valid_after_utc.timestamp() == NOW + 3600


@pytest.mark.parametrize(
    ("request_", "code", "text", "counted"),
    [
        (
            CertificateRequest("nonsense"),
            StatusCode.INVALID_ARGUMENT,
            "CSR signing error (certificate signing request is not properly encoded)",
            "error_csr",
        ),
        (
            CertificateRequest(cas.csr(), MAX_TTL + 1),
            StatusCode.INVALID_ARGUMENT,
            "CSR signing error (requested TTL 2160h0m1s is greater than the max allowed TTL 2160h0m0s)",
            "error_ttl",
        ),
        (
            CertificateRequest(cas.csr(), 0, "spiffe://td/ns/shop/sa/ratings"),
            StatusCode.UNAUTHENTICATED,
            "request impersonation authentication failure",
            "authentication_failures",
        ),
        (
            CertificateRequest(cas.csr(), signer="clusterissuers.example/x"),
            StatusCode.INVALID_ARGUMENT,
            "CSR signing error (no signer 'clusterissuers.example/x' is configured)",
            "requests",
        ),
    ],
    ids=["csr", "ttl", "impersonation", "signer"],
)
async def test_a_bad_request_gets_istiods_code_and_text(
    request_: CertificateRequest, code: StatusCode, text: str, counted: str
) -> None:
    """The reason of a refused impersonation stays in our log."""
    service = _service()

    with pytest.raises(StreamClosed) as caught:
        await _call(service, request_)

    assert (caught.value.code, caught.value.message) == (code, text)
    assert service.counts[counted] == 1
    assert service.counts["issued"] == 0


async def test_a_refused_impersonation_is_told_in_the_log() -> None:
    """Who, from where, for whom, and which condition failed; the caller hears none of it."""
    with capture_logs() as logs, pytest.raises(StreamClosed):
        await _call(_service(), CertificateRequest(cas.csr(), 0, "spiffe://td/ns/shop/sa/ratings"))

    assert logs[0]["caller"] == OWN
    assert logs[0]["wanted"] == "spiffe://td/ns/shop/sa/ratings"
    assert logs[0]["reason"] == "no Pod of shop/ratings runs on node 'n1'"


@pytest.mark.parametrize("caller", [None, Caller(CallerKind.LOOPBACK)], ids=["refused", "loopback"])
async def test_nobody_gets_a_certificate_without_an_identity(caller: Caller | None) -> None:
    """A failed authentication, and the loopback address, which proves nothing (decision D42)."""
    service = _service(caller)

    with pytest.raises(StreamClosed) as caught:
        await _call(service, CertificateRequest(cas.csr()))

    assert (caught.value.code, caught.value.message) == (
        StatusCode.UNAUTHENTICATED,
        "request authenticate failure",
    )
    assert service.counts["authentication_failures"] == 1


async def test_bytes_that_are_no_request_are_refused() -> None:
    """Garbage, and a call that ends without a message."""
    with pytest.raises(StreamClosed) as caught:
        await _service().handle(FakeStream([b"\xff"]))
    assert caught.value.code is StatusCode.INVALID_ARGUMENT
    with pytest.raises(StreamClosed) as caught:
        await _service().handle(FakeStream([]))
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_an_expired_ca_is_not_the_callers_fault() -> None:
    """INTERNAL, so that ztunnel tries again and keeps its old certificate meanwhile."""
    clock = Turned()
    service = _service(clock=clock)
    clock.now = NOW + 31 * DAY

    with pytest.raises(StreamClosed) as caught:
        await _call(service, CertificateRequest(cas.csr()))

    assert caught.value.code is StatusCode.INTERNAL
    assert caught.value.message == "CSR signing error (the signing certificate has expired)"
    assert service.counts["error_ca_not_ready"] == 1


async def test_before_the_pods_are_known_nobody_impersonates() -> None:
    """UNAVAILABLE, not a refusal that looks like a fault of ztunnel's; own identities are given."""
    pods = Pods()
    service = _service(pods=pods)
    pods.synced = False

    with pytest.raises(StreamClosed) as caught:
        await _call(service, CertificateRequest(cas.csr(), 0, REVIEWS))
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert await _call(service, CertificateRequest(cas.csr()))


async def test_signing_happens_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a signature takes its time, the loop goes on; the limit of waiting requests holds."""
    held = threading.Event()
    signing = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(bundle: CaBundle, csr: str, identity: str, ttl: int, now: float) -> tuple[str, ...]:
        loop.call_soon_threadsafe(signing.set)
        held.wait(10)
        return ("leaf", "roots")

    monkeypatch.setattr(certificates, "sign_request", slow)
    monkeypatch.setattr(limits, "CSRS_WAITING", limits.CSRS_WAITING._replace(value=2))
    service = _service()
    waiting = [asyncio.create_task(_call(service, CertificateRequest("x"))) for _ in range(2)]
    await signing.wait()
    with pytest.raises(StreamClosed) as caught:
        await _call(service, CertificateRequest("x"))
    held.set()

    assert await asyncio.gather(*waiting) == [("leaf", "roots")] * 2
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert limits.hits(limits.CSRS_WAITING) == 1
    service.close()
