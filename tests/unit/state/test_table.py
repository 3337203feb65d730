"""The durable map: what was flushed is there after a restart, what failed is not forgotten."""

import errno
import os

import pytest

from peerd.state import keyed_log
from peerd.state.disk import DISK
from peerd.state.errors import StateError
from peerd.state.journal import Journal
from peerd.state.table import Table


def reopened(path):
    table = Table(path)
    try:
        return table.load()
    finally:
        table.close()


def full(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_puts_and_deletions_survive(tmp_path):
    """The last word for a name holds."""
    table = Table(tmp_path / "t")
    assert table.load() == {}
    table.put("a", b"1", replaces=False)
    table.put("b", b"2", replaces=False)
    table.flush()
    table.put("a", b"3", replaces=True)
    table.delete("b")
    table.flush()
    table.close()
    assert reopened(tmp_path / "t") == {"a": b"3"}


def test_what_was_not_flushed_is_not_there(tmp_path):
    """`dirty` says so."""
    table = Table(tmp_path / "t")
    table.put("a", b"1", replaces=False)
    assert table.dirty
    table.close()
    assert reopened(tmp_path / "t") == {}


def test_it_reads_what_has_always_been_written(tmp_path):
    """Records of a name and a value, without one where the name is gone: files outlive versions of peerd."""
    journal = Journal(tmp_path / "t")
    journal.append([b"\x92\xa1a\xc4\x011", b"\x92\xa1b\xc4\x012", b"\x92\xa1a\xc0"])
    journal.close()
    assert reopened(tmp_path / "t") == {"b": b"2"}
    table = Table(tmp_path / "t")
    table.put("c", b"3", replaces=False)
    table.flush()
    table.close()
    assert (tmp_path / "t").read_bytes().endswith(b"\x92\xa1c\xc4\x013")


def test_a_failed_flush_loses_nothing(tmp_path, monkeypatch):
    """What could not be written goes with the next flush."""
    table = Table(tmp_path / "t")
    table.put("a", b"1", replaces=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StateError, match="No space left"):
            table.flush()
    assert table.dirty
    table.flush()
    table.close()
    assert reopened(tmp_path / "t") == {"a": b"1"}


def test_the_journal_is_compacted_as_it_grows(tmp_path, monkeypatch):
    """Overwriting one name for ever does not fill the disk, and the other names stay."""
    monkeypatch.setattr(keyed_log, "_COMPACT_AT", 4096)
    table = Table(tmp_path / "t")
    table.put("kept", b"k" * 100, replaces=False)
    for number in range(1000):
        table.put("busy", b"%04d" % number * 10, replaces=number > 0)
        table.flush(sync=False)
        assert (tmp_path / "t").stat().st_size < 5000
    table.close()
    assert reopened(tmp_path / "t") == {"kept": b"k" * 100, "busy": b"0999" * 10}


@pytest.mark.parametrize("fails", ["open", "fsync"])
def test_a_compaction_that_fails_is_tried_again_later(tmp_path, monkeypatch, fails):
    """Everything is already on disk, so a full disk is not an error here, nor tried at every flush."""
    monkeypatch.setattr(keyed_log, "_COMPACT_AT", 1024)
    attempts = []
    real = getattr(os, fails)

    def refuse(*arguments):
        if fails == "fsync" or str(arguments[0]).endswith(".new"):
            attempts.append(arguments)
            full()
        return real(*arguments)

    table = Table(tmp_path / "t")
    table.put("first", b"", replaces=False)
    table.flush()
    table.delete("first")
    with monkeypatch.context() as patch:
        patch.setattr(os, fails, refuse)
        for number in range(200):
            table.put("busy", b"%04d" % number * 10, replaces=number > 0)
            table.flush(sync=False)
    assert 1 < len(attempts) < 10
    table.close()
    assert reopened(tmp_path / "t") == {"busy": b"0199" * 10}
    assert [each.name for each in tmp_path.iterdir()] == ["t"], "the draft is gone"


def test_after_a_compaction_the_directory_is_on_disk_before_anybody_relies_on_it(tmp_path, monkeypatch):
    """Or a crash would bring back the old file, without what was flushed since; tried until it is."""
    monkeypatch.setattr(keyed_log, "_COMPACT_AT", 256)
    table = Table(tmp_path / "t")
    for number in range(5):
        table.put("busy", b"x" * 20, replaces=number > 0)
        table.flush()
    table.put("busy", b"y" * 20, replaces=True)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(DISK, "sync_names", full)
        for _ in range(2):
            with pytest.raises(StateError, match="No space left"):
                table.flush()
        assert not table.dirty
        patch.setattr(DISK, "sync_names", asked.append)
        table.flush()
        table.flush()
    assert asked == [tmp_path]
    table.close()
    assert reopened(tmp_path / "t") == {"busy": b"y" * 20}


def test_a_new_file_is_found_again_after_a_crash_of_the_machine(tmp_path, monkeypatch):
    """Its name is made durable with the first flush that writes; what is in it would be lost with it."""
    asked = []
    monkeypatch.setattr(DISK, "sync_names", asked.append)
    table = Table(tmp_path / "t")
    table.flush()
    assert asked == []
    for number in range(2):
        table.put("a", b"1", replaces=number > 0)
        table.flush()
    assert asked == [tmp_path]
    table.close()


def test_a_journal_of_another_kind_is_refused(tmp_path):
    """The message names the file."""
    journal = Journal(tmp_path / "t")
    journal.append([b"\xc1 not msgpack"])
    journal.close()
    with pytest.raises(StateError, match=r"t: holds a record of another kind"):
        Table(tmp_path / "t")
