"""The answering machine, rule by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.limits import (
    ACK_OVERDUE_S,
    CHANGE_LOG_NAMES,
    NAMES_PER_STREAM,
    REJECTIONS_PER_STREAM,
    TYPES_PER_STREAM,
    WRITE_DEADLINE_S,
    hits,
)
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.envelope import DeltaRequest, Node, delta_request, parse_ack, parse_delta_request
from peerd.protocol.errors import (
    BehindError,
    LimitExceededError,
    MalformedMessageError,
    OverdueError,
    UnexpectedRequestError,
)
from peerd.protocol.rules import TypeRules
from peerd.protocol.subscription import TRANSITIONS, Event, State, Subscription
from peerd.serve.ads import ztunnel_rules
from tests.support.delta import (
    NODE,
    Driver,
    Missing,
    connected,
    drop,
    names,
    policy,
    put,
    resource,
    ztunnel_store,
)

EMPTY = "a response with nothing in it"


def test_both_first_answers_come_even_when_there_is_nothing() -> None:
    """ztunnel becomes ready on their ACKs (wire-contract §1.4)."""
    driver = Driver(ztunnel_store())
    driver.open()
    responses = driver.settle()
    assert [r.type_url for r in responses] == [AUTHORIZATION, ADDRESS]
    assert not any(r.resources or r.removed for r in responses), EMPTY


def test_addresses_merge_while_their_ack_is_outstanding_and_policies_do_not_wait() -> None:
    driver = connected()
    driver.publish(put("a"))
    outstanding = driver.send()
    for index in range(3):
        driver.publish(put(f"b{index}"), policy(f"ns/p{index}"))
        assert names(driver.send()) == [f"ns/p{index}"]
        assert driver.send() is None
    driver.request(driver.client.accept(outstanding))
    assert names(driver.step()) == ["b0", "b1", "b2"]


def test_streams_at_one_cursor_send_one_bytes_object() -> None:
    store = ztunnel_store()
    drivers = [Driver(store) for _ in range(2)]
    for driver in drivers:
        driver.open()
        driver.settle()
    drivers[0].publish(put("w"))
    one, other = (driver.outgoing() for driver in drivers)
    assert one.frame.message is other.frame.message


def test_an_ack_is_counted_by_its_nonce_and_a_stale_one_ignored() -> None:
    driver = connected()
    driver.publish(put("w"))
    response = driver.send()
    driver.request(delta_request(ADDRESS, nonce="stale"))
    assert driver.stale == 1
    assert driver.server.statuses()[1].outstanding == 1
    driver.request(driver.client.accept(response))
    status = driver.server.statuses()[1]
    assert (status.outstanding, status.acked, status.sent) == (0, response.nonce, response.nonce)


def test_a_nack_is_recorded_by_resource_and_never_sent_again_in_a_loop() -> None:
    driver = connected()
    driver.publish(put("good"), put("a"), put("b"))
    response = driver.send()
    driver.request(delta_request(ADDRESS, nonce=response.nonce, error="a: no; way: out; b: bad: very"))
    assert dict(driver.server.statuses()[1].rejections) == {"a": "no; way: out", "b": "bad: very"}
    assert driver.settle() == []
    driver.publish(put("a", b"2"))
    assert names(driver.step()) == ["a"]
    assert dict(driver.server.statuses()[1].rejections) == {"b": "bad: very"}


def test_what_a_refusal_says_of_names_nobody_knows_is_one_reason() -> None:
    """The resources may be gone by then; however many they are, it is read in one pass."""
    driver = connected()
    driver.publish(put("a"))
    gone = [f"gone-{index}: bad" for index in range(5_000)]
    text = "; ".join([*gone, "a: no", *gone, ""])
    driver.request(delta_request(ADDRESS, nonce=driver.send().nonce, error=text))
    assert driver.server.statuses()[1].rejections == (
        ("", "; ".join(gone)),
        ("a", "; ".join(["no", *gone])),
    )


def test_a_nack_is_known_by_error_detail_alone() -> None:
    """Its code is 0 and its message may be empty (wire-contract §1.4)."""
    driver = connected()
    driver.publish(put("a"))
    driver.request(delta_request(ADDRESS, nonce=driver.send().nonce, error=""))
    assert driver.server.statuses()[1].rejections == (("", ""),)


def test_rejections_are_kept_up_to_a_limit() -> None:
    driver = connected()
    count = REJECTIONS_PER_STREAM.value + 5
    driver.publish(*(put(f"n{index}") for index in range(count)))
    before = hits(REJECTIONS_PER_STREAM)
    text = "; ".join(f"n{index}: bad" for index in range(count))
    driver.request(delta_request(ADDRESS, nonce=driver.send().nonce, error=text))
    assert len(driver.server.statuses()[1].rejections) == REJECTIONS_PER_STREAM.value
    assert hits(REJECTIONS_PER_STREAM) == before + 5


def test_a_withheld_removal_goes_once_it_is_no_longer_withheld() -> None:
    """What an unsynced peer may own survives our restart (decision D13)."""
    missing = Missing("remote", "changed")
    driver = Driver(
        ztunnel_store(),
        rules=ztunnel_rules(missing),
        held={ADDRESS: {"remote": "1", "changed": "1", "local": "1"}},
    )
    driver.publish(put("changed", b"2"))
    driver.open()
    driver.step()
    response = driver.step()
    assert (names(response), response.removed) == ([], ("local",))
    assert driver.server.withholding == 2
    assert not driver.server.review()
    missing.names.clear()
    assert driver.server.review()
    response = driver.step()
    assert (names(response), response.removed) == (["changed"], ("remote",))
    assert driver.server.withholding == 0


def test_a_withheld_resource_whose_definition_changes_is_sent_at_once() -> None:
    missing = Missing("s")
    driver = Driver(ztunnel_store(), rules=ztunnel_rules(missing), held={ADDRESS: {"s": "1"}})
    driver.publish(put("s", b"2"))
    driver.open()
    assert not driver.settle()[-1].resources
    missing.here = "2"
    driver.publish(put("s", b"3"))
    assert names(driver.step()) == ["s"]
    assert not driver.server.review()
    assert driver.settle() == []
    driver.publish(put("s", b"4"))
    assert [names(each) for each in driver.settle()] == [["s"]], "from then on it is told"


def test_a_definition_that_changed_without_a_word_is_sent_at_the_next_look() -> None:
    missing = Missing("s")
    driver = resumed(missing, "s", "w")
    missing.here = "2"
    assert driver.server.review()
    assert [names(each) for each in driver.settle()] == [["s"]]
    missing.names.clear()
    assert not driver.server.review(), "it was told"


def test_a_name_that_goes_while_a_peer_may_own_it_stays_though_nothing_was_withheld() -> None:
    """Our own Service was deleted, and a missing peer may have one of that name (decision D13)."""
    missing = Missing()
    driver = connected(put("s", b"1"), put("w", b"1"), rules=ztunnel_rules(missing))
    missing.names.add("s")
    driver.publish(drop("s"), drop("w"))
    assert [each.removed for each in driver.settle()] == [("w",)]
    driver.publish(put("s", b"2"))
    assert [names(each) for each in driver.settle()] == [["s"]], "what it is now is told"
    driver.publish(drop("s"))
    assert driver.settle() == []
    missing.names.clear()
    assert driver.server.review()
    assert [each.removed for each in driver.settle()] == [("s",)]


def resumed(missing: Missing, *there: str, **options) -> Driver:
    """A client that held `s` and `w` in older versions, settled; *there* are what the store holds by now."""
    driver = Driver(
        ztunnel_store(), rules=ztunnel_rules(missing), held={ADDRESS: {"s": "1", "w": "1"}}, **options
    )
    driver.publish(*(put(name, b"2") for name in there))
    driver.open()
    driver.settle()
    driver.log.clear()
    return driver


def test_what_is_withheld_stays_so_though_the_first_of_two_peers_changes_it() -> None:
    """It still lacks the other's endpoints and identities (decision D13)."""
    missing = Missing("s")
    driver = resumed(missing, "s", "w")
    driver.publish(put("s", b"3"), put("w", b"3"))
    assert [names(each) for each in driver.settle()] == [["w"]]
    driver.publish(put("s", b"4"))
    assert driver.settle() == []
    missing.names.clear()
    assert driver.server.review()
    assert [names(each) for each in driver.settle()] == [["s"]]


def test_what_was_gone_and_comes_back_in_part_is_withheld_too_and_so_is_its_going() -> None:
    missing = Missing("s")
    driver = resumed(missing, "w")
    driver.publish(put("s", b"2"))
    assert driver.settle() == []
    driver.publish(drop("s"))
    assert driver.settle() == []
    missing.here = ""  # our own definition went: no word on what peers have
    driver.publish(put("w", b"3"), drop("x"))
    assert [names(each) for each in driver.settle()] == [["w"]]
    assert not driver.server.review()
    missing.names.clear()
    assert driver.server.review()
    assert [each.removed for each in driver.settle()] == [("s",)]


def test_what_changes_between_comparison_and_first_answer_is_withheld_too() -> None:
    missing = Missing("s")
    driver = Driver(ztunnel_store(), rules=ztunnel_rules(missing), held={ADDRESS: {"s": "1", "w": "1"}})
    driver.publish(put("s", b"2"), put("w", b"2"))
    driver.open()
    driver.publish(put("s", b"3"), put("v", b"1"))
    assert [sorted(names(each)) for each in driver.settle()] == [[], ["v", "w"]]


def test_a_client_on_demand_that_resumes_is_sent_the_members_that_its_services_got_meanwhile() -> None:
    """It holds the service, and does not ask for it again (decision D12)."""
    driver = Driver(ztunnel_store(), held={ADDRESS: {"s": resource("s", b"1").version}}, on_demand=(ADDRESS,))
    driver.publish(put("s", b"1"), put("w", b"1", groups=("service/s",)), put("v", b"1"))
    driver.open()
    assert [names(each) for each in driver.settle() if each.type_url == ADDRESS] == [["w"]]


def test_clients_on_demand_are_not_told_in_fewer_words_either() -> None:
    """They resume with what they hold, and ask for it again by name (decisions D12, D13)."""
    missing = Missing("s", "gone")
    driver = Driver(
        ztunnel_store(),
        rules=ztunnel_rules(missing),
        held={ADDRESS: {"s": "1", "gone": "1", "w": "1"}},
        on_demand=("s", "gone", "w"),
    )
    driver.publish(put("s", b"2"), put("w", b"2"))
    driver.open()
    told = [each for each in driver.settle() if each.type_url == ADDRESS]
    assert [(names(each), each.removed) for each in told] == [(["w"], ())]
    driver.publish(put("s", b"3"), put("gone", b"2"))
    assert driver.settle() == []
    driver.publish(drop("gone"))
    assert driver.settle() == []
    missing.names.clear()
    assert driver.server.review()
    assert [(names(each), each.removed) for each in driver.settle()] == [(["s"], ("gone",))]


def test_a_client_behind_the_horizon_is_told_to_come_back() -> None:
    driver = Driver(ztunnel_store(log_names=2))
    driver.open()
    driver.settle()
    driver.publish(put("a"))
    response = driver.send()
    for index in range(4):
        driver.publish(put(f"b{index}"))
    driver.request(driver.client.accept(response))
    before = hits(CHANGE_LOG_NAMES)
    with pytest.raises(BehindError, match="reconnect"):
        driver.send()
    assert hits(CHANGE_LOG_NAMES) == before + 1


def test_an_overdue_ack_ends_the_stream_counted_from_the_end_of_the_write() -> None:
    driver = connected()
    driver.publish(put("w"))
    assert driver.server.next(driver.clock.now) is not None
    driver.clock.now += 40
    driver.server.check(driver.clock.now)
    driver.server.written(driver.clock.now)
    driver.clock.now += 30
    driver.server.check(driver.clock.now)
    driver.clock.now += 0.1
    before = hits(ACK_OVERDUE_S)
    with pytest.raises(OverdueError, match=r"no ACK of .*Address"):
        driver.server.check(driver.clock.now)
    assert hits(ACK_OVERDUE_S) == before + 1


def test_a_write_that_does_not_end_ends_the_stream() -> None:
    driver = connected()
    driver.publish(put("w"))
    driver.server.next(driver.clock.now)
    driver.clock.now += 30
    driver.server.writing(driver.clock.now)  # it waited for its turn until now
    driver.clock.now += 59
    driver.server.check(driver.clock.now)
    driver.clock.now += 2
    before = hits(WRITE_DEADLINE_S)
    with pytest.raises(OverdueError, match="was not read"):
        driver.server.check(driver.clock.now)
    assert hits(WRITE_DEADLINE_S) == before + 1


def test_one_response_is_written_at_a_time() -> None:
    driver = Driver(ztunnel_store())
    driver.open()
    assert driver.server.next(0.0) is not None
    assert driver.server.next(0.0) is None
    driver.server.written(0.0)
    assert driver.server.next(0.0) is not None


def test_a_request_without_a_type_is_malformed() -> None:
    with pytest.raises(MalformedMessageError):
        Driver(ztunnel_store()).server.receive(DeltaRequest(""), 0.0)


def test_a_type_nobody_serves_gets_one_empty_answer() -> None:
    """A newer ztunnel may wait for it."""
    driver = Driver(ztunnel_store(), types=("type.googleapis.com/new.Type",))
    driver.open()
    response = driver.send()
    assert (response.type_url, response.resources) == ("type.googleapis.com/new.Type", ())
    driver.request(delta_request(response.type_url, nonce=response.nonce))
    assert driver.send() is None


def test_types_on_one_stream_are_limited() -> None:
    driver = Driver(ztunnel_store())
    before = hits(TYPES_PER_STREAM)
    for index in range(TYPES_PER_STREAM.value):
        driver.request(delta_request(f"type/{index}"))
    with pytest.raises(LimitExceededError):
        driver.request(delta_request("type/more"))
    assert hits(TYPES_PER_STREAM) == before + 1


# -- on demand -------------------------------------------------------------------------------------------


def on_demand(*changes, **options) -> Driver:
    return connected(*changes, on_demand=[ADDRESS], **options)


def test_on_demand_begins_with_the_node_s_own_pods_and_their_aliases() -> None:
    driver = Driver(ztunnel_store(), on_demand=[ADDRESS])
    driver.publish(
        put("mine", aliases=("n/1",), groups=("node/node-a",)), put("other", groups=("node/node-b",))
    )
    driver.open()
    response = driver.settle()[-1]
    assert names(response) == ["mine"]
    assert response.resources[0].aliases == ("n/1",)


def test_a_look_up_by_alias_gives_the_canonical_resources_and_releases_the_key() -> None:
    driver = on_demand(
        put("ns/svc", aliases=("n/10.0.0.1",)),
        put("w1", groups=("service/ns/svc",)),
        put("w2", groups=("x",)),
    )
    driver.ask("n/10.0.0.1")
    response = driver.step()
    assert sorted(names(response)) == ["ns/svc", "w1"]
    assert response.removed == ("n/10.0.0.1",)


def test_a_look_up_by_name_needs_no_release() -> None:
    driver = on_demand(put("w1"))
    driver.ask("w1")
    response = driver.step()
    assert (names(response), response.removed) == (["w1"], ())


def test_a_missing_key_is_remembered_and_sent_when_it_appears() -> None:
    driver = on_demand()
    driver.ask("n/1")
    assert driver.step().removed == ("n/1",)
    driver.ask("n/1")
    assert driver.step().removed == ("n/1",), "it is asked again"
    driver.publish(put("w", aliases=("n/1",)))
    response = driver.step()
    assert (names(response), response.removed) == (["w"], ())


def test_on_demand_hears_of_new_members_changes_and_removals_and_of_nothing_else() -> None:
    driver = on_demand(put("ns/svc", aliases=("n/1",)), put("stranger"))
    driver.ask("n/1")
    driver.step()
    driver.publish(put("w", groups=("service/ns/svc",)), put("stranger", b"2"))
    assert names(driver.step()) == ["w"]
    driver.publish(put("w", b"2"))  # it left the service: the client must hear of that
    assert names(driver.step()) == ["w"]
    driver.publish(drop("w"), drop("ns/svc"))
    assert sorted(driver.step().removed) == ["ns/svc", "w"]
    driver.publish(put("ns/svc", b"3", aliases=("n/1",)))
    assert names(driver.step()) == ["ns/svc"]
    assert driver.settle() == []


def test_on_demand_answers_do_not_wait_for_acks() -> None:
    driver = on_demand(put("a"), put("b"))
    driver.ask("a")
    assert names(driver.send()) == ["a"]
    driver.ask("b")
    assert names(driver.send()) == ["b"]


def test_unsubscribed_names_are_followed_no_longer() -> None:
    driver = on_demand(put("a"))
    driver.ask("a")
    driver.step()
    driver.request(driver.client.unsubscribe(ADDRESS, ["a"]))
    driver.publish(put("a", b"2"))
    assert driver.settle() == []
    assert len(driver.interest) == 1, "only the node's own group"


def test_a_closed_stream_leaves_nothing_in_the_index() -> None:
    driver = on_demand(put("a"))
    driver.ask("a", "n/1")
    driver.settle()
    driver.server.close()
    assert len(driver.interest) == 0


def test_names_per_stream_are_limited() -> None:
    driver = on_demand()
    before = hits(NAMES_PER_STREAM)
    driver.ask(*(f"n{index}" for index in range(NAMES_PER_STREAM.value - 10)))
    with pytest.raises(LimitExceededError, match="wildcard"):
        driver.ask(*(f"m{index}" for index in range(11)))
    assert hits(NAMES_PER_STREAM) == before + 1


def test_the_wildcard_turned_on_later_takes_over_and_off_leaves_the_named() -> None:
    driver = on_demand(put("a"), put("b"))
    driver.ask("a")
    driver.step()
    driver.ask("*")
    assert names(driver.step()) == ["b"], "it holds a already"
    driver.request(delta_request(ADDRESS, unsubscribe=["*"]))
    driver.publish(put("a", b"2"), put("b", b"2"))
    assert names(driver.step()) == ["a"]


def test_under_the_wildcard_a_name_unsubscribed_is_said_again() -> None:
    driver = connected(put("a"))
    driver.ask("a")
    assert names(driver.step()) == ["a"]
    driver.request(delta_request(ADDRESS, unsubscribe=["a"]))
    assert names(driver.step()) == ["a"]


# -- the table, and other services -----------------------------------------------------------------------


def test_the_table_holds_every_beginning_and_refuses_what_it_does_not_hold() -> None:
    for state in State:
        for event in (Event.PLAIN, Event.VERSIONS, Event.EQUAL, Event.WANTED):
            assert (state, event) in TRANSITIONS
    subscription = Subscription(ADDRESS, TypeRules(), ztunnel_store().collection(ADDRESS), 0.0)
    with pytest.raises(UnexpectedRequestError, match="answered while new"):
        subscription.move(Event.ANSWERED)


def test_a_node_is_taken_from_the_first_request_only() -> None:
    driver = connected()
    before = driver.server.node
    driver.request(delta_request(ADDRESS, subscribe=["x"], node=Node("other")))
    assert driver.server.node is before


# -- the short way of an ACK -----------------------------------------------------------------------------


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_plain_ack_read_the_short_way_is_what_the_long_way_reads(type_url: str, nonce: str) -> None:
    message = delta_request(type_url, nonce=nonce)
    ack = parse_ack(message)
    if ack is not None:
        request = parse_delta_request(message)
        assert (ack[0].decode(), ack[1]) == (request.type_url, request.nonce) == (type_url, nonce)
    else:
        assert len(message) > 128 or not type_url or not nonce


@given(st.binary(max_size=140))
def test_the_short_way_takes_no_message_for_another(message: bytes) -> None:
    ack = parse_ack(message)
    if ack is not None:
        request = parse_delta_request(message)
        assert request == DeltaRequest(ack[0].decode(), ack[1])


@pytest.mark.parametrize(
    "extra",
    [{"error": ""}, {"subscribe": ["a"]}, {"unsubscribe": ["a"]}, {"versions": {"a": "1"}}, {"node": NODE}],
)
def test_the_short_way_is_for_acks_that_say_nothing_else(extra: dict) -> None:
    assert parse_ack(delta_request(ADDRESS, nonce="n", **extra)) is None


def test_an_ack_of_a_type_that_was_never_asked_for_goes_the_long_way() -> None:
    driver = Driver(ztunnel_store())
    assert not driver.server.acknowledge(ADDRESS.encode(), "n", 0.0)
    driver.open()
    assert not driver.server.acknowledge(ADDRESS.encode(), "", 0.0)
    assert driver.server.acknowledge(ADDRESS.encode(), "stale", 0.0)
    assert driver.stale == 1
