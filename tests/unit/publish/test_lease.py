"""One of several replicas writes: never two at once, another one soon after the first is gone."""

import random

import pytest

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.objects import KubeObjects
from peerd.publish.lease import DURATION, MARGIN, Lease
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime


class Replicas:
    """Replicas that ask in turn, on one clock; each may be cut off, or killed."""

    def __init__(self, *names):
        self.api = FakeObjects()
        self.clock = SteppedTime()
        self.told = []
        self.next = {}
        self.leases = {name: self._lease(name) for name in names}
        self.dead = set()

    def _lease(self, name):
        self.next[name] = 0.0
        return Lease(
            KubeObjects(self.api),
            namespace="istio-system",
            name="peerd",
            identity=name,
            clock=self.clock,
            source=random.Random(name),
            held=lambda held: self.told.append((name, held)),
        )

    async def run(self, seconds, check=lambda: None):
        """In steps of a tenth of a second."""
        for _ in range(round(seconds * 10)):
            for name, lease in self.leases.items():
                if name not in self.dead and self.next[name] <= self.clock.monotonic():
                    self.next[name] = self.clock.monotonic() + await lease.attempt()
            check()
            await self.clock.advance(0.1)

    @property
    def writing(self):
        return [name for name, lease in self.leases.items() if lease.remaining() > 0]

    @property
    def spec(self):
        return self.api.get("leases", "istio-system", "peerd")["spec"]


async def test_one_gets_it_and_keeps_it():
    """The Lease is made; others see who holds it."""
    both = Replicas("a", "b", "c")
    holders = set()
    await both.run(60, lambda: holders.add(tuple(both.writing)))
    assert holders == {("a",)}
    assert both.spec["holderIdentity"] == "a"
    assert both.spec["leaseDurationSeconds"] == 9
    assert both.spec["leaseTransitions"] == 0
    assert both.leases["b"].holder == "a"
    assert both.told == [("a", True)]


async def test_a_killed_holder_is_replaced_within_20_seconds():
    """By one of the others, after its time is over and not before."""
    both = Replicas("a", "b", "c")
    await both.run(30)
    both.dead.add("a")
    died, taken = both.clock.monotonic(), []

    def check():
        assert len(both.writing) <= 1
        if not taken and both.writing and both.writing != ["a"]:
            taken.append(both.clock.monotonic() - died)

    await both.run(30, check)
    assert 6 <= taken[0] <= 13
    assert both.spec["leaseTransitions"] == 1


@pytest.mark.parametrize("seed", range(10))
async def test_two_never_write_at_once(seed):
    """Whoever cannot reach the API server counts itself out before anybody else may begin."""
    both = Replicas("a", "b", "c")
    chance = random.Random(seed)
    cut = {}

    for name, lease in both.leases.items():
        attempt = lease.attempt

        async def maybe(attempt=attempt, name=name):
            if cut.get(name, 0) > both.clock.monotonic():
                both.api.fail = [ApiUnreachableError("cut off")]
            pause = await attempt()
            both.api.fail = []
            return pause

        lease.attempt = maybe

    def check():
        assert len(both.writing) <= 1
        if chance.random() < 0.02:
            cut[chance.choice("abc")] = both.clock.monotonic() + chance.uniform(1, 30)

    await both.run(300, check)
    assert len({name for name, held in both.told if held}) >= 2


async def test_a_holder_that_is_cut_off_stops_before_its_time_is_over():
    """MARGIN seconds earlier, and it is told."""
    alone = Replicas("a")
    await alone.run(1)
    alone.api.fail = [ApiUnreachableError("cut off")] * 100
    held = []
    await alone.run(20, lambda: held.append(alone.clock.monotonic()) if alone.writing else None)
    assert held[-1] < DURATION - MARGIN + 0.2
    assert alone.told == [("a", True), ("a", False)]
    assert alone.leases["a"].remaining() == 0


async def test_a_stopped_holder_lets_go_at_once():
    """The next one need not wait for 9 s."""
    both = Replicas("a", "b")
    await both.run(30)
    both.dead.add("a")
    await both.leases["a"].release()
    assert both.writing == []
    await both.run(3.2)
    assert both.writing == ["b"]
    assert both.told[-2:] == [("a", False), ("b", True)]


async def test_of_two_who_try_at_once_one_wins():
    """The version that was read decides; the loser waits for its turn."""
    both = Replicas("a", "b")
    await both.run(1)
    both.dead.add("a")
    await both.run(12)
    assert both.writing == ["b"]
    both.api.fail = [None, status(409, "Conflict")]
    assert await both.leases["b"].attempt() > 0
    assert both.writing == ["b"]  # a lost race shortens nothing


async def test_a_lease_that_is_deleted_stays_its_holders():
    """By hand, or with the whole etcd: the holder makes it again, and nobody writes beside it."""
    all_ = Replicas("a", "b", "c", "d", "e")
    await all_.run(30)
    assert all_.writing == ["a"]
    for _ in range(20):
        all_.api.drop("leases", "istio-system", "peerd")
        await all_.run(10.3, lambda: _at_most_one(all_))
    assert all_.writing == ["a"]
    assert all_.told == [("a", True)]
    all_.dead.add("a")
    all_.api.drop("leases", "istio-system", "peerd")
    await all_.run(20, lambda: _at_most_one(all_))
    assert len(all_.writing) == 1
    assert all_.spec["holderIdentity"] in {"b", "c", "d", "e"}


async def test_who_sees_another_name_stops_at_once():
    """A hand gave it to somebody: what we counted on is over, though its time is not."""
    alone = Replicas("a")
    await alone.run(10)
    lease = alone.api.get("leases", "istio-system", "peerd")
    alone.api.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
    await alone.run(3.1)
    assert alone.writing == []
    await alone.run(15)
    assert alone.writing == ["a"], "b never renewed it"


@pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "", None])
async def test_the_clock_of_another_is_not_believed(renewed):
    """Its renewals are timed by when they are seen; what they say may be years away."""
    both = Replicas("b")
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 9, "renewTime": renewed}
    for _ in range(10):
        both.api.put(
            "leases", {"metadata": {"namespace": "istio-system", "name": "peerd"}, "spec": dict(spec)}
        )
        await both.run(3)
        assert both.writing == []
    await both.run(9)
    assert both.writing == ["b"]


def _at_most_one(replicas):
    assert len(replicas.writing) <= 1


async def test_a_lease_with_another_duration_is_heeded():
    """A holder of another version may have said how long it wants."""
    both = Replicas("b")
    both.api.put(
        "leases",
        {
            "metadata": {"namespace": "istio-system", "name": "peerd"},
            "spec": {"holderIdentity": "old", "leaseDurationSeconds": 15},
        },
    )
    await both.run(14)
    assert both.writing == []
    await both.run(6)
    assert both.writing == ["b"]


async def test_run_keeps_it_until_cancelled():
    """The loop itself, on the real clock of the loop."""
    import asyncio

    from peerd.app.parts import SystemClock

    api = FakeObjects()
    got = asyncio.Event()
    lease = Lease(
        KubeObjects(api),
        namespace="istio-system",
        name="peerd",
        identity="a",
        clock=SystemClock(),
        source=random.Random(1),
        held=lambda held: got.set() if held else None,
    )
    running = asyncio.ensure_future(lease.run())
    await asyncio.wait_for(got.wait(), 30)
    running.cancel()
    await lease.release()
    assert api.get("leases", "istio-system", "peerd")["spec"]["holderIdentity"] == ""
