"""Clients that resume: by versions and by digest, and what happens while versions are compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol import wildcard
from peerd.protocol.envelope import DeltaRequest, delta_request
from peerd.protocol.errors import (
    MalformedMessageError,
)
from peerd.protocol.rules import Offer, TypeRules
from peerd.protocol.subscription import Event
from peerd.resources import version_index
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


_BODIES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"))
_CHANGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "1", "2", None])), max_size=4)


@given(_BODIES, _BODIES, st.lists(_CHANGES, max_size=12))
@settings(max_examples=400)
def test_whatever_is_published_while_versions_are_compared_the_client_ends_with_what_there_is(
    published: dict[str, str], held: dict[str, str], windows: list[list[tuple[str, str | None]]]
) -> None:
    """In the smallest slices: names that come and go beside the comparison, in the client's versions too."""
    versions = {name: resource(name, body.encode()).version for name, body in held.items()}
    driver = Driver(ztunnel_store(), held={ADDRESS: versions}, types=(ADDRESS,))
    driver.publish(*(put(name, body.encode()) for name, body in published.items()))
    coming = iter(windows)

    def publish_one() -> None:
        changes = next(coming, ())
        driver.publish(*(drop(n) if body is None else put(n, body.encode()) for n, body in changes))

    sizes, version_index._SLICE, wildcard.SLICE = (version_index._SLICE, wildcard.SLICE), 1, -1
    try:
        driver.open()
        for _ in driver.server.compare():
            publish_one()
    finally:
        version_index._SLICE, wildcard.SLICE = sizes
    for _ in windows:
        publish_one()
    driver.clock.now += 2  # nobody asks for policies
    driver.settle()
    collection = driver.store.collection(ADDRESS)
    assert driver.client.versions(ADDRESS) == {
        name: collection.get(name).version for name in collection.names()
    }


def test_whoever_holds_much_and_nothing_as_it_is_shares_everybodys_first_answer() -> None:
    """Empty versions, as ztunnel up to 1.30 sends: no message for each alone, and what is gone follows."""
    store = ztunnel_store()
    held = {ADDRESS: {**{f"n{index}": "" for index in range(1500)}, "gone": ""}}
    clients = [Driver(store, held=held), Driver(store, held=held)]
    clients[0].publish(*(put(f"n{index}", b"1") for index in range(1500)))
    frames = []
    for client in clients:
        client.open()
        for _ in client.server.compare():
            pass
        assert client.step().type_url == AUTHORIZATION
        out = client.outgoing()
        frames.append(out.frame)
        client.request(client.client.accept(client.client.receive(out.frame.message)))
        (rest,) = client.settle()
        assert (rest.resources, rest.removed) == ((), ("gone",))
        assert client.client.versions(ADDRESS).keys() == set(store.collection(ADDRESS).names())
    assert frames[0] is frames[1]


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
