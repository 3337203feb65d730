"""The durable map: what was flushed is there after a restart, what failed is not forgotten."""

import errno
import os

import pytest

from peerd.state import table as table_module
from peerd.state.errors import StateError
from peerd.state.journal import Journal
from peerd.state.table import Table


def reopened(path):
    table = Table(path)
    try:
        return dict(table)
    finally:
        table.close()


def test_puts_and_deletions_survive(tmp_path):
    """The last word for a name holds."""
    table = Table(tmp_path / "t")
    table.put("a", b"1")
    table.put("b", b"2")
    table.flush()
    table.put("a", b"3")
    table.delete("b")
    table.delete("never there")
    table.flush()
    table.close()
    assert reopened(tmp_path / "t") == {"a": b"3"}


def test_what_was_not_flushed_is_not_there(tmp_path):
    """`dirty` says so."""
    table = Table(tmp_path / "t")
    table.put("a", b"1")
    assert table.dirty
    table.close()
    assert reopened(tmp_path / "t") == {}


def test_putting_the_same_value_again_writes_nothing(tmp_path):
    """Otherwise a heartbeat would grow the file."""
    table = Table(tmp_path / "t")
    table.put("a", b"1")
    table.flush()
    size = (tmp_path / "t").stat().st_size
    table.put("a", b"1")
    assert not table.dirty
    table.flush()
    table.close()
    assert (tmp_path / "t").stat().st_size == size


def test_a_failed_flush_loses_nothing(tmp_path, monkeypatch):
    """What could not be written goes with the next flush."""
    table = Table(tmp_path / "t")
    real = os.pwrite

    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    table.put("a", b"1")
    with pytest.raises(StateError):
        table.flush()
    assert table.dirty
    assert table["a"] == b"1"
    monkeypatch.setattr(os, "pwrite", real)
    table.flush()
    table.close()
    assert reopened(tmp_path / "t") == {"a": b"1"}


def test_the_journal_is_compacted_as_it_grows(tmp_path, monkeypatch):
    """Overwriting one name for ever does not fill the disk, and the other names stay."""
    monkeypatch.setattr(table_module, "_COMPACT_AT", 4096)
    table = Table(tmp_path / "t")
    table.put("kept", b"k" * 100)
    for number in range(1000):
        table.put("busy", b"%04d" % number * 10)
        table.flush(sync=False)
        assert (tmp_path / "t").stat().st_size < 5000
    table.close()
    assert reopened(tmp_path / "t") == {"kept": b"k" * 100, "busy": b"0999" * 10}


def test_a_compaction_that_fails_is_tried_again_later(tmp_path, monkeypatch):
    """Everything is already on disk, so a full disk is not an error here."""
    monkeypatch.setattr(table_module, "_COMPACT_AT", 1024)
    attempts = []

    def refuse(self, records):
        attempts.append(self.size)
        raise StateError(self.path, "full", "free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "rewrite", refuse)
        table = Table(tmp_path / "t")
        for number in range(200):
            table.put("busy", b"%04d" % number * 10)
            table.flush(sync=False)
    assert 1 < len(attempts) < 10
    table.close()
    assert reopened(tmp_path / "t") == {"busy": b"0199" * 10}


def test_a_journal_of_another_kind_is_refused(tmp_path):
    """The message names the file."""
    journal = Journal(tmp_path / "t")
    journal.append([b"\xc1 not msgpack"])
    journal.close()
    with pytest.raises(StateError, match=r"t: holds a record of another kind"):
        Table(tmp_path / "t")


def test_values_are_read_back_from_disk_after_flush_rewrite_and_reopening(tmp_path):
    """Only places are kept in memory, so every way a record may move is followed."""
    table = Table(tmp_path / "t")
    wanted = {f"name-{number}": bytes([number]) * (number + 1) for number in range(50)}
    for name, value in wanted.items():
        table.put(name, value)
    assert dict(table) == wanted
    table.flush()
    assert dict(table) == wanted
    for _ in range(200):  # past the size at which it is compacted
        for name in ("name-1", "name-2"):
            table.put(name, table[name] + b"x" * 40)
            wanted[name] = table[name]
        table.flush(sync=False)
    assert dict(table) == wanted
    table.close()
    again = Table(tmp_path / "t")
    assert dict(again) == wanted
    again.close()


def test_a_value_that_can_no_longer_be_read_is_told_and_written_anew(tmp_path):
    table = Table(tmp_path / "t")
    table.put("a", b"value")
    table.flush()
    (tmp_path / "t").write_bytes(b"\0" * 200)
    with pytest.raises(StateError, match="damaged"):
        table["a"]
    table.put("a", b"value")
    assert table.dirty
    assert table["a"] == b"value"
    table.close()
