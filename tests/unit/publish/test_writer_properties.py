"""Whatever happens in between, in the end everything is as wanted, and what is not ours was never touched."""

import copy
import random

import pytest

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.publish.ref import Observed, Ref
from peerd.publish.writer import Writer
from tests.support.fake_objects import FakeObjects, status
from tests.support.stepping import SteppedTime

ENTRIES = Resource("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
NAMES = [f"autogen.shop.{letter}" for letter in "abcdef"]
USERS = {"metadata": {"namespace": "shop", "name": NAMES[5]}, "spec": {"hosts": ["of a user"]}}
FAILURES = [
    ApiUnreachableError("reset"),
    status(429, "TooManyRequests", 2.0),
    status(500, "InternalError"),
    status(409, "Conflict"),
    status(422, "Invalid"),
]


class World:
    """One API server, a watch that lags, somebody with kubectl, and a writer that dies and comes back."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.api = FakeObjects()
        self.clock = SteppedTime()
        self.wanted = {}
        self.late = []
        self.permitted = True
        self.api.put("serviceentries", copy.deepcopy(USERS))
        self.api.changed = lambda plural, namespace, name, tree: self.late.append((name, tree))
        self.start()

    def remaining(self):
        return 9.0 if self.permitted else 0.0

    def start(self):
        """A process begins: it is told what there is, then what is wanted."""
        self.writer = Writer(
            KubeObjects(self.api),
            clock=self.clock,
            source=random.Random(self.chance.random()),
            permit=self,
        )
        self.late.clear()
        for (_, _, name), tree in list(self.api.objects.items()):
            self.observe(name, tree)
        for name, manifest in self.wanted.items():
            self.writer.want(Ref(ENTRIES, "shop", name), manifest)

    def observe(self, name, tree):
        meta = {} if tree is None else tree["metadata"]
        seen = None if tree is None else Observed(meta["uid"], meta["resourceVersion"], copy.deepcopy(tree))
        self.writer.observe(Ref(ENTRIES, "shop", name), seen)

    def catch_up(self, count):
        for _ in range(min(count, len(self.late))):
            self.observe(*self.late.pop(0))

    async def step(self):
        """One thing happens."""
        chance, name = self.chance, self.chance.choice(NAMES)
        match chance.randrange(9):
            case 0 | 1:
                self.wanted[name] = manifest(name, chance.randrange(4))
                self.writer.want(Ref(ENTRIES, "shop", name), self.wanted[name])
            case 2:
                self.wanted[name] = None
                self.writer.want(Ref(ENTRIES, "shop", name), None)
            case 3:
                self.edit(name)
            case 4:
                self.catch_up(chance.randrange(8))
            case 5:
                self.api.fail = [chance.choice([None, *FAILURES]) for _ in range(chance.randrange(4))]
            case 6:
                self.permitted = not self.permitted
            case 7 if chance.random() < 0.3:
                self.start()
            case _:
                await self.clock.advance(chance.uniform(0, 40))
        await self.writer.work()

    def edit(self, name):
        """By hand: a field, a foreign field, or the whole object; never the user's."""
        tree = copy.deepcopy(self.api.get("serviceentries", "shop", name))
        if tree is None or name == NAMES[5]:
            return
        match self.chance.randrange(3):
            case 0:
                tree["spec"]["hosts"] = ["evil"]
                self.api.put("serviceentries", tree)
            case 1:
                tree["spec"]["exportTo"] = ["."]
                self.api.put("serviceentries", tree)
            case 2:
                self.api.drop("serviceentries", "shop", name)

    async def calm(self, seconds):
        """Nothing more happens: the watch catches up, the server is well."""
        self.permitted, self.api.fail = True, []
        for _ in range(seconds):
            self.catch_up(1_000)
            while (wait := await self.writer.work()) is not None and wait < 1:
                await self.clock.advance(max(wait, 0.001))
            await self.clock.advance(1)


def manifest(name, number):
    labels = {"peerd.io/generated": "true"}
    return {
        "metadata": {"namespace": "shop", "name": name, "labels": labels},
        "spec": {"hosts": [f"{name}.{number}"], "ports": [{"number": 80 + number}]},
    }


@pytest.mark.parametrize("seed", range(60))
async def test_all_is_as_wanted_in_the_end(seed):
    """Edits, failures, lag, lost Leases and restarts in any order; then calm, and then not one write more."""
    world = World(seed)
    for _ in range(120):
        await world.step()
    await world.calm(200)
    for name in NAMES[:5]:
        found = world.api.get("serviceentries", "shop", name)
        wanted = world.wanted.get(name)
        if name in world.wanted:
            assert (found and found["spec"]) == (wanted and wanted["spec"]), name
    user = world.api.get("serviceentries", "shop", NAMES[5])
    assert user["spec"] == USERS["spec"]
    before = len(world.api.writes)
    await world.calm(100)
    assert len(world.api.writes) == before
    taken = world.wanted.get(NAMES[5]) is not None
    assert world.writer.pending == taken, "only the name that is taken is looked at again"
