"""The guarantees hold too where every replica reads an API server, and that one fails all the time.

Whole clusters of peerds, their ztunnels, and the validators of docs/guarantees.md, as in test_seeds.py; only
where objects come from is another source, with requests refused and watches cut, garbled and repeated.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from peerd.model.changes import ObjectChange
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject, ObjectKey
from peerd.sources.base import Sink
from peerd.sources.kubernetes import KubernetesSource
from tests.simulation import replica
from tests.simulation.loop import Process
from tests.simulation.story import make_ca, run_seed
from tests.simulation.world import World
from tests.support.fake_apiserver import Chaos, kinds
from tests.support.fake_apiserver.storage import Tree

_SEEDS = range(1, 9)


class Brisk(Chaos):
    """Faults that are over in seconds: guarantees bound what peerds take, not what their servers do."""

    requests = ("unreachable", "500", "503", "504", "410", "401", "html", "cut")
    lines = ("cut", "garbage", "twice", "again", "swapped", "broken", "ended", "410", "500", "unknown")


class Unmoved:
    """A sink to which troubles of the API server are no news: a validator takes what is logged for a bug."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.apply, self.own, self.synced = sink.apply, sink.own, sink.synced

    def report(self, where: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        if where != "API server":
            self._sink.report(where, diagnostics)


class ApiSource:
    """A ScriptedSource that is an API server: a new one for each process that starts."""

    made: list[Chaos] = []

    def __init__(self, objects: dict[tuple[str, ObjectKey], ObjectChange], random: Random) -> None:
        self._objects = objects
        self._random = random
        self._server = kinds.cluster(streams_lists=random.random() < 0.5)
        self._server.delete("Namespace", "", "istio-system")
        self.changed(list(objects.values()))

    async def run(self, sink: Sink) -> None:
        chaos = Brisk(self._random, rate=0.05)
        self.made.append(chaos)
        transport = self._server.transport(chaos)
        source = KubernetesSource(transport, system_namespace="istio-system", random=self._random)
        await source.run(Unmoved(sink))

    def changed(self, changes: Sequence[ObjectChange]) -> None:
        for change in changes:
            if change.object is None:
                self._server.delete(change.kind, change.key.namespace, change.key.name)
            else:
                self._server.put(manifest(change.kind, change.object))


def manifest(kind_name: str, value: KubeObject) -> Tree:
    """A record as the JSON that would give it."""
    kind = KINDS_BY_NAME[kind_name]
    version = f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
    tree: Tree = msgspec.to_builtins(value)
    return {"apiVersion": version, "kind": kind_name, **tree}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


def test_every_guarantee_holds_over_an_api_server_that_keeps_failing(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it does fail, in every way that it can."""
    due = World.error_is_due

    def not_yet_there(world: World, process: Process | None, event: Mapping[str, Any]) -> bool:
        # Kinds are followed one by one: who names something may be known a while before it is.
        return due(world, process, event) or event.get("problem", "").endswith("does not exist")

    monkeypatch.setattr(World, "error_is_due", not_yet_there)
    monkeypatch.setattr(replica, "ScriptedSource", ApiSource)
    monkeypatch.setattr(ApiSource, "made", [])
    for seed in _SEEDS:
        result = run_seed(seed, tmp_path, ca)
        assert result.failure is None, f"seed {seed}: {result.failure}\n" + "\n".join(
            result.history.lines[-60:]
        )
    done = {fault for each in ApiSource.made for fault in each.done}
    assert done >= set(Brisk.requests)
    assert len(done & {f"line {each}" for each in Brisk.lines}) >= 6
