"""However a watch repeats and disorders its events, what is told is in the end what there is (hypothesis)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.kubeapi.known import Known, Word
from peerd.kubeapi.lists import Head
from peerd.model.kube.meta import ObjectKey

NAMES = ("a", "b", "c")
Event = tuple[str, Head]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What really happened: each event one version later, objects made, changed and deleted."""
    events: list[Event] = []
    alive: dict[str, str] = {}
    for version in range(1, draw(st.integers(1, 20)) + 1):
        name = draw(st.sampled_from(NAMES))
        deleted = name in alive and draw(st.booleans())
        uid = alive.setdefault(name, f"u{version}")
        if deleted:
            del alive[name]
        events.append(("DELETED" if deleted else "MODIFIED", Head(ObjectKey("", name), uid, str(version))))
    return events


@st.composite
def disordered(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """A history, and the same with neighbours swapped and events repeated."""
    truth = draw(histories())
    heard = list(truth)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(heard) - 1))
        if draw(st.booleans()) and place + 1 < len(heard):
            heard[place], heard[place + 1] = heard[place + 1], heard[place]
        else:
            heard.insert(draw(st.integers(place, len(heard))), heard[place])
    return truth, heard


def state(events: list[Event]) -> dict[ObjectKey, Head]:
    found: dict[ObjectKey, Head] = {}
    for type_, head in events:
        if type_ == "DELETED":
            found.pop(head.key, None)
        else:
            found[head.key] = head
    return found


@given(disordered())
@settings(max_examples=500)
def test_what_was_told_is_what_there_is(story: tuple[list[Event], list[Event]]) -> None:
    """Where an event cannot be placed, the list that follows says so; nothing is told twice."""
    truth, heard = story
    known, told = Known(), dict[ObjectKey, Head]()
    known.begin()
    known.complete("0")
    for type_, head in heard:
        if type_ == "DELETED":
            if known.delete(head) is Word.NEWS:
                del told[head.key]
            continue
        word = known.put(head)
        if word is Word.NEWS:
            assert told.get(head.key) != head
            told[head.key] = head
        elif word is Word.UNPLACED:
            _list(known, told, truth)
    assert told == state(truth)
    assert len(known) == len(told)


def _list(known: Known, told: dict[ObjectKey, Head], truth: list[Event]) -> None:
    known.begin()
    for head in state(truth).values():
        if known.note(head) is Word.NEWS:
            told[head.key] = head
    for key in known.missing:
        del told[key]
    known.complete(str(len(truth)))
