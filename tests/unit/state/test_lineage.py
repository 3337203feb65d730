"""A lineage is made once, also by two creators, and never replaced silently."""

import stat
import uuid

import pytest

from peerd.state import lineage as lineage_module
from peerd.state.errors import StateError
from peerd.state.lineage import lineage, replica


def test_it_is_made_once(tmp_path):
    """The second call gives the first one's."""
    first = lineage(tmp_path)
    assert lineage(tmp_path) == first == str(uuid.UUID(first))
    assert stat.S_IMODE((tmp_path / "lineage").stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["lineage"]


def test_two_creators_agree(tmp_path, monkeypatch):
    """Both found none; whoever links first wins, the other reads it."""
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    real = lineage_module._create

    def late(path, value):
        real(path, two)
        real(path, value)

    monkeypatch.setattr(lineage_module, "_create", late)
    assert lineage(tmp_path, lambda: one) == str(two)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lineage"]


def test_a_damaged_one_stops_the_start(tmp_path):
    """A new one would make peers take this for another cluster."""
    (tmp_path / "lineage").write_text("garbage\n")
    with pytest.raises(StateError, match=r"lineage: holds 'garbage', which is not a UUID; restore"):
        lineage(tmp_path)
    assert (tmp_path / "lineage").read_text() == "garbage\n"


def test_a_replica_is_told_apart_by_a_uuid_of_its_own(tmp_path):
    """Replicas of one cluster may share the lineage, and must not displace each other (decision D16)."""
    first = replica(tmp_path)
    assert replica(tmp_path) == first == str(uuid.UUID(first))
    assert first != lineage(tmp_path)
