"""Whatever happens in whatever order: the world follows from what there is, and tells only what changed."""

import random
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.derive.world import World
from peerd.model.changes import Change, ObjectChange
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.mesh import Settings
from tests.support.random_objects import ROOT
from tests.support.random_worlds import histories, populated, settings_of_worlds, worlds
from tests.support.worlds import PARTS, Inputs, Seen, finish, from_scratch
from tests.support.ztunnel_rules import world_violations

relaxed = settings(max_examples=80)


@relaxed
@given(histories, settings_of_worlds)
def test_any_history_gives_what_a_fresh_start_gives(history: list[list[Change]], given_to: Settings) -> None:
    """After every batch: equal to a derivation from scratch, reached by the emitted changes alone.

    `Seen.take` refuses changes that change nothing and names that come twice in a revision.
    """
    world, seen, inputs = World(given_to), Seen(), Inputs()
    for batch in history:
        world.apply(batch)
        seen.take(finish(world))
        inputs.note(batch)
        assert seen.everything() == from_scratch(inputs.puts(), given_to).everything()


@relaxed
@given(histories, st.randoms(use_true_random=False))
def test_no_revision_shows_half_a_batch(history: list[list[Change]], order: random.Random) -> None:
    """Sliced anywhere, with the next batch coming in between: each commit shows exactly its own batch."""
    world, seen, inputs = World(Settings()), Seen(), Inputs()
    world.apply(history[0])
    for batch, following in pairwise([*history, []]):
        world.work(lambda: True)  # the batch is open now
        world.apply(following)
        seen.take(finish(world, lambda: order.random() < 0.5))
        inputs.note(batch)
        assert seen.everything() == from_scratch(inputs.puts()).everything()


@relaxed
@given(st.one_of(worlds, populated), st.randoms(use_true_random=False), settings_of_worlds)
def test_the_order_of_objects_is_no_matter(
    objects: list[Change], order: random.Random, given_to: Settings
) -> None:
    """Permuted inputs, peers' words among them, give the same world, in one batch or in one for each."""
    inputs = Inputs()
    inputs.note(objects)
    shuffled = inputs.puts()
    order.shuffle(shuffled)
    expected = from_scratch(inputs.puts(), given_to).everything()
    assert from_scratch(shuffled, given_to).everything() == expected
    world, seen = World(given_to), Seen()
    for change in shuffled:
        world.apply([change])
        seen.take(finish(world))
    if not shuffled:
        seen.take(finish(world))
    assert seen.everything() == expected


@relaxed
@given(histories, settings_of_worlds)
def test_deleting_everything_leaves_nothing(history: list[list[Change]], given_to: Settings) -> None:
    """No record, no memo, no dependency stays behind, save those of the mesh itself."""
    world, seen, inputs = World(given_to), Seen(), Inputs()
    for batch in history:
        world.apply(batch)
        seen.take(finish(world))
        inputs.note(batch)
    world.apply(inputs.deletes())
    seen.take(finish(world))
    assert seen.everything() == from_scratch(inputs.lasting(), given_to).everything()
    untouched = World(given_to)
    untouched.apply(inputs.lasting())
    finish(untouched)
    for collection, fresh in zip(world.engine._collections, untouched.engine._collections, strict=True):
        assert collection.values == fresh.values, collection.name
        watched = sorted(str(key) for edge in collection._edges.values() for key in edge.watchers)
        assert watched == sorted(str(key) for edge in fresh._edges.values() for key in edge.watchers)


RENAMED = {"nsaaa": "nsxaa", "nsbbb": "nsxbb"}


def renamed(text: bytes) -> bytes:
    for old, new in RENAMED.items():
        text = text.replace(old.encode(), new.encode())
    return text


@relaxed
@given(worlds)
def test_renaming_namespaces_commutes_with_derivation(objects: list[Change]) -> None:
    """Namespaces have no meaning but the root's: derive then rename is rename then derive."""
    inputs = Inputs()
    inputs.note(objects)
    moved: list[Change] = []
    for found in inputs.puts():
        assert isinstance(found, ObjectChange)
        assert ROOT not in RENAMED
        kind = KINDS_BY_NAME[found.kind].type
        there = msgspec.json.decode(renamed(msgspec.json.encode(found.object)), type=kind)
        moved.append(ObjectChange(found.kind, there.key, there))
    before, after = from_scratch(inputs.puts()), from_scratch(moved)
    for part in PARTS:
        old = sorted(renamed(msgspec.json.encode(item)) for item in before.parts[part].items())
        assert old == sorted(msgspec.json.encode(item) for item in after.parts[part].items())


# What objects say themselves: two Services with one address, an endpoint that no gateway leads to.
_OBJECTS_OWN = ("nobody can reach it", "share VIP", "no valid destination", "no subject_alt_names")


@relaxed
@given(st.one_of(worlds, populated))
def test_whatever_is_sent_ztunnel_accepts(objects: list[Change]) -> None:
    """Records of any random world, alone (wire-contract §1.6) and together, break no rule of ztunnel's."""
    seen = from_scratch(objects)
    found = world_violations(
        seen.parts["addresses"].values(), seen.parts["policies"].values(), network=seen.network
    )
    assert [text for text in found if not any(own in text for own in _OBJECTS_OWN)] == []


def test_work_of_a_change_does_not_grow_with_the_cluster() -> None:
    """One Pod's readiness re-runs as many transformations among 1,000 Pods as among 10."""
    counts = []
    for size in (10, 1000):
        world = World(Settings())
        world.apply(_cluster(size))
        finish(world)
        before = world.transformations
        world.apply(_cluster(size, unready=5)[-size + 5 : -size + 6])
        commit = finish(world)
        assert [name for name, _ in commit.addresses] == ["Kubernetes//Pod/shop/web-5"]
        counts.append(world.transformations - before)
    assert counts[0] == counts[1] == 1


def _cluster(size: int, unready: int = -1) -> list[Change]:
    trees = [
        ("Service", {"metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"app": "web"}}})
    ]
    trees += [
        (
            "Pod",
            {
                "metadata": {"namespace": "shop", "name": f"web-{i}", "labels": {"app": "web"}},
                "status": {
                    "phase": "Running",
                    "podIP": f"10.0.{i // 256}.{i % 256}",
                    "conditions": [{"type": "Ready", "status": str(i != unready)}],
                },
            },
        )
        for i in range(size)
    ]
    changes: list[Change] = []
    for kind, tree in trees:
        found = msgspec.convert(tree, KINDS_BY_NAME[kind].type)
        changes.append(ObjectChange(kind, found.key, found))
    return changes
