"""The World's own promises: batches, kinds it does not know, and what it keeps of a Pod."""

import pytest

from peerd.derive.world import World
from peerd.limits import POD_SHAPES
from peerd.model.changes import ObjectChange
from peerd.model.kube.core import Pod, PodStatus
from peerd.model.kube.meta import KubeObject, ObjectKey, ObjectMeta
from peerd.model.mesh import Settings
from tests.support.golden import cases, derive, input_of
from tests.support.worlds import Seen, finish


def pod(name: str, app: str, ip: str = "10.0.0.1") -> ObjectChange:
    found = Pod(ObjectMeta(name, "shop", labels={"app": app}), status=PodStatus("Running", ip))
    return ObjectChange("Pod", found.key, found)


def test_the_first_commit_tells_who_we_are() -> None:
    """Info and network come without any object; later only when they change."""
    world = World(Settings(cluster_id="c", network="n"))
    first = finish(world)
    assert first.info is not None
    assert (first.info.cluster, first.info.network, first.network) == ("c", "n", "n")
    world.apply([pod("p", "a")])
    second = finish(world)
    assert (second.info, second.network, second.revision) == (None, "n", 2)


def test_kinds_nobody_derives_are_passed_over() -> None:
    """An object of an unknown kind changes nothing."""
    world = World(Settings())
    finish(world)
    world.apply([ObjectChange("Secret", ObjectKey("a", "b"), KubeObject(ObjectMeta("b", "a")))])
    assert finish(world).addresses == ()


def test_pods_alike_share_what_is_alike() -> None:
    """Labels and ports of all Pods of a ReplicaSet are held once."""
    world = World(Settings())
    world.apply([pod("p1", "a"), pod("p2", "a"), pod("p3", "b")])
    finish(world)
    first, second, third = (facts.shape for facts in world.inputs.pods.values.values())
    assert first is second
    assert first is not third


def test_the_table_of_shapes_starts_anew_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new labels do not grow it without end, and nothing that is served depends on it."""
    monkeypatch.setattr("peerd.derive.inputs.POD_SHAPES", POD_SHAPES._replace(value=3))
    world = World(Settings())
    world.apply([pod(f"p{i}", f"a{i}") for i in range(10)])
    assert len(finish(world).addresses) == 10
    assert len(world.inputs._shapes) <= 3


def test_a_fault_is_told_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derivation that raises for one Pod leaves the others, and says which; mended, the word goes."""
    world, told = World(Settings()), {}
    real = world.pods.wire._function

    def failing(ctx: object, key: str, facts: object) -> object:
        if key.endswith("/bad"):
            raise KeyError("boom")
        return real(ctx, key, facts)  # type: ignore[arg-type]

    monkeypatch.setattr(world.pods.wire, "_function", failing)
    world.apply([pod("good", "a"), pod("bad", "a")])
    while not world.work():
        pass
    commit = world.commit()
    assert [name for name, _ in commit.addresses] == ["Kubernetes//Pod/shop/good"]
    told.update(commit.diagnostics)
    assert [d.object for d in told.values() if d] == ["pod workloads/Kubernetes//Pod/shop/bad"]
    monkeypatch.setattr(world.pods.wire, "_function", real)
    world.apply([pod("bad", "b")])
    commit = finish(world)
    assert [record for _, record in commit.diagnostics] == [None]
    assert [name for name, _ in commit.addresses] == ["Kubernetes//Pod/shop/bad"]


def test_recorded_cases_in_one_world_come_and_go_without_a_trace() -> None:
    """All recordings together in one batch, then each deleted again: nothing stays."""
    world, seen = World(Settings()), Seen()
    everything = [change for case in cases() for change in input_of(case)]
    world.apply(everything)
    seen.take(finish(world))
    assert len(seen.parts["addresses"]) > len(derive("service-kinds").addresses)
    world.apply([ObjectChange(change.kind, change.key, None) for change in everything])
    seen.take(finish(world))
    assert all(held == {} for held in seen.parts.values())
