"""Clients that resume: by versions and by digest, and what happens while versions are compared."""

import pytest

from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol import wildcard
from peerd.protocol.envelope import DeltaRequest, delta_request
from peerd.protocol.errors import (
    MalformedMessageError,
)
from peerd.protocol.rules import Offer, TypeRules
from peerd.protocol.subscription import Event
from tests.support.delta import (
    Driver,
    connected,
    drop,
    names,
    policy,
    put,
    resource,
    ztunnel_store,
)


class Digests:
    """A resume hook: the map `{"#": digest}`."""

    def __init__(self, ours: str) -> None:
        self.ours = ours

    def judge(self, _type_url: str, versions: tuple[bytes, ...]) -> Offer:
        if len(versions) != 1 or b"#" not in versions[0]:
            return Offer.NONE
        return Offer.EQUAL if self.ours.encode() in versions[0] else Offer.WANTED

    def notice(self, _type_url: str, offer: Offer) -> bytes:
        return resource(f"@{offer.value}").frame


def test_true_versions_move_nothing_of_either_type() -> None:
    store = ztunnel_store()
    first = Driver(store)
    first.publish(put("w", b"1"), policy("ns/p", b"1"))
    first.open()
    first.settle()
    held = {url: dict(first.client.versions(url)) for url in (ADDRESS, AUTHORIZATION)}
    again = Driver(store, held=held)
    again.open()
    responses = again.settle()
    assert len(responses) == 2
    assert not any(r.resources or r.removed for r in responses)


def test_versions_are_taken_from_the_first_request_only() -> None:
    driver = connected(put("w", b"1"))
    driver.request(delta_request(ADDRESS, versions={"never": "was"}))
    assert driver.settle() == []


def test_what_changes_while_versions_are_compared_is_not_lost() -> None:
    store = ztunnel_store()
    held = {f"n{index}": resource(f"n{index}", b"1").version for index in range(5000)}
    driver = Driver(store, held={ADDRESS: held})
    driver.publish(*(put(name, b"1") for name in held))
    driver.open()
    assert driver.server.comparing
    slices = driver.server.compare()
    next(slices)
    driver.publish(put("n0", b"2"), drop("n1"), put("new"))
    for _ in slices:
        pass
    assert not driver.server.comparing
    driver.step()
    response = driver.step()
    assert sorted(names(response)) == ["n0", "new"]
    assert response.removed == ("n1",)


@pytest.mark.parametrize("event", [Event.PLAIN, Event.VERSIONS, Event.EQUAL, Event.WANTED])
def test_a_client_begins_again_while_its_versions_are_compared(event: Event) -> None:
    """The comparison is dropped, and the new beginning is answered."""
    digests = Digests("ours")
    rules = {ADDRESS: TypeRules(resume=digests)}
    driver = Driver(ztunnel_store(), rules=rules, types=(ADDRESS,))
    driver.publish(put("s", b"2"))
    many = {f"old-{number}": "1" for number in range(wildcard.SLICE + 1)}
    driver.request(delta_request(ADDRESS, subscribe=("*",), versions=many))
    assert driver.server.comparing
    again = {
        Event.PLAIN: {},
        Event.VERSIONS: {"s": "1"},
        Event.EQUAL: {"#": "ours"},
        Event.WANTED: {"#": "another"},
    }[event]
    driver.request(delta_request(ADDRESS, subscribe=("*",), versions=again))
    assert not driver.server.comparing
    sent = [each.removed for each in driver.settle()]
    assert sent, "it is answered"
    assert not any(sent), "what the first beginning held is not answered any more"


def test_nothing_is_sent_of_a_type_whose_versions_are_being_compared() -> None:
    driver = Driver(ztunnel_store(), held={ADDRESS: {f"n{index}": "1" for index in range(5000)}})
    driver.open()
    assert driver.step().type_url == AUTHORIZATION
    assert driver.send() is None


def test_malformed_versions_end_the_stream() -> None:
    driver = Driver(ztunnel_store())
    with pytest.raises(MalformedMessageError):
        driver.server.receive(DeltaRequest(ADDRESS, versions=(b"\x0a\x09x",)), 0.0)


def test_on_demand_resumes_what_it_holds() -> None:
    driver = Driver(
        ztunnel_store(),
        on_demand=[ADDRESS],
        held={ADDRESS: {"same": resource("same", b"1").version, "old": "1", "gone": "1"}},
    )
    driver.publish(put("same", b"1"), put("old", b"2"), put("unknown"))
    driver.open()
    response = driver.settle()[-1]
    assert (names(response), response.removed) == (["old"], ("gone",))
    driver.publish(put("same", b"2"))
    assert names(driver.step()) == ["same"]


def test_resume_by_digest_moves_nothing_where_it_is_equal_and_asks_where_not() -> None:
    store = ztunnel_store()
    rules = {ADDRESS: TypeRules(resume=Digests("d1"))}
    equal = Driver(store, rules=rules, types=(ADDRESS,), held={ADDRESS: {"#": "d1"}})
    equal.publish(put("a", b"1"))
    equal.open()
    assert [names(r) for r in equal.settle()] == [["@equal"]]

    other = Driver(store, rules=rules, types=(ADDRESS,), held={ADDRESS: {"#": "d2"}})
    other.open()
    assert [names(r) for r in other.settle()] == [["@wanted"]]
    other.request(delta_request(ADDRESS, subscribe=["*"], versions={"a": "old", "gone": "1"}))
    responses = other.settle()
    assert [names(r) for r in responses] == [["a"], ["@none"]]
    assert responses[0].removed == ("gone",)
