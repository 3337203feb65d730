"""A writer before an API server in memory, a watch that may lag, and time that is stepped."""

import random

from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.publish.ref import Observed, Ref
from peerd.publish.writer import Writer
from tests.support.fake_objects import FakeObjects
from tests.support.stepping import SteppedTime

ENTRIES = Resource("networking.istio.io", "v1", "serviceentries", "ServiceEntry")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
REF = Ref(ENTRIES, "shop", "autogen.shop.web")
STATUS = Ref(GATEWAYS, "istio-eastwest", "west", "status")


def entry(name="autogen.shop.web", hosts=("web.shop.mesh.internal",), **spec):
    return {
        "metadata": {"namespace": "shop", "name": name, "labels": {"peerd.io/generated": "true"}},
        "spec": {"hosts": list(hosts), **spec},
    }


def condition(status_, type_="Accepted", reason="Known"):
    return {"type": type_, "status": status_, "reason": reason, "message": "", "observedGeneration": 1}


def conditions(*found):
    return {
        "metadata": {"namespace": "istio-eastwest", "name": "west"},
        "status": {"conditions": list(found)},
    }


class WriterRig:
    """A writer, what it writes to, and a watch that tells it of every change, at once or when asked."""

    def __init__(self, server=None, *, watch=True):
        self.api = server or FakeObjects()
        self.clock = SteppedTime()
        self.permitted = float("inf")
        self.notices = []
        self.changed = []
        self.late = []
        self.lagging = False
        self.writer = Writer(
            KubeObjects(self.api),
            clock=self.clock,
            source=random.Random(7),
            permit=self,
            tell=self.notices.append,
            changed=self.changed.append,
        )
        if watch:
            self.api.changed = self._watch

    def remaining(self):
        return self.permitted

    def _watch(self, plural, namespace, name, tree):
        resource = {"serviceentries": ENTRIES, "gateways": GATEWAYS}[plural]
        ref = Ref(resource, namespace, name, "status" if resource is GATEWAYS else "")
        meta = {} if tree is None else tree["metadata"]
        seen = None if tree is None else Observed(meta["uid"], meta["resourceVersion"], tree)
        if self.lagging:
            self.late.append((ref, seen))
        else:
            self.writer.observe(ref, seen)

    def catch_up(self):
        late, self.late, self.lagging = self.late, [], False
        for each in late:
            self.writer.observe(*each)

    async def work(self, seconds=0.0):
        """Everything that is due within *seconds*."""
        end = self.clock.monotonic() + seconds
        while (wait := await self.writer.work()) is not None:
            if self.clock.monotonic() + wait > end:
                break
            await self.clock.advance(max(wait, 0.001))
        await self.clock.advance(max(0.0, end - self.clock.monotonic()))

    def spec(self, name="autogen.shop.web"):
        found = self.api.get("serviceentries", "shop", name)
        return None if found is None else found["spec"]

    @property
    def told(self):
        return [(each.kind, str(each.ref)) for each in self.notices]
