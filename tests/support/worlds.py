"""How worlds are run and compared: what was put in, what a follower of commits holds."""

from collections.abc import Callable, Iterable
from typing import Any

from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.model.changes import (
    AllocationChange,
    Change,
    ImportChange,
    ImportedWorkloadChange,
    IstiodChange,
    ObjectChange,
    PeerChange,
    TakeoverChange,
)
from peerd.model.mesh import Settings


class Inputs:
    """What has been put and not deleted, in the order of the last put."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, object], Change] = {}

    def note(self, changes: Iterable[Change]) -> None:
        """Take a batch in."""
        for found in changes:
            name: tuple[str, object]
            match found:
                case ObjectChange(kind, key, record):
                    name, gone = (kind, key), record is None
                case ImportChange(peer, host, service):
                    name, gone = ("import", (peer, host)), service is None
                case ImportedWorkloadChange(peer, uid, workload):
                    name, gone = ("workload", (peer, uid)), workload is None
                case TakeoverChange(service, takeover):
                    name, gone = ("takeover", service), takeover is None
                case PeerChange(peer, view):
                    name, gone = ("view", peer), view is None
                case AllocationChange(host, allocation):
                    name, gone = ("allocation", host), allocation is None
                case IstiodChange():
                    name, gone = ("istiod", ""), False
            self._held.pop(name, None)
            if not gone:
                self._held[name] = found

    def puts(self) -> list[Change]:
        """A batch that makes this from nothing."""
        return list(self._held.values())

    def deletes(self) -> list[Change]:
        """A batch that deletes all of it, but what lasts."""
        return [gone for found in self._held.values() if (gone := _gone(found)) is not None]

    def lasting(self) -> list[Change]:
        """What can only be replaced: the flags of the istiod beside us."""
        return [found for found in self._held.values() if _gone(found) is None]


def _gone(found: Change) -> Change | None:
    match found:
        case ObjectChange(kind, key, _):
            return ObjectChange(kind, key, None)
        case ImportChange(peer, host, _):
            return ImportChange(peer, host, None)
        case ImportedWorkloadChange(peer, uid, _):
            return ImportedWorkloadChange(peer, uid, None)
        case TakeoverChange(service, _):
            return TakeoverChange(service, None)
        case PeerChange(peer, _):
            return PeerChange(peer, None)
        case AllocationChange(host, _):
            return AllocationChange(host, None)
        case IstiodChange():
            return None


# All of a Commit but the revision, `info` and `network`.
PARTS = (
    "addresses", "policies", "exports", "flat_exports", "segment_flat_exports", "takeovers", "peers",
    "wanted_hosts", "diagnostics", "generated", "federation", "ways", "gateways", "gateway_listeners",
    "gateway_clusters", "gateway_endpoints",
)  # fmt: skip


class Seen:
    """What a follower of commits holds; it refuses a change that changes nothing."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        self.info: object = None
        self.network = ""

    def take(self, commit: Commit) -> None:
        """Apply a commit."""
        for part, held in self.parts.items():
            named = getattr(commit, part)
            assert len({name for name, _ in named}) == len(named), "a name twice in one revision"
            for name, record in named:
                assert held.get(name) != record, f"{part}: {name} is sent again, unchanged"
                if record is None:
                    del held[name]
                else:
                    held[name] = record
        if commit.info is not None:
            assert commit.info != self.info
            self.info = commit.info
        self.network = commit.network

    def everything(self) -> tuple[object, ...]:
        """For comparing two of them."""
        return self.parts, self.info, self.network


def finish(world: World, should_yield: Callable[[], bool] = lambda: False) -> Commit:
    """Run the open batch to its end and commit it."""
    while not world.work(should_yield):
        pass
    assert world.engine.faults == {}, "no transformation may raise, whatever comes in"
    return world.commit()


def from_scratch(changes: Iterable[Change], settings: Settings | None = None) -> Seen:
    """What one batch on an empty world shows."""
    world, seen = World(settings or Settings()), Seen()
    world.apply(changes)
    seen.take(finish(world))
    return seen
