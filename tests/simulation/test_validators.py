"""The validators bite: each of these broken peerds is caught, and by the guarantee that it breaks."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from peerd.app import allocator
from peerd.app import peerd as app
from peerd.app.allocator import Allocator
from peerd.app.gateways import Gateways
from peerd.app.withholding import Withholding
from peerd.derive import flat_exports, gateway_config
from peerd.derive.commit import Commit
from peerd.derive.gateway_endpoints import Member
from peerd.model.changes import Change
from peerd.model.federation import FederatedService, Freshness
from peerd.model.gateway_config import GatewayCluster
from peerd.model.kube.meta import ObjectKey
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, FEDERATED_SERVICE
from peerd.peering import dialer, importer, judging
from peerd.peering.importer import Importer
from peerd.peering.persistence import ImportJournal
from peerd.peering.steady import Steady
from peerd.protocol.heartbeat import HeartbeatClient, HeartbeatRules
from peerd.protocol.peer_session import PeerSession
from peerd.protocol.peer_subscription import PeerSubscription, Put, Settled
from peerd.serve.peer_exports import PeerExports
from peerd.serve.window import MergeWindow
from peerd.state.keyed_log import KeyedLog
from tests.simulation.disk_scenes import DISKS, full_disk, power_is_lost, slow_disk
from tests.simulation.found import (
    FOUND,
    another_view,
    answers_that_waited,
    expiry_in_a_sync,
    old_neighbour,
    ports_of_neighbours,
    somebody_listens_again,
)
from tests.simulation.guarantees import (
    BOUNDED_STALENESS,
    COMPLETE,
    ISOLATION,
    KEPT,
    LIVENESS,
    MONOTONIC,
    NO_PHANTOM_DELETE,
    NO_WORK,
    NOTHING_TWICE,
    ORIGIN,
    POLICIES_FIRST,
    RESTART,
    STATUS,
)
from tests.simulation.history import Violation
from tests.simulation.peer_edges import PEER_EDGES, an_hour_too_early, recreated_in_a_moment
from tests.simulation.scenarios import play
from tests.simulation.story import make_ca, run_seed
from tests.simulation.world import World

_SEEDS = 25

Mutate = Callable[[pytest.MonkeyPatch], None]
Act = Callable[[World], Awaitable[None]]


def forgets_policies_first(patch: pytest.MonkeyPatch) -> None:
    rules = app.ztunnel_rules

    def without(withheld: Callable[[str, str], bool]) -> dict[str, object]:
        found = rules(withheld)
        found[ADDRESS] = msgspec.structs.replace(found[ADDRESS], puts_after="")
        return dict(sorted(found.items(), reverse=True))  # Address goes first

    patch.setattr(app, "ztunnel_rules", without)


def withholds_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Withholding, "__call__", lambda *_: False)


def never_ages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importer, "freshness", lambda *_: Freshness.FRESH)


def expires_at_once(patch: pytest.MonkeyPatch) -> None:
    real = importer.freshness

    def impatient(*args: object) -> Freshness:
        found = real(*args)  # type: ignore[arg-type]
        return Freshness.EXPIRED if found is Freshness.STALE else found

    patch.setattr(importer, "freshness", impatient)


def never_notices_silence(patch: pytest.MonkeyPatch) -> None:
    init = HeartbeatClient.__init__
    patch.setattr(
        HeartbeatClient,
        "__init__",
        lambda self, now, _rules: init(self, now, HeartbeatRules(stale_after=1e9)),
    )


def ignores_removals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Importer, "remove", lambda *_: None)


def drops_imports_with_the_stream(patch: pytest.MonkeyPatch) -> None:
    opened = Importer.opened

    def forgetful(self: Importer, key: object) -> Callable[[float], None]:
        closed = opened(self, key)  # type: ignore[arg-type]

        def and_forget(now: float) -> None:
            closed(now)
            if key in self._peers:
                self._withdraw(self._peers[key])  # type: ignore[index]

        return and_forget

    patch.setattr(Importer, "opened", forgetful)


def mixes_peers_up(patch: pytest.MonkeyPatch) -> None:
    take = Importer.take

    def anybody(self: Importer, key: ObjectKey, type_url: str, puts: Sequence[Put]) -> dict[str, str]:
        informed = [each for each, peer in self._peers.items() if peer.info is not None]
        whose = informed[0] if type_url == FEDERATED_SERVICE and informed else key
        return take(self, whose, type_url, puts)

    patch.setattr(Importer, "take", anybody)


def says_synced_too_soon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PeerSession, "in_sync", property(lambda _self: True))


def never_announces_what_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Steady, "next_due", lambda _self: None)


def publishes_late(patch: pytest.MonkeyPatch) -> None:
    init = MergeWindow.__init__

    def slow(self: MergeWindow, *args: object, **_: object) -> None:
        init(self, *args, seconds=5.0)  # type: ignore[arg-type]

    patch.setattr(MergeWindow, "__init__", slow)


def forgets_one_service(patch: pytest.MonkeyPatch) -> None:
    """One that lies about its content would go unseen; one that is left out does not."""
    decode = judging.decode_federated_service

    def odd(payload: bytes) -> FederatedService:
        found = decode(payload)
        if len(found.ports) > 1 and found.ports[1].number % 2:
            return msgspec.structs.replace(found, ports=found.ports[:1])
        return found

    patch.setattr(judging, "decode_federated_service", odd)


def expires_behind_a_session(patch: pytest.MonkeyPatch) -> None:
    """As it was before the simulation."""
    patch.setattr(Importer, "opened", lambda *_: lambda _now: None)


def believes_answers_that_waited(patch: pytest.MonkeyPatch) -> None:
    """As it was before the simulation."""
    heard = HeartbeatClient.heard

    def fresh(self: HeartbeatClient, message: bytes, now: float) -> float:
        heard(self, message, now)
        return 0.0

    patch.setattr(HeartbeatClient, "heard", fresh)


def revives_the_expired(patch: pytest.MonkeyPatch) -> None:
    """As a first mend had it."""

    def age(self: Importer, key: ObjectKey, now: float) -> Freshness:
        peer = self._peers[key]
        expire_after = 0 if peer.connections else peer.remote.expire_after
        self._set_freshness(peer, importer.freshness(peer.last_heartbeat, now, expire_after, self._rules))
        return peer.freshness

    patch.setattr(Importer, "age", age)


def tells_derivation_again(patch: pytest.MonkeyPatch) -> None:
    set_freshness = Importer._set_freshness

    def again(self: Importer, peer: importer._Peer, now: Freshness) -> None:
        if peer.freshness is now:
            self._send([self._view(peer)])
        set_freshness(self, peer, now)

    patch.setattr(Importer, "_set_freshness", again)


def never_shows_age(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dialer, "_AGEING", frozenset())


def takes_one_cluster_for_another(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importer, "same_cluster", lambda *_: True)


def believes_the_future(patch: pytest.MonkeyPatch) -> None:
    real = importer.freshness

    def eager(last: float, now: float, *rest: object) -> Freshness:
        return Freshness.FRESH if last > now else real(last, now, *rest)  # type: ignore[arg-type]

    patch.setattr(importer, "freshness", eager)


def passes_on_what_it_is_told(patch: pytest.MonkeyPatch) -> None:
    """As it was before flat networks were simulated."""
    patch.setattr(flat_exports, "_own_ports", lambda _workload, entry, _exported: entry.ports)


def waits_for_what_is_not_known(patch: pytest.MonkeyPatch) -> None:
    """As it was before old control planes were simulated."""
    patch.setattr(PeerSubscription, "_unknown", lambda _self, answer: Settled((answer,)))


def waits_for_a_slow_disk(patch: pytest.MonkeyPatch) -> None:
    """As it was before disks were simulated."""
    patch.setattr(allocator, "_PATIENCE_SECONDS", 1e9)


def fails_at_every_change(patch: pytest.MonkeyPatch) -> None:
    """As it was before disks were simulated."""
    told = Allocator._told

    def again(self: Allocator, recorded: object) -> list[Change]:
        self._failing = False
        return told(self, recorded)  # type: ignore[arg-type]

    patch.setattr(Allocator, "_told", again)


def fails_without_a_word(patch: pytest.MonkeyPatch) -> None:
    init = ImportJournal.__init__

    def silent(self: ImportJournal, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self._failing = True

    patch.setattr(ImportJournal, "__init__", silent)


def flushes_nothing(patch: pytest.MonkeyPatch) -> None:
    flush = KeyedLog.flush
    patch.setattr(KeyedLog, "flush", lambda self, **_: flush(self, sync=False))


def writes_down_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ImportJournal, "_flushing", lambda _self: iter(()))


def lets_anything_be_called(patch: pytest.MonkeyPatch) -> None:
    """Through gateways."""
    clusters = gateway_config.clusters

    def more(service: FederatedService, *rest: object) -> dict[str, GatewayCluster]:
        found = clusters(service, *rest)  # type: ignore[arg-type]
        behind = next(iter(found.values())).endpoints
        return {
            **found,
            "db.bank.svc.cluster.local:80": GatewayCluster("db.bank.svc.cluster.local:80", behind),
        }

    patch.setattr(gateway_config, "clusters", more)


def sends_to_others(patch: pytest.MonkeyPatch) -> None:
    """What came for a service through a gateway."""
    places = gateway_config.places
    stranger = Member(bytes((10, 250, 0, 1)))
    patch.setattr(gateway_config, "places", lambda members, *rest: places([*members, stranger], *rest))


def keeps_gateways_in_the_dark(patch: pytest.MonkeyPatch) -> None:
    """Of what is gone."""
    resources = Gateways.resources

    def no_news(self: Gateways, commit: Commit) -> Iterator[ResourceChange]:
        return (each for each in resources(self, commit) if each.resource is not None)

    patch.setattr(Gateways, "resources", no_news)


def counts_each_view_alone(patch: pytest.MonkeyPatch) -> None:
    """As it was before flat networks were simulated."""
    patch.setattr(PeerExports, "_level", lambda _self: None)


MUTANTS: dict[Mutate, set[str]] = {
    lets_anything_be_called: {ORIGIN},
    sends_to_others: {ORIGIN},
    keeps_gateways_in_the_dark: {LIVENESS},
    waits_for_what_is_not_known: {LIVENESS},
    waits_for_a_slow_disk: {ISOLATION},
    fails_at_every_change: {KEPT},
    fails_without_a_word: {KEPT},
    flushes_nothing: {KEPT},
    writes_down_nothing: {KEPT},
    passes_on_what_it_is_told: {LIVENESS},
    counts_each_view_alone: {MONOTONIC},
    forgets_policies_first: {POLICIES_FIRST},
    withholds_nothing: {NO_PHANTOM_DELETE, RESTART},
    never_ages: {BOUNDED_STALENESS},
    expires_at_once: {BOUNDED_STALENESS},
    never_notices_silence: {BOUNDED_STALENESS, LIVENESS},
    ignores_removals: {LIVENESS, COMPLETE, NOTHING_TWICE},
    drops_imports_with_the_stream: {NO_PHANTOM_DELETE},
    mixes_peers_up: {ORIGIN},
    says_synced_too_soon: {COMPLETE},
    never_announces_what_waits: {LIVENESS},
    publishes_late: {ISOLATION},
    forgets_one_service: {MONOTONIC, LIVENESS},
    expires_behind_a_session: {COMPLETE, LIVENESS, BOUNDED_STALENESS},
    believes_answers_that_waited: {BOUNDED_STALENESS},
    revives_the_expired: {BOUNDED_STALENESS},
    tells_derivation_again: {NO_WORK},
    never_shows_age: {STATUS},
    takes_one_cluster_for_another: {ORIGIN},
    believes_the_future: {BOUNDED_STALENESS},
}


# What few seeds meet has a scenario.
SCENES: dict[Mutate, Act] = {
    waits_for_what_is_not_known: old_neighbour,
    waits_for_a_slow_disk: slow_disk,
    fails_at_every_change: full_disk,
    fails_without_a_word: full_disk,
    flushes_nothing: power_is_lost,
    passes_on_what_it_is_told: ports_of_neighbours,
    counts_each_view_alone: another_view,
    expires_behind_a_session: expiry_in_a_sync,
    believes_answers_that_waited: answers_that_waited,
    revives_the_expired: somebody_listens_again,
    takes_one_cluster_for_another: recreated_in_a_moment,
    believes_the_future: an_hour_too_early,
}


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_broken_peerd_is_caught_by_name(
    mutate: Mutate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = make_ca(tmp_path)
    mutate(monkeypatch)
    failure = next(filter(None, _failures(mutate, tmp_path, ca)), None)
    assert failure is not None, "nobody noticed anything"
    assert getattr(failure, "guarantee", repr(failure)) in MUTANTS[mutate], failure


def _failures(mutate: Mutate, root: Path, ca: Path) -> Iterator[BaseException | None]:
    if mutate not in SCENES:
        for seed in range(1, _SEEDS + 1):
            yield run_seed(seed, root, ca).failure
        return
    (scenario,) = (each for each in (*FOUND, *PEER_EDGES, *DISKS) if each.act is SCENES[mutate])
    try:
        play(scenario, root, ca)
    except Violation as violation:
        yield violation
