"""Whether what a peer says may be believed (decisions D14, D15, D23). Pure: every reason is a sentence."""

import re

from peerd.limits import PEER_CAPACITY, PEER_NAME_CHARACTERS, hit
from peerd.model.federation import FederatedService, PeerInfo, RemotePeer
from peerd.model.identity import SpiffeId, parse_spiffe_id
from peerd.model.peer_identity import PeerRefusedError, check_peer
from peerd.model.record import Record
from peerd.transport.base import PeerCertificate

_DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")


class LocalCluster(Record, frozen=True):
    """What of our own cluster an importer must know."""

    cluster: str
    system_namespace: str
    lineage: str
    domain: str = "cluster.local"


class PeerIsSelfError(Exception):
    """The far end is this very cluster."""


def expected_identity(peer: RemotePeer) -> SpiffeId:
    """Who must answer at the Gateway's address."""
    return SpiffeId(peer.trust_domain, peer.namespace, peer.service_account)


def check_certificate(peer: RemotePeer, certificate: PeerCertificate | None) -> None:
    """The far end's certificate against the Gateway.

    Raises:
        PeerRefusedError: it proves another identity, or comes from another issuer than the pinned one.
    """
    expected = expected_identity(peer)
    if certificate is None:
        raise PeerRefusedError(f"expected {expected}: the far end showed no certificate")
    pins = (peer.issuer,) if peer.issuer else ()
    try:
        check_peer(certificate.uris, certificate.issuer_key_sha256, (expected,), pins)
    except PeerRefusedError as error:
        raise PeerRefusedError(
            f"expected {expected}: {error}; correct the address, or the Gateway's annotations"
            " gateway.istio.io/trust-domain, peering.peerd.io/system-namespace,"
            " peering.peerd.io/service-account and peering.peerd.io/issuer-sha256"
        ) from None


def check_info(peer: RemotePeer, info: PeerInfo, local: LocalCluster) -> None:
    """What the peer says of itself against the Gateway and our own cluster.

    Raises:
        PeerIsSelfError: cluster and lineage are ours.
        PeerRefusedError: it contradicts the Gateway, its certificate's trust domain, or our own names.
    """
    if info.cluster == local.cluster:
        if info.lineage == local.lineage:
            raise PeerIsSelfError
        raise PeerRefusedError(
            f"the peer calls itself {info.cluster!r}, as this cluster does; cluster ids must be unique"
        )
    if peer.cluster and info.cluster != peer.cluster:
        raise PeerRefusedError(
            f"the peer is cluster {info.cluster!r}, the Gateway's label topology.istio.io/cluster says"
            f" {peer.cluster!r}"
        )
    if peer.network and info.network != peer.network:
        raise PeerRefusedError(
            f"the peer is on network {info.network!r}, the Gateway's label topology.istio.io/network says"
            f" {peer.network!r}"
        )
    if info.trust_domain != peer.trust_domain:
        raise PeerRefusedError(
            f"the peer says its trust domain is {info.trust_domain!r}, its certificate says"
            f" {peer.trust_domain!r}"
        )
    segment = info.segment_domain
    if not _DNS.fullmatch(segment) or f".{segment}".endswith(f".{local.domain}"):
        raise PeerRefusedError(f"the peer's segment domain {segment!r} is no domain it may name services in")


def same_cluster(before: PeerInfo, after: PeerInfo) -> bool:
    """Whether an update of PeerInfo leaves the peer who it was (decision D17)."""
    return (before.cluster, before.network, before.trust_domain, before.lineage) == (
        after.cluster,
        after.network,
        after.trust_domain,
        after.lineage,
    )


def fault(name: str, service: FederatedService, info: PeerInfo, local: LocalCluster) -> str:
    """Why *service*, which came as resource *name*, is not imported; empty where it is."""
    return _names(name, service, info, local) or _identities(service, info) or _numbers(service)


def _names(name: str, service: FederatedService, info: PeerInfo, local: LocalCluster) -> str:  # noqa: PLR0911
    if len(name) > PEER_NAME_CHARACTERS.value:
        hit(PEER_NAME_CHARACTERS)
        return f"the name is longer than {PEER_NAME_CHARACTERS.value} characters"
    if name != service.resource_name:
        return f"the resource is not called {service.resource_name} as its content is"
    if not _DNS.fullmatch(service.name) or not _DNS.fullmatch(service.namespace):
        return "name or namespace is no DNS name"
    if service.namespace == local.system_namespace:
        return f"services of the system namespace {local.system_namespace} are never imported"
    own = f"{service.name}.{service.namespace}"
    if service.global_host != f"{own}.{info.segment_domain}":
        return f"global_host is not {own}.{info.segment_domain}"
    if not service.local_host.startswith(f"{own}.svc.") or not _DNS.fullmatch(service.local_host):
        return f"local_host is not {own}.svc.<cluster domain>"
    for alias in service.aliases:
        if not _DNS.fullmatch(alias):
            return f"alias {alias[:80]!r} is no DNS name"
        if f".{alias}".endswith((f".{local.domain}", f".{info.segment_domain}")):
            return f"alias {alias!r} lies in a domain where names belong to services"
    return ""


def _identities(service: FederatedService, info: PeerInfo) -> str:
    for uri in service.identities:
        try:
            identity = parse_spiffe_id(uri)
        except ValueError:
            return f"identity {uri[:120]!r} is no SPIFFE id of the mesh's form"
        if identity.trust_domain != info.trust_domain:
            return f"identity {uri[:120]!r} is outside the peer's trust domain {info.trust_domain}"
    return ""


def _numbers(service: FederatedService) -> str:
    if len({(p.number, p.protocol) for p in service.ports}) != len(service.ports):
        return "a port is named twice"
    for capacity in service.capacity:
        if capacity.healthy > PEER_CAPACITY.value:
            hit(PEER_CAPACITY)
            return f"a capacity of {capacity.healthy} is not credible"
    return ""
