"""Addresses recorded in ServiceEntries: the record wins, one replica writes, what is served is read back."""

import msgspec
import pytest

from peerd.derive.allocation import GLOBAL_POOL, POOLS, SERVICE_ENTRY_POOL, choose
from peerd.model.address import ip_text
from peerd.model.changes import ObjectChange, OwnChange
from peerd.model.federation import Allocation
from peerd.model.kube.istio import ServiceEntry
from peerd.model.kube.meta import ObjectKey
from peerd.publish.pools import REST_SECONDS
from peerd.publish.recorded_allocations import RecordedAllocations
from tests.support.stepping import SteppedTime

REVIEWS, RATINGS = "reviews.shop.mesh.internal", "ratings.shop.mesh.internal"
FIRST = Allocation(b"\xf0\x40\0\x05", b"")
SECOND = Allocation(b"\xf0\x40\0\x06", b"")


def tree(name, hosts, addresses=None):
    listed = [
        {"host": host, "value": ip_text(each)}
        for host, found in (addresses or {}).items()
        for each in (found.ipv4, found.ipv6)
        if each
    ]
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"hosts": list(hosts)},
        "status": {"addresses": listed},
    }


class Cluster:
    """The statuses of one cluster's ServiceEntries, and the replicas that read and write them."""

    def __init__(self, replicas=1):
        self.trees = {}
        self.writes = []
        self.clock = SteppedTime()
        self.leader = 0
        self.heard = [{} for _ in range(replicas)]
        self.replicas = [self._replica(number) for number in range(replicas)]

    def _replica(self, number):
        def emit(changes):
            for change in changes:
                self.heard[number][change.host] = change.allocation

        return RecordedAllocations(
            record=self._record,
            emit=emit,
            choose=choose,
            may_choose=lambda: self.leader == number,
            clock=self.clock,
        )

    def _record(self, key, addresses):
        if addresses is None:
            return
        self.writes.append((key, addresses))
        name = key.rpartition("/")[2]
        listed = [{"host": host, "value": each} for host, found in addresses.items() for each in found]
        self.put({**self.trees[name], "status": {"addresses": listed}})

    def put(self, found):
        name = found["metadata"]["name"]
        self.trees[name] = found
        for replica in self.replicas:
            replica.own([OwnChange("ServiceEntry", ObjectKey("shop", name), found)])

    def drop(self, name):
        del self.trees[name]
        for replica in self.replicas:
            replica.own([OwnChange("ServiceEntry", ObjectKey("shop", name), None)])

    def want(self, *hosts, pool=GLOBAL_POOL):
        for replica in self.replicas:
            replica.want([(host, pool) for host in hosts])
        self.settle()

    def settle(self):
        for replica in self.replicas:
            replica.settle()

    def allocation(self, host):
        found = [heard.get(host) for heard in self.heard]
        assert all(each == found[0] for each in found), "replicas serve different addresses"
        return found[0]


@pytest.fixture
def cluster():
    return Cluster(replicas=3)


def test_nothing_is_served_before_it_is_read_back(cluster):
    """The object is what says so: without one nothing is chosen, let alone served (D28)."""
    cluster.want(REVIEWS)
    assert cluster.writes == []
    assert cluster.allocation(REVIEWS) is None
    cluster.put(tree("autogen.shop.reviews", [REVIEWS]))
    assert cluster.allocation(REVIEWS) is None
    cluster.settle()
    found = cluster.allocation(REVIEWS)
    assert found == choose(REVIEWS, GLOBAL_POOL, set())
    assert len(cluster.writes) == 1


def test_recorded_address_wins(cluster):
    """Whoever wrote it, whatever the hash says: also istiod's, after its mode was switched off."""
    cluster.put(tree("autogen.shop.reviews", [REVIEWS], {REVIEWS: FIRST}))
    cluster.want(REVIEWS)
    assert cluster.allocation(REVIEWS) == FIRST
    assert cluster.writes == []


def test_only_the_writer_chooses(cluster):
    """Replicas without the Lease wait, and one that gains it goes on."""
    cluster.leader = None
    cluster.want(REVIEWS)
    cluster.put(tree("autogen.shop.reviews", [REVIEWS]))
    cluster.settle()
    assert cluster.writes == []
    cluster.leader = 2
    cluster.settle()
    assert cluster.allocation(REVIEWS) is not None


def test_each_host_of_an_entry_has_its_own(cluster):
    """A second host gets an address beside the first one's, which stays."""
    local = "reviews.shop.svc.cluster.local"
    cluster.put(tree("autogen.shop.reviews", [REVIEWS], {REVIEWS: FIRST}))
    cluster.want(REVIEWS)
    cluster.want(local)
    cluster.put(tree("autogen.shop.reviews", [REVIEWS, local], {REVIEWS: FIRST}))
    cluster.settle()
    assert cluster.allocation(REVIEWS) == FIRST
    assert cluster.allocation(local) not in {None, FIRST}


def test_moved_entry_takes_its_address_along(cluster):
    """A ServiceEntry that moves to another namespace is another object; its host keeps its address."""
    cluster.put(tree("old", [REVIEWS], {REVIEWS: FIRST}))
    cluster.want(REVIEWS)
    cluster.put(tree("new", [REVIEWS]))
    cluster.drop("old")
    assert cluster.allocation(REVIEWS) == FIRST
    cluster.settle()
    assert cluster.writes == [("ServiceEntry/shop/new", {REVIEWS: ("240.64.0.5",)})]


def test_freed_address_rests_for_an_hour(cluster):
    """It goes to nobody else meanwhile, and back to its own host at once (D28)."""
    cluster.put(tree("autogen.shop.reviews", [REVIEWS], {REVIEWS: choose(RATINGS, GLOBAL_POOL, set())}))
    cluster.want(REVIEWS)
    freed = cluster.allocation(REVIEWS)
    cluster.want(REVIEWS, pool=None)
    cluster.drop("autogen.shop.reviews")
    assert cluster.allocation(REVIEWS) is None
    cluster.put(tree("autogen.shop.ratings", [RATINGS]))
    cluster.want(RATINGS)
    assert cluster.allocation(RATINGS) != freed, "its hash meets the address that rests"
    cluster.put(tree("autogen.shop.reviews", [REVIEWS]))
    cluster.want(REVIEWS)
    assert cluster.allocation(REVIEWS) == freed


async def test_rested_address_is_free_again(cluster):
    """After the hour the hash decides again."""
    own = choose(RATINGS, GLOBAL_POOL, set())
    cluster.put(tree("autogen.shop.reviews", [REVIEWS], {REVIEWS: own}))
    cluster.want(REVIEWS)
    cluster.want(REVIEWS, pool=None)
    cluster.drop("autogen.shop.reviews")
    await cluster.clock.advance(REST_SECONDS)
    cluster.put(tree("autogen.shop.ratings", [RATINGS]))
    cluster.want(RATINGS)
    assert cluster.allocation(RATINGS) == own


def test_one_address_twice_belongs_to_the_first_by_name(cluster):
    """A copied status would give two names one address: the later name gets another, and it is recorded."""
    cluster.put(tree("autogen.shop.reviews", [REVIEWS], {REVIEWS: FIRST}))
    cluster.want(REVIEWS, RATINGS)
    cluster.put(tree("autogen.shop.ratings", [RATINGS], {RATINGS: SECOND}))
    cluster.put(tree("copy", ["zz.shop.mesh.internal"], {"zz.shop.mesh.internal": FIRST}))
    cluster.want("zz.shop.mesh.internal")
    assert cluster.allocation(REVIEWS) == FIRST
    assert cluster.allocation("zz.shop.mesh.internal") not in {None, FIRST, SECOND}


def test_users_entries_are_given_addresses_of_istiods_pool(cluster):
    """As istiod does it: in their own status, from its pool; derivation reads it with the object."""
    found = msgspec.convert(
        {
            "metadata": {"namespace": "shop", "name": "mine"},
            "spec": {"hosts": ["db.example.org", "*.example.org"], "resolution": "STATIC"},
        },
        ServiceEntry,
    )
    for replica in cluster.replicas:
        replica.users([ObjectChange("ServiceEntry", found.key, found)])
    cluster.trees["mine"] = tree("mine", ["db.example.org"])
    cluster.want("db.example.org", pool=SERVICE_ENTRY_POOL)
    ((key, addresses),) = cluster.writes[:1]
    assert key == "ServiceEntry/shop/mine"
    assert list(addresses) == ["db.example.org"]
    first = addresses["db.example.org"][0]
    assert first.startswith("240.240.")


def test_exhausted_pool_is_told():
    """A host without an address is named, and served once there is one."""
    cluster = Cluster()
    cluster.replicas[0]._choose = lambda *_: None
    cluster.put(tree("autogen.shop.reviews", [REVIEWS]))
    cluster.want(REVIEWS)
    (told,) = cluster.replicas[0].diagnostics
    assert told.object == f"Host/{REVIEWS}"
    cluster.replicas[0]._choose = choose
    cluster.settle()
    assert cluster.replicas[0].diagnostics == ()
    assert cluster.allocation(REVIEWS) is not None
    assert POOLS[GLOBAL_POOL].ipv4.num_addresses > 1
