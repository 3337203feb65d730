"""Envoy's types over the same machine: own resources only, and nothing again that a client holds (D37)."""

from peerd.model.resource import ResourceChange
from peerd.model.types import ENDPOINT, LISTENER
from peerd.protocol.envelope import DeltaResponse, delta_request, parse_delta_response
from peerd.protocol.rules import TypeRules
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
