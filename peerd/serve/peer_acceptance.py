"""Whom the peer port serves (decisions D14, D16)."""

from collections.abc import Iterable

from peerd.model.federation import RemotePeer
from peerd.model.identity import SpiffeId
from peerd.model.peer_identity import PeerRefusedError, check_peer
from peerd.protocol.peer_wire import Hello, PeerProtocolError, incompatible, parse_hello
from peerd.transport.base import PeerCertificate, StatusCode, Stream, StreamClosed


class Acceptance:
    """Control planes of accepted trust domains, and those that our Gateways name.

    `trust_domains` are accepted with the namespace and account of our own control plane; a Gateway's
    annotations add its trust domain, with the namespace and account they say. No Gateway is needed: one-way
    links work.
    """

    def __init__(self, own: SpiffeId, cluster: str, trust_domains: Iterable[str] = ()) -> None:
        self._cluster = cluster
        self._always = {
            SpiffeId(domain, own.namespace, own.service_account)
            for domain in {own.trust_domain, *trust_domains}
        }
        self._gateways: dict[str, RemotePeer] = {}

    def configure(self, name: str, remote: RemotePeer | None) -> None:
        """A Gateway of ours was put or, with None, deleted."""
        if remote is None:
            self._gateways.pop(name, None)
        else:
            self._gateways[name] = remote

    def admit(self, stream: Stream) -> tuple[Hello, PeerCertificate]:
        """Who opened *stream*.

        Raises:
            StreamClosed: UNAUTHENTICATED without a certificate, PERMISSION_DENIED for an identity or issuer
                that is not accepted, INVALID_ARGUMENT for incomplete metadata, FAILED_PRECONDITION where no
                protocol version is common.
        """
        certificate = stream.certificate
        if certificate is None:
            raise StreamClosed(StatusCode.UNAUTHENTICATED, "the peer port wants a client certificate")
        try:
            hello = parse_hello(stream.metadata)
        except PeerProtocolError as error:
            raise StreamClosed(StatusCode.INVALID_ARGUMENT, str(error)) from None
        self._check(hello, certificate, "")
        for gateway in self._gateways.values():
            if gateway.issuer and gateway.cluster == hello.cluster:
                self._check(hello, certificate, gateway.issuer)
        if reason := incompatible(hello):
            raise StreamClosed(StatusCode.FAILED_PRECONDITION, reason)
        return hello, certificate

    def _check(self, hello: Hello, certificate: PeerCertificate, pin: str) -> None:
        accepted = {*self._always, *map(_identity, self._gateways.values())}
        pins = (pin,) if pin else ()
        try:
            check_peer(certificate.uris, certificate.issuer_key_sha256, accepted, pins)
        except PeerRefusedError as error:
            raise StreamClosed(
                StatusCode.PERMISSION_DENIED,
                f"cluster {self._cluster} refuses cluster {hello.cluster}: {error}",
            ) from None


def _identity(remote: RemotePeer) -> SpiffeId:
    return SpiffeId(remote.trust_domain, remote.namespace, remote.service_account)
