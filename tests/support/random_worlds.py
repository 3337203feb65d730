"""Random worlds, and histories of them: objects and peers come, change and go."""

from typing import Any

from hypothesis import strategies as st

from peerd.model.changes import AllocationChange, Change, IstiodChange, ObjectChange
from peerd.model.federation import Allocation
from peerd.model.generated import Generate, IstiodFlags
from peerd.model.kube.meta import ObjectKey
from peerd.model.mesh import Settings
from tests.support.random_objects import ROOT, TREES, change, names, spaces
from tests.support.random_peers import endpoints, imports, linked, takeovers, views, ways


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
_HOSTS = [
    "h.example.org",
    *(
        f"{name}.{space}.{domain}"
        for space in ("nsaaa", "nsbbb")
        for name in ("n1", "n2")
        for domain in ("mesh.internal", "mesh.acme", "alias.example", "svc.cluster.local")
    ),
    "n1.alias.example",
]
_ALLOCATED: list[Change] = [
    AllocationChange(host, Allocation(bytes((240, 64, 0, number)), b""))
    for number, host in enumerate(_HOSTS, start=1)
]
allocations: st.SearchStrategy[Change] = st.one_of(
    st.sampled_from(_ALLOCATED), st.builds(AllocationChange, st.sampled_from(_HOSTS), st.none())
)
istiods: st.SearchStrategy[Change] = st.sampled_from([True, False]).map(
    lambda safe: IstiodChange(IstiodFlags(safe))
)


def _system(network: str, segment: str) -> Change:
    labels = {"topology.istio.io/network": network} if network else {}
    if segment:
        labels["admin.solo.io/segment"] = segment
    return change("Namespace", {"metadata": {"name": ROOT, "labels": labels}})


def _in_system(tree: dict[str, Any]) -> Change:
    return change("Segment", {**tree, "metadata": {**tree["metadata"], "namespace": ROOT}})


# Where this cluster is and what its segment says: both may change while everything runs.
systems: st.SearchStrategy[Change] = st.builds(
    _system, st.sampled_from(["net1", "net1", ""]), st.sampled_from(["", "acme", "acme", "beta"])
)
segments: st.SearchStrategy[Change] = TREES["Segment"].map(_in_system)

# A Service that peers may see, or that wants them, and a Pod of it that they may reach.
_REACHING = st.sampled_from(
    [
        {"solo.io/service-scope": "global"},
        {"solo.io/service-scope": "segment"},
        {"solo.io/service-scope": "global-only"},
        {"solo.io/service-takeover": "true"},
        {"istio.io/global": "true"},
    ]
)


@st.composite
def _exported(draw: st.DrawFn) -> Change:
    space, name = draw(spaces), draw(names)
    metadata = {
        "namespace": space,
        "name": name,
        "labels": {"app": "web", **draw(_REACHING)},
        "annotations": {"who": "me"},
        "creationTimestamp": draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])),
    }
    port = {"port": 80, "name": "http", "targetPort": draw(st.sampled_from([8080, "web"])), "protocol": "TCP"}
    spec = {"clusterIPs": [f"10.96.{len(space)}.{name[-1]}"], "selector": {"app": "web"}, "ports": [port]}
    return change("Service", {"metadata": metadata, "spec": spec})


@st.composite
def _reachable(draw: st.DrawFn) -> Change:
    metadata = {
        "namespace": draw(spaces),
        "name": draw(names),
        "labels": {"app": "web"},
        "annotations": {"ambient.istio.io/redirection": "enabled"},
    }
    status = {
        "phase": "Running",
        "podIPs": [{"ip": draw(st.sampled_from(["10.0.0.1", "10.0.0.3"]))}],
        "conditions": [{"type": "Ready", "status": draw(st.sampled_from(["True", "True", "False"]))}],
    }
    spec = {"nodeName": "n1", "serviceAccountName": "web"}
    return change("Pod", {"metadata": metadata, "spec": spec, "status": status})


global_services: st.SearchStrategy[Change] = st.one_of(_exported(), _reachable())
peering: st.SearchStrategy[Change] = st.one_of(
    imports, imports, endpoints, ways, views, systems, segments, global_services, takeovers
)
# Puts are drawn more often, or nothing would ever be there.
events: st.SearchStrategy[Change] = st.one_of(
    puts, puts, peering, peering, allocations, istiods, _KINDS.flatmap(_delete)
)
# A cluster that is linked, in a segment or not, with a name or two of its own: what follows meets it.
grounds: st.SearchStrategy[list[Change]] = st.builds(
    lambda system, own, first, second, found: [*_ALLOCATED, system, *own, *first, *second, *found],
    systems,
    st.lists(segments, max_size=2),
    linked("n1"),
    st.one_of(st.just([]), linked("n2")),
    st.lists(global_services, max_size=5),
)
_batches = st.lists(st.lists(events, min_size=4, max_size=16), min_size=1, max_size=5)
histories = st.one_of(_batches, st.builds(lambda ground, rest: [ground, *rest], grounds, _batches))
# Objects alone, many or few.
worlds: st.SearchStrategy[list[Change]] = st.one_of(
    st.lists(puts, max_size=3), st.lists(puts, min_size=15, max_size=50)
)
# Objects and peers.
populated: st.SearchStrategy[list[Change]] = st.builds(
    lambda ground, rest: [*ground, *rest], grounds, st.lists(events, max_size=30)
)
# What is written into the own cluster changes what is derived.
settings_of_worlds = st.sampled_from([Settings(generate=generate) for generate in Generate])
