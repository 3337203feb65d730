"""Publishing over an API server with every fault: nothing is deleted wrongly, all comes right, few writes.

Whole peerds, two replicas, in virtual time. Requests and watches fail in every way, answers to writes are
lost, the server is restarted, restored from a backup, or loses its etcd; processes are killed; people change
Services, edit and delete what peerd wrote, take rights away for a while, and west's exports come and go. The
link to west never fails: whatever is said of a lost peer would be a lie.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from peerd.app import publishing
from peerd.limits import OBJECT_WRITES
from peerd.model.address import ip_text
from tests.simulation.loop import run
from tests.simulation.publishing import KEPT, LATEST, Rig, honest_gateway, host, text_of
from tests.simulation.story import make_ca
from tests.support import rbac
from tests.support.fake_apiserver import Chaos, kinds
from tests.support.fake_apiserver.storage import Snapshot

_TALK = 1500.0
_CALM = LATEST
_QUIET = 600.0
_NAMES = ("a", "b", "c", "d")
_RIGHTS = sorted({(each.verb, each.resource) for each in rbac.granted()})
_LOST = {"PeerLost", "PeerStale", "PeerExpired", "PeerRefused", "PeerUnreachable", "GatewayInvalid"}


class History:
    """East's life by chance."""

    def __init__(self, rig: Rig, random: Random) -> None:
        self._rig = rig
        self._random = random
        self._backup: Snapshot | None = None
        self._settled = 0.0
        self.done: set[str] = set()

    # -- people ------------------------------------------------------------------------------------------

    async def service(self) -> None:
        """One of east's Services comes, becomes global, ordinary, or goes."""
        name = self._random.choice(_NAMES)
        match self._random.randrange(3):
            case 0:
                self._rig.server.delete("Service", "shop", name)
            case 1:
                self._rig.server.put(self._rig.service(name, shared=False))
            case _:
                self._rig.server.put(self._rig.service(name))

    async def export(self) -> None:
        """West serves a name, with other endpoints than before, or no more; what always was stays."""
        name = self._random.choice((*_NAMES, KEPT))
        self._rig.export(name, self._random.randrange(int(name == KEPT), 5))

    async def edit(self) -> None:
        """By hand: a field of an entry, or its whole object."""
        entries = sorted(self._rig.entries().items())
        if not entries:
            return
        _, tree = self._random.choice(entries)
        tree = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", **tree}
        if self._random.random() < 0.5:
            self._rig.server.delete("ServiceEntry", "shop", tree["metadata"]["name"])
        else:
            self._rig.server.put({**tree, "spec": {**tree["spec"], "hosts": ["evil.example"]}})

    async def erase(self) -> None:
        """Somebody's controller writes over the status of the Gateway."""
        tree = self._rig.server.objects("Gateway")["istio-system", "west"]
        self._rig.server.put({**tree, "status": {"conditions": []}})

    async def namespace(self) -> None:
        """A Namespace more, which wants the roots."""
        self._rig.server.put(kinds.namespace(f"n{self._random.randrange(5)}"))

    # -- the server --------------------------------------------------------------------------------------

    async def compact(self) -> None:
        """History is forgotten."""
        self._rig.server.compact()

    async def restart(self) -> None:
        """Away for up to a minute."""
        self._rig.server.stop()
        await asyncio.sleep(self._random.uniform(0, 60))
        self._rig.server.start()

    async def backup(self) -> None:
        """As in test_faults.py: much else is written after it, so that no version comes again soon."""
        if self._now >= self._settled:
            self._backup = self._rig.server.storage.snapshot()
            self._rig.server.storage.version += 1_000_000

    async def restore(self) -> None:
        """Back to an earlier state, generated objects and Lease too."""
        if self._backup is None:
            return
        self._rig.server.stop()
        await asyncio.sleep(self._random.uniform(0, 20))
        self._rig.server.storage.restore(self._backup)
        self._backup, self._settled = None, self._now + 400
        self._rig.unsettled = self._now + 60
        self._rig.server.start()

    async def lose_etcd(self) -> None:
        """Empty, for a while; then a backup is restored, or people apply what they have anew."""
        server, storage = self._rig.server, self._rig.server.storage
        if self._now < self._settled:
            return
        backup = storage.snapshot()
        server.stop()
        server.lose_etcd()
        await asyncio.sleep(self._random.uniform(0, 20))
        server.start()
        await asyncio.sleep(self._random.uniform(0, 60))
        if self._random.random() < 0.5:
            server.restart()
            storage.restore(backup)
            self._define()
        else:
            self._define()
            for each in self._rig.users():  # the system Namespace last: who sees it may believe the rest
                server.put(each)
        self._backup, self._settled = None, self._now + 400
        self._rig.unsettled = self._now + 60

    async def deny(self) -> None:
        """Somebody takes one right of peerd's away, and gives it back."""
        verb, resource = self._random.choice(_RIGHTS)
        self._rig.server.deny(verb, resource, self._random.uniform(5, 200))

    # -- peerd -------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """SIGKILL to one replica, which starts again."""
        replica = self._random.choice(self._rig.replicas)
        await replica.end()
        await asyncio.sleep(self._random.uniform(0, 30))
        replica.begin()

    async def live(self, until: float) -> None:
        """Act until then."""
        often = [self.service] * 4 + [self.export] * 4 + [self.edit] * 3 + [self.erase, self.namespace]
        seldom = [
            self.compact, self.restart, self.backup, self.backup, self.restore, self.lose_etcd,
            self.kill, self.kill, self.deny, self.deny, self.deny,
        ]  # fmt: skip
        while self._now < until:
            act: Callable[[], Awaitable[None]]
            act = self._random.choice(often if self._random.random() < 0.85 else seldom)
            self.done.add(act.__name__)
            await act()
            self._rig.look()
            await asyncio.sleep(self._random.expovariate(1 / 8))
            assert self._rig.violations == []
            failure = self._rig.failure()
            if failure is not None:
                raise failure

    def _define(self) -> None:
        for each in kinds.DEFINED:
            self._rig.server.define(each)

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _one(seed: int, root: Path, ca: Path) -> tuple[set[str], set[str]]:
    rig = Rig(seed, root / str(seed), ca)
    await rig.start()
    try:
        history = History(rig, Random(seed + 1))
        await history.live(_TALK)
        rig.calm = True
        rig.server.forbidden.clear()
        for each in rig.chaoses:
            each.calm = True
        await asyncio.sleep(_CALM)
        assert rig.failure() is None, rig.failure()
        _all_is_right(rig)
        before = rig.writes.copy()
        await asyncio.sleep(_QUIET)
        assert rig.writes - before == {}, "written again, though nothing changed"
        _few_writes(rig)
        assert rig.violations == []
        return {fault for each in rig.chaoses for fault in each.done}, history.done
    finally:
        await rig.close()


def _all_is_right(rig: Rig) -> None:
    here, there = rig.shared_here(), rig.shared_there()
    entries = rig.entries()
    assert entries.keys() == here | there
    recorded = {
        name: sorted(each["value"] for each in tree["status"]["addresses"]) for name, tree in entries.items()
    }
    assert all(recorded.values()), recorded
    everything = [address for each in recorded.values() for address in each]
    assert len(set(everything)) == len(everything), "an address twice"
    for replica in rig.replicas:
        served = {
            name: sorted(ip_text(each.address) for each in found.addresses)
            for name, found in rig.served(replica).items()
        }
        assert served == {host(name): addresses for name, addresses in recorded.items()}

    gateway = rig.conditions("Gateway", "istio-system", "west")
    assert gateway["Accepted"] == "True, Accepted"
    assert gateway["gloo.solo.io/PeerConnected"] == "True, Connected"
    assert gateway["gloo.solo.io/PeeringSucceeded"] == "True, Synced"
    assert gateway["gloo.solo.io/PeerDataPlaneProgrammed"] == "True, Reached"
    for namespace, name in rig.server.objects("Service"):
        assert (
            rig.conditions("Service", namespace, name).get("peering.peerd.io/Federated")
            == {
                (True, True): "True, Exported",
                (True, False): "True, OnlyHere",
                (False, True): "False, NotExported",
                (False, False): None,
            }[name in here, name in there]
        ), name
    roots = {namespace for namespace, name in rig.server.objects("ConfigMap") if name == "istio-ca-root-cert"}
    assert roots >= {
        name for _, name in rig.server.objects("Namespace")
    }  # the fake has no controller of them
    assert text_of(rig.server) == "{\"('shop', 'theirs')\": " + _spec_of_theirs() + "}"
    writers = [each for each in rig.replicas if each.peerd and each.peerd._publishing.view().writes]  # type: ignore[union-attr]
    assert len(writers) == 1
    told = rig.events()
    assert not told.keys() & _LOST, told


def _spec_of_theirs() -> str:
    return '{"hosts": ["db.example.org"], "ports": [{"name": "http", "number": 80}]}'


def _few_writes(rig: Rig) -> None:
    """Of one object a process writes so many at once, then one every ten seconds, whatever fails."""
    most = OBJECT_WRITES.value + (_TALK + _CALM) / 10
    for (process, path), count in rig.writes.items():
        if "/events" not in path:
            assert count <= most, f"{process} wrote {path} {count} times"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_nothing_is_deleted_wrongly_and_all_comes_right(
    seed: int, tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, ServiceEntries with their addresses, Events, root ConfigMaps, the Lease: seeded."""
    monkeypatch.setattr(publishing, "tls_probe", lambda _tls: honest_gateway)
    run(_one(seed, tmp_path, ca))


def test_the_seeds_reach_every_fault(tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the property above would say less than it seems to."""
    monkeypatch.setattr(publishing, "tls_probe", lambda _tls: honest_gateway)
    faults: set[str] = set()
    acts: set[str] = set()
    for seed in (8, 9, 10):
        more = run(_one(seed, tmp_path, ca))
        faults |= more[0]
        acts |= more[1]
    assert faults >= {*Chaos.requests, "409", "answer lost", "answer torn"}
    assert faults >= {"line cut", "line garbage", "line silence", "line twice", "line swapped", "line 410"}
    assert acts >= {
        "service", "export", "edit", "erase", "namespace",
        "compact", "restart", "backup", "restore", "lose_etcd", "kill", "deny",
    }  # fmt: skip
