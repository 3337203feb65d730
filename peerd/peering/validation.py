"""Whether what a peer says may be believed (decisions D14, D15, D23). Pure: every reason is a sentence."""

import re
from ipaddress import ip_address

from peerd.limits import PEER_CAPACITY, PEER_NAME_CHARACTERS, PEER_UID_CHARACTERS, hit
from peerd.model.federation import FederatedService, PeerInfo, RemotePeer
from peerd.model.identity import SpiffeId, parse_spiffe_id
from peerd.model.peer_identity import PeerRefusedError, check_peer
from peerd.model.record import Record
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload
from peerd.transport.base import PeerCertificate

_DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")


class LocalCluster(Record, frozen=True):
    """What of our own cluster an importer must know; `network` is None until the first derivation said it."""

    cluster: str
    system_namespace: str
    lineage: str
    domain: str = "cluster.local"
    network: str | None = None


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


def who(info: PeerInfo) -> str:
    """A cluster in words, with all that tells it from another."""
    return f"{info.cluster}/{info.network or '(no network)'}/{info.trust_domain} (lineage {info.lineage})"


def fault(name: str, service: FederatedService, info: PeerInfo, local: LocalCluster) -> str:
    """Why *service*, which came as resource *name*, is not imported; empty where it is."""
    return _names(name, service, info, local) or _identities(service, info) or _numbers(service)


def workload_fault(name: str, workload: Workload, info: PeerInfo, local: LocalCluster) -> str:
    """Why *workload*, which came as resource *name*, is not imported; empty where it is (decision D31).

    It must be an endpoint of the peer's own, on the network that we share, reached as what it is: by HBONE,
    at an address of its own, under an identity of the peer's trust domain.
    """
    return (
        _workload_name(name, workload, info, local)
        or _flatness(workload, info, local)
        or _reachability(workload)
        or next(filter(None, (_membership(entry, info, local) for entry in workload.services)), "")
    )


def _workload_name(name: str, workload: Workload, info: PeerInfo, local: LocalCluster) -> str:  # noqa: PLR0911 (a return for each rule)
    if len(name) > PEER_UID_CHARACTERS.value:
        hit(PEER_UID_CHARACTERS)
        return f"the name is longer than {PEER_UID_CHARACTERS.value} characters"
    if name != workload.uid:
        return "the resource is not called as its uid"
    if not name.startswith(f"{info.cluster}/") or workload.cluster_id != info.cluster:
        return f"it is not of the peer's own cluster {info.cluster}"
    if not _DNS.fullmatch(workload.name) or not _DNS.fullmatch(workload.namespace):
        return "name or namespace is no DNS name"
    if workload.namespace == local.system_namespace:
        return f"workloads of the system namespace {local.system_namespace} are never imported"
    if (workload.trust_domain or "cluster.local") != info.trust_domain:
        return f"its trust domain is not the peer's, {info.trust_domain}"
    if not _DNS.fullmatch(workload.service_account or "default"):
        return "its service account is no DNS name"
    return ""


def _flatness(workload: Workload, info: PeerInfo, local: LocalCluster) -> str:
    if workload.network != info.network:
        return f"its network is not the peer's, {info.network}"
    if local.network is not None and local.network != info.network:
        return f"it is on network {info.network}, not on ours: its cluster is entered by a gateway"
    if workload.network_gateway is not None or workload.application_tunnel is not None:
        return "it is reached by way of something else, as nothing on a flat network is"
    return ""


def _reachability(workload: Workload) -> str:
    if workload.tunnel_protocol is not TunnelProtocol.HBONE:
        return "it does not speak HBONE, so nobody can prove to be it"
    if workload.hostname or not workload.addresses:
        return "it has no address of its own"
    for address in workload.addresses:
        if not _of_a_pod(address):
            return f"its address {address.hex()} is not one that a Pod can have"
    if workload.authorization_policies:
        return "its policies are its own cluster's affair"
    if workload.capacity is not None and workload.capacity > PEER_CAPACITY.value:
        hit(PEER_CAPACITY)
        return f"a capacity of {workload.capacity} is not credible"
    return ""


def _of_a_pod(packed: bytes) -> bool:
    if len(packed) not in {4, 16}:
        return False
    address = ip_address(packed)
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    )


def _membership(entry: ServicePorts, info: PeerInfo, local: LocalCluster) -> str:
    namespace, _, host = entry.service.partition("/")
    name = host.removesuffix(f".{namespace}.{info.segment_domain}")
    if name == host or not _DNS.fullmatch(name) or "." in name or not _DNS.fullmatch(namespace):
        return f"{entry.service!r:.400} is no global service of the peer's, below {info.segment_domain}"
    if namespace == local.system_namespace:
        return f"services of the system namespace {local.system_namespace} are never imported"
    for port in entry.ports:
        if not 0 < port.service_port < 65_536 or not 0 <= port.target_port < 65_536:
            return f"{entry.service}: {port.service_port} to {port.target_port} are no port numbers"
    return ""


def _names(name: str, service: FederatedService, info: PeerInfo, local: LocalCluster) -> str:  # noqa: PLR0911 (a return for each rule)
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
