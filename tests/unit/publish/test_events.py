"""Events: told once, counted when they recur, bounded, never waited for."""

import asyncio
import random
import re
from pathlib import Path

import pytest

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.limits import EVENTS, EVENTS_PER_OBJECT, EVENTS_WAITING, hits
from peerd.publish.event_words import OBJECT_WORDS, WORDS, word_of
from peerd.publish.events import NORMAL, WARNING, About, Events
from peerd.publish.leftovers import INTERVAL, Leftovers
from peerd.publish.notice import NoticeKind, Transition
from peerd.publish.ref import Ref
from tests.simulation.loop import SimClock
from tests.support.fake_apiserver import Scripted, kinds
from tests.support.fake_apiserver.storage import Definition
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime
from tests.support.virtual import virtual

GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
WEST = About(GATEWAYS, "istio-eastwest", "west", "uid-1")


class Rig:
    def __init__(self):
        self.api = FakeObjects()
        self.clock = SteppedTime()
        self.permitted = 9.0
        self.events = self.another()

    def another(self):
        return Events(KubeObjects(self.api), clock=self.clock, source=random.Random(3), permit=self)

    def remaining(self):
        return self.permitted

    async def work(self, seconds=0.0, events=None):
        end = self.clock.monotonic() + seconds
        while (wait := await (events or self.events).work()) is not None:
            if self.clock.monotonic() + wait > end:
                break
            await self.clock.advance(max(wait, 0.001))
        await self.clock.advance(max(0.0, end - self.clock.monotonic()))

    @property
    def written(self):
        return [tree for key, tree in self.api.objects.items() if key[0] == "events"]


@pytest.fixture
def rig():
    return Rig()


async def test_an_event_names_its_object_so_that_describe_finds_it(rig):
    """With uid, in the object's namespace; of cluster-scoped objects in `default`."""
    rig.events.say(WEST, WARNING, "PeerLost", "connection reset")
    rig.events.say(About(NODES, "", "n1", "uid-2"), NORMAL, "Odd", "why")
    await rig.work()
    lost, odd = rig.written
    assert lost["involvedObject"] == {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "namespace": "istio-eastwest",
        "name": "west",
        "uid": "uid-1",
    }
    assert (lost["type"], lost["reason"], lost["message"], lost["count"]) == (
        "Warning",
        "PeerLost",
        "connection reset",
        1,
    )
    assert lost["metadata"]["namespace"] == "istio-eastwest"
    assert lost["lastTimestamp"] == "2023-11-14T22:13:20Z"
    assert odd["metadata"]["namespace"] == "default"


async def test_the_uid_is_looked_up_where_it_is_not_known(rig):
    """By a list of that one name; an object that is gone has no Event."""
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}, "spec": {}})
    rig.events.say(About(GATEWAYS, "istio-eastwest", "west"), WARNING, "A", "a")
    await rig.work()
    rig.api.drop("gateways", "istio-eastwest", "west")
    rig.events.say(About(GATEWAYS, "istio-eastwest", "west"), WARNING, "B", "b")
    await rig.work()
    assert [each["reason"] for each in rig.written] == ["A"]
    assert rig.written[0]["involvedObject"]["uid"].startswith("uid-")
    assert rig.events.counts == {"written": 1, "dropped": 1}


async def test_the_same_again_is_a_higher_count(rig):
    """Not before ten minutes from this process; from another one, or after a restart, at once."""
    rig.events.say(WEST, WARNING, "PeerLost", "connection reset")
    await rig.work(60)
    rig.events.say(WEST, WARNING, "PeerLost", "connection reset")
    await rig.work(600)
    assert len(rig.api.writes) == 1
    assert rig.events.counts["repeated"] == 1
    rig.events.say(WEST, WARNING, "PeerLost", "connection reset")
    await rig.work()
    other = rig.another()
    other.say(WEST, WARNING, "PeerLost", "connection reset")
    await rig.work(events=other)
    (event,) = rig.written
    assert event["count"] == 3
    assert event["lastTimestamp"] > event["firstTimestamp"]


async def test_an_object_that_flaps_is_told_of_a_few_times(rig):
    """EVENTS_PER_OBJECT, then one a minute; other objects are not held up."""
    before = hits(EVENTS_PER_OBJECT)
    for flap in range(50):
        rig.events.say(WEST, WARNING, "PeerLost", f"flap {flap}")
        await rig.work(1)
    assert len(rig.written) == EVENTS_PER_OBJECT.value
    assert hits(EVENTS_PER_OBJECT) == before + 50 - EVENTS_PER_OBJECT.value
    rig.events.say(About(GATEWAYS, "istio-eastwest", "north", "uid-9"), NORMAL, "PeerConnected", "x")
    await rig.work(1)
    assert rig.written[-1]["reason"] == "PeerConnected"


async def test_events_a_second_are_bounded(rig):
    """A burst, then the rate."""
    before = hits(EVENTS)
    count = EVENTS.value * 14
    for number in range(count):
        rig.events.say(About(GATEWAYS, "ns", f"g{number}", f"uid-{number}"), NORMAL, "A", "a")
    await rig.work(0.5)
    assert len(rig.written) <= EVENTS.value * 10 + 3
    await rig.work(10)
    assert len(rig.written) == count
    assert hits(EVENTS) > before


async def test_what_waits_is_bounded_and_the_oldest_goes(rig):
    """EVENTS_WAITING while the API server is away."""
    rig.api.fail = [ApiUnreachableError("away")]
    before = hits(EVENTS_WAITING)
    for number in range(EVENTS_WAITING.value + 5):
        rig.events.say(About(GATEWAYS, "ns", f"g{number}", f"uid-{number}"), NORMAL, "A", "a")
    assert hits(EVENTS_WAITING) == before + 5
    assert rig.events.counts["dropped"] == 5


@pytest.mark.parametrize(
    "failure", [ApiUnreachableError("away"), status(503, "Unavailable"), status(429, "TooMany", 3.0)]
)
async def test_an_api_server_in_trouble_gets_it_later(rig, failure):
    """In the order in which they were said, and after five attempts not at all."""
    rig.api.fail = [failure] * 3
    rig.events.say(WEST, WARNING, "A", "a")
    rig.events.say(WEST, WARNING, "B", "b")
    await rig.work(300)
    assert [each["reason"] for each in rig.written] == ["A", "B"]
    rig.api.fail = [failure] * 5
    rig.events.say(WEST, WARNING, "C", "c")
    await rig.work(600)
    assert [each["reason"] for each in rig.written] == ["A", "B"]
    assert rig.events.counts["dropped"] == 1


async def test_what_is_refused_is_forgotten(rig):
    """403, or a namespace that ends."""
    rig.api.fail = [status(403, "Forbidden")]
    rig.events.say(WEST, WARNING, "A", "a")
    rig.events.say(WEST, WARNING, "B", "b")
    await rig.work(10)
    assert [each["reason"] for each in rig.written] == ["B"]


async def test_only_the_replica_that_writes_tells(rig):
    """Others saw the same; what waits when the Lease is lost is told by nobody twice."""
    rig.permitted = 0.0
    rig.events.say(WEST, WARNING, "A", "a")
    rig.permitted = 9.0
    rig.events.say(WEST, WARNING, "B", "b")
    rig.permitted = 0.0
    await rig.work(10)
    rig.permitted = 9.0
    await rig.work(10)
    assert rig.written == []


# -- words ---------------------------------------------------------------------------------------------------


def test_every_event_is_in_the_documentation():
    """Word and type; the page names no other."""
    page = (Path(__file__).parents[3] / "docs" / "status.md").read_text("utf-8")
    table = page[page.index("| Event | type |") :].split("\n\n")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE))
    words = {word.reason: word.kind for word in WORDS.values()}
    words |= dict.fromkeys(OBJECT_WORDS.values(), WARNING) | {"RemoteSecretLeftover": WARNING}
    assert listed == words
    assert set(OBJECT_WORDS) == {kind.value for kind in NoticeKind}


def transition(kind, reason, before=None):
    ref = Ref(GATEWAYS, "a", "b", "status")
    return Transition(ref, None if before is None else {"status": before}, {"type": kind, "reason": reason})


def test_what_was_never_otherwise_is_not_told_as_news():
    """The first status of an object names what is bad, and peers that are connected."""
    assert word_of(transition("Conflict", "NoConflicts")) is None
    assert word_of(transition("Conflict", "NoConflicts", "True")).reason == "ConflictResolved"
    assert word_of(transition("gloo.solo.io/PeerConnected", "Connecting")) is None
    assert word_of(transition("gloo.solo.io/PeerConnected", "Connecting", "True")).reason == "PeerLost"
    assert word_of(transition("gloo.solo.io/PeerConnected", "Connected")).reason == "PeerConnected"
    assert word_of(transition("Accepted", "Accepted")) is None


# -- leftovers -----------------------------------------------------------------------------------------------


def secret(name, **labels):
    meta = {"namespace": "istio-system", "name": name, "labels": labels}
    return {"metadata": meta, "data": {"kubeconfig": "c2VjcmV0"}}


async def test_remote_secrets_are_warned_of_and_counted(rig):
    """By label, in the system namespace; gone is gone (decision D36)."""
    rig.api.put("secrets", secret("remote-west", **{"istio/multiCluster": "true"}))
    rig.api.put("secrets", secret("cacerts"))
    found = Leftovers(rig.api, rig.events, "istio-system", random.Random(1))
    assert await found.look() >= INTERVAL * 0.9
    assert found.count == 1
    await rig.work()
    (event,) = rig.written
    assert (event["reason"], event["involvedObject"]["name"]) == ("RemoteSecretLeftover", "remote-west")
    assert "c2VjcmV0" not in str(event)
    rig.api.drop("secrets", "istio-system", "remote-west")
    await found.look()
    assert found.count == 0


async def test_without_the_right_to_look_nothing_else_suffers(rig):
    """It is said in the log; a server that is away is asked again sooner."""
    found = Leftovers(rig.api, rig.events, "istio-system", random.Random(1))
    rig.api.fail = [status(403, "Forbidden"), ApiUnreachableError("away")]
    assert await found.look() == INTERVAL
    assert await found.look() < INTERVAL / 2
    assert found.count == 0


@virtual
async def test_an_event_is_not_written_past_the_permit():
    """Two seconds are left of the Lease, the server takes four: by then it is another replica that tells."""
    server, faults = kinds.cluster(), Scripted()
    server.define(Definition("", "v1", "events", "CoreEvent"))
    faults.answer("/events", 4.0)
    events = Events(
        KubeObjects(server.transport(faults)),
        clock=SimClock(asyncio.get_running_loop()),
        source=random.Random(3),
        permit=(permit := Rig()),
    )
    permit.permitted = 2.0
    events.say(WEST, WARNING, "PeerLost", "connection reset")
    work = asyncio.ensure_future(events.work())
    await asyncio.sleep(3)
    permit.permitted = 0.0
    await asyncio.sleep(30)
    await work
    assert not list(server.storage.items("events."))
    assert await events.work() is None, "it is forgotten"
