"""The log of last words: what was flushed is there after a restart, whatever was compacted or failed."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.state import keyed_log
from peerd.state.errors import StateError
from peerd.state.journal import Journal
from peerd.state.keyed_log import Compaction, KeyedLog


def reopened(path: Path) -> dict[str, dict[str, bytes]]:
    log = KeyedLog(path)
    try:
        return log.load()
    finally:
        log.close()


def compacted(log: KeyedLog) -> Compaction:
    steps = log.compacting()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Compaction = end.value
            return made


def test_the_last_word_for_a_name_holds(tmp_path):
    log = KeyedLog(tmp_path / "l")
    log.put("east", "a", b"1", replaces=False)
    log.put("east", "b", b"2", replaces=False)
    log.flush()
    log.put("east", "a", b"3", replaces=True)
    log.delete("east", "b")
    log.put("west", "a", b"4", replaces=False)
    log.flush()
    log.put("west", "never flushed", b"5", replaces=False)
    assert log.dirty
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"a": b"3"}, "west": {"a": b"4"}}


def test_a_forgotten_group_can_be_filled_again(tmp_path):
    """Within one flush and over several."""
    log = KeyedLog(tmp_path / "l")
    log.put("east", "a", b"1", replaces=False)
    log.put("north", "a", b"1", replaces=False)
    log.flush()
    log.forget("east", 1)
    log.put("east", "b", b"2", replaces=False)
    log.put("north", "b", b"2", replaces=False)
    log.forget("north", 2)
    log.flush()
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"b": b"2"}}


def test_a_failed_flush_loses_nothing(tmp_path, monkeypatch):
    log = KeyedLog(tmp_path / "l")

    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log.put("east", "a", b"1", replaces=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StateError, match="No space left"):
            log.flush()
    assert log.dirty
    log.flush()
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"a": b"1"}}


def test_a_flush_in_slices_writes_the_oldest_first_and_all_in_the_end(tmp_path):
    """A name that is said anew meanwhile, and a group that is forgotten, keep their last word."""
    log = KeyedLog(tmp_path / "l")
    for number in range(5):
        log.put("east", f"n{number}", b"1", replaces=False)
    log.flush(at_most=2)
    assert reopened(tmp_path / "l") == {"east": {"n0": b"1", "n1": b"1"}}
    log.put("east", "n0", b"2", replaces=True)
    log.put("west", "a", b"1", replaces=False)
    log.flush(at_most=3)
    log.forget("east", 5)
    log.put("east", "after", b"3", replaces=False)
    while log.dirty:
        log.flush(at_most=1)
    assert log.records == 8, "what was forgotten before it was written never was"
    log.close()
    assert reopened(tmp_path / "l") == {"west": {"a": b"1"}, "east": {"after": b"3"}}


def test_what_is_said_during_a_compaction_is_carried_over(tmp_path, monkeypatch):
    """Whichever slice it comes in; and afterwards the log counts anew."""
    monkeypatch.setattr(keyed_log, "_SLICE", 5)
    log = KeyedLog(tmp_path / "l")
    for number in range(100):
        log.put("east", "busy", b"%d" % number, replaces=number > 0)
        log.put("east", f"kept-{number}", b"k", replaces=False)
        log.flush(sync=False)
    before = log.size
    steps = log.compacting()
    said = 0
    compaction = None
    while compaction is None:
        try:
            next(steps)
        except StopIteration as end:
            compaction = end.value
            break
        said += 1
        log.put("east", "busy", b"late %d" % said, replaces=True)
        log.put("east", f"late-{said}", b"l", replaces=False)
        log.flush(sync=False)
    assert said > 20
    compaction.sync()
    compaction.finish()
    late = said
    assert log.size < before + 60 * late
    log.put("west", "after", b"x", replaces=False)
    log.flush()
    log.close()
    assert reopened(tmp_path / "l") == {
        "east": {
            "busy": b"late %d" % late,
            **{f"kept-{number}": b"k" for number in range(100)},
            **{f"late-{number}": b"l" for number in range(1, late + 1)},
        },
        "west": {"after": b"x"},
    }


def test_it_is_compacted_for_history_only(tmp_path, monkeypatch):
    """A journal that holds what is true is left alone, however large."""
    monkeypatch.setattr(keyed_log, "_COMPACT_AT", 1024)
    log = KeyedLog(tmp_path / "l")
    for number in range(200):
        log.put("east", f"n{number}", b"x" * 20, replaces=False)
    log.flush()
    assert not log.mostly_history
    for number in range(150):
        log.delete("east", f"n{number}")
    log.flush()
    assert log.mostly_history
    compaction = compacted(log)
    compaction.sync()
    compaction.finish()
    assert not log.mostly_history
    log.close()
    assert set(reopened(tmp_path / "l")["east"]) == {f"n{number}" for number in range(150, 200)}


def test_a_compaction_that_fails_leaves_everything_and_is_not_tried_again_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(keyed_log, "_COMPACT_AT", 256)
    log = KeyedLog(tmp_path / "l")
    for number in range(50):
        log.put("east", "busy", b"%d" % number, replaces=number > 0)
        log.flush(sync=False)
    assert log.mostly_history

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match="No space left"):
            compacted(log).sync()
    assert not log.mostly_history
    assert [each.name for each in tmp_path.iterdir()] == ["l"], "the draft is gone"
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"busy": b"49"}}


def test_a_draft_that_a_crash_left_is_overwritten(tmp_path):
    log = KeyedLog(tmp_path / "l")
    log.put("east", "a", b"1", replaces=False)
    log.flush()
    (tmp_path / ".l.new").write_bytes(b"half a draft" * 100)
    compaction = compacted(log)
    compaction.finish()
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"a": b"1"}}


def test_a_log_that_is_empty_can_be_compacted(tmp_path):
    log = KeyedLog(tmp_path / "l")
    compacted(log).finish()
    log.put("east", "a", b"1", replaces=False)
    log.flush()
    log.close()
    assert reopened(tmp_path / "l") == {"east": {"a": b"1"}}


def test_a_journal_of_another_kind_is_refused(tmp_path):
    journal = Journal(tmp_path / "l")
    journal.append([b"\xc1 not msgpack"])
    journal.close()
    with pytest.raises(StateError, match=r"l: holds a record of another kind"):
        KeyedLog(tmp_path / "l")


WORDS = st.tuples(
    st.sampled_from(["put", "delete", "forget", "flush", "compact"]),
    st.sampled_from(["east", "west"]),
    st.sampled_from(["a", "b", "ü"]),
    st.binary(max_size=20),
)


@given(st.lists(WORDS, max_size=25), st.integers(min_value=0))
@settings(max_examples=150)
def test_any_history_is_there_after_a_restart_and_a_crash_at_any_byte_leaves_what_can_be_read(words, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l"
        log = KeyedLog(path)
        present: dict[str, dict[str, bytes]] = {}
        for kind, group, name, value in words:
            names = present.setdefault(group, {})
            match kind:
                case "put":
                    log.put(group, name, value, replaces=name in names)
                    names[name] = value
                case "delete" if name in names:
                    log.delete(group, name)
                    del names[name]
                case "forget":
                    log.forget(group, len(names))
                    names.clear()
                case "flush":
                    log.flush(sync=False)
                case "compact":
                    compacted(log).finish()
        log.flush()
        log.close()
        wanted = {group: names for group, names in present.items() if names}
        assert {group: names for group, names in reopened(path).items() if names} == wanted
        whole = path.read_bytes()
        path.write_bytes(whole[: cut % (len(whole) + 1)])
        survivor = KeyedLog(path)
        survivor.put("after", "crash", b"x", replaces=False)
        survivor.flush()
        survivor.close()
        assert reopened(path)["after"] == {"crash": b"x"}
