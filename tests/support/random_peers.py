"""Random peers: the ways to them, what they are, and what they say of services and endpoints.

What two peers say may agree or not, may fit what they are or not; `linked` gives peers of which all fits.
"""

from typing import Any

from hypothesis import strategies as st

from peerd.model.address import Locality, Port
from peerd.model.changes import (
    Change,
    ImportChange,
    ImportedWorkloadChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.federation import (
    Capacity,
    FederatedPort,
    FederatedService,
    FederationScope,
    Freshness,
    PeerInfo,
    PeerView,
    Takeover,
)
from peerd.model.kube.meta import ObjectKey
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload, WorkloadStatus
from tests.support.random_objects import ROOT, change, names, spaces

DOMAINS = ("mesh.internal", "mesh.acme")
_PEERS = st.sampled_from([ObjectKey(ROOT, "n1"), ObjectKey(ROOT, "n2")])
_CREATED = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
_CLUSTERS = st.sampled_from(["west", "west", "north"])
_NETWORKS = st.sampled_from(["net2", "net2", "net1"])  # ours is net1, where we are in one
_FRESHNESS = st.sampled_from([Freshness.FRESH, *Freshness])
# Some that Pods of ours may have.
_ADDRESSES = st.sampled_from([bytes((10, 0, 0, 1)), bytes((10, 0, 0, 9)), bytes((10, 0, 0, 10))])


@st.composite
def _federated(draw: st.DrawFn, domain: str = "", network: str = "") -> FederatedService:
    """What a peer may say of a service; *domain* of its global name and *network* are any where empty."""
    space, name = draw(spaces), draw(names)
    own, healthy = f"{name}.{space}", draw(st.integers(0, 3))
    place = network or draw(_NETWORKS)
    return FederatedService(
        name=name,
        namespace=space,
        global_host=f"{own}.{domain or draw(st.sampled_from(DOMAINS))}",
        local_host=f"{own}.svc.{draw(st.sampled_from(['cluster.local'] * 3 + ['other.local']))}",
        scope=draw(st.sampled_from(FederationScope)),
        takeover=draw(st.booleans()),
        aliases=draw(st.sampled_from([(), (f"{own}.alias.example", f"{name}.alias.example")])),
        ports=(FederatedPort(80, "http"),) if draw(st.booleans()) else (),
        identities=(f"spiffe://cluster.local/ns/{space}/sa/{name}",),
        capacity=(Capacity(place, Locality("r", "z1"), healthy),) if healthy else (),
        waypoint=draw(st.sampled_from(["", "", f"{space}/gate"])),
        created=draw(_CREATED),
    )


def _import(peer: ObjectKey, service: FederatedService, *, gone: bool = False) -> Change:
    return ImportChange(peer, service.resource_name, None if gone else service)


imports: st.SearchStrategy[Change] = st.builds(
    _import, _PEERS, _federated(), gone=st.sampled_from([False, False, False, True])
)


def _endpoint(
    peer: ObjectKey, cluster: str, host: str, *, name: str, address: bytes, healthy: bool
) -> ImportedWorkloadChange:
    space = host.split(".")[1]
    uid = f"{cluster}//Pod/{space}/{name}"
    return ImportedWorkloadChange(
        peer,
        uid,
        Workload(
            uid=uid,
            name=name,
            namespace=space,
            addresses=(address,),
            network="net1",
            tunnel_protocol=TunnelProtocol.HBONE,
            service_account=name,
            status=WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY,
            cluster_id=cluster,
            services=(ServicePorts(f"{space}/{host}", (Port(80, 8080),)),),
        ),
    )


def _endpoint_of(peer: ObjectKey, cluster: str, host: str) -> st.SearchStrategy[ImportedWorkloadChange]:
    return st.builds(
        lambda name, address, healthy: _endpoint(
            peer, cluster, host, name=name, address=address, healthy=healthy
        ),
        names,
        _ADDRESSES,
        st.booleans(),
    )


_HOSTS = st.builds(
    lambda name, space, domain: f"{name}.{space}.{domain}", names, spaces, st.sampled_from(DOMAINS)
)
_endpoints = st.tuples(_PEERS, _CLUSTERS, _HOSTS).flatmap(lambda of: _endpoint_of(*of))
endpoints: st.SearchStrategy[Change] = st.one_of(
    _endpoints, _endpoints, _endpoints.map(lambda found: ImportedWorkloadChange(found.peer, found.uid, None))
)
takeovers: st.SearchStrategy[Change] = st.builds(
    lambda space, name, found: TakeoverChange(f"{space}/{name}", found),
    spaces,
    names,
    st.sampled_from([None, Takeover(), Takeover(by_rule=True)]),
)
_NOTES = st.sampled_from(
    [
        {},
        {"peering.peerd.io/allow-takeover": "true"},
        {"peering.peerd.io/import-namespaces": "nsaaa"},
        {"gateway.istio.io/trust-domain": "other.local"},
    ]
)


@st.composite
def _way(draw: st.DrawFn, name: str = "", network: str = "") -> ObjectChange:
    """An istio-remote Gateway; *name* and *network* are any where empty, the network perhaps none."""
    values = draw(st.sampled_from([["192.0.2.1"], ["192.0.2.2"], ["192.0.2.1", "192.0.2.2"]]))
    addresses = [{"type": "IPAddress", "value": value} for value in values]
    label = network or draw(st.sampled_from(["net2", "net1", ""]))
    metadata: dict[str, Any] = {
        "namespace": ROOT,
        "name": name or draw(names),
        "creationTimestamp": draw(_CREATED),
        "labels": {"topology.istio.io/network": label} if label else {},
        "annotations": draw(_NOTES),
    }
    spec = {
        "gatewayClassName": "istio-remote",
        "addresses": addresses,
        "listeners": [{"name": "hbone", "port": 15008, "protocol": "HBONE"}],
    }
    return change("Gateway", {"metadata": metadata, "spec": spec, "status": {"addresses": addresses}})


ways: st.SearchStrategy[Change] = _way()


def _info(cluster: str, network: str, segment: str) -> PeerInfo:
    domain = "mesh.acme" if segment == "acme" else "mesh.internal"
    return PeerInfo(
        cluster, network, "cluster.local", f"lineage of {cluster}", segment=segment, segment_domain=domain
    )


_INFOS = st.builds(_info, _CLUSTERS, _NETWORKS, st.sampled_from(["", "", "acme"]))
views: st.SearchStrategy[Change] = st.builds(
    lambda peer, info, freshness, gone: PeerChange(peer, None if gone else PeerView(peer, info, freshness)),
    _PEERS,
    st.one_of(_INFOS, _INFOS, _INFOS, st.none()),
    _FRESHNESS,
    st.sampled_from([False, False, False, True]),
)


@st.composite
def linked(draw: st.DrawFn, name: str) -> list[Change]:
    """A peer that fits together: a way to it, what it is, services of its own domain, endpoints of them."""
    key, info = ObjectKey(ROOT, name), draw(_INFOS)
    told = draw(st.lists(_federated(info.segment_domain, info.network), min_size=1, max_size=3))
    found: list[Change] = [
        draw(_way(name, info.network)),
        PeerChange(key, PeerView(key, info, draw(_FRESHNESS))),
        *(_import(key, service) for service in told),
    ]
    if info.network == "net1":
        found += [draw(_endpoint_of(key, info.cluster, service.global_host)) for service in told]
    return found
