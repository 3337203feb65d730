"""What is generated: where it lies, what it selects, which waypoint, which names share an entry."""

import pytest

from peerd.derive.generated_names import ENTRY_LABEL, LOCAL_ENTRY_LABEL
from peerd.model.changes import IstiodChange, TakeoverChange
from peerd.model.federation import Takeover
from peerd.model.generated import Generate, GeneratedServiceEntry, GeneratedWorkloadEntry, IstiodFlags
from tests.support.beside import Seen, told_by_istiod
from tests.support.clusters import Cluster, gone, namespace, pod, put, remote_gateway, service, system

GLOBAL = {"solo.io/service-scope": "global"}
ALLOWED = {"peering.peerd.io/allow-takeover": "true"}


def beside(*objects, flags=IstiodFlags(True), **settings):  # noqa: B008
    told = [] if flags is None else [IstiodChange(flags)]
    base = [system("east"), namespace("shop"), remote_gateway("west", "west", "198.51.100.1")]
    return Cluster("east", [*base, *told, *objects], generate=Generate.BESIDE, **settings)


def peer(name="west", *objects):
    return Cluster(name, [system(name), *objects])


def exporting(name="west", app="reviews", **more):
    return peer(name, service(app, GLOBAL, **more), pod(f"{app}-1", app, "10.9.0.1"))


def entries(cluster):
    return {each.name: each for each in cluster.generated.values() if isinstance(each, GeneratedServiceEntry)}


def endpoints(cluster):
    return [each for each in cluster.generated.values() if isinstance(each, GeneratedWorkloadEntry)]


def members(cluster, objects, host):
    """How many endpoints istiod would give a host."""
    seen = Seen(cluster, told_by_istiod(objects, cluster.generated, "east"))
    (found,) = [each for each in seen.addresses.values() if getattr(each, "hostname", "") == host and
                not hasattr(each, "uid")]  # fmt: skip
    return len(seen.workloads_of(found.resource_name))


# -- places ----------------------------------------------------------------------------------------------


def test_entry_lies_beside_its_service_with_its_selector():
    """Measured of a real istiod: local endpoints without writing per Pod."""
    east = beside(service("reviews", GLOBAL))
    east.pull("west", exporting())
    entry = entries(east)["autogen.shop.reviews"]
    assert (entry.namespace, entry.selector) == ("shop", (("app", "reviews"),))
    (workload,) = endpoints(east)
    assert workload.namespace == "shop"
    assert ("app", "reviews") in workload.labels


def test_without_a_service_a_private_label_ties_them():
    """In the service's namespace where there is one, else in the system namespace."""
    east = beside()
    east.pull("west", exporting())
    entry = entries(east)["autogen.shop.reviews"]
    assert (entry.namespace, entry.selector) == ("shop", ((ENTRY_LABEL, "autogen.shop.reviews"),))
    east.apply([gone("Namespace", "", "shop")])
    entry = entries(east)["autogen.shop.reviews"]
    (workload,) = endpoints(east)
    assert entry.namespace == workload.namespace == "istio-system"
    assert workload.service_account == "", "an account of another namespace would be somebody else"


def test_a_namespace_that_ends_takes_nothing_new():
    """That may take weeks, while others hold it: what stands for a name lies elsewhere meanwhile."""
    east = beside()
    east.pull("west", exporting())
    assert entries(east)["autogen.shop.reviews"].namespace == "shop"
    ends = {"metadata": {"name": "shop", "deletionTimestamp": "2026-11-21T12:00:00Z"}}
    east.apply([put("Namespace", ends)])
    assert entries(east)["autogen.shop.reviews"].namespace == "istio-system"
    (workload,) = endpoints(east)
    assert workload.namespace == "istio-system"
    east.apply([namespace("shop")])
    assert entries(east)["autogen.shop.reviews"].namespace == "shop"


def test_namespace_that_istiod_does_not_discover_has_no_entries():
    """Discovery selectors: istiod would not read them there."""
    mesh = {"metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": "discoverySelectors: [{matchLabels: {mesh: 'on'}}]"}}  # fmt: skip
    east = beside(put("ConfigMap", mesh))
    east.apply([system("east", {"mesh": "on"})])
    east.pull("west", exporting())
    assert entries(east)["autogen.shop.reviews"].namespace == "istio-system"


@pytest.mark.parametrize("flags", [None, IstiodFlags(False, "FLAG is not false", "Deployment/istiod")])
def test_wrong_or_unknown_flags_keep_away_from_services(flags):
    """All in the system namespace, under a private label, told on the Service (D41)."""
    east = beside(service("reviews", GLOBAL), flags=flags)
    east.pull("west", exporting())
    entry = entries(east)["autogen.shop.reviews"]
    (workload,) = endpoints(east)
    assert entry.namespace == workload.namespace == "istio-system"
    assert all(key.startswith(("peering.peerd.io/", "istio.io/")) for key, _ in workload.labels)
    told = east.told("Service/shop/reviews")
    assert len(told) == 1
    assert "no endpoints of this cluster" in told[0]
    assert flags is None or "FLAG" in told[0]
    east.apply([IstiodChange(IstiodFlags(True))])
    assert entries(east)["autogen.shop.reviews"].namespace == "shop"
    assert east.told("Service/shop/reviews") == []


def test_of_overlapping_selectors_the_wider_keeps_its_own():
    """Entries of `v1` would also be taken by `reviews`: they are not labelled so, and it is told."""
    objects = [
        service("reviews", GLOBAL),
        service("v1", GLOBAL, selector={"app": "reviews", "version": "v1"}),
    ]
    east = beside(*objects)
    east.pull("west", peer(
        "west", service("v1", GLOBAL), service("reviews", GLOBAL),
        pod("v1-1", "v1", "10.9.0.1"), pod("reviews-1", "reviews", "10.9.0.2"),
    ))  # fmt: skip
    found = entries(east)
    assert found["autogen.shop.reviews"].selector == (("app", "reviews"),)
    assert found["autogen.shop.v1"].selector == ((ENTRY_LABEL, "autogen.shop.v1"),)
    kept = [change.object for change in objects]
    assert members(east, kept, "reviews.shop.mesh.internal") == 1
    assert members(east, kept, "v1.shop.mesh.internal") == 1
    assert "shop/reviews selects the same" in east.told("Service/shop/v1")[0]


def _twin(**more):
    """Selects the Pods of `db`, as a headless twin that its namespace's label makes global."""
    return service("a", GLOBAL, selector={"app": "db"}, **more)


def test_twins_share_selector_and_entries():
    """The same clusters serve both by the same accounts: what is an endpoint of one is one of the other."""
    objects = [service("db", GLOBAL), _twin(created="2026-02-01T00:00:00Z", ports=(81,)),
               pod("db-1", "db", "10.1.0.1")]  # fmt: skip
    for order in (objects, objects[::-1]):
        east = beside(remote_gateway("north", "north", "198.51.100.2"), *order)
        for name in ("west", "north"):
            east.pull(
                name, peer(name, service("db", GLOBAL), _twin(ports=(81,)), pod("db-1", "db", "10.9.0.1"))
            )
        found = entries(east)
        assert {each.selector for each in found.values()} == {(("app", "db"),)}
        assert len(endpoints(east)) == 2, "one for each cluster, not for each name"
        kept = [change.object for change in objects]
        assert [members(east, kept, f"{name}.shop.mesh.internal") for name in ("a", "db")] == [3, 3]
        assert east.told("Service/shop/a") == east.told("Service/shop/db") == []


@pytest.mark.parametrize(
    "west",
    [
        [service("db", GLOBAL), pod("db-1", "db", "10.9.0.1")],
        [
            service("db", GLOBAL),
            pod("db-1", "db", "10.9.0.1"),
            service("a", GLOBAL),
            pod("a-1", "a", "10.9.0.2"),
        ],
    ],
    ids=["only one is exported", "other accounts"],
)
def test_of_twins_that_are_served_differently_the_oldest_keeps_its_own(west):
    """What is an endpoint of one elsewhere need not be one of the other: the younger has none here, told."""
    older, younger = service("db", GLOBAL), _twin(created="2026-02-01T00:00:00Z")
    for order in ([older, younger], [younger, older]):
        east = beside(*order)
        assert len({each.selector for each in entries(east).values()}) == 1, "nobody else serves either"
        east.pull("west", peer("west", *west))
        found = entries(east)
        assert found["autogen.shop.db"].selector == (("app", "db"),)
        assert found["autogen.shop.a"].selector == ((ENTRY_LABEL, "autogen.shop.a"),)
        kept = [older.object, younger.object]
        assert members(east, kept, "db.shop.mesh.internal") == 1
        assert members(east, kept, "a.shop.mesh.internal") == len(west) // 2 - 1
        assert "shop/db selects the same endpoints" in east.told("Service/shop/a")[0]


def test_users_service_entry_gains_no_endpoint():
    """One that selects the same Pods would take our entries, and has no identities for them."""
    theirs = put("ServiceEntry", {
        "metadata": {"name": "theirs", "namespace": "shop"},
        "spec": {"hosts": ["a.example.org"], "ports": [{"number": 80, "name": "http"}],
                 "resolution": "STATIC", "workloadSelector": {"labels": {"app": "reviews"}}},
    })  # fmt: skip
    own = service("reviews", GLOBAL)
    east = beside(own, theirs)
    east.pull("west", exporting())
    assert entries(east)["autogen.shop.reviews"].selector == ((ENTRY_LABEL, "autogen.shop.reviews"),)
    assert members(east, [own.object, theirs.object], "a.example.org") == 0
    assert "ServiceEntry shop/theirs" in east.told("Service/shop/reviews")[0]


def test_service_without_selector_has_no_local_endpoints_here():
    """Nothing could select them; told."""
    east = beside(service("reviews", GLOBAL, selector={}))
    assert entries(east)["autogen.shop.reviews"].selector == ((ENTRY_LABEL, "autogen.shop.reviews"),)
    assert "no selector" in east.told("Service/shop/reviews")[0]


def _entry(**spec):
    """A user's global ServiceEntry `db`."""
    return put("ServiceEntry", {
        "metadata": {"name": "db", "namespace": "shop", "labels": GLOBAL,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"hosts": ["db.example.org"], "resolution": "STATIC",
                 "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
                 **(spec or {"workloadSelector": {"labels": {"app": "db"}}})},
    })  # fmt: skip


def test_global_service_entry_keeps_its_own_endpoints():
    """Peers reach them by that name; other clusters' would be endpoints of its own hosts, too: told."""
    theirs, own = _entry(), pod("db-1", "db", "10.1.0.1")
    machine = put("WorkloadEntry", {
        "metadata": {"name": "vm", "namespace": "shop", "labels": {"app": "db",
                     "networking.istio.io/tunnel": "http"}},
        "spec": {"address": "10.1.0.9", "ports": {"http": 9090}},
    })  # fmt: skip
    east = beside(theirs, own, machine)
    kept = [theirs.object, own.object, machine.object]
    (entry,) = entries(east).values()
    assert entry.selector == (("app", "db"),)
    assert [(port.name, port.target) for port in entry.ports] == [("http", 8080)], "which `vm` maps to 9090"
    assert east.told("ServiceEntry/shop/db") == []
    east.pull("west", exporting(app="db"))
    assert endpoints(east) == []
    assert members(east, kept, "db.shop.mesh.internal") == members(east, kept, "db.example.org") == 2
    assert any("no endpoints of other clusters" in text for text in east.told("ServiceEntry/shop/db"))


def test_global_service_entry_that_names_its_endpoints_has_other_clusters_only():
    """Nothing could select them, and inline endpoints are never HBONE; told."""
    theirs = _entry(endpoints=[{"address": "192.0.2.1"}])
    east = beside(theirs)
    east.pull("west", exporting(app="db"))
    assert members(east, [theirs.object], "db.shop.mesh.internal") == 1
    assert any("no endpoints of this cluster: it names" in text for text in east.told("ServiceEntry/shop/db"))


# -- names -----------------------------------------------------------------------------------------------


HTTP = {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}
BOTH = ["reviews.shop.mesh.internal", "reviews.shop.svc.cluster.local"]


def named(**spec):
    """A global Service `reviews` with these fields."""
    found = service("reviews", GLOBAL).object
    return put("Service", {"metadata": {"name": "reviews", "namespace": "shop", "labels": GLOBAL},
                           "spec": {"clusterIP": found.spec.cluster_ip, "selector": {"app": "reviews"},
                                    **spec}})  # fmt: skip


def test_local_name_shares_the_entry_where_all_peers_may():
    """The Namespace asks for takeover: both names lead to the same endpoints (D25)."""
    east = beside(namespace("shop", {"solo.io/service-takeover": "true"}))
    east.pull("west", peer("west", named(**HTTP), pod("reviews-1", "reviews", "10.9.0.1")))
    (entry,) = entries(east).values()
    assert list(entry.hosts) == BOTH


@pytest.mark.parametrize("port", [{"name": "tcp"}, {"name": "redis"}, {}, {"appProtocol": "mongo"}])
def test_names_that_a_port_cannot_tell_apart_have_an_entry_each(port):
    """Istiod's webhook refuses several hosts where one port is neither HTTP nor TLS."""
    east = beside(namespace("shop", {"solo.io/service-takeover": "true"}))
    both = {"ports": [*HTTP["ports"], {"port": 6379, "targetPort": 6379, "protocol": "TCP", **port}]}
    east.pull("west", peer("west", named(**both), pod("reviews-1", "reviews", "10.9.0.1")))
    found = entries(east)
    assert {name: list(each.hosts) for name, each in found.items()} == {
        "autogen.shop.reviews": BOTH[:1], "autogen.svc.shop.reviews": BOTH[1:]
    }  # fmt: skip
    assert len({(each.selector, each.ports, each.annotations) for each in found.values()}) == 1
    assert len(endpoints(east)) == 1, "both take the same entry of west"
    assert [members(east, [], host) for host in BOTH] == [1, 1]


def test_names_that_prefer_differently_have_an_entry_each():
    """What a mesh rule took over stays as istiod has it, the global name prefers what is near (D26)."""
    recorded = TakeoverChange("shop/reviews", Takeover(by_rule=True))
    east = Cluster("east", [system("east"), namespace("shop"), remote_gateway("west", "west", "198.51.100.1"),
                            IstiodChange(IstiodFlags(True)), recorded], generate=Generate.BESIDE)  # fmt: skip
    east.pull("west", peer("west", named(**HTTP), pod("reviews-1", "reviews", "10.9.0.1")))
    words = {each.hosts: dict(each.annotations)["networking.istio.io/traffic-distribution"]
             for each in entries(east).values()}  # fmt: skip
    assert words == {(BOTH[0],): "PreferClose", (BOTH[1],): "Any"}


def test_local_name_has_its_own_entry_where_only_some_may():
    """Only west's Gateway allows it: north's endpoints must not answer to the local name (D23)."""
    gateway = remote_gateway("west", "west", "198.51.100.1", annotations=ALLOWED)
    east = beside(gateway, remote_gateway("north", "north", "198.51.100.2"))
    takeover = {**GLOBAL, "solo.io/service-takeover": "true"}
    for name in ("west", "north"):
        east.pull(name, peer(name, service("reviews", takeover), pod("reviews-1", "reviews", "10.9.0.1")))
    found = entries(east)
    assert found["autogen.shop.reviews"].hosts == ("reviews.shop.mesh.internal",)
    assert found["autogen.svc.shop.reviews"].hosts == ("reviews.shop.svc.cluster.local",)
    local = {each.cluster for each in endpoints(east) if LOCAL_ENTRY_LABEL in dict(each.labels)}
    assert local == {"west"}
    assert {each.cluster for each in endpoints(east)} == {"west", "north"}
    assert members(east, [], "reviews.shop.svc.cluster.local") == 1
    assert members(east, [], "reviews.shop.mesh.internal") == 2


def test_name_of_a_service_is_not_taken_over_beside_istiod():
    """istiod gives a Service no identities; the label's owner is told (D25)."""
    east = beside(service("reviews", {**GLOBAL, "solo.io/service-takeover": "true"}))
    east.pull("west", exporting())
    assert entries(east)["autogen.shop.reviews"].hosts == ("reviews.shop.mesh.internal",)
    assert any("not taken over" in message for message in east.told("Service/shop/reviews"))


def test_other_segments_name_has_an_entry_of_its_own():
    """Two domains are two names with endpoints of their own."""
    acme = put("Segment", {"metadata": {"name": "acme", "namespace": "istio-system"},
                           "spec": {"domain": "mesh.acme"}})  # fmt: skip
    east = beside(acme, system("east", {"admin.solo.io/segment": "acme"}), service("reviews", GLOBAL))
    east.pull("west", exporting())
    hosts = {entry.hosts for entry in entries(east).values()}
    assert hosts == {("reviews.shop.mesh.acme",), ("reviews.shop.mesh.internal",)}
    (workload,) = endpoints(east)
    assert "app" not in dict(workload.labels), "west is not behind our own segment's name"


def _acme(*aliases):
    tree = {"metadata": {"name": "acme", "namespace": "istio-system"},
            "spec": {"domain": "mesh.acme", "aliases": [{"pattern": each} for each in aliases]}}  # fmt: skip
    return put("Segment", tree)


def _in_acme(**spec):
    """East and west of one segment, each with the Service and the template."""
    labels = {"admin.solo.io/segment": "acme"}
    alias = _acme("{service}.{namespace}.acme.example")
    east = beside(alias, system("east", labels), named(**spec))
    east.pull("west", Cluster("west", [system("west", labels), alias, named(**spec),
                                       pod("reviews-1", "reviews", "10.9.0.1")]))  # fmt: skip
    return east


def test_alias_shares_the_entry_where_all_clusters_have_it():
    """One entry for policies to attach to; its annotation lists what was made by templates."""
    (entry,) = entries(_in_acme(**HTTP)).values()
    assert entry.hosts == ("reviews.shop.mesh.acme", "reviews.shop.acme.example")
    assert entry.aliases == ("reviews.shop.acme.example",)


def test_alias_that_a_port_cannot_tell_apart_keeps_the_services_endpoints():
    """An entry of its own with the same selector; the annotation of the first still lists it."""
    east = _in_acme(ports=[{"port": 6379, "targetPort": 6379, "protocol": "TCP"}])
    main, alias = entries(east).values()
    assert (main.hosts, main.aliases) == (("reviews.shop.mesh.acme",), ("reviews.shop.acme.example",))
    assert (alias.hosts, alias.aliases) == (("reviews.shop.acme.example",), ())
    assert main.selector == alias.selector == (("app", "reviews"),)


def test_alias_that_only_we_have_takes_nobody_elses_endpoints():
    """With the Service's selector it would have west's, which does not know the name; told (D23)."""
    labels = {"admin.solo.io/segment": "acme"}
    own = service("reviews", GLOBAL)
    east = beside(_acme("{service}.acme.example"), system("east", labels), own)
    east.pull("west", Cluster("west", [system("west", labels), _acme(), service("reviews", GLOBAL),
                                       pod("reviews-1", "reviews", "10.9.0.1")]))  # fmt: skip
    by_hosts = {entry.hosts: entry for entry in entries(east).values()}
    assert by_hosts[("reviews.shop.mesh.acme",)].selector == (("app", "reviews"),)
    assert by_hosts[("reviews.acme.example",)].selector[0][0] == ENTRY_LABEL
    assert members(east, [own.object], "reviews.acme.example") == 0
    assert members(east, [own.object], "reviews.shop.mesh.acme") == 1
    assert any("reviews.acme.example" in text for text in east.told("Service/shop/reviews"))


# -- what the entries say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "written"),
    [("PreferNetwork", "PreferClose"), ("PreferRegion", "PreferClose"), ("PreferClose", "PreferClose"),
     ("PreferSameZone", "PreferClose"), ("PreferSameNode", "PreferSameNode"), ("Any", "Any"),
     ("", "PreferClose")],
)  # fmt: skip
def test_distribution_is_said_in_istiods_words(word, written):
    """Never absent, or the namespace's annotation would count; what istiod cannot do is told (D26)."""
    east = beside(service("reviews", GLOBAL, trafficDistribution=word))
    found = dict(entries(east)["autogen.shop.reviews"].annotations)
    assert found["networking.istio.io/traffic-distribution"] == written
    told = [text for text in east.told("Service/shop/reviews") if "PreferClose" in text]
    assert bool(told) is (word in {"PreferNetwork", "PreferRegion"})


def test_named_target_ports_are_found_by_name():
    """A Pod's own port of that name; every other name is too long to be a container's."""
    ports = [{"port": 80, "targetPort": "web"}, {"port": 81, "targetPort": 8081}]
    found = entries(beside(_service_with(ports)))["autogen.shop.reviews"].ports
    assert [(port.number, port.name, port.target) for port in found] == [
        (80, "web", 0), (81, "global-service-port-81", 8081)
    ]  # fmt: skip


def _service_with(ports):
    tree = {
        "metadata": {"name": "reviews", "namespace": "shop", "labels": GLOBAL,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "reviews"},
                 "ports": [{"protocol": "TCP", **port} for port in ports]},
    }  # fmt: skip
    return put("Service", tree)


def test_waypoint_is_our_services_own():
    """The entry has it, remote-only names and endpoints opt out of their namespace's (D30)."""
    gateway = put("Gateway", {
        "metadata": {"name": "wp", "namespace": "shop"},
        "spec": {"gatewayClassName": "istio-waypoint",
                 "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
        "status": {"addresses": [{"type": "Hostname", "value": "wp.shop.svc.cluster.local"}]},
    })  # fmt: skip
    east = beside(gateway, service("reviews", {**GLOBAL, "istio.io/use-waypoint": "wp"}))
    east.pull("west", peer("west", service("reviews", GLOBAL), service("ratings", GLOBAL),
                           pod("ratings-1", "ratings", "10.9.0.1")))  # fmt: skip
    east.apply([namespace("shop", {"istio.io/use-waypoint": "wp"})])
    found = entries(east)
    assert dict(found["autogen.shop.reviews"].labels) == {"istio.io/use-waypoint": "wp"}
    assert dict(found["autogen.shop.ratings"].labels) == {"istio.io/use-waypoint": "none"}
    assert all(dict(each.labels)["istio.io/use-waypoint"] == "none" for each in endpoints(east))
    east.apply([IstiodChange(IstiodFlags(False, "wrong"))])
    away = dict(entries(east)["autogen.shop.reviews"].labels)
    assert away == {"istio.io/use-waypoint": "wp", "istio.io/use-waypoint-namespace": "shop"}


def test_standalone_generates_the_same_entries_without_endpoints():
    """One setting switches: ServiceEntries stay what they are, WorkloadEntries come and go."""
    objects = [system("east"), namespace("shop"), remote_gateway("west", "west", "198.51.100.1"),
               service("reviews", GLOBAL)]  # fmt: skip
    alone = Cluster("east", objects, generate=Generate.STANDALONE)
    alone.pull("west", exporting())
    other = beside(service("reviews", GLOBAL))
    other.pull("west", exporting())
    assert entries(alone) == entries(other)
    assert endpoints(alone) == []
    assert len(endpoints(other)) == 1


def test_both_writes_for_istiod_and_serves_as_standalone():
    """While ztunnels move: the objects of one mode, the names and addresses of the other."""
    objects = [system("east"), namespace("shop"), remote_gateway("west", "west", "198.51.100.1"),
               IstiodChange(IstiodFlags(True)),
               service("reviews", {**GLOBAL, "solo.io/service-takeover": "true"})]  # fmt: skip
    both = Cluster("east", objects, generate=Generate.BOTH)
    both.pull("west", exporting())
    other = beside(*objects)
    other.pull("west", exporting())
    assert both.generated == other.generated
    assert both.service("shop/reviews.shop.mesh.internal").addresses
    assert len(both.workloads_of("shop/reviews.shop.svc.cluster.local")) == 1, "taken over, as standalone"


def test_directory_generates_nothing():
    """There is nowhere to write it."""
    east = Cluster("east", [system("east"), service("reviews", GLOBAL)])
    assert east.generated == {}
