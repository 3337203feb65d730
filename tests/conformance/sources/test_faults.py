"""An API server with every fault at once: nothing is deleted wrongly, in the end all is as it should be."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from peerd.kubeapi.backoff import LONGEST
from peerd.model.changes import ObjectChange
from peerd.model.kube.meta import ObjectKey
from peerd.sources.kubernetes import KubernetesSource
from tests.simulation.loop import run
from tests.support import rbac
from tests.support.fake_apiserver import Chaos, FakeApiServer, kinds
from tests.support.fake_apiserver.storage import Snapshot
from tests.support.recorded_sink import RecordedSink

_RIGHTS = sorted(
    {(each.verb, each.resource) for each in rbac.granted() if each.verb in {"list", "watch"}}
    | {("get", "customresourcedefinitions")}
)
_Key = tuple[str, ObjectKey]
_TALK = 1500.0  # virtual seconds of faults
_CALM = 700.0  # until everything must be right: a watch that is silent for ever is noticed, and asked again


class _Truth:
    """What was really deleted, and what values there ever were."""

    def __init__(self) -> None:
        self.gone: Counter[_Key] = Counter()
        self.addresses: set[tuple[ObjectKey, str]] = set()


class _Witness(RecordedSink):
    """Refuses a deletion that never happened, and an object that never was."""

    def __init__(self, truth: _Truth) -> None:
        super().__init__()
        self._truth = truth
        self._believed: Counter[_Key] = Counter()

    def apply(self, changes: Sequence[ObjectChange]) -> None:
        for each in changes:
            key = (each.kind, each.key)
            if each.object is None and key in self.objects:
                assert self._truth.gone[key] > self._believed[key], f"{key} was never deleted"
                self._believed[key] = self._truth.gone[key]
            if each.kind == "Pod" and each.object is not None:
                address = each.object.status.pod_ip  # type: ignore[attr-defined]
                assert (each.key, address) in self._truth.addresses, f"{key} never had {address}"
        super().apply(changes)


class _History:
    """A cluster's life by chance."""

    def __init__(self, random: Random, server: FakeApiServer, truth: _Truth) -> None:
        self._random = random
        self._server = server
        self._truth = truth
        self._settled = 0.0  # until then, everybody may not have noticed yet that the cluster was restored
        self._backup: Snapshot | None = None
        self.backup()
        self.done: set[str] = set()

    def pod(self) -> None:
        name, address = f"p{self._random.randrange(12)}", f"10.0.0.{self._random.randrange(250)}"
        self._truth.addresses.add((ObjectKey("shop", name), address))
        self._server.put(kinds.pod(name, address))

    def delete(self) -> None:
        pods = list(self._server.objects("Pod"))
        if pods:
            namespace, name = self._random.choice(pods)
            self._truth.gone["Pod", ObjectKey(namespace, name)] += 1
            self._server.delete("Pod", namespace, name)

    def entry(self) -> None:
        if self._server.defined("ServiceEntry"):
            name, host = f"e{self._random.randrange(4)}", f"h{self._random.random()}"
            self._server.put(kinds.service_entry(name, host))

    def definition(self) -> None:
        """A CustomResourceDefinition goes, or comes back."""
        if not self._server.defined("ServiceEntry"):
            self._define()
            return
        for namespace, name in list(self._server.objects("ServiceEntry")):
            self._truth.gone["ServiceEntry", ObjectKey(namespace, name)] += 1
        self._server.undefine("serviceentries", "networking.istio.io")

    def compact(self) -> None:
        self._server.compact()

    def backup(self) -> None:
        """Much is written after it that we do not follow, as in a cluster of some size.

        So a version that was heard does not come again soon with another meaning, which nobody could notice.
        """
        if self._now() >= self._settled:
            self._backup = self._server.storage.snapshot()
            self._server.storage.version += 1_000_000

    async def restore(self) -> None:
        """The cluster goes back to an earlier state."""
        if self._backup is None:
            return
        before = self._present()
        self._server.stop()
        await asyncio.sleep(self._random.uniform(0, 20))
        self._server.storage.restore(self._backup)
        self._backup, self._settled = None, self._now() + 400
        for key in before - self._present():
            self._truth.gone[key] += 1
        self._server.start()

    async def restart(self) -> None:
        self._server.stop()
        await asyncio.sleep(self._random.uniform(0, 60))
        self._server.start()

    async def lose_etcd(self) -> None:
        """Everything is lost. Later the same cluster is restored, or another one is built in its place."""
        backup, present = self._server.storage.snapshot(), self._present()
        self._server.stop()
        self._server.lose_etcd()
        await asyncio.sleep(self._random.uniform(0, 20))
        self._server.start()
        await asyncio.sleep(self._random.uniform(0, 60))
        if self._random.random() < 0.5:
            self._server.restart()
            self._server.storage.restore(backup)
            self._define()
            return
        for key in present:  # from now on it is true: this is a cluster without them
            self._truth.gone[key] += 1
        self._server.put(kinds.namespace("istio-system"))
        self._backup = None

    def deny(self) -> None:
        """Somebody takes one right away for a while: what was known stays, all other kinds go on."""
        verb, resource = self._random.choice(_RIGHTS)
        self._server.deny(verb, resource, self._random.uniform(5, 200))

    async def live(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        often = [self.pod] * 8 + [self.delete] * 3 + [self.entry] * 2
        seldom = [
            self.definition, self.compact, self.backup, self.restore, self.restart, self.lose_etcd,
            self.deny, self.deny,
        ]  # fmt: skip
        while loop.time() < until:
            act = self._random.choice(often if self._random.random() < 0.9 else seldom)
            self.done.add(act.__name__)
            waiting = act()
            if waiting is not None:
                await waiting
            await asyncio.sleep(self._random.expovariate(1 / 8))
        self._define()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _define(self) -> None:
        for each in kinds.DEFINED:
            self._server.define(each)

    def _present(self) -> set[_Key]:
        return {
            (kind, ObjectKey(*key))
            for kind in ("Pod", "ServiceEntry", "Namespace")
            if self._server.defined(kind)
            for key in self._server.objects(kind)
        }


async def _one(seed: int, *, streams_lists: bool) -> tuple[set[str], set[str]]:
    random = Random(seed)
    server = kinds.cluster(streams_lists=streams_lists)
    truth, chaos = _Truth(), Chaos(Random(seed + 1))
    history = _History(random, server, truth)
    for _ in range(8):
        history.pod()
    sink = _Witness(truth)
    transport = server.transport(chaos)
    source = KubernetesSource(transport, system_namespace="istio-system", random=Random(seed + 2))
    running = asyncio.ensure_future(source.run(sink))
    living = asyncio.ensure_future(history.live(_TALK))
    await asyncio.wait({running, living}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await living
    chaos.calm = True
    server.forbidden.clear()
    await asyncio.wait({running}, timeout=_CALM + LONGEST)
    if running.done():
        running.result()
    assert sink.at_sync is not None
    for kind in ("Pod", "ServiceEntry", "Namespace"):
        told = {key: each.metadata.uid for (name, key), each in sink.objects.items() if name == kind}
        held = {ObjectKey(*key): tree["metadata"]["uid"] for key, tree in server.objects(kind).items()}
        assert told == held, kind
    for key, tree in server.objects("Pod").items():
        assert sink.get("Pod", *key).status.pod_ip == tree["status"]["podIP"]  # type: ignore[union-attr]
    assert sink.problems == {}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert transport.streams == 0
    return chaos.done, history.done


_SEEDS = range(24)


@pytest.mark.parametrize("seed", _SEEDS)
def test_whatever_the_server_does_nothing_is_deleted_wrongly_and_all_comes_right(seed: int) -> None:
    """Seeded: faults of requests and lines, restarts, backups restored, lost etcds, CRDs or rights gone."""
    run(_one(seed, streams_lists=seed % 2 == 0))


def test_the_seeds_reach_every_fault() -> None:
    """Or the property above would say less than it seems to."""
    faults: set[str] = set()
    acts: set[str] = set()
    for seed in (0, 1, 2):
        more = run(_one(seed, streams_lists=seed % 2 == 0))
        faults |= more[0]
        acts |= more[1]

    assert faults >= set(Chaos.requests)
    assert {each for each in faults if each.startswith("line ")} >= {
        f"line {each}"
        for each in (
            "cut",
            "garbage",
            "silence",
            "twice",
            "again",
            "swapped",
            "broken",
            "ended",
            "410",
            "500",
        )
    }
    assert acts == {
        "pod", "delete", "entry", "definition", "compact", "backup", "restore", "restart", "lose_etcd",
        "deny",
    }  # fmt: skip
