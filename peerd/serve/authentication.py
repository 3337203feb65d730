"""Who is calling (wire-contract §5.3): one authenticator per kind of listener, or a chain of them.

A caller that is refused hears the one text that ztunnel knows; the reason goes to our log.
"""

from collections.abc import Awaitable, Callable, Collection

import structlog

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.model.peer_identity import PeerRefusedError, check_peer
from peerd.serve.tokens import TokenRefusedError, TokenVerifier
from peerd.transport.base import StatusCode, Stream, StreamClosed

log = structlog.get_logger(__name__)

Authenticate = Callable[[Stream], Awaitable[Caller]]
"""Raises StreamClosed(UNAUTHENTICATED) where the caller proves nothing."""

Step = Callable[[Stream], Awaitable[Caller | None]]
"""None where the caller shows no credential of this kind; NotAuthenticatedError where it shows a bad one."""

# ztunnel adds a hint for its operator when it sees this text; istiod's is the same.
REFUSAL = "authentication failure"

_BEARER = "bearer "


class NotAuthenticatedError(Exception):
    """A credential was shown and does not hold; the text is for our log."""


def chain(*steps: Step) -> Authenticate:
    """Authenticate by the first step that finds its kind of credential."""

    async def authenticate(stream: Stream) -> Caller:
        reason = "no credential was shown"
        for step in steps:
            try:
                caller = await step(stream)
            except NotAuthenticatedError as error:
                reason = str(error)
                continue
            if caller is not None:
                return caller
        log.warning("caller refused", remote=stream.remote, method=stream.method, reason=reason)
        raise StreamClosed(StatusCode.UNAUTHENTICATED, REFUSAL)

    return authenticate


def by_certificate(
    kind: CallerKind,
    accepted: Callable[[], Collection[SpiffeId]],
    pins: Callable[[], Collection[str]] = tuple,
) -> Step:
    """By client certificate: the URI SAN must be one of *accepted* (decision D14).

    For the peer and the gateway listener only (decision D42). *pins*, where there are any, limit the keys of
    issuing CAs.
    """

    async def step(stream: Stream) -> Caller | None:
        certificate = stream.certificate
        if certificate is None:
            return None
        try:
            identity = check_peer(certificate.uris, certificate.issuer_key_sha256, accepted(), pins())
        except PeerRefusedError as error:
            raise NotAuthenticatedError(str(error)) from error
        return Caller(kind, identity, issuer_key_sha256=certificate.issuer_key_sha256)

    return step


def by_token(
    verifier: TokenVerifier, trust_domain: Callable[[], str], clusters: Callable[[], Collection[str]]
) -> Step:
    """By bearer token of a Kubernetes service account.

    Metadata `clusterid` may be absent or one of *clusters* (our id and its aliases): tokens of other clusters
    cannot be verified here. The identity is the account in *trust_domain*.
    """

    async def step(stream: Stream) -> Caller | None:
        credential = stream.metadata.get("authorization", "")
        if credential[: len(_BEARER)].lower() != _BEARER:
            return None
        cluster = stream.metadata.get("clusterid", "")
        if cluster and cluster not in clusters():
            raise NotAuthenticatedError(
                f"metadata clusterid is {cluster!r}, this cluster is {' or '.join(sorted(clusters()))};"
                " set ISTIO_META_CLUSTER_ID of the client"
            )
        try:
            # ztunnel sends the file as it is, line end included.
            token = await verifier.verify(credential[len(_BEARER) :].strip())
        except TokenRefusedError as error:
            raise NotAuthenticatedError(str(error)) from error
        identity = SpiffeId(trust_domain(), token.namespace, token.service_account)
        return Caller(CallerKind.WORKLOAD, identity, token.pod_name, token.pod_uid)

    return step


async def loopback(_stream: Stream) -> Caller:
    """Everyone on the plaintext loopback address, which is off by default and bound to no other (D42)."""
    return Caller(CallerKind.LOOPBACK)
