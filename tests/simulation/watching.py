"""How a peerd is watched: what goes through importer, peer table and exports is seen, not changed."""

from collections.abc import Callable, Sequence

from peerd.app.peerd import Peerd
from peerd.model.changes import Change
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import FEDERATED_SERVICE
from peerd.protocol.peer_state import PeerEvent
from tests.simulation.history import History
from tests.simulation.peer_checks import PeerChecks, peer_of
from tests.simulation.replica import Replica


def watch(
    checks: PeerChecks,
    history: History,
    replica: Replica,
    peerd: Peerd,
    guard: Callable[[Callable[[], None]], None],
) -> None:
    """Wrap what *peerd* is about to use, so that *checks* see it first."""
    federation, name = peerd.federation, replica.name
    importer, table = federation._importer, federation.table
    emit, synced, fire, begin = importer._emit, importer.synced, table.fire, federation.begin
    standing, drop = importer.check_standing, table.drop

    def see_emit(changes: Sequence[Change]) -> None:
        guard(lambda: checks.imported(replica, changes))
        emit(changes)

    def see_synced(key: ObjectKey) -> None:
        held = importer.held(key).versions
        if not importer.counts(key).refused:  # it holds all that it may hold
            guard(lambda: checks.synced(replica, peer_of(key), held, FEDERATED_SERVICE))
        synced(key)

    def see_standing(key: ObjectKey) -> None:
        standing(key)
        checks.recognised(replica, peer_of(key))

    def see_fire(key: ObjectKey, event: PeerEvent, error: str = "") -> None:
        before = table.state(key)
        fire(key, event, error)
        after = table.state(key)
        held = importer.held(key).versions if event is PeerEvent.OPENED else {}
        guard(lambda: checks.fired(replica, peer_of(key), event, after, held))
        if after is not before:
            history.note(name, f"{key.name} is {after.value}{f': {error}' if error else ''}")

    def see_drop(key: ObjectKey) -> None:
        checks.forgotten(replica, peer_of(key))
        drop(key)

    def see_begin(*args: object) -> object:
        handlers = begin(*args)  # type: ignore[arg-type]
        speaking = federation._speaking
        assert speaking is not None
        announce, exports = speaking.exports._announce, speaking.service._exports

        def snapshot() -> None:
            for near in (True, False):
                store = exports.view(same_segment=near, same_network=False).store
                collection = store.collection(FEDERATED_SERVICE)
                held = {each: collection.get(each).version for each in sorted(collection.names())}  # type: ignore[union-attr]
                checks.announced.setdefault((name, near), []).append((replica.loop.time(), held))

        def see_announce(changes: object) -> None:
            announce(changes)  # type: ignore[arg-type]
            snapshot()

        speaking.exports._announce = see_announce  # type: ignore[method-assign]
        snapshot()
        commit_workloads = exports.commit_workloads

        def see_workloads(changes: object, *, same_segment: bool) -> None:
            commit_workloads(changes, same_segment=same_segment)  # type: ignore[arg-type]
            pods = frozenset(exports._workloads[same_segment])
            told = checks.announced_pods.setdefault((name, same_segment), [])
            if not told or told[-1][1] != pods:
                told.append((replica.loop.time(), pods))

        exports.commit_workloads = see_workloads  # type: ignore[method-assign]
        for near in (True, False):
            see_workloads((), same_segment=near)
        return handlers

    importer._emit = see_emit
    importer.synced = see_synced  # type: ignore[method-assign]
    importer.check_standing = see_standing  # type: ignore[method-assign]
    table.fire = see_fire  # type: ignore[method-assign]
    table.drop = see_drop  # type: ignore[method-assign]
    federation.begin = see_begin  # type: ignore[method-assign, assignment]
