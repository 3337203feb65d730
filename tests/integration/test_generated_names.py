"""Names of generated objects that would be too long, not valid, or alike, on a real API server (D36)."""

from tests.support.beside_writes import Link, Rig
from tests.support.clusters import Cluster, namespace, pod, service, system

GLOBAL = {"solo.io/service-scope": "global"}
LONG, OTHER = "n" * 63, "s" * 63
# Ids of clusters are any text; the last two differ where a name has no room any more.
CLUSTERS = ("west.prod", "west-prod", "West_Prod", "west/prod", "w" * 252 + "x", "w" * 252 + "y")


async def test_every_peer_has_an_entry_whatever_it_is_called(either_api):
    """Six clusters of odd names, a service and a namespace of 63 characters: six entries, and all go."""
    rig = Rig(either_api)
    rig.api.namespace(LONG)
    rig.east.apply([namespace(LONG)])
    links = []
    for number, name in enumerate(CLUSTERS, 1):
        west = Cluster(name, [system(f"net-{number}"), service(OTHER, GLOBAL, namespace=LONG)])
        west.apply([pod("p", OTHER, "10.9.0.1", namespace=LONG)])
        links.append(Link(rig.east, west, f"west-{number}", f"net-{number}"))
        links[-1].announce(rig.now)
        await rig.work(3)
    there = rig.api.objects
    assert {f"{_kind(plural)}/{where}/{name}" for plural, where, name in there} == set(rig.east.generated)
    entries = {name: tree for (plural, _, name), tree in there.items() if plural == "workloadentries"}
    whose = {tree["metadata"]["annotations"]["peering.peerd.io/cluster"] for tree in entries.values()}
    assert whose == set(CLUSTERS)
    assert max(map(len, entries)) <= 253
    assert rig.notices == []
    for link in links:
        link.unlink()
    await rig.work(15)
    assert rig.api.objects == {}


async def test_two_things_that_could_come_to_one_name_have_two(either_api):
    """Namespaces and services, clusters and namespaces, that run into each other where they are joined."""
    rig = Rig(either_api)
    rig.api.namespace("shop-cart")
    rig.east.apply([namespace("shop-cart")])
    west = Cluster("west", [system("west")])
    for where, name in (("shop-cart", "web"), ("shop", "cart-web"), ("shop", "web")):
        west.apply(
            [service(name, GLOBAL, namespace=where), pod(f"{name}-1", name, "10.9.0.1", namespace=where)]
        )
    other = Cluster("west.shop", [system("other")])  # with `web` it reads as west with `shop.web`
    other.apply([service("web", GLOBAL), pod("web-1", "web", "10.9.0.2")])
    for name, cluster, network in (("west", west, "west"), ("other", other, "other")):
        Link(rig.east, cluster, name, network).announce(rig.now)
    await rig.work(5)
    there = rig.api.objects
    assert {f"{_kind(plural)}/{where}/{name}" for plural, where, name in there} == set(rig.east.generated)
    assert sum(plural == "workloadentries" for plural, *_ in there) == 4
    assert rig.notices == []


def _kind(plural):
    return {"serviceentries": "ServiceEntry", "workloadentries": "WorkloadEntry"}[plural]
