"""Imports on disk."""

import asyncio
from pathlib import Path

import pytest

from peerd.model.kube.meta import ObjectKey
from peerd.model.types import FEDERATED_SERVICE, PEER_INFO
from peerd.peering import persistence
from peerd.peering.keeper import Stored, StoredPeer
from peerd.peering.persistence import ImportJournal
from peerd.state.errors import StateError

WEST = ObjectKey("istio-system", "peer-west")
NORTH = ObjectKey("istio-system", "peer-north")


def stored(
    name: str, peer: ObjectKey = WEST, type_url: str = FEDERATED_SERVICE, payload: bytes = b"x"
) -> Stored:
    return Stored(peer, type_url, name, "v1", payload)


def reopened(journal: ImportJournal, path: Path) -> list[StoredPeer]:
    journal.close()
    again = ImportJournal(path)
    try:
        return again.load()
    finally:
        again.close()


def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    journal.put(stored("shop/a"), replaces=False)
    journal.put(stored("self", type_url=PEER_INFO, payload=bytes(range(256))), replaces=False)
    journal.put(stored("shop/b", NORTH), replaces=False)
    journal.heartbeat(WEST, 1234.5)
    assert reopened(journal, path) == [
        StoredPeer(NORTH, 0.0, (stored("shop/b", NORTH),)),
        StoredPeer(
            WEST, 1234.5, (stored("shop/a"), stored("self", type_url=PEER_INFO, payload=bytes(range(256))))
        ),
    ]


def test_deleted_and_forgotten_things_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    for name in ("shop/a", "shop/b"):
        journal.put(stored(name), replaces=False)
    journal.put(stored("shop/c", NORTH), replaces=False)
    journal.heartbeat(NORTH, 5.0)
    journal.delete(WEST, FEDERATED_SERVICE, "shop/a")
    journal.forget(NORTH, 2)
    assert reopened(journal, path) == [StoredPeer(WEST, 0.0, (stored("shop/b"),))]


def test_a_first_sync_that_was_cut_short_is_told_from_one_that_was_complete(tmp_path: Path) -> None:
    """What is kept of it may lack something, and is not taken for all there is (decision D13)."""
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    for peer in (WEST, NORTH):
        journal.put(stored("shop/a", peer), replaces=False)
        journal.complete(peer, now=True)
    journal.complete(NORTH, now=False)
    assert [(each.peer, each.complete) for each in reopened(journal, path)] == [(NORTH, False), (WEST, True)]


def test_a_gateway_whose_name_begins_as_anothers_is_not_forgotten_with_it(tmp_path: Path) -> None:
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    longer = ObjectKey("istio-system", "peer-west-2")
    journal.put(stored("shop/a"), replaces=False)
    journal.put(stored("shop/a", longer), replaces=False)
    journal.forget(WEST, 1)
    assert [peer.peer for peer in reopened(journal, path)] == [longer]


def test_heartbeats_are_noted_at_their_pace_and_when_the_clock_was_set_back(tmp_path: Path) -> None:
    noted = []
    for last in range(1, 6):
        journal = ImportJournal(tmp_path / f"imports-{last}")
        for at in (100.0, 101.0, 109.0, 115.0, 50.0)[:last]:
            journal.heartbeat(WEST, at)
        noted.append(reopened(journal, tmp_path / f"imports-{last}")[0].last_heartbeat)
    assert noted == [100.0, 100.0, 100.0, 115.0, 50.0]


def test_a_full_disk_loses_nothing_and_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    journal.put(stored("shop/a"), replaces=False)
    full = True
    write = journal._log._journal.append

    def append(records, *, sync=True):
        if full:
            raise StateError(path, "cannot be written: No space left on device", "make room")
        return write(records, sync=sync)

    monkeypatch.setattr(journal._log._journal, "append", append)
    journal.flush()
    journal.put(stored("shop/b"), replaces=False)
    journal.flush()
    full = False
    journal.flush()
    assert [resource.name for resource in reopened(journal, path)[0].resources] == ["shop/a", "shop/b"]


async def test_much_is_written_in_slices_between_which_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "LAG", 0.0)
    monkeypatch.setattr(persistence, "_SLICE", 100)
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    for number in range(450):
        journal.put(stored(f"shop/{number}"), replaces=False)
    keeping = asyncio.ensure_future(journal.run())
    sizes = []
    while journal._log.dirty:
        await asyncio.sleep(0)
        if path.stat().st_size not in sizes:
            sizes.append(path.stat().st_size)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert len(sizes) == 6, "nothing, and then five slices, each seen by others"
    (west,) = reopened(journal, path)
    assert len(west.resources) == 450


async def test_what_grew_is_compacted_beside_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost of what is said before, meanwhile and after, and the file shrinks."""
    monkeypatch.setattr(persistence, "LAG", 0.0)
    path = tmp_path / "imports"
    journal = ImportJournal(path)
    steady = [stored(f"shop/{number}", NORTH, payload=b"n" * 100) for number in range(300)]
    for each in steady:
        journal.put(each, replaces=False)
    for number in range(4000):
        journal.put(stored("shop/a", payload=b"%06d" % number * 20), replaces=number > 0)
        journal.flush(sync=False)
    grown = path.stat().st_size
    keeping = asyncio.ensure_future(journal.run())
    number = 4000
    while path.stat().st_size > grown / 4:
        journal.put(stored("shop/a", payload=b"%06d" % number * 20), replaces=True)
        number += 1
        await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    north, west = reopened(journal, path)
    assert {each.name for each in north.resources} == {each.name for each in steady}
    assert [each.payload for each in west.resources] == [b"%06d" % (number - 1) * 20]
