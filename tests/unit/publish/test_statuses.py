"""Statuses of Gateways, classes and Services: said when all is known, when they change, and taken back."""

import random

import msgspec
import pytest

from peerd.kubeapi.objects import KubeObjects
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.federation import FederatedName
from peerd.model.kube.core import Service
from peerd.model.kube.gateway import Gateway, GatewayClass
from peerd.model.kube.meta import ObjectKey
from peerd.protocol.peer_state import PeerState
from peerd.publish.gateway_status import CONNECTED, DATA_PLANE, SUCCEEDED, Path, PathFacts, PeerFacts
from peerd.publish.service_status import FEDERATED
from peerd.publish.statuses import OWNED, Statuses
from peerd.publish.writer import Writer
from tests.support.fake_objects import FakeObjects
from tests.support.stepping import SteppedTime

WEST = ObjectKey("ns", "west")
WEB = ObjectKey("shop", "web")
TYPES = {"Gateway": Gateway, "GatewayClass": GatewayClass, "Service": Service}
PLURALS = {"gateways": "Gateway", "gatewayclasses": "GatewayClass", "services": "Service"}
NAME = FederatedName("shop/web", "web.shop.mesh.internal", True, (), 0)
KEY = "shop/web.shop.mesh.internal"


class Rig:
    """Statuses over a fake API server that tells of every change."""

    def __init__(self, server=None, *, beside=False):
        self.api = server or FakeObjects()
        self.clock = SteppedTime()
        self.peers = {WEST: PeerFacts(PeerState.LIVE, synced=True, cluster="west")}
        self.path = PathFacts(Path.REACHED, "it answers")
        self.writer = Writer(
            KubeObjects(self.api), clock=self.clock, source=random.Random(1), owned=OWNED.__contains__
        )
        self.statuses = Statuses(
            self.writer,
            clock=self.clock,
            cluster="east",
            peer=self.peers.get,
            path=lambda _key: self.path,
            beside=beside,
        )
        self.api.changed = self.seen

    def seen(self, plural, namespace, name, tree):
        kind = PLURALS[plural]
        found = None if tree is None else msgspec.convert(tree, TYPES[kind])
        self.statuses.object(kind, ObjectKey(namespace, name), found)

    def gateway(self, **spec):
        spec = {
            "gatewayClassName": "istio-remote",
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        } | spec
        self.api.put(
            "gateways", {"metadata": {"namespace": "ns", "name": "west", "generation": 1}, "spec": spec}
        )

    def service(self, name="web"):
        self.api.put("services", {"metadata": {"namespace": "shop", "name": name}, "spec": {}})

    async def work(self, seconds=0):
        for second in range(seconds + 1):
            self.statuses.flush()
            while (wait := await self.writer.work()) == 0:
                pass
            if second < seconds:
                await self.clock.advance(1)
        return wait

    def conditions(self, plural, namespace, name):
        tree = self.api.get(plural, namespace, name)
        return {
            each["type"]: f"{each['status']}, {each['reason']}"
            for each in tree.get("status", {}).get("conditions", [])
        }

    @property
    def west(self):
        return self.conditions("gateways", "ns", "west")

    @property
    def web(self):
        return self.conditions("services", "shop", "web")


@pytest.fixture
def rig():
    return Rig()


async def test_nothing_is_said_before_everything_is_known(rig):
    """Half of what is known is half of the truth."""
    rig.gateway()
    rig.service()
    rig.statuses.names([(KEY, NAME)])
    await rig.work(5)
    assert rig.api.requests == []
    rig.statuses.settle()
    await rig.work()
    assert rig.west[CONNECTED] == "True, Connected"
    assert rig.web[FEDERATED] == "True, OnlyHere"
    assert [each[0] for each in rig.api.requests] == ["PATCH", "PATCH"]
    await rig.work(60)
    assert len(rig.api.requests) == 2


async def test_after_a_restart_nothing_is_written_where_nothing_changed(rig):
    """What the API server has is what there is to compare with."""
    rig.gateway()
    rig.service()
    rig.statuses.names([(KEY, NAME)])
    rig.statuses.settle()
    await rig.work()
    rig.api.requests.clear()
    again = Rig(rig.api)
    for (plural, namespace, name), tree in list(rig.api.objects.items()):
        again.seen(plural, namespace, name, tree)
    again.statuses.names([(KEY, NAME)])
    again.statuses.settle()
    await again.work(60)
    assert rig.api.requests == []


async def test_a_restarted_process_does_not_take_back_what_it_has_yet_to_find_out(rig):
    """A first dial without an outcome, a gateway not probed yet: what was said before stays for a while."""
    rig.gateway()
    rig.statuses.settle()
    await rig.work()
    rig.api.requests.clear()
    again = Rig(rig.api)
    again.seen("gateways", "ns", "west", rig.api.get("gateways", "ns", "west"))
    again.peers[WEST] = PeerFacts(PeerState.CONNECTING)
    again.path = PathFacts(Path.PROBING)
    await again.work(60)  # a slow start: nobody is dialled before all is known
    again.statuses.settle()
    await again.work(10)
    again.peers[WEST] = PeerFacts(PeerState.SYNCING, cluster="west")
    again.statuses.peer_changed(WEST)
    await again.work(2)
    assert rig.api.requests == []
    assert rig.west[SUCCEEDED] == "True, Synced"
    again.peers[WEST] = PeerFacts(PeerState.CONNECTING, error="refused")
    again.statuses.peer_changed(WEST)
    await again.work()
    assert rig.west[CONNECTED] == "False, Unreachable"
    assert rig.west[DATA_PLANE] == "True, Reached"


async def test_where_nothing_was_said_a_restarted_process_does_not_begin_with_stale(rig):
    """What it restored is old because nobody has been dialled; the first outcome is the first word."""
    rig.peers[WEST] = PeerFacts(PeerState.STALE, synced=True, cluster="west")
    rig.gateway()
    rig.statuses.settle()
    await rig.work(2)
    assert CONNECTED not in rig.west
    assert SUCCEEDED not in rig.west
    rig.peers[WEST] = PeerFacts(PeerState.LIVE, synced=True, cluster="west")
    rig.statuses.peer_changed(WEST)
    await rig.work()
    assert (rig.west[CONNECTED], rig.west[SUCCEEDED]) == ("True, Connected", "True, Synced")
    rig.peers[WEST] = PeerFacts(PeerState.STALE, synced=True, cluster="west")
    rig.statuses.peer_changed(WEST)
    await rig.work(15)
    assert rig.west[CONNECTED] == "False, Stale"


async def test_but_not_for_ever(rig):
    """Fifteen seconds; then what this process knows is said."""
    rig.gateway()
    rig.statuses.settle()
    await rig.work()
    again = Rig(rig.api)
    again.seen("gateways", "ns", "west", rig.api.get("gateways", "ns", "west"))
    again.peers[WEST] = PeerFacts(PeerState.CONNECTING)
    again.statuses.settle()
    await again.work(20)
    assert rig.west[CONNECTED] == "False, Connecting"


async def test_a_loss_is_said_at_once_and_a_changing_error_once_a_minute(rig):
    """Each failed dial has its own words; the status does not follow all of them."""
    rig.gateway()
    rig.statuses.settle()
    await rig.work(20)
    for number in range(120):
        rig.peers[WEST] = PeerFacts(PeerState.CONNECTING, synced=True, error=f"attempt {number}")
        rig.statuses.peer_changed(WEST)
        await rig.work(1)
        if number == 0:
            assert rig.west[CONNECTED] == "False, Unreachable"
    assert len(rig.api.writes) <= 4
    await rig.work(61)
    said = [each["message"] for each in rig.api.get("gateways", "ns", "west")["status"]["conditions"]]
    assert "dialling; attempt 119" in said


async def test_a_gateway_that_is_deleted_or_of_another_class_is_left(rig):
    """Deleted: nothing more is asked. Another class: what we said is taken back."""
    rig.gateway()
    rig.statuses.settle()
    await rig.work()
    rig.gateway(gatewayClassName="istio-waypoint")
    rig.api.get("gateways", "ns", "west")["status"] = {"conditions": []}
    await rig.work(2)
    assert rig.west == {}
    rig.api.drop("gateways", "ns", "west")
    before = len(rig.api.requests)
    await rig.work(60)
    assert len(rig.api.requests) == before
    assert rig.writer.pending == 0


async def test_a_service_that_is_global_no_more_has_no_condition_of_ours(rig):
    """Also one that lost its label while nobody watched."""
    rig.service()
    rig.statuses.names([(KEY, NAME)])
    rig.statuses.settle()
    await rig.work()
    again = Rig(rig.api)
    again.seen("services", "shop", "web", rig.api.get("services", "shop", "web"))
    rig.api.applied.clear()
    rig.api.applied["services", "shop", "web", "status", "peerd"] = {
        "status": rig.api.get("services", "shop", "web")["status"]
    }
    again.statuses.settle()
    await again.work()
    assert rig.web == {}


async def test_stale_clusters_are_named_on_the_services_they_serve(rig):
    """And only those are written."""
    rig.service()
    rig.service("other")
    rig.statuses.names(
        [
            (KEY, msgspec.structs.replace(NAME, clusters=("west",), others=1)),
            (
                "shop/other.shop.mesh.internal",
                FederatedName("shop/other", "other.shop.mesh.internal", True, (), 0),
            ),
        ]
    )
    rig.statuses.settle()
    await rig.work()
    rig.api.requests.clear()
    rig.statuses.stale(frozenset({"west"}))
    await rig.work(5)
    assert [each[3] for each in rig.api.writes] == ["web"]
    said = {
        each["type"]: each["message"]
        for each in rig.api.get("services", "shop", "web")["status"]["conditions"]
    }
    assert "west (stale)" in said[FEDERATED]


async def test_a_problem_shows_where_its_object_has_a_status(rig):
    """On Services and our Gateways; others are told otherwise."""
    rig.gateway()
    rig.service()
    rig.statuses.settle()

    def problem(where):
        return Diagnostic(where, "spec.ports", "is odd", "mend it", Severity.WARNING)

    rig.statuses.problem("a", (), (problem("Service/shop/web"),))
    rig.statuses.problem("b", (), (problem("Gateway/ns/west"),))
    await rig.work()
    assert rig.web == {"peering.peerd.io/Problem": "True, NotAsMeant"}
    assert rig.west["peering.peerd.io/Problem"] == "True, NotAsMeant"
    assert rig.statuses.shows(problem("Service/shop/web"))
    assert rig.statuses.shows(problem("Gateway/ns/west"))
    assert not rig.statuses.shows(problem("Gateway/ns/waypoint"))
    assert not rig.statuses.shows(problem("AuthorizationPolicy/shop/web"))
    assert not rig.statuses.shows(problem("Node/n1"))
    rig.statuses.problem("a", (problem("Service/shop/web"),), ())
    rig.statuses.problem("b", (problem("Gateway/ns/west"),), ())
    await rig.work()
    assert rig.web == {}
    assert "peering.peerd.io/Problem" not in rig.west


async def test_beside_istiod_its_words_are_not_ours(rig):
    """Accepted, Programmed and addresses are its own, and the class istio-remote (D33)."""
    rig = Rig(beside=True)
    rig.gateway()
    rig.api.put("gatewayclasses", _class("istio-remote", "istio.io/unmanaged-gateway"))
    rig.api.put("gatewayclasses", _class("istio-eastwest", "peerd.io/eastwest-controller"))
    rig.statuses.settle()
    await rig.work()
    assert set(rig.west) == {CONNECTED, SUCCEEDED, DATA_PLANE}
    assert "addresses" not in rig.api.get("gateways", "ns", "west")["status"]
    assert rig.conditions("gatewayclasses", "", "istio-remote") == {}
    assert rig.conditions("gatewayclasses", "", "istio-eastwest") == {"Accepted": "True, Accepted"}


def _class(name, controller):
    return {"metadata": {"name": name, "generation": 1}, "spec": {"controllerName": controller}}


async def test_a_peer_that_flaps_fifty_times_is_a_handful_of_writes(rig):
    """And the last word is true."""
    rig.gateway()
    rig.statuses.settle()
    await rig.work(20)
    before = len(rig.api.writes)
    for flap in range(50):
        state = PeerState.CONNECTING if flap % 2 == 0 else PeerState.LIVE
        rig.peers[WEST] = PeerFacts(state, synced=True, error="lost" if flap % 2 == 0 else "")
        rig.statuses.peer_changed(WEST)
        await rig.work(1)
    assert len(rig.api.writes) - before <= 12
    await rig.work(30)
    assert rig.west[CONNECTED] == "True, Connected"
