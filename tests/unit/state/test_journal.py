"""The journal: what was appended is read back, a crash costs the torn tail only, damage stops the start."""

import errno
import os
import stat

import pytest

from peerd.state.errors import StateError
from peerd.state.journal import Journal, Rewrite


def records(path):
    journal = Journal(path)
    try:
        return journal.take(), journal.torn
    finally:
        journal.close()


def written(path, *items):
    journal = Journal(path)
    journal.append(items)
    journal.close()
    return path.read_bytes()


def rewritten(journal, *items):
    draft = Rewrite(journal)
    draft.add(items)
    draft.sync()
    draft.finish()


def test_records_come_back_in_order_and_whole(tmp_path):
    """Empty, binary and large records survive, also over several opens."""
    path = tmp_path / "j"
    written(path, b"", b"one", bytes(range(256)) * 1000)
    written(path, b"\0\0\0")
    assert records(path) == ([b"", b"one", bytes(range(256)) * 1000, b"\0\0\0"], 0)


def test_the_file_is_for_its_owner_only(tmp_path):
    """Mode 0600, also after a rewrite."""
    path = tmp_path / "j"
    written(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal = Journal(path)
    rewritten(journal, b"y")
    journal.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_torn_tail_costs_only_the_last_record(tmp_path):
    """Cut at each byte of the last record: the first two stay, and appending goes on behind them."""
    path = tmp_path / "j"
    two = len(written(path, b"first", b"second"))
    whole = written(path, b"third")
    for cut in range(two, len(whole)):
        path.write_bytes(whole[:cut])
        assert records(path) == ([b"first", b"second"], cut - two)
        written(path, b"after")
        assert records(path) == ([b"first", b"second", b"after"], 0)


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_first_line_that_was_not_written_whole_is_a_new_journal(tmp_path, cut):
    """A crash during the very first append."""
    path = tmp_path / "j"
    path.write_bytes(written(path, b"x")[:cut])
    assert records(path)[0] == []
    written(path, b"again")
    assert records(path) == ([b"again"], 0)


def test_zeros_at_the_end_are_a_torn_tail(tmp_path):
    """Some file systems leave zeros after a power loss."""
    path = tmp_path / "j"
    path.write_bytes(written(path, b"kept") + b"\0" * 4096)
    assert records(path) == ([b"kept"], 4096)


def test_zeros_from_any_byte_on_cost_what_was_not_written_whole(tmp_path):
    """The file had grown by several records, and not all of them got to the disk: that is no corruption."""
    path = tmp_path / "j"
    ends = [len(written(path, name)) for name in (b"first", b"second", b"third")]
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        found, torn = records(path)
        assert found == [b"first", b"second", b"third"][: sum(end <= cut for end in ends)]
        assert torn == len(whole) - max((end for end in ends if end <= cut), default=16 if cut >= 16 else 0)


def test_a_last_record_with_a_wrong_checksum_is_a_torn_tail(tmp_path):
    """Its length reached the disk, its last block did not."""
    path = tmp_path / "j"
    whole = written(path, b"kept", b"damaged")
    path.write_bytes(whole[:-1] + b"\0")
    assert records(path)[0] == [b"kept"]


def test_every_flipped_byte_before_the_last_record_is_refused_or_harmless(tmp_path):
    """No damaged byte is ever returned as data, and no good record behind it is dropped silently."""
    path = tmp_path / "j"
    head = len(written(path, b"first"))
    whole = written(path, b"second", b"third")
    for position in range(16, head):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(StateError, match=r"corrupt at byte 16 .* move it away"):
            Journal(path)


def test_another_file_is_not_taken_for_a_journal(tmp_path):
    """A wrong path must not be appended to."""
    path = tmp_path / "j"
    path.write_bytes(b"#!/bin/sh\necho hello\n")
    with pytest.raises(StateError, match="not a journal"):
        Journal(path)
    assert path.read_bytes() == b"#!/bin/sh\necho hello\n"


def test_a_full_disk_costs_what_did_not_fit_and_nothing_else(tmp_path, monkeypatch):
    """Half a record was written when the disk was full: the next append goes behind the last whole one."""
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append([b"kept"])
    real = os.pwrite

    def full(descriptor, data, offset):
        real(descriptor, bytes(data)[:10], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StateError, match="No space left on device; free some space"):
        journal.append([b"lost"])
    monkeypatch.setattr(os, "pwrite", real)
    journal.append([b"later"])
    journal.close()
    assert records(path) == ([b"kept", b"later"], 0)


def test_a_rewrite_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    """Compaction is all or nothing, and leaves no draft behind."""
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append([b"old"])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError):
        rewritten(journal, b"new")
    monkeypatch.undo()
    journal.append([b"more"])
    journal.close()
    assert records(path) == ([b"old", b"more"], 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]
