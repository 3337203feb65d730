"""Random worlds: objects of all kinds over few names, so that they meet; and how to run and compare them."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.model.address import Locality, Port
from peerd.model.changes import (
    AllocationChange,
    Change,
    ImportChange,
    ImportedWorkloadChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.federation import (
    Allocation,
    Capacity,
    FederatedPort,
    FederatedService,
    Freshness,
    PeerInfo,
    PeerView,
    Takeover,
)
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.model.mesh import Settings
from peerd.model.workload import ServicePorts, TunnelProtocol, Workload, WorkloadStatus

ROOT = "istio-system"
SPACES = ("nsaaa", "nsbbb")
NAMES = ("n1", "n2")
APPS = ("web", "db")
NETWORKS = ("net1", "net2")

spaces = st.sampled_from(SPACES)
all_spaces = st.sampled_from((*SPACES, ROOT))
names = st.sampled_from(NAMES)
apps = st.sampled_from(APPS)
times = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
ips = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
maybe_labels = st.sampled_from(
    [
        {},
        {},
        {"istio.io/use-waypoint": "n1"},
        {"istio.io/use-waypoint": "n1"},
        {"istio.io/use-waypoint": "none"},
        {"istio.io/use-waypoint": "n2", "istio.io/use-waypoint-namespace": "nsaaa"},
        {"istio.io/use-waypoint": "n1", "istio.io/use-waypoint-canary": "n2"},
        {"gateway.networking.k8s.io/gateway-name": "n1"},
        {"istio.io/rev": "other"},
        {"team": "x"},
        {"solo.io/service-scope": "global"},
        {"solo.io/service-scope": "global-only"},
        {"istio.io/global": "true"},
    ]
)
ports = st.sampled_from(
    [
        [],
        [{"port": 80, "name": "http", "targetPort": 8080, "protocol": "TCP"}],
        [{"port": 80, "name": "http", "targetPort": "web", "protocol": "TCP"}],
    ]
)


def _meta(
    space: str, name: str, created: str, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}
    if space:
        meta["namespace"] = space
    return {**meta, "labels": labels, "annotations": annotations}


def _metas(
    space: st.SearchStrategy[str] = spaces,
    name: st.SearchStrategy[str] = names,
    annotations: Iterable[dict[str, str]] = ({},),
) -> st.SearchStrategy[dict[str, Any]]:
    labels = st.builds(lambda app, more: {"app": app, **more}, apps, maybe_labels)
    return st.builds(_meta, space, name, times, labels, st.sampled_from(list(annotations)))


_CAPTURED = ({}, {"ambient.istio.io/redirection": "enabled"})

TREES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "Namespace": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, network: {**meta, "labels": {**meta["labels"], **network}},
                _metas(
                    st.just(""),
                    all_spaces,
                    ({}, {"networking.istio.io/traffic-distribution": "PreferClose"}),
                ),
                st.sampled_from([{}, {"topology.istio.io/network": "net1"}]),
            )
        }
    ),
    "Node": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda name, zone: {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
                names,
                st.sampled_from(["", "z1", "z2"]),
            )
        }
    ),
    "Pod": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {
                    "nodeName": names,
                    "serviceAccountName": apps,
                    "containers": st.sampled_from(
                        [[], [{"ports": [{"name": "web", "containerPort": 9090, "protocol": "TCP"}]}]]
                    ),
                }
            ),
            "status": st.fixed_dictionaries(
                {
                    "phase": st.sampled_from(["Running", "Running", "Running", "Pending", "Succeeded"]),
                    "podIPs": st.lists(ips.map(lambda ip: {"ip": ip}), min_size=1, max_size=2),
                    "conditions": st.sampled_from([[], [{"type": "Ready", "status": "True"}]]),
                }
            ),
        }
    ),
    "Service": st.fixed_dictionaries(
        {
            "metadata": _metas(),
            "spec": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"]),
                    "clusterIPs": st.lists(ips, max_size=2),
                    "ports": ports,
                    "selector": st.sampled_from([{}, {"app": "web"}, {"app": "db"}]),
                    "publishNotReadyAddresses": st.booleans(),
                }
            ),
        }
    ),
    "ServiceEntry": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {
                    "hosts": st.lists(
                        st.sampled_from(["h.example.org", "*.example.org", "n1.nsaaa.svc.cluster.local"]),
                        max_size=2,
                        unique=True,
                    ),
                    "addresses": st.sampled_from([[], ["240.0.0.1"], ["10.1.0.0/16"]]),
                    "ports": st.sampled_from([[], [{"number": 80, "name": "web", "protocol": "HTTP"}]]),
                    "resolution": st.sampled_from(["", "STATIC", "DNS", "NONE", "DYNAMIC_DNS"]),
                    "endpoints": st.lists(
                        st.fixed_dictionaries(
                            {"address": ips, "network": st.sampled_from(["", *NETWORKS])},
                            optional={"labels": maybe_labels, "weight": st.just(3)},
                        ),
                        max_size=2,
                    ),
                },
                optional={"workloadSelector": st.just({"labels": {"app": "web"}})},
            ),
        }
    ),
    "WorkloadEntry": st.fixed_dictionaries(
        {
            "metadata": _metas(annotations=_CAPTURED),
            "spec": st.fixed_dictionaries(
                {"address": st.one_of(ips, st.just("vm.example.org")), "labels": maybe_labels},
                optional={"network": st.sampled_from(NETWORKS), "ports": st.just({"http": 81})},
            ),
        }
    ),
    "EndpointSlice": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, service: {**meta, "labels": {"kubernetes.io/service-name": service}},
                _metas(),
                names,
            ),
            "addressType": st.sampled_from(["IPv4", "FQDN"]),
            "endpoints": st.lists(
                st.fixed_dictionaries(
                    {"addresses": st.lists(ips, max_size=2)},
                    optional={
                        "targetRef": st.builds(
                            lambda space, name: {
                                "kind": "Pod",
                                "namespace": space,
                                "name": name,
                                "uid": f"uid-{name}",
                            },
                            spaces,
                            names,
                        )
                    },
                ),
                max_size=2,
            ),
            "ports": st.sampled_from([[], [{"name": "http", "port": 8080, "protocol": "TCP"}]]),
        }
    ),
    "Gateway": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda meta, more: {**meta, "labels": more},
                _metas(
                    all_spaces,
                    annotations=({}, {"ambient.istio.io/waypoint-inbound-binding": "PROXY/15088"}),
                ),
                st.sampled_from(
                    [{}, {"topology.istio.io/network": "net1"}, {"topology.istio.io/network": "net2"}]
                ),
            ),
            "spec": st.fixed_dictionaries(
                {
                    "gatewayClassName": st.sampled_from(
                        ["istio-waypoint", "istio-waypoint", "istio-remote", "istio-eastwest"]
                    ),
                    "addresses": st.sampled_from([[], [{"type": "IPAddress", "value": "192.0.2.1"}]]),
                    "listeners": st.lists(
                        st.fixed_dictionaries(
                            {"port": st.sampled_from([15008, 15088]), "protocol": st.just("HBONE")},
                            optional={
                                "allowedRoutes": st.sampled_from(
                                    [
                                        {"namespaces": {"from": "All"}},
                                        {
                                            "namespaces": {
                                                "from": "Selector",
                                                "selector": {"matchLabels": {"team": "x"}},
                                            }
                                        },
                                    ]
                                )
                            },
                        ),
                        max_size=2,
                    ),
                }
            ),
            "status": st.fixed_dictionaries(
                {
                    "addresses": st.sampled_from(
                        [
                            [],
                            [{"type": "IPAddress", "value": "192.0.2.1"}],
                            [{"type": "IPAddress", "value": "192.0.2.1"}],
                            [{"type": "Hostname", "value": "gw.example.org"}],
                        ]
                    )
                }
            ),
        }
    ),
    "GatewayClass": st.fixed_dictionaries(
        {
            "metadata": st.builds(
                lambda name, traffic: {"name": name, "labels": {"istio.io/waypoint-for": traffic}},
                st.just("istio-waypoint"),
                st.sampled_from(["service", "all", "workload"]),
            )
        }
    ),
    "AuthorizationPolicy": st.fixed_dictionaries(
        {
            "metadata": _metas(all_spaces),
            "spec": st.fixed_dictionaries(
                {"action": st.sampled_from(["ALLOW", "DENY", "AUDIT"])},
                optional={"selector": st.builds(lambda app: {"matchLabels": {"app": app}}, apps)},
            ),
        }
    ),
    "PeerAuthentication": st.fixed_dictionaries(
        {
            "metadata": _metas(all_spaces),
            "spec": st.fixed_dictionaries(
                {"mtls": st.sampled_from([{"mode": "STRICT"}, {"mode": "PERMISSIVE"}, {}])},
                optional={
                    "selector": st.builds(lambda app: {"matchLabels": {"app": app}}, apps),
                    "portLevelMtls": st.sampled_from(
                        [{"80": {"mode": "STRICT"}}, {"80": {"mode": "DISABLE"}}]
                    ),
                },
            ),
        }
    ),
    "ConfigMap": st.fixed_dictionaries(
        {
            "metadata": st.just({"namespace": ROOT, "name": "istio"}),
            "data": st.sampled_from(
                [
                    {},
                    {"mesh": "trustDomain: other.local"},
                    {"mesh": "discoverySelectors: [{matchLabels: {team: x}}]"},
                    {"mesh": "rootNamespace: nsaaa"},
                    {"mesh": "serviceEntryVisibility: {defaultVisibility: NAMESPACE}"},
                ]
            ),
        }
    ),
}


def change(kind: str, tree: dict[str, Any]) -> ObjectChange:
    """An object put, from its JSON tree."""
    found: KubeObject = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
    return ObjectChange(kind, found.key, found)


def _put(kind: str) -> st.SearchStrategy[Change]:
    return TREES[kind].map(lambda tree: change(kind, tree))


def _delete(kind: str) -> st.SearchStrategy[Change]:
    return _put(kind).map(lambda put: ObjectChange(kind, _key(put), None))


def _key(put: Change) -> ObjectKey:
    assert isinstance(put, ObjectChange)
    return put.key


# What others refer to is drawn more often, so that they find it.
_KINDS = st.sampled_from([*sorted(TREES), "Pod", "Pod", "Pod", "Service", "Service", "Gateway", "Gateway"])
puts: st.SearchStrategy[Change] = _KINDS.flatmap(_put)
allocations: st.SearchStrategy[Change] = st.builds(
    AllocationChange,
    st.sampled_from(
        ["h.example.org", "n1.nsaaa.mesh.internal", "n2.nsbbb.mesh.internal", "n1.nsaaa.svc.cluster.local"]
    ),
    st.sampled_from([None, Allocation(b"\xf0\xf0\0\x01", b""), Allocation(b"\xf0\xf0\0\x02", b"")]),
)
_PEERS = st.sampled_from([ObjectKey(ROOT, "n1"), ObjectKey(ROOT, "n2")])


def _federated(space: str, name: str, healthy: int, ports: bool, takeover: bool) -> FederatedService:
    return FederatedService(
        name=name,
        namespace=space,
        global_host=f"{name}.{space}.mesh.internal",
        local_host=f"{name}.{space}.svc.cluster.local",
        takeover=takeover,
        ports=(FederatedPort(80, "http"),) if ports else (),
        identities=(f"spiffe://cluster.local/ns/{space}/sa/{name}",),
        capacity=(Capacity("net2", Locality("r", "z1"), healthy),) if healthy else (),
        created="2026-01-01T00:00:00Z",
    )


def _import(peer: ObjectKey, service: FederatedService, gone: bool) -> Change:
    return ImportChange(peer, service.resource_name, None if gone else service)


imports: st.SearchStrategy[Change] = st.builds(
    _import,
    _PEERS,
    st.builds(_federated, spaces, names, st.integers(0, 3), st.booleans(), st.booleans()),
    st.sampled_from([False, False, False, True]),
)
# Endpoints of a peer that is on our own network where that is net1, at addresses that Pods of ours may have.
imported_workloads: st.SearchStrategy[Change] = st.builds(
    lambda peer, space, name, address, healthy, gone: ImportedWorkloadChange(
        peer,
        f"west//Pod/{space}/{name}",
        None
        if gone
        else Workload(
            uid=f"west//Pod/{space}/{name}",
            name=name,
            namespace=space,
            addresses=(address,),
            network="net1",
            tunnel_protocol=TunnelProtocol.HBONE,
            service_account=name,
            status=WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY,
            cluster_id="west",
            services=(ServicePorts(f"{space}/{name}.{space}.mesh.internal", (Port(80, 8080),)),),
        ),
    ),
    _PEERS,
    spaces,
    names,
    st.sampled_from([bytes((10, 0, 0, 1)), bytes((10, 0, 0, 9))]),
    st.booleans(),
    st.sampled_from([False, False, True]),
)
takeovers: st.SearchStrategy[Change] = st.builds(
    lambda space, name, found: TakeoverChange(f"{space}/{name}", found),
    spaces,
    names,
    st.sampled_from([None, Takeover(), Takeover(by_rule=True)]),
)
# A way into the network that imports are in.
remotes: st.SearchStrategy[Change] = st.builds(
    lambda name, address: change(
        "Gateway",
        {
            "metadata": {"namespace": ROOT, "name": name, "labels": {"topology.istio.io/network": "net2"}},
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": [{"type": "IPAddress", "value": address}],
                "listeners": [{"name": "hbone", "port": 15008, "protocol": "HBONE"}],
            },
            "status": {"addresses": [{"type": "IPAddress", "value": address}]},
        },
    ),
    names,
    st.sampled_from(["192.0.2.1", "192.0.2.2"]),
)
_INFO = PeerInfo("west", "net2", "cluster.local", "lineage")
_FLAT = PeerInfo("west", "net1", "cluster.local", "lineage")
views: st.SearchStrategy[Change] = st.builds(
    lambda peer, info, freshness, gone: PeerChange(peer, None if gone else PeerView(peer, info, freshness)),
    _PEERS,
    st.sampled_from([None, _INFO, _FLAT]),
    st.sampled_from(list(Freshness)),
    st.sampled_from([False, False, True]),
)
# Puts are drawn more often, or nothing would ever be there.
events: st.SearchStrategy[Change] = st.one_of(
    puts,
    puts,
    puts,
    allocations,
    imports,
    imports,
    imported_workloads,
    takeovers,
    remotes,
    views,
    _KINDS.flatmap(_delete),
)
histories = st.lists(st.lists(events, min_size=4, max_size=16), min_size=1, max_size=5)
worlds: st.SearchStrategy[list[Change]] = st.one_of(
    st.lists(puts, max_size=3), st.lists(puts, min_size=15, max_size=50)
)


class Inputs:
    """What has been put and not deleted, in the order of the last put."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, object], Change] = {}

    def note(self, changes: Iterable[Change]) -> None:
        """Take a batch in."""
        for found in changes:
            name: tuple[str, object]
            match found:
                case ObjectChange(kind, key, record):
                    name, gone = (kind, key), record is None
                case ImportChange(peer, host, service):
                    name, gone = ("import", (peer, host)), service is None
                case ImportedWorkloadChange(peer, uid, workload):
                    name, gone = ("workload", (peer, uid)), workload is None
                case TakeoverChange(service, takeover):
                    name, gone = ("takeover", service), takeover is None
                case PeerChange(peer, view):
                    name, gone = ("view", peer), view is None
                case AllocationChange(host, allocation):
                    name, gone = ("allocation", host), allocation is None
            self._held.pop(name, None)
            if not gone:
                self._held[name] = found

    def puts(self) -> list[Change]:
        """A batch that makes this from nothing."""
        return list(self._held.values())

    def deletes(self) -> list[Change]:
        """A batch that deletes all of it."""
        return [_gone(found) for found in self._held.values()]


def _gone(found: Change) -> Change:
    match found:
        case ObjectChange(kind, key, _):
            return ObjectChange(kind, key, None)
        case ImportChange(peer, host, _):
            return ImportChange(peer, host, None)
        case ImportedWorkloadChange(peer, uid, _):
            return ImportedWorkloadChange(peer, uid, None)
        case TakeoverChange(service, _):
            return TakeoverChange(service, None)
        case PeerChange(peer, _):
            return PeerChange(peer, None)
        case AllocationChange(host, _):
            return AllocationChange(host, None)


PARTS = (
    "addresses", "policies", "exports", "flat_exports", "segment_flat_exports", "takeovers", "peers",
    "wanted_hosts", "diagnostics",
)  # fmt: skip


class Seen:
    """What a follower of commits holds; it refuses a change that changes nothing."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        self.info: object = None
        self.network = ""

    def take(self, commit: Commit) -> None:
        """Apply a commit."""
        for part, held in self.parts.items():
            named = getattr(commit, part)
            assert len({name for name, _ in named}) == len(named), "a name twice in one revision"
            for name, record in named:
                assert held.get(name) != record, f"{part}: {name} is sent again, unchanged"
                if record is None:
                    del held[name]
                else:
                    held[name] = record
        if commit.info is not None:
            assert commit.info != self.info
            self.info = commit.info
        self.network = commit.network

    def everything(self) -> tuple[object, ...]:
        """For comparing two of them."""
        return self.parts, self.info, self.network


def finish(world: World, should_yield: Callable[[], bool] = lambda: False) -> Commit:
    """Run the open batch to its end and commit it."""
    while not world.work(should_yield):
        pass
    assert world.engine.faults == {}, "no transformation may raise, whatever comes in"
    return world.commit()


def from_scratch(changes: Iterable[Change], settings: Settings | None = None) -> Seen:
    """What one batch on an empty world shows."""
    world, seen = World(settings or Settings()), Seen()
    world.apply(changes)
    seen.take(finish(world))
    return seen
