"""Envoy's types over the same machine: own resources only, and nothing again that a client holds (D37)."""

from peerd.model.resource import Resource, ResourceChange
from peerd.model.types import ENDPOINT, LISTENER
from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_response
from peerd.protocol.rules import TypeRules, View
from peerd.resources.store import ResourceStore
from tests.support.delta import Driver, resource

RULES = {
    ENDPOINT: TypeRules(),
    LISTENER: TypeRules(own_groups=lambda _node: ("gateway/mine",), own_only=True),
}


def driver(*changes: ResourceChange) -> Driver:
    made = Driver(ResourceStore((ENDPOINT, LISTENER), "test"), rules=RULES, types=())
    made.publish(*changes)
    return made


def listener(name: str, group: str, payload: bytes = b"1") -> ResourceChange:
    return ResourceChange(LISTENER, name, resource(name, payload, type_url=LISTENER, groups=(group,)))


def endpoints(name: str, payload: bytes = b"1") -> ResourceChange:
    return ResourceChange(ENDPOINT, name, resource(name, payload, type_url=ENDPOINT))


def answers(machine: Driver) -> list[DeltaResponse]:
    """All that is owed, each ACKed."""
    found = []
    while (out := machine.outgoing()) is not None:
        response = parse_delta_response(out.frame.message)
        found.append(response)
        machine.request(delta_request(response.type_url, nonce=response.nonce))
    return found


def told(machine: Driver) -> tuple[list[str], list[str]]:
    """Names that were put, and that were removed."""
    found = answers(machine)
    return (
        sorted(each.name for response in found for each in response.resources),
        sorted(name for response in found for name in response.removed),
    )


def test_the_wildcard_gives_a_client_its_own_and_no_others() -> None:
    """Whatever it asks for, also by name."""
    machine = driver(listener("a", "gateway/mine"), listener("b", "gateway/other"))
    machine.request(delta_request(LISTENER))
    assert told(machine) == (["a"], [])
    machine.request(delta_request(LISTENER, subscribe=("b", "*")))
    assert told(machine) == ([], [])


def test_what_becomes_its_own_is_told_and_what_goes_is_taken() -> None:
    """Others' changes are nothing to it."""
    machine = driver(listener("a", "gateway/mine"))
    machine.request(delta_request(LISTENER))
    told(machine)
    machine.publish(listener("c", "gateway/mine"), listener("b", "gateway/other"))
    assert told(machine) == (["c"], [])
    machine.publish(listener("a", "gateway/mine", b"2"), listener("b", "gateway/other", b"2"))
    assert told(machine) == (["a"], [])
    machine.publish(ResourceChange(LISTENER, "c", None))
    assert told(machine) == ([], ["c"])


def test_a_client_without_anything_of_its_own_is_answered() -> None:
    """Envoy waits for the first answer of each type."""
    machine = driver(listener("b", "gateway/other"))
    machine.request(delta_request(LISTENER))
    assert [len(each.resources) for each in answers(machine)] == [0]


def test_a_resuming_client_is_not_told_again_what_it_holds_and_asks_for() -> None:
    """Ten thousand endpoints are asked for by name at every reconnect."""
    held = resource("x", b"1", type_url=ENDPOINT)
    machine = driver(endpoints("x"), endpoints("y"), endpoints("z", b"2"))
    machine.request(
        delta_request(
            ENDPOINT,
            subscribe=("x", "y", "z"),
            versions={"x": held.version, "z": "old", "gone": "1"},
        )
    )
    assert told(machine) == (["y", "z"], ["gone"])
    machine.publish(endpoints("x", b"2"))
    assert told(machine) == (["x"], [])


class Place:
    """Where a client looks from: from there payloads are other ones."""

    def __init__(self) -> None:
        self.view: View | None = None

    def move(self, payload: bytes) -> None:
        """Every name looks like this from now on."""

        def view(found: Resource) -> Resource:
            return resource(found.name, payload, type_url=ENDPOINT)

        self.view = view

    def of(self, _node: Node) -> View | None:
        """The rule."""
        return self.view


def seen(machine: Driver) -> dict[str, bytes]:
    """What is told, by name."""
    return {each.name: each.payload for response in answers(machine) for each in response.resources}


def placed(*changes: ResourceChange) -> tuple[Driver, Place]:
    """A driver whose client looks from a place."""
    place = Place()
    place.move(b"near")
    rules = {ENDPOINT: TypeRules(view=place.of)}
    machine = Driver(ResourceStore((ENDPOINT,), "test"), rules=rules, types=())
    machine.publish(*changes)
    return machine, place


def test_a_client_is_told_what_a_name_looks_like_to_it() -> None:
    """And nothing where that stays the same though the resource changes."""
    machine, _ = placed(endpoints("x"))
    machine.request(delta_request(ENDPOINT, subscribe=("x",)))
    assert seen(machine) == {"x": b"near"}
    machine.publish(endpoints("x", b"2"))
    assert seen(machine) == {}
    machine.publish(ResourceChange(ENDPOINT, "x", None))
    assert told(machine) == ([], ["x"])


def test_a_client_that_looks_from_elsewhere_is_told_at_the_next_review() -> None:
    """Only of what it asked for, and only if there is such a rule."""
    machine, place = placed(endpoints("x"), endpoints("y"))
    machine.request(delta_request(ENDPOINT, subscribe=("x",)))
    assert seen(machine) == {"x": b"near"}
    assert machine.server.reviewable
    assert not machine.server.review()
    place.move(b"far")
    assert machine.server.review()
    assert seen(machine) == {"x": b"far"}
    place.view = None
    machine.server.review()
    assert seen(machine) == {"x": b"1"}
    other = driver(endpoints("x"))
    other.request(delta_request(ENDPOINT, subscribe=("x",)))
    assert not other.server.reviewable


def test_a_resuming_client_holds_what_it_saw() -> None:
    """The version is that of what it was told, not of what others are."""
    machine, _ = placed(endpoints("x"), endpoints("y"))
    versions = {"x": resource("x", b"near", type_url=ENDPOINT).version, "y": resource("y", b"1").version}
    machine.request(delta_request(ENDPOINT, subscribe=("x", "y"), versions=versions))
    assert seen(machine) == {"y": b"near"}


def test_a_refusal_of_what_a_client_saw_lasts_until_it_sees_something_else() -> None:
    """It is about the bytes that it was sent."""
    machine, place = placed(endpoints("x"))
    machine.request(delta_request(ENDPOINT, subscribe=("x",)))
    out = machine.outgoing()
    assert out is not None
    machine.request(delta_request(ENDPOINT, nonce=out.frame.nonce, error="x: no"))
    (status,) = machine.server.statuses()
    assert status.rejections == (("x", "no"),)
    place.move(b"far")
    machine.server.review()
    assert seen(machine) == {"x": b"far"}
    (status,) = machine.server.statuses()
    assert status.rejections == ()
