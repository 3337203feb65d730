"""Generated objects by hand, and a process of peerd that keeps them in an API server, in memory or real."""

import random

import msgspec

from peerd.kubeapi.objects import KubeObjects
from peerd.model.changes import OwnChange
from peerd.model.generated import GeneratedPort, GeneratedServiceEntry, GeneratedWorkloadEntry
from peerd.model.kube.meta import ObjectKey
from peerd.publish.generated import GeneratedObjects
from peerd.publish.generated_manifests import RESOURCES
from peerd.publish.writer import Writer
from tests.support.stepping import SteppedTime

KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}
WEST, NORTH = "istio-system/west", "istio-system/north"
NOBODY = frozenset()


def entry(name="reviews", sans=("spiffe://cluster.local/ns/shop/sa/reviews",), **more):
    found = GeneratedServiceEntry(
        namespace="shop",
        name=f"autogen.shop.{name}",
        service=f"shop/{name}",
        hosts=(f"{name}.shop.mesh.internal",),
        ports=(GeneratedPort(80, "http", "HTTP", 8080),),
        selector=(("app", name),),
        subject_alt_names=tuple(sans),
    )
    return msgspec.structs.replace(found, **more)


def endpoints(gateway=WEST, name="reviews", weight=2):
    cluster = gateway.partition("/")[2]
    return GeneratedWorkloadEntry(
        namespace="shop",
        name=f"autogen.{cluster}.shop.{name}.0123abcd",
        cluster=cluster,
        gateway=gateway,
        network=f"{cluster}-net",
        labels=(("app", name),),
        weight=weight,
    )


def key_of(found):
    kind = "ServiceEntry" if isinstance(found, GeneratedServiceEntry) else "WorkloadEntry"
    return f"{kind}/{found.namespace}/{found.name}"


def puts(*found):
    return [(key_of(each), each) for each in found]


class Process:
    """One process of peerd before an API server that outlives it; its watch tells of every change."""

    def __init__(self, api):
        self.api = api
        self.clock = SteppedTime()
        self.notices = []
        self.writer = Writer(
            KubeObjects(self.api), clock=self.clock, source=random.Random(3), tell=self.notices.append
        )
        self.kept = GeneratedObjects(self.writer)
        for (plural, namespace, name), tree in sorted(self.api.objects.items()):
            self._watch(plural, namespace, name, tree)
        self.api.changed = self._watch

    def _watch(self, plural, namespace, name, tree):
        labels = (tree or {}).get("metadata", {}).get("labels", {})
        if tree is None or labels.get("peerd.io/generated"):
            self.kept.observe([OwnChange(KINDS[plural], ObjectKey(namespace, name), tree)])

    async def settle(self, seconds=0):
        await self.writer.work()
        for _ in range(seconds):
            await self.clock.advance(1)
            await self.writer.work()

    def names(self):
        return sorted(name for _, _, name in self.api.objects)
