"""The writer when it may not, or should not: no Lease, refusals, a server in trouble, too much at once."""

import pytest

from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.limits import KUBE_WRITE_S, KUBE_WRITES, OBJECT_WRITES, hits
from peerd.publish.notice import NoticeKind
from peerd.publish.ref import Ref, observed
from tests.support.fake_apiserver.faults import refused
from tests.support.fake_objects import status
from tests.support.writer_rig import ENTRIES, REF, STATUS, WriterRig, condition, conditions, entry


@pytest.fixture
def rig():
    return WriterRig()


async def test_without_the_permit_nothing_is_written(rig):
    """What changed meanwhile is written when it is given, once."""
    rig.permitted = 0.0
    rig.writer.want(REF, entry(hosts=("a",)))
    rig.writer.want(REF, entry(hosts=("b",)))
    await rig.work(600)
    assert rig.api.requests == []
    rig.permitted = 9.0
    await rig.work()
    assert rig.spec() == {"hosts": ["b"]}
    assert len(rig.api.writes) == 1


async def test_a_write_ends_with_the_permit(rig):
    """The answer that does not come in time is not waited for."""
    import asyncio

    rig.permitted = 0.02

    async def hang():
        await asyncio.Event().wait()

    rig.api.before = hang
    before = hits(KUBE_WRITE_S)
    rig.writer.want(REF, entry())
    await rig.writer.work()
    assert rig.writer.pending == 1
    assert hits(KUBE_WRITE_S) == before + 1


@pytest.mark.parametrize(
    "failure",
    [
        status(500, "InternalError"),
        status(503, "Unavailable"),
        ApiUnreachableError("reset"),
        status(429, "TooManyRequests"),
    ],
    ids=["500", "503", "unreachable", "429"],
)
async def test_an_api_server_in_trouble_is_left_in_peace_for_a_while(rig, failure):
    """Everything waits, with jitter and ever longer; then everything is written."""
    rig.api.fail = [failure] * 4
    for name in ("x", "y", "z"):
        rig.writer.want(Ref(ENTRIES, "shop", name), entry(name))
    await rig.work(1.0)
    assert len(rig.api.requests) <= 3
    await rig.work(120)
    assert [rig.spec(name) is not None for name in ("x", "y", "z")] == [True] * 3
    assert rig.notices == []


async def test_retry_after_is_heeded(rig):
    """Not a moment earlier."""
    rig.api.fail = [status(429, "TooManyRequests", 40.0)]
    rig.writer.want(REF, entry())
    await rig.work(39)
    assert len(rig.api.requests) == 1
    await rig.work(10)
    assert rig.spec() is not None


async def test_one_refused_object_does_not_hold_up_others(rig):
    """It is told once, tried again ever less often, and written when it is taken."""
    bad = Ref(ENTRIES, "shop", "a-bad-one")
    rig.writer.want(bad, entry("a-bad-one"))
    rig.api.fail = [None, status(422, "Invalid")] + [status(422, "Invalid")] * 8
    await rig.work()
    rig.api.fail, refusals = [], rig.api.fail
    rig.writer.want(REF, entry())
    await rig.work()
    assert rig.spec() is not None
    rig.api.fail = refusals
    before = len(rig.api.requests)
    await rig.work(100)
    assert 4 <= len(rig.api.requests) - before <= 8
    assert rig.told == [(NoticeKind.REFUSED, "ServiceEntry/shop/a-bad-one")]
    await rig.work(400)
    assert rig.spec("a-bad-one") is not None
    assert rig.writer.problems() == ()


LACKING = Response(403, refused("patch", "serviceentries", "networking.istio.io", "shop"))


async def test_thousands_that_are_refused_hold_nobody_up(rig):
    """A right that is lacking: what is tried again waits for what is new, and is written once it may be."""
    allowed = False

    async def refuse():
        if not allowed and rig.api.requests[-1][:2] == ("PATCH", "serviceentries"):
            rig.api.fail = [LACKING]

    rig.api.before = refuse
    names = [f"e{number}" for number in range(3000)]
    for name in names:
        rig.writer.want(Ref(ENTRIES, "shop", name), entry(name))
    await rig.work(200)
    rig.api.put("gateways", {"metadata": {"namespace": "istio-eastwest", "name": "west"}})
    rig.writer.observe(STATUS, observed(rig.api.get("gateways", "istio-eastwest", "west")))
    rig.writer.want(STATUS, conditions(condition("True")))
    await rig.work(2)
    assert rig.api.get("gateways", "istio-eastwest", "west")["status"]["conditions"]
    allowed = True
    await rig.work(200)
    assert all(rig.spec(name) for name in names)


async def test_a_lacking_right_is_no_news_of_each_object(rig):
    """It is told of the cluster (test_rights.py), not as an Event on each of thousands."""
    rig.writer.want(REF, entry())
    rig.api.fail = [None, LACKING]
    await rig.work()
    assert rig.spec() is None
    assert rig.notices == []
    assert rig.writer.problems() == ()
    await rig.work(2)
    assert rig.spec() is not None


async def test_an_object_that_flaps_is_written_a_handful_of_times(rig):
    """OBJECT_WRITES at once, then one every 10 s; the last state is what stays."""
    before = hits(OBJECT_WRITES)
    for flap in range(50):
        rig.writer.want(REF, entry(hosts=(str(flap),)))
        await rig.work(1)
    assert len(rig.api.writes) <= OBJECT_WRITES.value + 5
    assert hits(OBJECT_WRITES) > before
    await rig.work(60)
    assert rig.spec() == {"hosts": ["49"]}


async def test_an_object_that_comes_and_goes_is_bounded_too(rig):
    """Deleted and made again it is the same object: an endpoint that fails and returns every second."""
    for flap in range(50):
        rig.writer.want(REF, None if flap % 2 else entry())
        await rig.work(1)
    assert len(rig.api.writes) <= OBJECT_WRITES.value + 5
    rig.writer.want(REF, None)
    await rig.work(60)
    assert rig.spec() is None
    assert rig.writer.pending == 0


async def test_what_is_kept_of_forgotten_objects_is_what_was_written_lately(rig):
    """A thousand Pods a minute, each of another name, for ten minutes: no memory of all of them."""
    for number in range(1000):
        ref = Ref(ENTRIES, "shop", f"e{number}")
        rig.writer.want(ref, entry(ref.name))
        await rig.work(0.3)
        rig.writer.want(ref, None)
        await rig.work(0.3)
    assert len(rig.writer._spent) <= 60
    assert rig.api.objects == {}


async def test_writes_a_second_are_bounded(rig):
    """A burst of twice the rate, then the rate."""
    before = hits(KUBE_WRITES)
    for number in range(KUBE_WRITES.value * 4):
        rig.writer.want(Ref(ENTRIES, "shop", f"e{number}"), entry(f"e{number}"))
    await rig.work(0.5)
    assert len(rig.api.writes) <= KUBE_WRITES.value * 2.5 + 1
    await rig.work(2)
    assert len(rig.api.writes) == KUBE_WRITES.value * 4
    assert hits(KUBE_WRITES) > before
