"""What a follower knows of a kind: lists are the truth, watches are put in order by versions."""

import pytest

from peerd.kubeapi.known import Known, Word
from peerd.kubeapi.lists import Head
from peerd.model.kube.meta import ObjectKey


def head(name: str, version: int | str, uid: str = "u1") -> Head:
    return Head(ObjectKey("shop", name), uid, str(version))


@pytest.fixture
def known() -> Known:
    """Knows `a` in version 3, as of a list of version 10."""
    made = Known()
    made.begin()
    made.note(head("a", 3))
    made.complete("10")
    return made


def test_a_list_tells_only_what_differs(known: Known) -> None:
    """Same object and version: nothing. Another version, lower even, or another uid: news."""
    known.begin()
    assert known.note(head("a", 3)) is Word.KNOWN
    known.complete("11")
    known.begin()
    assert known.note(head("a", 2)) is Word.NEWS
    assert known.note(head("a", 2, uid="u2")) is Word.NEWS


def test_what_a_list_lacks_is_missing_until_it_is_complete(known: Known) -> None:
    """An unfinished list says nothing about what it has not named yet."""
    known.begin()
    known.note(head("b", 12))
    assert known.missing == [ObjectKey("shop", "a")]
    known.forget()
    assert len(known) == 2
    assert known.missing == []
    known.begin()
    known.note(head("b", 12))
    known.complete("13")
    assert len(known) == 1
    assert known.version == "13"


def test_an_object_deleted_while_the_list_is_taken_is_missing(known: Known) -> None:
    """Though the list had named it."""
    known.begin()
    known.note(head("a", 3))
    known.unnote(ObjectKey("shop", "a"))
    assert known.missing == [ObjectKey("shop", "a")]


def test_a_watch_goes_on_from_the_latest_event(known: Known) -> None:
    """Bookmarks too; an older one does not take it back."""
    assert known.put(head("b", 12)) is Word.NEWS
    assert known.version == "12"
    known.advance("20")
    known.advance("15")
    assert known.version == "20"


def test_events_heard_again_are_known(known: Known) -> None:
    """The same, an older one of the same object, a deletion of what is gone."""
    known.put(head("a", 12))
    assert known.put(head("a", 12)) is Word.KNOWN
    assert known.put(head("a", 11)) is Word.KNOWN
    assert known.delete(head("a", 13)) is Word.NEWS
    assert known.delete(head("a", 13)) is Word.KNOWN


def test_a_deletion_of_an_earlier_object_of_the_name_does_not_count(known: Known) -> None:
    """It was made again since."""
    known.put(head("a", 15, uid="u2"))
    assert known.delete(head("a", 12)) is Word.KNOWN
    assert len(known) == 1


def test_an_event_out_of_order_is_placed_by_its_object(known: Known) -> None:
    """Newer than what we have of it: news, though a later event of another object came first."""
    known.put(head("b", 12))
    assert known.put(head("a", 11)) is Word.NEWS
    assert known.version == "12"


def test_an_event_out_of_order_of_an_unknown_object_cannot_be_placed(known: Known) -> None:
    """It may have been deleted in the meantime; a new list must tell."""
    known.put(head("b", 12))
    assert known.put(head("c", 11)) is Word.UNPLACED
    assert known.put(head("c", 11)) is Word.UNPLACED


def test_versions_that_are_no_numbers_still_tell_states_apart() -> None:
    """Nothing is compared then, and nothing is lost."""
    known = Known()
    known.begin()
    known.note(head("a", "x"))
    known.complete("r1")
    assert known.put(head("a", "x")) is Word.KNOWN
    assert known.put(head("a", "y")) is Word.NEWS
    assert known.put(head("b", "z")) is Word.NEWS
    assert known.delete(head("a", "w")) is Word.NEWS
    assert known.version == "w"
