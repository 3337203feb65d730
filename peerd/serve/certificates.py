"""`CreateCertificate` (wire-contract §5.4): authenticate, authorise, sign off the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import structlog

from peerd import limits
from peerd.ca.bundle import CaBundle
from peerd.ca.signer import SigningError, SigningFault, sign_request
from peerd.encode.certificates import decode_certificate_request, encode_certificate_response
from peerd.encode.frame import DecodeError
from peerd.model.caller import Caller
from peerd.model.certificate import CertificateRequest
from peerd.model.clock import Clock
from peerd.serve.authentication import Authenticate
from peerd.serve.impersonation import ImpersonationRefusedError, check_impersonation
from peerd.serve.pods import PodDirectory
from peerd.transport.base import StatusCode, Stream, StreamClosed

log = structlog.get_logger(__name__)

AUTHENTICATION_REFUSAL = "request authenticate failure"
IMPERSONATION_REFUSAL = "request impersonation authentication failure"

# So many requests are answered side by side: one is signed while the next is verified. More would sign no
# faster, and a thousand ztunnels that ask at once would have the event loop verify a thousand tokens before
# its next push.
_TURNS = 2

_STATUS = {
    SigningFault.REQUEST: StatusCode.INVALID_ARGUMENT,
    SigningFault.TTL: StatusCode.INVALID_ARGUMENT,
    SigningFault.NOT_READY: StatusCode.INTERNAL,
}


class CertificateService:
    """Answers certificate requests of ztunnels, gateways and workloads.

    *trusted* are accounts that may ask for the workloads of their own node, as `namespace/account`. Signing
    runs in one thread of its own: the event loop goes on, and as `cryptography` holds the interpreter while
    it signs, more threads would only make the loop wait longer for its turn.

    `counts` are for metrics (wire-contract §5.9): requests, issued, authentication_failures, errors by kind.
    """

    def __init__(
        self,
        bundle: Callable[[], CaBundle],
        authenticate: Authenticate,
        pods: PodDirectory,
        trusted: Collection[str],
        clock: Clock,
    ) -> None:
        self._bundle = bundle
        self._authenticate = authenticate
        self._pods = pods
        self._trusted = frozenset(trusted)
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sign")
        self._turns = asyncio.Semaphore(_TURNS)
        self._waiting = 0
        self.counts: Counter[str] = Counter()

    async def handle(self, stream: Stream) -> None:
        """The handler of CREATE_CERTIFICATE_METHOD; raises StreamClosed with istiod's codes and texts."""
        self.counts["requests"] += 1
        message = await stream.receive()  # before its turn: a caller that says nothing holds up nobody
        limit = limits.CSRS_WAITING
        if self._waiting >= limit.value:
            limits.hit(limit)
            raise StreamClosed(
                StatusCode.RESOURCE_EXHAUSTED, f"{limit.value} certificate requests wait already; try again"
            )
        self._waiting += 1
        try:
            async with self._turns:
                chain = await self._answer(stream, message or b"")
        finally:
            self._waiting -= 1
        self.counts["issued"] += 1
        await stream.send(encode_certificate_response(chain))

    def close(self) -> None:
        """Stop the signing thread; requests that wait for it fail."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, stream: Stream, message: bytes) -> tuple[str, ...]:
        caller = await self._caller(stream)
        try:
            request = decode_certificate_request(message)
        except DecodeError as error:
            raise StreamClosed(StatusCode.INVALID_ARGUMENT, str(error)) from None
        identity = self._identity(stream, caller, request)
        if request.signer:
            raise StreamClosed(
                StatusCode.INVALID_ARGUMENT, f"CSR signing error (no signer {request.signer!r} is configured)"
            )
        return await self._sign(request, identity)

    async def _caller(self, stream: Stream) -> Caller:
        try:
            return await self._authenticate(stream)
        except StreamClosed as refused:
            self.counts["authentication_failures"] += 1
            raise StreamClosed(refused.code, AUTHENTICATION_REFUSAL) from None

    def _identity(self, stream: Stream, caller: Caller, request: CertificateRequest) -> str:
        if not request.impersonated:
            if caller.identity is None:
                self.counts["authentication_failures"] += 1
                log.warning("certificate refused", remote=stream.remote, reason="the caller has no identity")
                raise StreamClosed(StatusCode.UNAUTHENTICATED, AUTHENTICATION_REFUSAL)
            return str(caller.identity)
        if not self._pods.synced:
            raise StreamClosed(StatusCode.UNAVAILABLE, "the Pods of this cluster are not known yet")
        try:
            return check_impersonation(caller, request.impersonated, self._trusted, self._pods)
        except ImpersonationRefusedError as error:
            self.counts["authentication_failures"] += 1
            log.warning(
                "impersonation refused",
                remote=stream.remote,
                caller=str(caller.identity),
                wanted=request.impersonated,
                reason=str(error),
            )
            raise StreamClosed(StatusCode.UNAUTHENTICATED, IMPERSONATION_REFUSAL) from None

    async def _sign(self, request: CertificateRequest, identity: str) -> tuple[str, ...]:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool,
                sign_request,
                self._bundle(),
                request.csr,
                identity,
                request.validity_seconds,
                self._clock.time(),
            )
        except SigningError as error:
            self.counts[f"error_{error.fault.value}"] += 1
            log.warning("certificate not signed", identity=identity, reason=str(error))
            raise StreamClosed(_STATUS[error.fault], f"CSR signing error ({error})") from None
