"""The root that peerd makes for itself: once, private, and one for two creators."""

import stat
import threading
from pathlib import Path

import pytest

from peerd.ca.bundle import BundleError, load_bundle
from peerd.ca.self_signed import ensure_self_signed
from tests.support.cas import NOW


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    """The second start finds the first one's root; a year later it still does."""
    first = load_bundle(ensure_self_signed(tmp_path / "ca", "test", NOW), NOW)
    again = load_bundle(ensure_self_signed(tmp_path / "ca", "test", NOW + 86_400 * 365), NOW)

    assert first.certificate == again.certificate
    assert first.is_root


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """Every file 0600 in a directory 0700, and nothing else is left beside it."""
    directory = ensure_self_signed(tmp_path / "ca", "test", NOW)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_many_creators_at_once_get_one_root(tmp_path: Path) -> None:
    """Eight start together: all load the same root, and no half-made directory is left."""
    start = threading.Barrier(8)
    roots: list[bytes] = []
    faults: list[BaseException] = []

    def create() -> None:
        start.wait()
        try:
            roots.append(load_bundle(ensure_self_signed(tmp_path / "ca", "test", NOW), NOW).roots_pem)
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            faults.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert len(roots) == 8
    assert len(set(roots)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_a_given_ca_is_left_alone(tmp_path: Path) -> None:
    """Even a partial one: it is the operator's, and loading it says what is missing."""
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "tls.crt").write_bytes(b"x")

    ensure_self_signed(tmp_path / "ca", "test", NOW)

    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["tls.crt"]
    with pytest.raises(BundleError, match=r"tls\.key, ca\.crt missing"):
        load_bundle(tmp_path / "ca", NOW)


def test_a_place_that_cannot_hold_it_is_named(tmp_path: Path) -> None:
    """A directory with other things in it is not taken over, and a file is no directory."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")

    with pytest.raises(BundleError, match=r"full: a self-signed CA cannot be put there"):
        ensure_self_signed(tmp_path / "full", "test", NOW)
    with pytest.raises(BundleError, match=r"ca: a self-signed CA cannot be kept there"):
        ensure_self_signed(tmp_path / "file" / "ca", "test", NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
