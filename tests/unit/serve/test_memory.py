"""Memory in use, and its bound."""

from pathlib import Path

from peerd.serve.memory import memory_bound, resident_bytes


def test_the_resident_size_is_that_of_this_process() -> None:
    assert 8 * 1024 * 1024 < resident_bytes() < 64 * 1024**3


def test_a_system_that_does_not_say_bounds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "max").write_text("max\n")
    assert resident_bytes(tmp_path / "absent") == resident_bytes(tmp_path / "empty") == 0
    assert memory_bound(tmp_path / "absent") == memory_bound(tmp_path / "max") == 0


def test_the_bound_is_nine_tenths_of_the_container_s_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_bound(tmp_path / "memory.max") == 900_000
