"""Two clusters under random histories: what is served follows from what there is, not from how it came."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.encode.address import encode_address
from peerd.model.address import Locality
from peerd.model.changes import Change, ImportChange, ObjectChange, TakeoverChange
from peerd.model.federation import Capacity, FederatedPort, FederatedService, FederationScope, Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.model.service import Service
from tests.support.clusters import Cluster, gone, namespace, pod, put, remote_gateway, service, system

LABELS: tuple[dict[str, str], ...] = (
    {},
    {"solo.io/service-scope": "global"},
    {"solo.io/service-scope": "global-only"},
    {"solo.io/service-scope": "segment"},
    {"solo.io/service-scope": "cluster"},
    {"istio.io/global": "true"},
    {"solo.io/service-takeover": "true"},
)
GATEWAYS: tuple[tuple[str, ...], ...] = (("198.51.100.20",), ("198.51.100.20", "198.51.100.21"), ())

_services = st.builds(
    service,
    st.sampled_from(["a", "b"]),
    st.sampled_from(LABELS),
    ports=st.sampled_from([(80,), (80, 90)]),
    created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
)
_pods = st.builds(
    lambda number, app, ready, ambient: pod(
        f"p{number}", app, f"10.0.0.{number + 1}", ready=ready, ambient=ambient
    ),
    st.integers(0, 3),
    st.sampled_from(["a", "b"]),
    st.booleans(),
    st.booleans(),
)
_gone = st.one_of(
    st.builds(lambda name: gone("Service", "shop", name), st.sampled_from(["a", "b"])),
    st.builds(lambda number: gone("Pod", "shop", f"p{number}"), st.integers(0, 3)),
)
_namespaces = st.builds(lambda labels: namespace("shop", labels), st.sampled_from(LABELS))
_gateways = st.builds(
    lambda addresses, allowed: remote_gateway(
        "peer", "west", *addresses, annotations={"peering.peerd.io/allow-takeover": "true"} if allowed else {}
    ),
    st.sampled_from(GATEWAYS),
    st.booleans(),
)
_objects = st.one_of(_services, _pods, _gone, _namespaces)
# Which names a segment has may change, and so may who is in it.
_segments = st.builds(
    lambda domain, patterns: put(
        "Segment",
        {
            "metadata": {"name": "acme", "namespace": "istio-system"},
            "spec": {"domain": domain, "aliases": [{"pattern": pattern} for pattern in patterns]},
        },
    ),
    st.sampled_from(["mesh.acme", "mesh.corp", ""]),
    st.lists(st.sampled_from(["{service}.acme.example", "www.acme.example"]), max_size=2, unique=True),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("east"), st.one_of(_objects, _gateways)),
        st.tuples(st.just("west"), _objects),
        st.tuples(st.sampled_from(["east", "west"]), _segments),
        st.tuples(st.sampled_from(["east joins", "west joins"]), st.sampled_from(["", "acme", "acme"])),
        st.tuples(st.just("sync"), st.sampled_from(list(Freshness))),
    ),
    max_size=18,
)


class Kept:
    """The objects that a history leaves."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, Any], Change] = {}

    def note(self, change: Any) -> None:
        if change.object is None:
            self.objects.pop((change.kind, change.key), None)
        else:
            self.objects[change.kind, change.key] = change


def _east(network: str, found: Change) -> Change:
    """A Gateway of the history says the network that west has."""
    assert isinstance(found, ObjectChange)
    if found.kind != "Gateway" or found.object is None:
        return found
    labels = {**found.object.metadata.labels, "topology.istio.io/network": network}
    meta = msgspec.structs.replace(found.object.metadata, labels=labels)
    return ObjectChange(found.kind, found.key, msgspec.structs.replace(found.object, metadata=meta))


def _addresses(cluster: Cluster) -> dict[str, Any]:
    """Of each global name its addresses."""
    return {
        name: record.addresses
        for name, record in cluster.addresses.items()
        if isinstance(record, Service) and not record.hostname.endswith(".svc.cluster.local")
    }


@settings(max_examples=60)
@given(_steps, st.sampled_from(list(Freshness)), st.sampled_from(["west", "east"]))
def test_any_history_of_two_clusters_gives_what_a_fresh_start_gives(
    steps: list[tuple[str, Any]], freshness: Freshness, network: str
) -> None:
    """`Cluster` holds all that is served against ztunnel's rules after every step; nor does an address move.

    West is on a network of its own or on east's; both join and leave a segment whose domain and aliases
    change. What a fresh start is given besides is what was recorded.
    """
    networks = {"east": "east", "west": network}
    east, west = Cluster("east", [system("east")]), Cluster("west", [system(network)])
    places: dict[str, Change] = {name: system(found) for name, found in networks.items()}
    kept = {"east": Kept(), "west": Kept()}
    for where, what in steps:
        before = {"east": _addresses(east), "west": _addresses(west)}
        if where == "sync":
            east.pull("peer", west, what)
        elif where.endswith(" joins"):
            name = where.removesuffix(" joins")
            places[name] = system(networks[name], {"admin.solo.io/segment": what} if what else {})
            {"east": east, "west": west}[name].apply([places[name]])
        else:
            change = _east(network, what) if where == "east" else what
            {"east": east, "west": west}[where].apply([change])
            kept[where].note(change)
        for name, cluster in (("east", east), ("west", west)):
            now = _addresses(cluster)
            assert {host: now[host] for host in now.keys() & before[name].keys()} == {
                host: before[name][host] for host in now.keys() & before[name].keys()
            }
    east.pull("peer", west, freshness)
    fresh_west = Cluster("west", [*reversed(kept["west"].objects.values()), places["west"]])
    fresh_east = Cluster("east", [TakeoverChange(name, found) for name, found in east.takeovers.items()])
    fresh_east.apply([places["east"]])
    fresh_east.pull("peer", fresh_west, freshness)
    fresh_east.apply([*reversed(kept["east"].objects.values())])
    assert fresh_west.addresses == west.addresses
    assert fresh_west.exports == west.exports
    assert fresh_west.flat_exports == west.flat_exports
    assert fresh_west.segment_flat_exports == west.segment_flat_exports
    assert fresh_east.addresses == east.addresses
    assert fresh_east.exports == east.exports
    assert fresh_east.diagnostics == east.diagnostics
    assert fresh_east.wanted == east.wanted
    assert fresh_east.takeovers == east.takeovers


def _linked(objects: list[Change], *, network: str = "west") -> Cluster:
    gateway = remote_gateway("peer", network, "198.51.100.20")
    return Cluster("east", [system("east"), gateway, *objects])


def _encoded(cluster: Cluster) -> dict[str, Any]:
    return {name: encode_address(record, name) for name, record in cluster.addresses.items()}


@settings(max_examples=25)
@given(st.lists(_objects, max_size=8), st.lists(_pods, max_size=4), st.sampled_from(["west", "east"]))
def test_a_cluster_that_exports_nothing_adds_only_its_gateways(
    objects: list[Change], theirs: list[Change], network: str
) -> None:
    alone = Cluster("east", [system("east"), *objects])
    linked = _linked(objects)
    linked.pull("peer", Cluster("west", [system("west"), service("a"), *theirs]))
    added = linked.addresses.keys() ^ alone.addresses.keys()
    assert all(name.startswith("NetworkGateway/") for name in added)
    assert {name: found for name, found in _encoded(linked).items() if name not in added} == _encoded(alone)


@settings(max_examples=25)
@given(st.lists(_pods, max_size=6), st.sampled_from(LABELS), st.sampled_from(["west", "east"]))
def test_labels_off_again_restore_the_bytes_and_on_again_the_addresses(
    objects: list[Change], labels: dict[str, str], network: str
) -> None:
    """Addresses are held for nobody here, as after their hold time (peerd/publish/allocations.py)."""
    west = Cluster("west", [system(network), service("a", {"solo.io/service-scope": "global"}), *_two_pods()])
    east = _linked([service("a"), service("b"), *objects], network=network)
    west.apply([service("a")])
    east.pull("peer", west)
    before, exported = _encoded(east), dict(east.exports)
    seen = []
    for _ in range(2):
        west.apply([service("a", {"solo.io/service-scope": "global"})])
        east.apply([service("a", labels)])
        east.pull("peer", west)
        seen.append(_addresses(east))
        west.apply([service("a")])
        east.apply([service("a")])
        east.pull("peer", west)
        assert _encoded(east) == before
        assert east.exports == exported
    assert seen[0] == seen[1]
    assert "shop/a.shop.mesh.internal" in seen[0]


def _two_pods() -> list[Change]:
    return [pod("w0", "a", "10.9.0.1"), pod("w1", "a", "10.9.0.2", ready=False)]


_hosts = st.sampled_from(
    [
        "a.shop.mesh.internal",
        "b.shop.mesh.internal",
        "new.shop.mesh.internal",
        "a.shop.svc.cluster.local",
        "b.shop.svc.cluster.local",
        "kubernetes.default.svc.cluster.local",
        "istiod.istio-system.mesh.internal",
        "www.example.org",
    ]
)
_words_of_a_liar = st.builds(
    lambda name, namespace, host, local, takeover, aliases, identity, network: FederatedService(
        name=name,
        namespace=namespace,
        global_host=host,
        local_host=local,
        scope=FederationScope.GLOBAL,
        takeover=takeover,
        aliases=tuple(aliases),
        ports=(FederatedPort(80),),
        identities=(identity,),
        capacity=(Capacity(network, Locality(), 3),),
        created="2020-01-01T00:00:00Z",
    ),
    st.sampled_from(["a", "b", "new", "kubernetes", "istiod"]),
    st.sampled_from(["shop", "default", "istio-system"]),
    _hosts,
    _hosts,
    st.booleans(),
    st.lists(_hosts, max_size=2, unique=True),
    st.sampled_from(["spiffe://cluster.local/ns/shop/sa/a", "spiffe://other/ns/shop/sa/a", "nonsense"]),
    st.sampled_from(["west", "east", ""]),
)


@settings(max_examples=80)
@given(st.lists(_words_of_a_liar, min_size=1, max_size=5), st.lists(_pods, max_size=3))
def test_no_import_changes_a_name_it_may_not(told: list[FederatedService], pods: list[Change]) -> None:
    """Whatever a peer says, names that nobody here gave away stay what they are, byte for byte (D23).

    The importer would refuse most of it; derivation does not rely on that.
    """
    east = _linked([service("a"), service("b", {"solo.io/service-scope": "global"}), *pods])
    east.pull("peer", Cluster("west", [system("west")]))
    before = _encoded(east)
    key = ObjectKey("istio-system", "peer")
    east.apply([ImportChange(key, found.resource_name, found) for found in told])
    now = _encoded(east)
    shared = "shop/b.shop.mesh.internal"  # we export it: others may serve it with us
    assert {name: now[name] for name in before if name != shared} == {
        name: found for name, found in before.items() if name != shared
    }
    for name in now.keys() - before.keys():
        host = name.partition("/")[2]
        assert name.startswith(("autogen.west.shop.", "autogen.west.default.")) or (
            host.endswith(".mesh.internal") and not host.endswith(".istio-system.mesh.internal")
        )
