"""D13, clause by clause: what a resuming ztunnel is not told while a configured peer has not spoken."""

import pytest
from structlog.testing import capture_logs

from peerd.app.withholding import Waits, Withholding
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS, AUTHORIZATION
from tests.support.clusters import Cluster, remote_gateway, service

GLOBAL = "shop/reviews.shop.mesh.internal"
SEGMENT = "shop/reviews.shop.blue.internal"
LOCAL = "shop/reviews.shop.svc.cluster.local"
ENTRY = "shop/api.example.com"
OWN_POD = "east//Pod/shop/reviews-1"
REMOTE = "west/peerd/shop/reviews/west-net"
GATEWAY = "NetworkGateway/west-net/203.0.113.7/15008"


MISSING = ObjectKey("istio-system", "peer-west")


def rule(
    *objects, unsynced=True, forgotten=False, present=(), cluster="east", domains=("mesh.internal",)
) -> Withholding:
    return Withholding(
        cluster,
        "cluster.local",
        global_domains=lambda: domains,
        unsynced=lambda: unsynced,
        forgotten=lambda: {MISSING} if forgotten else (),
        present=lambda name: name in present,
        world=Cluster(cluster, objects).world,
    )


@pytest.mark.parametrize("name", [GLOBAL, LOCAL, ENTRY, OWN_POD, REMOTE, GATEWAY])
def test_once_every_peer_has_synced_or_expired_nothing_is_withheld(name):
    assert not rule(unsynced=False, forgotten=True)(ADDRESS, name)


@pytest.mark.parametrize("name", [GLOBAL, LOCAL, REMOTE])
def test_policies_are_never_withheld(name):
    """They come from this cluster alone, and a policy that lingers or lacks is a matter of security."""
    assert not rule(forgotten=True)(AUTHORIZATION, name)


@pytest.mark.parametrize("name", [GLOBAL, REMOTE, GATEWAY])
@pytest.mark.parametrize("forgotten", [False, True])
def test_the_removal_of_a_name_that_a_peer_could_own_is_withheld(name, forgotten):
    assert rule(forgotten=forgotten)(ADDRESS, name)


@pytest.mark.parametrize("present", [(), (OWN_POD,)], ids=["removed", "changed"])
def test_our_own_workloads_are_told_whatever_peers_do(present):
    """No peer can own them: a Pod that is gone is gone."""
    assert not rule(forgotten=True, present=present)(ADDRESS, OWN_POD)


def test_of_a_peer_of_which_nothing_is_known_the_domain_is_not_known_either():
    """It may be of another segment; what is not called as global services are is no peer's."""
    assert rule(forgotten=True)(ADDRESS, SEGMENT)
    assert not rule(forgotten=False)(ADDRESS, SEGMENT)
    assert not rule(forgotten=True)(ADDRESS, ENTRY)


def test_a_change_of_a_remote_workload_is_told():
    """It stands in the store because its peer was restored: that word is the newest there is."""
    assert not rule(present=(REMOTE,))(ADDRESS, REMOTE)


def test_a_global_service_is_not_diminished_while_a_peer_is_forgotten():
    """Without the identities and endpoints of the peer of which nothing was kept, traffic would break."""
    assert rule(forgotten=True, present=(GLOBAL,))(ADDRESS, GLOBAL)


def test_a_global_service_is_told_where_every_peer_was_restored():
    """What is in the store is whole then."""
    assert not rule(forgotten=False, present=(GLOBAL,))(ADDRESS, GLOBAL)


def test_the_domains_of_segments_are_global_domains():
    """As they are now: a peer's is learnt while it runs."""
    domains = ["mesh.internal"]
    withheld = rule(domains=domains)
    assert not withheld(ADDRESS, SEGMENT)
    domains.append("blue.internal")
    assert withheld(ADDRESS, SEGMENT)


def test_a_domain_is_a_suffix_of_whole_labels():
    """`x.notmesh.internal` is another domain than `mesh.internal`."""
    assert not rule()(ADDRESS, "shop/reviews.shop.notmesh.internal")


def test_a_local_name_that_a_forgotten_peer_may_have_taken_over_is_kept():
    """Its own Service is gone here: only takeover could have made it, and nothing says that it did not."""
    assert rule(forgotten=True)(ADDRESS, LOCAL)


def test_a_local_name_is_removed_where_every_peer_was_restored():
    """The taken-over ones would be in the store."""
    assert not rule(forgotten=False)(ADDRESS, LOCAL)


@pytest.mark.parametrize("labels", [{}, {"solo.io/service-scope": "global"}])
def test_a_local_service_that_is_there_is_told(labels):
    """Changes of our own Services wait for nobody, as long as peers have no part in their local names."""
    assert not rule(service("reviews", labels), forgotten=True, present=(LOCAL,))(ADDRESS, LOCAL)


TAKEN = {"istio.io/global": "true"}


def test_a_taken_over_local_service_is_not_diminished_while_a_peer_is_forgotten():
    """Peers' endpoints stand behind its local name too, and their identities in its Service."""
    taken = service("reviews", TAKEN)
    assert rule(taken, forgotten=True, present=(LOCAL,))(ADDRESS, LOCAL)
    assert not rule(taken, forgotten=False, present=(LOCAL,))(ADDRESS, LOCAL)


def test_a_local_name_without_a_service_here_is_not_diminished():
    """One peer has spoken and made it; the missing one may stand behind it as well."""
    assert rule(forgotten=True, present=(LOCAL,))(ADDRESS, LOCAL)


@pytest.mark.parametrize("labels", [{}, {"solo.io/service-scope": "cluster"}])
def test_a_gateway_that_allows_takeover_counts_unless_the_service_opts_out(labels):
    notes = {"peering.peerd.io/allow-takeover": "true"}
    gateway = remote_gateway("peer-west", "west-net", "192.0.2.1", annotations=notes)
    found = rule(gateway, service("reviews", labels), forgotten=True, present=(LOCAL,))
    assert found(ADDRESS, LOCAL) is (not labels)


def test_a_service_that_goes_lingers_while_a_peer_may_have_it():
    """Remote workloads do not: of each its own peer has spoken."""
    assert rule().lingers(ADDRESS, GLOBAL)
    assert not rule().lingers(ADDRESS, LOCAL)
    assert rule(forgotten=True).lingers(ADDRESS, LOCAL)
    assert not rule(forgotten=True).lingers(ADDRESS, REMOTE)
    assert not rule(unsynced=False).lingers(ADDRESS, GLOBAL)


def test_a_definition_is_what_our_own_objects_say():
    """Whatever peers add to the name."""
    here, other = rule(service("reviews", TAKEN)), rule(service("reviews", TAKEN, ports=(80, 90)))
    assert here.definition(ADDRESS, GLOBAL) == here.definition(ADDRESS, LOCAL)
    assert here.definition(ADDRESS, GLOBAL) == rule(service("reviews", TAKEN)).definition(ADDRESS, GLOBAL)
    assert here.definition(ADDRESS, GLOBAL) != other.definition(ADDRESS, GLOBAL)
    assert rule().definition(ADDRESS, GLOBAL) is None


def test_a_service_entrys_host_is_told():
    """No peer may export such a name (D23)."""
    assert not rule(forgotten=True)(ADDRESS, ENTRY)


def test_a_namespace_named_like_our_cluster_is_a_namespace():
    """`shop/…` is a service of namespace shop, also where our cluster id is shop: only uids begin with it."""
    assert rule(cluster="shop")(ADDRESS, GLOBAL)
    assert rule(cluster="shop", forgotten=True)(ADDRESS, LOCAL)
    assert not rule(cluster="shop")(ADDRESS, "shop//Pod/shop/reviews-1")


def test_the_log_names_the_peers_that_withheld_names_wait_for_once_for_each_change():
    """D13: log and metric name the missing peers."""
    waits, other = Waits(), ObjectKey("istio-system", "peer-north")
    with capture_logs() as logs:
        waits.look(0, {MISSING})  # nothing is held back: nobody waits
        waits.look(3, {other, MISSING})
        waits.look(2, {other, MISSING})
        assert waits.peers == ("istio-system/peer-north", "istio-system/peer-west")
        waits.look(1, {MISSING})
        waits.look(0, {MISSING})
    assert waits.peers == ()
    assert [(each["event"], each.get("peers", each.get("waited_for"))) for each in logs] == [
        ("names_withheld", ("istio-system/peer-north", "istio-system/peer-west")),
        ("names_withheld", ("istio-system/peer-west",)),
        ("names_withheld_no_more", ("istio-system/peer-west",)),
    ]
