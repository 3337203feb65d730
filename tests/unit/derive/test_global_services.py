"""Global services between two clusters: names, endpoints, takeover, routing, staleness, conflicts."""

from typing import Any

import pytest

from peerd.model.address import NetworkAddress
from peerd.model.changes import Change, ImportChange, ObjectChange, PeerChange
from peerd.model.federation import FederationScope, Freshness
from peerd.model.kube.meta import ObjectKey
from peerd.model.service import LoadBalancing, Mode, Scope
from peerd.model.workload import TunnelProtocol, Workload
from tests.support.clusters import (
    Cluster,
    gone,
    namespace,
    node,
    pod,
    put,
    remote_gateway,
    service,
    system,
)

GLOBAL = {"solo.io/service-scope": "global"}
ONLY = {"solo.io/service-scope": "global-only"}
TAKEOVER = {"solo.io/service-takeover": "true"}
OSS = {"istio.io/global": "true"}
NAME = "shop/reviews.shop.mesh.internal"
LOCAL = "shop/reviews.shop.svc.cluster.local"
SAN = "spiffe://cluster.local/ns/shop/sa/reviews"
PREFER_NETWORK = LoadBalancing((Scope.NETWORK,), Mode.FAILOVER)


def west(*more: Change, labels: dict[str, str] = GLOBAL, pods: int = 2, **fields: Any) -> Cluster:
    """West with Service reviews and so many ready Pods."""
    endpoints = [pod(f"reviews-{i}", "reviews", f"10.5.0.{i + 1}") for i in range(pods)]
    return Cluster("west", [system("west"), service("reviews", labels, **fields), *endpoints, *more])


def east(*more: Change, addresses: tuple[str, ...] = ("198.51.100.20",), **gateway: Any) -> Cluster:
    """East, whose istio-remote Gateway leads to west."""
    return Cluster("east", [system("east"), remote_gateway("west", "west", *addresses, **gateway), *more])


def linked(to: Cluster, source: Cluster, freshness: Freshness = Freshness.FRESH) -> Cluster:
    to.pull("west", source, freshness)
    return to


def remote(cluster: Cluster, name: str = NAME) -> list[Workload]:
    return [found for found in cluster.workloads_of(name) if found.network != cluster.network]


# --- the exporting cluster ---


def test_an_export_is_a_summary_of_healthy_ambient_endpoints_by_locality() -> None:
    """Capacity counts the ready ones, identities all that may answer (decision D27)."""
    cluster = west(
        node("n1", "us", "us-1"),
        node("n2", "us", "us-2"),
        pod("a", "reviews", "10.5.1.1", node="n1"),
        pod("b", "reviews", "10.5.1.2", node="n1"),
        pod("c", "reviews", "10.5.1.3", node="n2"),
        pod("unready", "reviews", "10.5.1.4", node="n2", ready=False, account="other"),
        pod("outside", "reviews", "10.5.1.5", node="n2", ambient=False, account="nobody"),
        pods=0,
        ports=(80, 443),
        created="2026-02-03T00:00:00Z",
    )
    found = cluster.exports["shop/reviews"]
    assert (found.global_host, found.local_host) == (
        "reviews.shop.mesh.internal",
        "reviews.shop.svc.cluster.local",
    )
    assert [(c.network, c.locality.zone, c.healthy) for c in found.capacity] == [
        ("west", "us-1", 2),
        ("west", "us-2", 1),
    ]
    assert found.identities == ("spiffe://cluster.local/ns/shop/sa/other", SAN)
    assert [port.number for port in found.ports] == [80, 443]
    assert (found.scope, found.takeover, found.created) == (
        FederationScope.GLOBAL,
        False,
        "2026-02-03T00:00:00Z",
    )
    (told,) = cluster.told("Service/shop/reviews")
    assert told.startswith("1 of its endpoints are outside ambient")


def test_a_replaced_pod_of_the_same_place_and_account_changes_no_export() -> None:
    cluster = west()
    before = dict(cluster.exports)
    cluster.world.apply([gone("Pod", "shop", "reviews-0"), pod("reviews-9", "reviews", "10.5.0.9")])
    assert cluster.world.work()
    assert cluster.world.commit().exports == ()
    assert before == cluster.exports


def test_one_changed_pod_costs_the_same_among_ten_as_among_five_hundred() -> None:
    """Sums, not recounts: the number of derivations does not grow (decision D3)."""
    runs = []
    for count in (10, 500):
        cluster = west(*[pod(f"p{i}", "reviews", f"10.6.{i // 250}.{i % 250 + 1}") for i in range(count)])
        before = cluster.world.transformations
        cluster.apply([pod("p1", "reviews", "10.6.0.2", ready=False)])
        runs.append(cluster.world.transformations - before)
        assert sum(c.healthy for c in cluster.exports["shop/reviews"].capacity) == count + 1
    assert runs[0] == runs[1]


def test_the_waypoints_identity_is_exported_with_the_service() -> None:
    """Behind a waypoint it is the waypoint that answers (istio 61609)."""
    waypoint = put(
        "Gateway",
        {
            "metadata": {"name": "wp", "namespace": "shop"},
            "spec": {"gatewayClassName": "istio-waypoint"},
            "status": {"addresses": [{"type": "Hostname", "value": "wp.shop.svc.cluster.local"}]},
        },
    )
    cluster = west(
        waypoint,
        service("wp", ports=(15008,)),
        pod("wp-1", "wp", "10.5.0.77"),
        labels={**GLOBAL, "istio.io/use-waypoint": "wp"},
    )
    found = cluster.exports["shop/reviews"]
    assert found.identities == (SAN, "spiffe://cluster.local/ns/shop/sa/wp")
    assert found.waypoint == "shop/wp"


def test_services_of_the_system_namespace_are_never_exported() -> None:
    cluster = Cluster("west", [system("west"), service("istiod", GLOBAL, namespace="istio-system")])
    assert cluster.exports == {}


def test_the_exporting_cluster_serves_the_global_name_itself() -> None:
    """The receiving ztunnel resolves the authority by host name (measured.md §5)."""
    cluster = west()
    found = cluster.service(NAME)
    assert [address.network for address in found.addresses] == ["west", "west"]
    assert found.canonical
    assert found.subject_alt_names == ()
    assert [(port.service_port, port.target_port) for port in found.ports] == [(80, 8080)]
    members = cluster.workloads_of(NAME)
    assert [member.name for member in members] == ["reviews-0", "reviews-1"]
    by_service = {entry.service: entry.ports for entry in members[0].services}
    assert by_service[NAME] == by_service[LOCAL]


def test_a_name_is_not_served_before_its_address_is_recorded() -> None:
    cluster = Cluster("west")
    cluster.apply(
        [system("west"), service("reviews", GLOBAL), pod("a", "reviews", "10.5.0.1")], allocate=False
    )
    assert cluster.wanted == {"reviews.shop.mesh.internal": "global"}
    assert NAME not in cluster.addresses
    assert cluster.workloads_of(NAME) == []
    cluster.apply([])
    assert cluster.service(NAME).addresses
    assert len(cluster.workloads_of(NAME)) == 1


def test_labels_off_again_restore_every_byte() -> None:
    cluster = west(labels={})
    before = dict(cluster.addresses)
    cluster.apply([service("reviews", GLOBAL)])
    assert NAME in cluster.addresses
    cluster.apply([service("reviews", {})])
    assert cluster.addresses == before
    assert cluster.exports == cluster.wanted == {}


def test_a_namespace_label_makes_its_services_global_and_a_service_opts_out() -> None:
    cluster = Cluster(
        "west",
        [
            system("west"),
            namespace("shop", GLOBAL),
            service("a"),
            service("b", {"solo.io/service-scope": "cluster"}),
        ],
    )
    assert set(cluster.exports) == {"shop/a"}


@pytest.mark.parametrize("place", ["Service/shop/reviews", "Namespace/shop"])
def test_an_unknown_scope_is_told_on_its_object(place: str) -> None:
    wrong = {"solo.io/service-scope": "galaxy"}
    on_service = place.startswith("Service")
    cluster = Cluster(
        "west",
        [
            system("west"),
            namespace("shop", {} if on_service else wrong),
            service("reviews", wrong if on_service else {}),
        ],
    )
    assert cluster.told(place) == ["unknown scope 'galaxy'"]
    assert cluster.exports == {}


# --- the importing cluster ---


def test_a_name_without_local_service_or_namespace_is_served_with_all_that_double_hbone_needs() -> None:
    """Row 8, istio 57395: VIP of our network, SANs, remote workload, gateway workload."""
    cluster = linked(
        east(), west(node("n1", "us", "us-1"), pod("x", "reviews", "10.5.0.50", node="n1"), pods=0)
    )
    found = cluster.service(NAME)
    assert {address.network for address in found.addresses} == {"east"}
    assert found.subject_alt_names == (SAN,)
    assert found.load_balancing == PREFER_NETWORK
    (workload,) = cluster.workloads_of(NAME)
    assert workload.uid.startswith("autogen.west.shop.reviews.")
    assert (workload.addresses, workload.network, workload.cluster_id) == ((), "west", "west")
    assert workload.tunnel_protocol is TunnelProtocol.HBONE
    assert workload.locality is not None
    assert workload.locality.zone == "us-1"
    assert workload.capacity == 1
    assert workload.network_gateway is not None
    assert workload.network_gateway.destination == NetworkAddress("west", b"\xc6\x33\x64\x14")
    (way,) = [record for name, record in cluster.addresses.items() if name.startswith("NetworkGateway/")]
    assert isinstance(way, Workload)
    assert (way.network, way.service_account, way.namespace) == ("west", "eastwest", "istio-system")
    assert LOCAL not in cluster.addresses


def test_local_and_remote_endpoints_are_behind_one_name() -> None:
    cluster = linked(east(service("reviews", GLOBAL), pod("own", "reviews", "10.4.0.1")), west())
    assert sorted((w.network, w.capacity) for w in cluster.workloads_of(NAME)) == [
        ("east", None),
        ("west", 2),
    ]
    assert cluster.service(NAME).subject_alt_names == (SAN,)
    assert cluster.service(LOCAL).subject_alt_names == ()
    assert [w.name for w in cluster.workloads_of(LOCAL)] == ["own"]


def test_an_unlabelled_cluster_reaches_the_name_and_adds_no_endpoints() -> None:
    cluster = linked(east(service("reviews"), pod("own", "reviews", "10.4.0.1")), west())
    assert [w.network for w in cluster.workloads_of(NAME)] == ["west"]
    assert cluster.exports == {}


def test_scaling_changes_one_workload_and_nothing_else() -> None:
    cluster, source = east(), west()
    linked(cluster, source)
    source.apply([pod("more", "reviews", "10.5.0.60")])
    linked(cluster, source)
    (workload,) = remote(cluster)
    assert workload.capacity == 3
    assert cluster.changed == {workload.uid}


def test_no_healthy_endpoint_is_no_workload_and_the_name_stays() -> None:
    cluster = linked(east(), west(pod("r", "reviews", "10.5.0.7", ready=False), pods=0))
    assert cluster.workloads_of(NAME) == []
    assert cluster.service(NAME).subject_alt_names == (SAN,)


def test_capacity_is_split_over_all_gateways_of_the_peer() -> None:
    """istio 56960: istiod uses the first one only."""
    addresses = ("198.51.100.20", "198.51.100.21", "198.51.100.22")
    cluster = linked(east(addresses=addresses), west(pods=5))
    assert sorted(w.capacity or 0 for w in remote(cluster)) == [1, 2, 2]
    assert len({w.network_gateway for w in remote(cluster)}) == 3
    few = linked(east(addresses=addresses), west(pods=1))
    assert [w.capacity for w in remote(few)] == [1, 1, 1]


def test_each_locality_is_a_workload_of_its_own_and_the_gateways_labels_fill_gaps() -> None:
    """istio 56355: weights stay right with several zones."""
    source = west(node("n1", "us", "us-1"), pod("a", "reviews", "10.5.0.8", node="n1"), pods=2)
    labels = {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-9"}
    cluster = linked(east(labels=labels), source)
    found = sorted((w.locality.region, w.locality.zone, w.capacity) for w in remote(cluster) if w.locality)
    assert found == [("eu", "eu-9", 2), ("us", "us-1", 1)]


def test_withdrawal_takes_name_workloads_and_want_away() -> None:
    cluster, source = east(), west()
    before = dict(cluster.addresses)
    linked(cluster, source)
    source.apply([gone("Service", "shop", "reviews")])
    linked(cluster, source)
    assert cluster.addresses == before
    assert cluster.wanted == {}


def test_an_unlinked_peer_is_gone_with_all_it_brought() -> None:
    cluster = linked(east(), west())
    cluster.apply([gone("Gateway", "istio-system", "west")])
    assert set(cluster.addresses) == set()


def test_nothing_imported_is_exported_again() -> None:
    """No transit: attribution is by connection, only own services are told on."""
    cluster = linked(east(), west())
    assert cluster.exports == {}


def test_without_a_way_into_the_network_there_is_a_diagnostic_and_no_workload() -> None:
    cluster = Cluster("east", [system("east"), remote_gateway("west", "west")])
    source = west()
    assert source.info is not None
    linked(cluster, source)
    assert remote(cluster) == []
    (told,) = [text for text in cluster.told("Gateway/istio-system/west") if "no way into" in text]
    assert "network 'west' of cluster west" in told


def test_a_peer_of_another_trust_domain_is_told_on_its_gateway() -> None:
    """OSS ztunnel refuses an inner tunnel from another trust domain (decision D29): that is said."""
    source = Cluster(
        "west",
        [system("west"), service("reviews", GLOBAL), pod("a", "reviews", "10.5.0.1")],
        trust_domain="west.local",
    )
    cluster = linked(east(annotations={"gateway.istio.io/trust-domain": "west.local"}), source)
    assert cluster.service(NAME).subject_alt_names == ("spiffe://west.local/ns/shop/sa/reviews",)
    (told,) = cluster.told("Gateway/istio-system/west")
    assert "cluster west has trust domain west.local, we cluster.local" in told


# --- takeover ---


def test_a_service_that_asks_takes_remote_endpoints_under_its_local_name() -> None:
    cluster = linked(
        east(service("reviews", {**GLOBAL, **TAKEOVER}), pod("own", "reviews", "10.4.0.1")), west()
    )
    assert sorted(w.network for w in cluster.workloads_of(LOCAL)) == ["east", "west"]
    found = cluster.service(LOCAL)
    assert found.subject_alt_names == (SAN,)
    assert found.load_balancing == PREFER_NETWORK
    assert found.addresses[0].key().startswith("east/10.96.")


def test_takeover_by_the_oss_label_leaves_distribution_unset() -> None:
    """As istiod (decision D26)."""
    cluster = linked(east(service("reviews", OSS)), west(labels=OSS))
    assert cluster.service(LOCAL).load_balancing is None
    assert cluster.service(NAME).load_balancing == PREFER_NETWORK
    assert len(remote(cluster, LOCAL)) == 1


@pytest.mark.parametrize("labels", [GLOBAL, {}, {"solo.io/service-scope": "cluster"}])
def test_the_exporters_wish_alone_changes_no_name_of_ours(labels: dict[str, str]) -> None:
    """Decision D23: an import cannot hijack."""
    cluster = linked(east(service("reviews", labels)), west(labels=ONLY))
    assert cluster.service(LOCAL).subject_alt_names == ()
    assert cluster.workloads_of(LOCAL) == []


def test_a_namespace_that_asks_gets_the_name_with_a_vip_of_its_own() -> None:
    """Also where no Service of that name exists: never a freed cluster IP."""
    cluster = linked(east(namespace("shop", TAKEOVER)), west(labels=ONLY))
    found = cluster.service(LOCAL)
    assert found.addresses != cluster.service(NAME).addresses
    assert found.addresses[0].address[0] == 240
    assert found.subject_alt_names == (SAN,)
    assert len(remote(cluster, LOCAL)) == 1


def test_the_gateways_annotation_allows_what_the_exporter_wants() -> None:
    allowed = {"peering.peerd.io/allow-takeover": "true"}
    assert LOCAL in linked(east(annotations=allowed), west(labels=ONLY)).addresses
    assert LOCAL not in linked(east(annotations=allowed), west(labels=GLOBAL)).addresses
    opted_out = east(service("reviews", {"solo.io/service-scope": "cluster"}), annotations=allowed)
    assert linked(opted_out, west(labels=ONLY)).service(LOCAL).subject_alt_names == ()


def test_a_name_of_another_cluster_domain_is_not_taken_over_and_told() -> None:
    source = Cluster("west", [system("west"), service("reviews", ONLY)], domain="west.local")
    cluster = linked(east(service("reviews", TAKEOVER)), source)
    assert cluster.service(LOCAL).subject_alt_names == ()
    assert any("another cluster domain" in text for text in cluster.told("Service/shop/reviews"))


def test_a_users_service_entry_of_that_name_stays_what_it_is() -> None:
    entries = [
        put(
            "ServiceEntry",
            {
                "metadata": {"name": f"mine-{number}", "namespace": "shop"},
                "spec": {
                    "hosts": [name.partition("/")[2]],
                    "addresses": [f"192.0.2.{number}"],
                    "resolution": "STATIC",
                    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                },
            },
        )
        for number, name in enumerate((NAME, LOCAL))
    ]
    cluster = east(*entries, annotations={"peering.peerd.io/allow-takeover": "true"})
    before = dict(cluster.addresses)
    assert linked(cluster, west(labels=ONLY)).addresses == before
    assert cluster.wanted == {}


# --- routing ---


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("PreferNetwork", PREFER_NETWORK),
        ("PreferClose", LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE), Mode.FAILOVER)),
        ("PreferRegion", LoadBalancing((Scope.REGION,), Mode.FAILOVER)),
        ("Any", None),
        ("", PREFER_NETWORK),
        ("Nonsense", PREFER_NETWORK),
    ],
)
def test_the_users_word_ranks_the_global_name_in_both_clusters(
    word: str, expected: LoadBalancing | None
) -> None:
    annotations = {"networking.istio.io/traffic-distribution": word} if word else {}
    source = west(annotations=annotations)
    assert source.service(NAME).load_balancing == expected
    assert linked(east(), source).service(NAME).load_balancing == expected
    assert any("unknown 'Nonsense'" in text for text in source.told("Service/shop/reviews")) == (
        word == "Nonsense"
    )


def test_the_field_wins_over_the_annotation() -> None:
    annotations = {"networking.istio.io/traffic-distribution": "Any"}
    source = west(annotations=annotations, trafficDistribution="PreferClose")
    assert source.exports["shop/reviews"].distribution == "PreferClose"


def test_internal_traffic_policy_local_holds_for_the_global_name_of_that_cluster() -> None:
    source = west(internalTrafficPolicy="Local")
    strict = LoadBalancing((Scope.NODE,), Mode.STRICT)
    assert source.service(NAME).load_balancing == strict
    assert linked(east(), source).service(NAME).load_balancing == PREFER_NETWORK


# --- staleness (decision D21) ---


def test_a_stale_peer_alone_counts_fully() -> None:
    (workload,) = remote(linked(east(), west(pods=30), Freshness.STALE))
    assert workload.capacity == 30


@pytest.mark.parametrize(("pods", "counts"), [(30, 3), (5, 1)])
def test_a_stale_peer_counts_a_tenth_beside_fresh_endpoints(pods: int, counts: int) -> None:
    cluster = east(service("reviews", GLOBAL), pod("own", "reviews", "10.4.0.1"))
    linked(cluster, west(pods=pods), Freshness.STALE)
    (workload,) = remote(cluster)
    assert workload.capacity == counts
    cluster.apply([pod("own", "reviews", "10.4.0.1", ready=False)])
    (workload,) = remote(cluster)
    assert workload.capacity == pods
    linked(cluster, west(pods=pods), Freshness.FRESH)
    (workload,) = remote(cluster)
    assert workload.capacity == pods


def test_an_expired_peer_is_withdrawn_and_comes_back_whole() -> None:
    cluster, source = east(), west()
    linked(cluster, source)
    before = dict(cluster.addresses)
    linked(cluster, source, Freshness.EXPIRED)
    assert NAME not in cluster.addresses
    assert not [name for name in cluster.addresses if name.startswith("autogen.")]
    linked(cluster, source)
    assert cluster.addresses == before


def third(*more: Change) -> Cluster:
    """North, with the same service as west."""
    endpoints = [pod(f"n{i}", "reviews", f"10.7.0.{i + 1}", account="northern") for i in range(4)]
    newer = service("reviews", GLOBAL, ports=(80, 90), created="2026-05-01T00:00:00Z")
    return Cluster("north", [system("north"), newer, *endpoints, *more])


def three(*, west_first: bool = True) -> Cluster:
    cluster = Cluster(
        "east",
        [
            system("east"),
            remote_gateway("west", "west", "198.51.100.20"),
            remote_gateway("north", "north", "198.51.100.30"),
        ],
    )
    peers = [("west", west()), ("north", third())]
    for gateway, peer in peers if west_first else peers[::-1]:
        cluster.pull(gateway, peer)
    return cluster


def test_two_peers_stand_behind_one_name_in_any_order_of_arrival() -> None:
    cluster = three()
    assert sorted((w.network, w.capacity) for w in remote(cluster)) == [("north", 4), ("west", 2)]
    assert cluster.service(NAME).subject_alt_names == ("spiffe://cluster.local/ns/shop/sa/northern", SAN)
    assert cluster.addresses == three(west_first=False).addresses


def test_a_stale_peer_counts_a_tenth_beside_a_fresh_peer() -> None:
    cluster = three()
    cluster.pull(
        "north", third(*[pod(f"m{i}", "reviews", f"10.7.1.{i + 1}") for i in range(26)]), Freshness.STALE
    )
    assert sorted((w.network, w.capacity) for w in remote(cluster)) == [("north", 3), ("west", 2)]


# --- conflicts (decision D32) ---


def test_the_oldest_definition_wins_and_the_owner_is_told() -> None:
    newer = service("reviews", GLOBAL, ports=(80, 90), created="2026-05-01T00:00:00Z")
    cluster = linked(east(newer, pod("own", "reviews", "10.4.0.1")), west())
    assert [port.service_port for port in cluster.service(NAME).ports] == [80]
    (told,) = cluster.told("Service/shop/reviews")
    assert told == (
        "Conflict: for reviews.shop.mesh.internal cluster west, the oldest, says 80/TCP;"
        " cluster east says 80/TCP, 90/TCP"
    )
    assert [port.service_port for port in cluster.service(LOCAL).ports] == [80, 90]


def test_a_workload_offers_only_ports_that_the_name_has() -> None:
    cluster = three()
    assert {tuple(port.service_port for port in w.services[0].ports) for w in remote(cluster)} == {(80,)}


# --- what may be imported (decision D23) ---


def test_only_the_namespaces_a_gateway_lists_are_taken_in() -> None:
    source = west(service("other", GLOBAL, namespace="bank"))
    cluster = linked(east(annotations={"peering.peerd.io/import-namespaces": "bank, x"}), source)
    assert "bank/other.bank.mesh.internal" in cluster.addresses
    assert NAME not in cluster.addresses


def test_identities_outside_the_peers_trust_domain_are_refused() -> None:
    source = west()
    cluster = linked(east(), source)
    stolen = source.exports["shop/reviews"]
    changed = type(stolen)(
        **{
            **{field: getattr(stolen, field) for field in stolen.__struct_fields__},
            "identities": ("spiffe://other.local/ns/shop/sa/reviews",),
        }
    )
    cluster.apply([ImportChange(ObjectKey("istio-system", "west"), "shop/reviews", changed)])
    assert NAME not in cluster.addresses


def test_what_a_peer_of_which_nothing_is_known_says_waits() -> None:
    source = west()
    cluster = east()
    key = ObjectKey("istio-system", "west")
    cluster.apply([ImportChange(key, name, found) for name, found in source.exports.items()])
    assert NAME not in cluster.addresses
    linked(cluster, source)
    assert NAME in cluster.addresses
    cluster.apply([PeerChange(key, None)])
    assert NAME not in cluster.addresses


# --- segments (decision D25) ---

SEGMENT = {"admin.solo.io/segment": "acme"}


def segment(domain: str) -> ObjectChange:
    return put(
        "Segment", {"metadata": {"name": "acme", "namespace": "istio-system"}, "spec": {"domain": domain}}
    )


def test_a_cluster_in_a_segment_serves_its_names_under_the_segments_domain_only() -> None:
    cluster = Cluster("west", [system("west", SEGMENT), segment("mesh.acme"), service("reviews", GLOBAL)])
    assert cluster.info is not None
    assert (cluster.info.segment, cluster.info.segment_domain) == ("acme", "mesh.acme")
    assert "shop/reviews.shop.mesh.acme" in cluster.addresses
    assert NAME not in cluster.addresses
    assert cluster.exports["shop/reviews"].global_host == "reviews.shop.mesh.acme"
    other = linked(east(), cluster)
    assert "shop/reviews.shop.mesh.acme" in other.addresses


def test_a_segments_domain_may_change_while_everything_runs() -> None:
    cluster = Cluster("west", [system("west", SEGMENT), segment("mesh.acme"), service("reviews", GLOBAL)])
    cluster.apply([segment("mesh.corp")])
    assert {name for name in cluster.addresses if "mesh" in name} == {"shop/reviews.shop.mesh.corp"}


def test_segment_scope_stays_within_the_segment() -> None:
    scoped = {"solo.io/service-scope": "segment"}
    source = Cluster("west", [system("west", SEGMENT), segment("mesh.acme"), service("reviews", scoped)])
    assert source.exports["shop/reviews"].scope is FederationScope.SEGMENT
    name = "shop/reviews.shop.mesh.acme"
    assert name not in linked(east(), source).addresses
    gateway = remote_gateway("west", "west", "198.51.100.20")
    same = Cluster("east", [system("east", SEGMENT), segment("mesh.acme"), gateway])
    assert name in linked(same, source).addresses


def test_a_missing_segment_is_told_on_the_namespace() -> None:
    cluster = Cluster("west", [system("west", SEGMENT)])
    assert cluster.told("Namespace/istio-system") == ["Segment acme does not exist"]
    assert cluster.info is not None
    assert (cluster.info.segment, cluster.info.segment_domain) == ("acme", "mesh.internal")


# --- what this cluster says of itself ---


def test_peer_info_names_the_own_east_west_gateway() -> None:
    gateway = put(
        "Gateway",
        {
            "metadata": {
                "name": "eastwest",
                "namespace": "istio-gateways",
                "annotations": {"gateway.istio.io/service-account": "ew"},
            },
            "spec": {
                "gatewayClassName": "istio-eastwest",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
            "status": {"addresses": [{"type": "IPAddress", "value": "198.51.100.20"}]},
        },
    )
    info = Cluster("west", [system("west"), gateway]).info
    assert info is not None
    assert (info.cluster, info.network, info.trust_domain) == ("west", "west", "cluster.local")
    assert [(a.type, a.value, a.port) for a in info.addresses] == [("IPAddress", "198.51.100.20", 15008)]
    assert (info.gateway_namespace, info.gateway_service_account) == ("istio-gateways", "ew")
