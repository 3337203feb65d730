"""The state directory is made privately, or refused in one sentence."""

import stat
from pathlib import Path

import pytest

from peerd.state.directory import prepare
from peerd.state.errors import StateError


def test_it_is_made_with_its_parents_for_the_owner_only(tmp_path):
    """Mode 0700, and nothing is left behind by the check."""
    path = tmp_path / "a" / "b"
    prepare(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(path.iterdir()) == []


def test_a_file_in_its_place_is_refused(tmp_path):
    """The message names the path and the fix."""
    path = tmp_path / "state"
    path.write_text("")
    with pytest.raises(StateError, match=r"state: cannot be used as state directory: .*; name one"):
        prepare(path)


def test_one_that_cannot_be_made_is_refused():
    """Found at the start, not at the first record."""
    with pytest.raises(StateError, match=r"/proc/peerd: cannot be used as state directory"):
        prepare(Path("/proc/peerd"))
