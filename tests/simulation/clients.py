"""Clients at the edges of the protocol, as scenarios: who asks for one type alone, who does not answer."""

from peerd.limits import ACK_OVERDUE_S, WRITE_DEADLINE_S
from peerd.model.types import ADDRESS, AUTHORIZATION, FEDERATED_SERVICE, PEER_INFO
from peerd.protocol.peer_wire import offer
from peerd.transport.base import StatusCode
from tests.simulation.guarantees import LIMITS, LIVENESS, REFUSAL, STATUS
from tests.simulation.history import Violation
from tests.simulation.probe import Probe
from tests.simulation.scenarios import Scenarios, replica_of
from tests.simulation.truth import GLOBAL
from tests.simulation.world import World

CLIENTS = Scenarios()

_SOON = 3.0  # seconds: the patience of an order that waits for nobody is 1 s
_LOOKS = 20.0  # how often an open stream is looked at, and some


def must(guarantee: str, holds: bool, what: str) -> None:
    """Raises Violation where it does not hold."""
    if not holds:
        raise Violation(guarantee, what)


@CLIENTS.add("policies alone", "who asks for no workloads is told which policies are gone all the same")
async def _(world: World) -> None:
    for name in ("web", "pay"):
        world.put_policy("east", name)
    probe = Probe(world, replica_of(world, "east"), "policies-alone")
    await probe.ask(AUTHORIZATION)
    await world.pass_time(_SOON)
    must(LIVENESS, len(probe.got) == 1, "a client of policies alone was not answered")
    for number, name in enumerate(("web", "pay"), 1):
        world.delete_policy("east", name)
        await world.pass_time(_SOON)
        gone = [each for response in probe.got for each in response.removed]
        must(LIVENESS, len(gone) == number, f"a client of policies alone was told of {gone} only")
    await probe.close()


@CLIENTS.add("workloads alone", "who asks for no policies is not kept waiting for them for ever")
async def _(world: World) -> None:
    probe = Probe(world, replica_of(world, "east"), "workloads-alone")
    await probe.ask(ADDRESS)
    await world.pass_time(_SOON)
    must(LIVENESS, bool(probe.got), "a client of workloads alone was not answered")
    await probe.close()


@CLIENTS.add("stale answers", "answer nothing: not what is outstanding, and no refusal is made of them")
async def _(world: World) -> None:
    world.put_policy("east", "web")
    probe = Probe(world, replica_of(world, "east"), "stale-answers", answers=False)
    await probe.ask(AUTHORIZATION)
    await probe.ask(ADDRESS)
    await world.pass_time(_SOON)
    for type_url in (AUTHORIZATION, ADDRESS):
        await probe.ask(type_url, nonce="of-yesterday")
        await probe.ask(type_url, nonce="of-yesterday", error="shop/none: no")
    await world.pass_time(1)
    for type_url in (AUTHORIZATION, ADDRESS):
        status = probe.status(type_url)
        must(STATUS, status.outstanding == 1, f"{status.outstanding} of {type_url} outstanding, unanswered")
        must(STATUS, not status.error, f"a refusal of nothing is shown: {status.error}")
        must(STATUS, not status.acked, f"an ACK of nothing is shown: {status.acked}")
    world.scale("east", "web", 5)
    await world.pass_time(_SOON)
    must(LIMITS, len(probe.of(ADDRESS)) == 1, "workloads were sent though the last ones are not answered")
    await world.pass_time(ACK_OVERDUE_S.value + _LOOKS)
    code = probe.ended.code if probe.ended is not None else None
    must(REFUSAL, code is StatusCode.ABORTED, f"who answers nothing of what it was sent was told {code}")
    await probe.close()


@CLIENTS.add("one answer of two", "is for what it names, and for what came before, not for what came after")
async def _(world: World) -> None:
    probe = Probe(world, replica_of(world, "east"), "one-of-two", answers=False)
    await probe.ask(AUTHORIZATION)
    await probe.ask(ADDRESS)
    for name in ("web", "pay", "cart"):
        await world.pass_time(1)
        world.put_policy("east", name)
    await world.pass_time(1)
    policies = probe.of(AUTHORIZATION)
    assert len(policies) == 4, policies
    must(STATUS, probe.status(AUTHORIZATION).outstanding == 4, "policies do not wait for answers")
    for answered, left in ((1, 2), (3, 0)):
        await probe.ask(AUTHORIZATION, nonce=policies[answered].nonce)
        await world.pass_time(1)
        outstanding = probe.status(AUTHORIZATION).outstanding
        must(
            STATUS, outstanding == left, f"{outstanding} outstanding after the answer to {answered + 1} of 4"
        )
    await probe.close()


@CLIENTS.add("a refusal", "is shown by name and reason, until its resource changed and that was taken")
async def _(world: World) -> None:
    world.put_policy("east", "web")
    probe = Probe(world, replica_of(world, "east"), "refuses", answers=False)
    await probe.ask(AUTHORIZATION)
    await world.pass_time(_SOON)
    (first,) = probe.of(AUTHORIZATION)
    name = first.resources[0].name
    await probe.ask(AUTHORIZATION, nonce=first.nonce, error=f"{name}: too strict; really")
    await world.pass_time(1)
    shown = probe.status(AUTHORIZATION).rejections
    must(STATUS, shown == ((name, "too strict; really"),), f"of a refusal of {name} is shown {shown}")
    world.put_policy("east", "pay")
    await world.pass_time(1)
    await probe.ask(AUTHORIZATION, nonce=probe.of(AUTHORIZATION)[-1].nonce)
    await world.pass_time(1)
    must(
        STATUS, bool(probe.status(AUTHORIZATION).rejections), "a refusal is forgotten before anything changed"
    )
    await probe.close()


@CLIENTS.add("who does not read", "is given up after a minute, and nobody else waits for it")
async def _(world: World) -> None:
    east = replica_of(world, "east")
    probe = Probe(world, east, "reads-nothing", reads=False)
    world.fabric.link("east", "reads-nothing").window = 0
    await probe.ask(AUTHORIZATION)
    await probe.ask(ADDRESS)  # its answer waits for the first one to be read
    await world.pass_time(_SOON)
    machine = probe.machine
    await world.pass_time(WRITE_DEADLINE_S.value + _LOOKS)
    assert east.peerd is not None
    kept = any(each.machine is machine for each in east.peerd.ads._streams)
    must(LIMITS, not kept, f"a client that has read nothing for {WRITE_DEADLINE_S.value} s is kept")
    await probe.close()


@CLIENTS.add("asked for versions", "a peer is sent nothing more until it has named them")
async def _(world: World) -> None:
    probe = Probe(world, replica_of(world, "east"), "owes-versions", peer=True)
    await probe.ask(PEER_INFO, subscribe=("*",))
    await probe.ask(FEDERATED_SERVICE, subscribe=("*",), versions=offer("another", "digest"))
    await world.pass_time(_SOON)
    asked = probe.of(FEDERATED_SERVICE)
    must(LIVENESS, len(asked) == 1, f"a peer that offers another digest got {len(asked)} answers")
    world.put_service("east", "cart", GLOBAL)
    world.scale("east", "cart", 1)
    await world.pass_time(_SOON)
    must(
        REFUSAL, probe.of(FEDERATED_SERVICE) == asked, "a peer that was asked for its versions was sent more"
    )
    await probe.close()


@CLIENTS.add("a type of tomorrow", "is answered once, with nothing, however often it is asked for")
async def _(world: World) -> None:
    probe = Probe(world, replica_of(world, "east"), "of-tomorrow")
    for _ in range(3):
        await probe.ask("type.googleapis.com/of.tomorrow")
        await world.pass_time(1)
    must(REFUSAL, len(probe.got) == 1, f"a type nobody knows was answered {len(probe.got)} times")
    await probe.close()
