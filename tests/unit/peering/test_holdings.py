"""What is held of one peer, and what it may take."""

from peerd.limits import (
    PEER_BYTES,
    PEER_REFUSALS,
    PEER_RESOURCE_BYTES,
    PEER_RESOURCES,
    PEER_WORKLOADS,
    hits,
)
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, SEGMENT
from peerd.peering.holdings import Entry, Holdings


def enter(holdings: Holdings, type_url: str, name: str, size: int) -> str:
    reason = holdings.over_quota(type_url, name, size)
    if not reason:
        holdings.enter(type_url, name, Entry("v", size))
    return reason


def test_a_resource_too_large_is_refused_and_counted() -> None:
    before = hits(PEER_RESOURCE_BYTES)
    holdings = Holdings()
    assert "over quota" in enter(holdings, FEDERATED_SERVICE, "a", PEER_RESOURCE_BYTES.value + 1)
    assert enter(holdings, FEDERATED_SERVICE, "a", PEER_RESOURCE_BYTES.value) == ""
    assert hits(PEER_RESOURCE_BYTES) == before + 1


def test_one_resource_too_many_is_refused_and_an_update_of_a_held_one_is_not() -> None:
    holdings = Holdings()
    for number in range(PEER_RESOURCES.value):
        assert enter(holdings, FEDERATED_SERVICE, f"n{number}", 1) == ""
    assert "more than 20000 resources" in enter(holdings, FEDERATED_SERVICE, "one more", 1)
    assert enter(holdings, FEDERATED_SERVICE, "n0", 100) == ""
    assert enter(holdings, SEGMENT, "one more", 1) == "", "the number is of each type"
    holdings.remove(FEDERATED_SERVICE, "n1")
    assert enter(holdings, FEDERATED_SERVICE, "one more", 1) == ""


def test_workloads_have_a_number_of_their_own() -> None:
    before = hits(PEER_WORKLOADS)
    holdings = Holdings()
    for number in range(PEER_WORKLOADS.value):
        assert enter(holdings, ADDRESS, f"n{number}", 1) == ""
    assert f"more than {PEER_WORKLOADS.value} resources" in enter(holdings, ADDRESS, "one more", 1)
    assert hits(PEER_WORKLOADS) == before + 1


def test_bytes_are_counted_over_all_and_given_back() -> None:
    holdings = Holdings()
    size = PEER_RESOURCE_BYTES.value
    fit = PEER_BYTES.value // size
    for number in range(fit):
        assert enter(holdings, FEDERATED_SERVICE, f"n{number}", size) == ""
    assert "bytes in all" in enter(holdings, FEDERATED_SERVICE, "one more", 1)
    assert enter(holdings, FEDERATED_SERVICE, "n0", size) == "", "an update of the same size"
    holdings.remove(FEDERATED_SERVICE, "n0")
    assert holdings.bytes == (fit - 1) * size
    assert enter(holdings, FEDERATED_SERVICE, "one more", 1) == ""


def test_removing_what_is_not_there_changes_nothing() -> None:
    holdings = Holdings()
    assert holdings.remove(FEDERATED_SERVICE, "a") is None
    assert (holdings.bytes, len(holdings)) == (0, 0)


def test_a_refusal_is_shown_until_the_name_is_accepted_or_gone() -> None:
    holdings = Holdings()
    for name in ("a", "b"):
        holdings.refuse(FEDERATED_SERVICE, name, "no")
    assert holdings.refused() == (("a", "no"), ("b", "no"))
    holdings.enter(FEDERATED_SERVICE, "a", Entry("v", 1))
    holdings.remove(FEDERATED_SERVICE, "b")
    assert holdings.refused() == ()


def test_refusals_past_the_limit_are_only_counted() -> None:
    before = hits(PEER_REFUSALS)
    holdings = Holdings()
    for number in range(PEER_REFUSALS.value + 3):
        holdings.refuse(FEDERATED_SERVICE, str(number), "no")
    assert len(holdings.refused()) == PEER_REFUSALS.value
    assert hits(PEER_REFUSALS) == before + 3


def test_what_is_taken_back_is_forgotten_with_its_bytes_workloads_first() -> None:
    """With a service its workloads would all go at once, and it may have thousands."""
    holdings = Holdings()
    for number in range(3):
        holdings.enter(ADDRESS, f"w{number}", Entry("1", 10))
        holdings.enter(FEDERATED_SERVICE, f"s{number}", Entry("1", 5))
    assert {type_url for type_url, _ in holdings.pop(2)} == {ADDRESS}
    assert (len(holdings), holdings.bytes) == (4, 25)
    gone = holdings.pop(2)
    assert [type_url for type_url, _ in gone] == [ADDRESS, FEDERATED_SERVICE]
    assert holdings.of(ADDRESS) == {}
    assert len(holdings.pop(100)) == 2
    assert (len(holdings), holdings.bytes, holdings.pop(1)) == (0, 0, [])
