"""A CA whose files change: good sets are taken up once they rest, everything else changes nothing."""

import asyncio
import os
from pathlib import Path

import pytest

from peerd.ca import authority, pem, reissue
from peerd.ca.bundle import BundleError
from peerd.ca.leaf import Issuer
from peerd.ca.rotation import CaDirectory, expiry_warnings, root_expiry
from tests.support import cas
from tests.support.cas import DAY, NOW, Turned


@pytest.fixture
def root() -> Issuer:
    return authority.make_root("test", NOW)


@pytest.fixture
def east(tmp_path: Path, root: Issuer) -> Path:
    authority.write_new(tmp_path / "east", cas.cluster_files(root))
    return tmp_path / "east"


def test_nothing_new_changes_nothing(east: Path) -> None:
    """Looking at files that rest, or that were only touched, keeps the bundle."""
    directory = CaDirectory(east, Turned())
    before = directory.bundle

    assert [directory.look() for _ in range(3)] == [False] * 3
    os.utime(east / "ca-key.pem", (NOW, NOW))
    assert [directory.look() for _ in range(3)] == [False] * 3
    assert directory.bundle == before


def test_a_new_issuer_is_taken_up_after_it_rested(east: Path, root: Issuer) -> None:
    """Not at the first look, which may see a half-written set, but at the second."""
    directory = CaDirectory(east, Turned())
    before = directory.bundle.certificate

    reissue.new_issuer(east, root, NOW, days=30, use_rsa=False)

    assert [directory.look(), directory.look()] == [False, True]
    assert directory.bundle.certificate != before
    assert directory.problem == ""


@pytest.mark.parametrize("name", ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_half_written_file_changes_nothing(east: Path, name: str, share: float) -> None:
    """Any file, cut anywhere: the old CA goes on and the problem names the file, until it is whole."""
    directory = CaDirectory(east, Turned())
    before = directory.bundle
    whole = (east / name).read_bytes()

    (east / name).write_bytes(whole[: int(len(whole) * share)])
    assert [directory.look() for _ in range(4)] == [False] * 4
    assert directory.bundle is before
    assert name in directory.problem

    (east / name).write_bytes(whole)
    assert [directory.look() for _ in range(2)] == [False] * 2
    assert directory.bundle == before
    assert directory.problem == ""


def test_a_removed_file_changes_nothing(east: Path) -> None:
    """As while a Secret volume is swapped by hand."""
    directory = CaDirectory(east, Turned())
    before = directory.bundle

    (east / "ca-key.pem").unlink()

    assert [directory.look() for _ in range(2)] == [False] * 2
    assert directory.bundle is before
    assert "ca-key.pem missing" in directory.problem


def test_a_directory_that_never_rests_is_not_read(east: Path, root: Issuer) -> None:
    """As long as each look sees something else, the old CA stays."""
    directory = CaDirectory(east, Turned())
    before = directory.bundle

    for _ in range(3):
        reissue.new_issuer(east, root, NOW, days=30, use_rsa=False)
        assert not directory.look()

    assert directory.bundle is before
    assert directory.look()


def test_a_secret_volume_is_followed_through_its_links(tmp_path: Path, root: Issuer) -> None:
    """Kubernetes swaps a link to a directory: names and times may be equal, inodes are not."""
    for generation in ("one", "two"):
        authority.write_new(tmp_path / generation, cas.cluster_files(root))
        for path in (tmp_path / generation).iterdir():
            os.utime(path, (NOW, NOW))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "mount").mkdir()
    for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"):
        (tmp_path / "mount" / name).symlink_to(f"../..data/{name}")
    directory = CaDirectory(tmp_path / "mount", Turned())

    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")

    assert [directory.look(), directory.look()] == [False, True]
    assert directory.bundle.intermediates_pem == (tmp_path / "two" / "cert-chain.pem").read_bytes()


def test_at_the_start_there_must_be_a_good_one(tmp_path: Path) -> None:
    """Without a last good CA there is nothing to go on with."""
    with pytest.raises(BundleError, match="holds no CA"):
        CaDirectory(tmp_path, Turned())


async def test_watching_tells_changes_and_each_problem_once(east: Path, root: Issuer) -> None:
    """`watch` reports a broken file once however often it looks, then the good set that replaces it."""
    directory = CaDirectory(east, Turned())
    told: list[str] = []
    changed, faulty = asyncio.Event(), asyncio.Event()

    def note(problem: str) -> None:
        told.append(problem)
        faulty.set()

    whole = (east / "root-cert.pem").read_bytes()
    (east / "root-cert.pem").write_bytes(whole[:99])
    task = asyncio.create_task(directory.watch(lambda _: changed.set(), note, interval=0.001))
    await faulty.wait()
    new = authority.make_root("new", NOW)
    (east / "root-cert.pem").write_bytes(whole + pem.write_certificates(new.certificate))
    await changed.wait()
    task.cancel()

    assert len(told) == 1
    assert "the last good CA goes on signing" in told[0]
    assert directory.bundle.roots[1] == new.certificate


def test_expiry_is_warned_in_time() -> None:
    """30 days before the end, a quarter of the lifetime where that is shorter, and after it."""
    root = authority.make_root("test", NOW, days=400)
    long, short = (
        cas.bundle_of(cas.cluster_files(root, days=200)),
        cas.bundle_of(cas.cluster_files(root, days=8)),
    )

    assert expiry_warnings(long, NOW + 169 * DAY) == ()
    (warning,) = expiry_warnings(long, NOW + 171 * DAY)
    assert "signing certificate" in warning
    assert "ends in 29.0 days" in warning
    assert "peerd certs rotate" in warning
    assert expiry_warnings(short, NOW + 5 * DAY) == ()
    assert "ends in 1.5 days" in expiry_warnings(short, NOW + 6.5 * DAY)[0]
    assert "the root" in expiry_warnings(long, NOW + 380 * DAY)[1]
    assert "has ended" in expiry_warnings(long, NOW + 201 * DAY)[0]
    assert root_expiry(long) == NOW + 400 * DAY


async def test_expiry_is_told_once_a_day(east: Path) -> None:
    """However often the directory is looked at, and without any change in it."""
    clock = Turned(NOW)
    directory = CaDirectory(east, clock)
    told: list[str] = []
    heard = asyncio.Event()

    def hear(warning: str) -> None:
        told.append(warning)
        heard.set()

    task = asyncio.create_task(directory.watch(print, print, interval=0.0, expiring=hear))
    await asyncio.sleep(0)  # it begins, on the first day
    for day in (710, 711):
        clock.now = NOW + day * DAY
        await heard.wait()
        heard.clear()
        for _ in range(3):
            await asyncio.to_thread(directory.look)
    task.cancel()

    assert ["20.0 days" in told[0], "19.0 days" in told[1], len(told)] == [True, True, 2]
