"""The asking machine: what it says it holds."""

import pytest

from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.wire import read_map_entry
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, ReceivedResource, parse_delta_request
from peerd.protocol.errors import MalformedMessageError, UnexpectedRequestError
from tests.support.delta import NODE


def response(
    *names: str, removed: tuple[str, ...] = (), version: str = "1", nonce: str = "n"
) -> DeltaResponse:
    return DeltaResponse(
        ADDRESS, nonce, tuple(ReceivedResource(name, version, ADDRESS, b"") for name in names), removed
    )


def versions_of(request: bytes) -> dict[str, str]:
    return dict(read_map_entry(entry) for entry in parse_delta_request(request).versions)


def test_first_requests_carry_the_node_and_what_is_held_in_order() -> None:
    client = DeltaClient((ADDRESS, AUTHORIZATION), NODE, {ADDRESS: {"a": "1", "b": ""}})
    first, second = client.start()
    assert parse_delta_request(first).node == parse_delta_request(second).node == NODE
    assert (parse_delta_request(first).type_url, parse_delta_request(second).type_url) == (
        ADDRESS,
        AUTHORIZATION,
    )
    assert (versions_of(first), versions_of(second)) == ({"a": "1", "b": ""}, {})


def test_on_demand_subscribes_and_unsubscribes_the_wildcard_at_once() -> None:
    request = parse_delta_request(DeltaClient((ADDRESS,), NODE, on_demand=[ADDRESS]).start()[0])
    assert request.subscribe == request.unsubscribe == ("*",)


def test_accepted_resources_are_held_and_their_ack_says_nothing_else() -> None:
    client = DeltaClient((ADDRESS,), NODE, {ADDRESS: {"gone": "1"}})
    client.start()
    ack = parse_delta_request(client.accept(response("a", removed=("gone", "never-held"))))
    assert (ack.nonce, ack.error, ack.node, ack.subscribe, ack.versions) == ("n", None, None, (), ())
    assert client.versions(ADDRESS) == {"a": "1"}
    assert client.ready(ADDRESS)


def test_a_rejection_is_partial_and_its_names_are_not_held() -> None:
    """As ztunnel: the rest of the response counts (wire-contract §1.4)."""
    client = DeltaClient((ADDRESS,), NODE, {ADDRESS: {"bad": "0", "gone": "0"}})
    client.start()
    nack = parse_delta_request(client.reject(response("good", "bad", removed=("gone",)), {"bad": "why"}))
    assert (nack.nonce, nack.error) == ("n", "bad: why")
    assert client.versions(ADDRESS) == {"good": "1"}
    assert client.answered(ADDRESS)
    assert not client.ready(ADDRESS), "ztunnel is not ready on a NACK"


def test_readiness_begins_anew_with_each_stream_and_what_is_held_does_not() -> None:
    client = DeltaClient((ADDRESS,), NODE)
    client.start()
    client.accept(response("a"))
    (again,) = client.start()
    assert not client.answered(ADDRESS)
    assert versions_of(again) == {"a": "1"}


def test_unsubscribed_names_are_not_held() -> None:
    client = DeltaClient((ADDRESS,), NODE, {ADDRESS: {"a": "1"}})
    assert parse_delta_request(client.unsubscribe(ADDRESS, ["a"])).unsubscribe == ("a",)
    assert client.versions(ADDRESS) == {}


def test_a_type_that_was_not_asked_for_is_not_accepted_but_may_be_acknowledged() -> None:
    client = DeltaClient((AUTHORIZATION,), NODE)
    with pytest.raises(UnexpectedRequestError):
        client.accept(response("a"))
    assert parse_delta_request(client.acknowledge(response("a"))).nonce == "n"


def test_bytes_that_are_no_response_are_malformed() -> None:
    with pytest.raises(MalformedMessageError):
        DeltaClient((ADDRESS,), NODE).receive(b"\xff\xff")
